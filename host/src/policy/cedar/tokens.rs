//! The words of a policy's text, as far as it has to be read before Cedar does, or to find a place again that Cedar doesn't tell.

/// Words, strings, comments and single characters, with the byte at which each begins.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let rest = &text[begin..];
        let found = (begin, first(rest)?);
        begin += found.1.len();
        Some(found)
    })
}

/// Where each rule begins.
pub(super) fn rules(text: &str) -> impl Iterator<Item = usize> {
    let mut inside = false;
    tokens(text).filter_map(move |(begin, token)| {
        let begins = !inside && !token.starts_with("//") && !token.trim().is_empty();
        inside = (inside || begins) && token != ";";
        begins.then_some(begin)
    })
}

fn first(text: &str) -> Option<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let end = match text.chars().next()? {
        '"' => string(text),
        '/' if text.starts_with("//") => text.find(['\n', '\r']).unwrap_or(text.len()),
        c if is_word(c) => text.find(|c| !is_word(c)).unwrap_or(text.len()),
        c => c.len_utf8(),
    };
    Some(&text[..end])
}

/// Where the string ends that the text begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let ends = |byte: &u8| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    };
    text.as_bytes()[1..].iter().position(ends).map_or(text.len(), |position| position + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_one_token_each() {
        let found: Vec<_> = tokens("a_1 ==\"\\\\\"(// ;\"\n\"\\\";\" é").map(|(_, token)| token).collect();
        assert_eq!(found, ["a_1", " ", "=", "=", "\"\\\\\"", "(", "// ;\"", "\n", "\"\\\";\"", " ", "é"]);
        assert_eq!(tokens("\"open").collect::<Vec<_>>(), [(0, "\"open")]);
    }

    #[test]
    fn a_rule_begins_after_the_one_before_it_and_after_comments() {
        let text = "// permit (;\n@id(\"a;\") permit ();forbid // ;\n ();\n // end";
        let begins: Vec<_> = rules(text).map(|begin| &text[begin..begin + 3]).collect();
        assert_eq!(begins, ["@id", "for"]);
    }
}

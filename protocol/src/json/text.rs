//! JSON strings (RFC 8259 section 7), read and written.
//!
//! By hand, and not by serde_json: with that come tables for numbers with fractions, which an instance of the component would be filled with
//! for each exchange though no message has such a number.

use std::borrow::Cow;

/// The text of a string as it is spelled, with its quotes; `None` if its escapes are no Unicode text.
pub(super) fn unquote(spelled: &str) -> Option<Cow<'_, str>> {
    let inner = &spelled[1..spelled.len() - 1];
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => unescape(inner).map(Cow::Owned),
    }
}

/// A text as a JSON string.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'"' | b'\\' | ..b' ')) {
        quoted.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            8 => quoted.push_str("\\b"),
            12 => quoted.push_str("\\f"),
            b'\n' => quoted.push_str("\\n"),
            b'\r' => quoted.push_str("\\r"),
            b'\t' => quoted.push_str("\\t"),
            other => quoted.push_str(&format!("\\u{other:04x}")),
        }
    }
    quoted.push_str(&text[plain..]);
    quoted.push('"');
    quoted
}

/// No text is longer than its spelling, so that one allocation holds it: it may be a secret.
fn unescape(mut spelled: &str) -> Option<String> {
    let mut text = String::with_capacity(spelled.len());
    while let Some((plain, escape)) = spelled.split_once('\\') {
        let (character, rest) = escaped(escape)?;
        text.push_str(plain);
        text.push(character);
        spelled = rest;
    }
    text.push_str(spelled);
    Some(text)
}

/// The character that an escape after its backslash stands for, and what follows it.
fn escaped(escape: &str) -> Option<(char, &str)> {
    let (kind, rest) = escape.split_at_checked(1)?;
    let character = match kind {
        "\"" | "\\" | "/" => kind.chars().next()?,
        "b" => '\u{8}',
        "f" => '\u{c}',
        "n" => '\n',
        "r" => '\r',
        "t" => '\t',
        "u" => return utf16(rest),
        _ => return None,
    };
    Some((character, rest))
}

/// A character as one or two units of UTF-16.
fn utf16(escape: &str) -> Option<(char, &str)> {
    let (first, rest) = unit(escape)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, rest));
    }
    let (second, rest) = unit(rest.strip_prefix("\\u")?)?;
    Some((char::decode_utf16([first, second]).next()?.ok()?, rest))
}

/// Four hexadecimal digits.
fn unit(escape: &str) -> Option<(u16, &str)> {
    let (digits, rest) = escape.split_at_checked(4)?;
    // A sign is none of them, which the parser of numbers would take.
    let digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads_as_serde_reads_it(inner: &str) -> bool {
        let spelled = format!("\"{inner}\"");
        unquote(&spelled).map(Cow::into_owned) == serde_json::from_str(&spelled).ok()
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        for inner in [
            r"\ud83d\ude00",
            r"\ud83d",
            r"\ude00\ud83d",
            r"\ud83d\u0041",
            r"\ud83dx",
            r"\ud83d\n",
            r"\u+123",
            r"\u12",
            r"\u00e",
            r"\x",
            "\\",
        ] {
            assert!(reads_as_serde_reads_it(inner), "{inner}");
        }
        assert_eq!(unquote(r#""\ud83d\ude00""#).unwrap(), "\u{1f600}");
    }

    proptest! {
        #[test]
        fn escapes_read_as_serde_reads_them(inner in r#"([a-z ä]|\\["\\/bfnrtx]|\\u[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-f]{2}\\u[dD][c-fC-F][0-9a-f]{2}){0,12}"#) {
            prop_assert!(reads_as_serde_reads_it(&inner));
        }

        #[test]
        fn every_text_is_written_as_serde_writes_it(text: String, control in r"[\x00-\x20\x7f]{0,8}") {
            for text in [text, control] {
                prop_assert_eq!(quote(&text), serde_json::to_string(&text).unwrap());
            }
        }
    }
}

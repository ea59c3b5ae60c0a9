//! Text from outside, as it may be shown: on one line, and every character of it seen where it stands.

/// A text of outside origin as one line: characters that control, reorder or can't be seen become spaces, and it is cut after at most `limit`
/// bytes.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    on_one_line(text.trim(), limit)
}

/// [`printable`] for names, which may begin or end with a space.
#[must_use]
pub(crate) fn on_one_line(text: &str, limit: usize) -> String {
    let cut = text.floor_char_boundary(limit.saturating_sub('…'.len_utf8()));
    let (shown, more) = if text.len() > limit { (&text[..cut], "…") } else { (text, "") };
    let mut line: String = shown.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect();
    line.push_str(more);
    line
}

/// Whether a character steers what is around it, or leaves no trace: a terminal obeys it, a reader overlooks it, and two texts that differ by it
/// look the same.
///
/// These are Unicode's control and format characters (`Cc`, `Cf`, the direction controls among them), its line and paragraph separators (`Zl`,
/// `Zp`), and all that is to be ignored where it isn't supported (`Default_Ignorable_Code_Point`: variation selectors, tags, fillers, and code
/// points that may become such).
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}'
        // Arabic and Syriac.
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        // Hangul fillers, Khmer and Mongolian.
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // Spaces without width, directions, separators, invisible operators.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        // Variation selectors, interlinear annotations.
        | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}'
        // Kaithi, hieroglyphs, shorthand, music.
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Tags, more variation selectors.
        | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;

    /// What Unicode's tables say is unseen, as the generator of tests has them.
    const UNSEEN: &str = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Variation_Selector}]";

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(printable("ääää", 8), "ääää");
        assert_eq!(printable("ääääx", 8), "ää…");
    }

    #[test]
    fn what_steers_or_hides_is_a_space() {
        for c in
            "\u{1b}\u{7f}\u{85}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200d}\u{2028}\u{202e}\u{2060}\u{2066}\u{2069}\u{206a}\u{3164}\
                  \u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{fffb}\u{e0001}\u{e0041}\u{e007f}\u{e0100}\u{e01ef}"
                .chars()
        {
            assert_eq!(printable(&format!("a{c}b"), 64), "a b", "U+{:04X}", u32::from(c));
        }
        for text in ["größer", "日本語", "naïve – “quoted” …", "🔑", "e\u{301}", "a\u{a0}b", "\u{fffd}", "עברית العربية"]
        {
            assert_eq!(printable(text, 64), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn all_that_unicode_says_is_unseen_is_a_space(c in string_regex(UNSEEN).unwrap()) {
            prop_assert_eq!(printable(&format!("a{c}b"), 64), "a b", "{}", c.escape_unicode());
        }

        #[test]
        fn all_else_stays_as_it_is(c in string_regex(&UNSEEN.replacen('[', "[^", 1)).unwrap()) {
            prop_assert_eq!(printable(&format!("a{c}b"), 64), format!("a{c}b"), "{}", c.escape_unicode());
        }
    }
}

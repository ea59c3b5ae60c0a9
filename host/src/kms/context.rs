//! Encryption context as services take it that authenticate one text besides what they encrypt.

use std::collections::BTreeMap;

/// The encryption context as additional authenticated data: its RFC 8785 JSON, or nothing. Names are ASCII and sorted, and serde_json
/// escapes strings as RFC 8785 section 3.2.2.2 wants it.
pub(super) fn additional_data(context: &BTreeMap<String, String>) -> Vec<u8> {
    match context.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(context).expect("strings serialise"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_sent_as_canonical_json() {
        let context = BTreeMap::from([("b".to_owned(), "\u{e9}\"\\".to_owned()), ("a".to_owned(), "1".to_owned())]);
        assert_eq!(additional_data(&context), "{\"a\":\"1\",\"b\":\"\u{e9}\\\"\\\\\"}".as_bytes());
        assert_eq!(additional_data(&BTreeMap::new()), b"");
    }
}

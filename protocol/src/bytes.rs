//! Byte fields: Go writes them as base64 strings, ocicrypt-rs as base64 strings or arrays of numbers.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::json::string;

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Reads a byte field: a base64 string (RFC 4648 section 4, padded or not) or an array of numbers. `None` if it is neither.
#[must_use]
pub fn read(value: &RawValue) -> Option<Zeroizing<Vec<u8>>> {
    match value.get().as_bytes().first()? {
        b'"' => decode(&string(value)?),
        b'[' => serde_json::from_str(value.get()).ok().map(Zeroizing::new),
        _ => None,
    }
}

/// Reads opts data: a byte field, or JSON text in a string, as ocicrypt-rs writes it.
#[must_use]
pub fn read_opts_data(value: &RawValue) -> Option<Zeroizing<Vec<u8>>> {
    match string(value).map(|text| Zeroizing::new(text.into_owned())) {
        Some(text) if text.trim_start().starts_with('{') => Some(Zeroizing::new(text.as_bytes().to_vec())),
        Some(text) => decode(&text),
        None => read(value),
    }
}

/// Decodes base64 (RFC 4648 section 4, padded or not).
#[must_use]
pub fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    BASE64.decode(text).ok().map(Zeroizing::new)
}

/// Encodes base64 (RFC 4648 section 4), padded.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Appends an array of numbers, the one spelling that both Go and ocicrypt-rs read.
pub fn write_numbers(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 4 + 2);
    out.push(b'[');
    for (index, &byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if byte >= 100 {
            out.push(b'0' + byte / 100);
        }
        if byte >= 10 {
            out.push(b'0' + byte / 10 % 10);
        }
        out.push(b'0' + byte % 10);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn strings_and_arrays_of_numbers_read_alike() {
        for text in [r#""AP9h""#, r#""AP9\u0068""#, "[0, 255, 97]"] {
            assert_eq!(read(&raw(text)).unwrap().as_slice(), [0, 255, 97], "{text}");
        }
        assert_eq!(read(&raw(r#""YQ""#)).unwrap().as_slice(), b"a", "padding may be missing");
    }

    #[test]
    fn anything_else_is_no_byte_field() {
        for text in ["[256]", "[-1]", "[1.5]", "{}", "1", "true", r#""*""#, r#"["YQ=="]"#] {
            assert!(read(&raw(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn opts_data_may_be_json_text_in_a_string() {
        let text = r#""{\"symkey\":\"a\"}""#;
        assert_eq!(read_opts_data(&raw(text)).unwrap().as_slice(), br#"{"symkey":"a"}"#);
        assert_eq!(read_opts_data(&raw(r#""e30=""#)).unwrap().as_slice(), b"{}");
        assert_eq!(read_opts_data(&raw("[123,125]")).unwrap().as_slice(), b"{}");
    }

    #[test]
    fn numbers_are_written_as_serde_writes_them() {
        let every: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        write_numbers(&every, &mut out);
        assert_eq!(out, serde_json::to_vec(&every).unwrap());
    }
}

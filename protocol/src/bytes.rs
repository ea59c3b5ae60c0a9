//! Byte fields: Go writes them as base64 strings, ocicrypt-rs as base64 strings or arrays of numbers.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::{Zeroize as _, Zeroizing};

use crate::json::{Value, string};

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Reads a byte field: a base64 string (RFC 4648 section 4, padded or not) or an array of numbers. `None` if it is neither.
#[must_use]
pub fn read(value: &Value<'_>) -> Option<Zeroizing<Vec<u8>>> {
    match value.text().as_bytes().first()? {
        b'"' => decode(&string(value)?),
        b'[' => read_numbers(value.text()),
        _ => None,
    }
}

/// Reads what is known to be a JSON array, so that numbers stand where they can.
fn read_numbers(array: &str) -> Option<Zeroizing<Vec<u8>>> {
    let inner = array[1..array.len() - 1].trim_ascii();
    // Sized beforehand, so that no copy of a secret is left behind by a buffer that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(inner.len() / 2 + 1));
    let mut number = 0;
    for character in inner.bytes() {
        match character {
            b'0'..=b'9' => number = number * 10 + u32::from(character - b'0'),
            b',' => bytes.push(std::mem::take(&mut number).try_into().ok()?),
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => return None,
        }
        if number > u32::from(u8::MAX) {
            return None;
        }
    }
    if !inner.is_empty() {
        bytes.push(number.try_into().ok()?);
    }
    Some(bytes)
}

/// Reads opts data: a byte field, or JSON text in a string, as ocicrypt-rs writes it.
#[must_use]
pub fn read_opts_data(value: &Value<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let Some(mut text) = string(value) else { return read(value) };
    let opts_data = match text.trim_start().starts_with('{') {
        true => Some(Zeroizing::new(text.as_bytes().to_vec())),
        false => decode(&text),
    };
    // Where it had escapes, it was copied.
    if let Cow::Owned(text) = &mut text {
        text.zeroize();
    }
    opts_data
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

/// Appends a base64 string, padded.
pub fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    BASE64.encode_slice(bytes, &mut out[start..]).expect("it has the right length");
    out.push(b'"');
}

/// Appends an array of numbers, the one spelling that both Go and ocicrypt-rs read.
pub fn write_numbers(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 2 + bytes.len() * 4, b'[');
    let mut end = start + 1;
    for &byte in bytes {
        let (digits, length) = SPELLED[usize::from(byte)];
        out[end..end + 4].copy_from_slice(&digits);
        end += usize::from(length);
    }
    // The last comma's place.
    let end = if bytes.is_empty() { end } else { end - 1 };
    out[end] = b']';
    out.truncate(end + 1);
}

/// Each byte as a number with a comma, and the length of both.
const SPELLED: [([u8; 4], u8); 256] = {
    let mut spelled = [([b','; 4], 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let digits = [byte / 100, byte / 10 % 10, byte % 10];
        let mut at = match byte {
            0..10 => 2,
            10..100 => 1,
            _ => 0,
        };
        while at < 3 {
            let (text, length) = &mut spelled[byte];
            text[*length as usize] = b'0' + digits[at] as u8;
            *length += 1;
            at += 1;
        }
        spelled[byte].1 += 1;
        byte += 1;
    }
    spelled
};

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Value<'_> {
        Value::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn strings_and_arrays_of_numbers_read_alike() {
        for text in [r#""AP9h""#, r#""AP9\u0068""#, "[0, 255, 97]", "[ 0,255 ,\n97\t]"] {
            assert_eq!(read(&raw(text)).unwrap().as_slice(), [0, 255, 97], "{text}");
        }
        assert_eq!(read(&raw(r#""YQ""#)).unwrap().as_slice(), b"a", "padding may be missing");
        assert!(read(&raw("[ ]")).unwrap().is_empty() && read(&raw(r#""""#)).unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_no_byte_field() {
        for text in ["[256]", "[-0]", "[-1]", "[1e1]", "[[1]]", "[\"1\"]", "[null]", "[1.5]", "{}", "1", "true", r#""*""#, r#"["YQ=="]"#] {
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

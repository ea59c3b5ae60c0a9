//! The segments of a path and the rules of their characters.

use std::ops::RangeInclusive;

use super::Service;
use super::error::{KeyUriError, quoted};

/// The segments of a path. None of them is empty, `.` or `..`, so that joining them again can't climb.
pub(super) fn segments(path: &str) -> Result<Vec<&str>, KeyUriError> {
    let segments: Vec<&str> = path.split('/').collect();
    if segments.contains(&"") {
        return Err(KeyUriError::EmptySegment(quoted(path)));
    }
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err(KeyUriError::DotSegment(quoted(path)));
    }
    Ok(segments)
}

/// What one part of a service's key URI has to look like.
pub(super) struct Rule {
    pub service: Service,
    /// What the part is called.
    pub part: &'static str,
    /// The rule in words, after "it is".
    pub says: &'static str,
    pub holds: fn(&str) -> bool,
}

impl Rule {
    pub fn check(&self, text: &str) -> Result<String, KeyUriError> {
        if (self.holds)(text) {
            return Ok(text.to_owned());
        }
        Err(KeyUriError::Part { service: self.service, part: self.part, rule: self.says, found: quoted(text) })
    }
}

/// Whether `text` has an allowed length and nothing but allowed bytes.
pub(super) fn consists(text: &str, length: RangeInclusive<usize>, allowed: fn(u8) -> bool) -> bool {
    length.contains(&text.len()) && text.bytes().all(allowed)
}

/// `[A-Za-z0-9_-]`
pub(super) fn is_name_byte(byte: u8) -> bool {
    is_word_byte(byte) || byte == b'-'
}

/// `[A-Za-z0-9_]`
pub(super) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `[a-z0-9-]`
pub(super) fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// `[0-9]`
pub(super) fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// `[0-9a-f]`
pub(super) fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

//! Distinguished names as RFC 4514 writes them, in the one form that `openssl x509 -nameopt RFC2253,-esc_msb` prints.
//!
//! One name has one text and one text is one name, but for the type of a string: `CN=node` is the same in UTF-8 and in ASCII. A name that can't be
//! written so is an error, and never cut or mended.

use crate::der::{self, OID, SEQUENCE, SET, Value};
use crate::error::printable;

/// The most bytes of a name's text.
pub(crate) const MAX_LENGTH: usize = 1024;

/// Why a name can't be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unwritable {
    #[error("is not encoded as DER demands")]
    Malformed,
    #[error("has a text in another encoding than it says")]
    Encoding,
    #[error("has a character that controls or reorders text")]
    Control,
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
}

/// The types of attributes that have a name, by their object identifier: those of RFC 4514 section 3, and others that openssl names. A type that
/// isn't here is written as numbers, and its value in hexadecimal digits.
const TYPES: [(&[u8], &str); 27] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 15], "businessCategory"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 20], "telephoneNumber"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 44], "generationQualifier"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x55, 4, 65], "pseudonym"),
    (&[0x55, 4, 97], "organizationIdentifier"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 1], "jurisdictionL"),
    (&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 2], "jurisdictionST"),
    (&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 3], "jurisdictionC"),
];

/// The text of a `Name` (RFC 5280 section 4.1.2.4), given in DER. The last part comes first.
pub(crate) fn rfc4514(name: &[u8]) -> Result<String, Unwritable> {
    let parts = der::content(name, SEQUENCE).and_then(der::values).ok_or(Unwritable::Malformed)?;
    let mut text = String::new();
    for (index, part) in parts.iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_part(part, &mut text)?;
        if text.len() > MAX_LENGTH {
            return Err(Unwritable::TooLong);
        }
    }
    Ok(text)
}

/// Whether a text is one that [`rfc4514`] writes: a rule for another one is for nobody.
#[cfg(any(feature = "cedar", test))]
pub(crate) fn is_rfc4514(text: &str) -> bool {
    let mut escaped = false;
    let is_end = |c: char| {
        let is_end = matches!(c, ',' | '+') && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    };
    text.is_empty() || (text.len() <= MAX_LENGTH && text.split(is_end).all(is_attribute))
}

#[cfg(any(feature = "cedar", test))]
fn is_attribute(text: &str) -> bool {
    let Some((kind, value)) = text.split_once('=') else { return false };
    let is_named = TYPES.iter().any(|(_, name)| *name == kind);
    if let Some(digits) = value.strip_prefix('#') {
        let is_hexadecimal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        return is_hexadecimal && digits.len() >= 4 && digits.len().is_multiple_of(2) && (is_named || is_numbers(kind));
    }
    let (mut characters, mut rest) = (String::new(), value.chars());
    while let Some(c) = rest.next() {
        characters.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    let mut written = String::new();
    is_named && write_escaped(&characters, &mut written).is_ok() && written == value
}

/// Whether a text is the numbers of a type that has no name.
#[cfg(any(feature = "cedar", test))]
fn is_numbers(text: &str) -> bool {
    let is_number = |number: &str| number.parse::<u64>().is_ok_and(|parsed| parsed.to_string() == number);
    let is_named = TYPES.iter().any(|(oid, _)| numbers(oid).as_deref() == Some(text));
    text.contains('.') && text.split('.').all(is_number) && !is_named
}

/// A `RelativeDistinguishedName`: a set, whose members are in the order of their encodings.
fn write_part(part: &Value<'_>, text: &mut String) -> Result<(), Unwritable> {
    let attributes = (part.tag == SET).then(|| der::values(part.content)).flatten().ok_or(Unwritable::Malformed)?;
    if attributes.is_empty() || !attributes.is_sorted_by_key(|attribute| attribute.encoding) {
        return Err(Unwritable::Malformed);
    }
    for (index, attribute) in attributes.iter().rev().enumerate() {
        if index > 0 {
            text.push('+');
        }
        write_attribute(attribute, text)?;
    }
    Ok(())
}

fn write_attribute(attribute: &Value<'_>, text: &mut String) -> Result<(), Unwritable> {
    let parts = (attribute.tag == SEQUENCE).then(|| der::values(attribute.content)).flatten().ok_or(Unwritable::Malformed)?;
    let [Value { tag: OID, content: oid, .. }, value] = &parts[..] else { return Err(Unwritable::Malformed) };
    let named = TYPES.iter().find(|(known, _)| known == oid);
    text.push_str(&named.map_or_else(|| numbers(oid), |(_, name)| Some((*name).to_owned())).ok_or(Unwritable::Malformed)?);
    text.push('=');
    let characters = if named.is_some() { characters(value)? } else { None };
    match characters {
        Some(characters) => write_escaped(&characters, text),
        None => write_hexadecimal(value.encoding, text),
    }
}

/// An object identifier as numbers with dots between them.
fn numbers(oid: &[u8]) -> Option<String> {
    const MORE: u8 = 0x80;
    if oid.last().is_none_or(|last| last & MORE != 0) {
        return None;
    }
    let mut numbers = Vec::new();
    for number in oid.split_inclusive(|byte| byte & MORE == 0) {
        // The shortest form, as far as there are numbers for it.
        let shortest = number[0] != MORE && number.len() <= 9;
        numbers.push(shortest.then(|| number.iter().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & !MORE)))?);
    }
    // The first two are one.
    let root = (numbers[0] / 40).min(2);
    let rest = std::iter::once(numbers[0] - root * 40).chain(numbers[1..].iter().copied());
    Some(rest.fold(root.to_string(), |text, number| format!("{text}.{number}")))
}

/// What a string says; `None` if the value is no string.
fn characters(value: &Value<'_>) -> Result<Option<String>, Unwritable> {
    let bytes = value.content;
    let text = match value.tag {
        // UTF8String
        0x0c => std::str::from_utf8(bytes).ok().map(str::to_owned),
        // NumericString, PrintableString, IA5String, VisibleString: those who write them are not strict about what is in which.
        0x12 | 0x13 | 0x16 | 0x1a => std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()).map(str::to_owned),
        // TeletexString, which everybody takes for ISO 8859-1.
        0x14 => Some(bytes.iter().copied().map(char::from).collect()),
        // UniversalString
        0x1c => {
            whole(bytes).and_then(|units: Vec<[u8; 4]>| units.into_iter().map(|unit| char::from_u32(u32::from_be_bytes(unit))).collect())
        }
        // BMPString, which has no surrogates.
        0x1e => whole(bytes)
            .and_then(|units: Vec<[u8; 2]>| units.into_iter().map(|unit| char::from_u32(u16::from_be_bytes(unit).into())).collect()),
        _ => return Ok(None),
    };
    text.map(Some).ok_or(Unwritable::Encoding)
}

/// Units of so many bytes, if nothing is left over.
fn whole<const N: usize>(bytes: &[u8]) -> Option<Vec<[u8; N]>> {
    let (units, rest) = bytes.as_chunks();
    rest.is_empty().then(|| units.to_vec())
}

/// Text with a backslash before what would mean something else (RFC 4514 section 2.4).
fn write_escaped(value: &str, text: &mut String) -> Result<(), Unwritable> {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        if !is_plain(c) {
            return Err(Unwritable::Control);
        }
        let is_special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if is_special || (c == '#' && index == 0) || (c == ' ' && (index == 0 || index == last)) {
            text.push('\\');
        }
        text.push(c);
    }
    Ok(())
}

/// Whether a character shows as what it is, in a line too.
fn is_plain(c: char) -> bool {
    let text = format!("-{c}-");
    printable(&text, text.len()) == text
}

/// What has no characters, and what has a type without a name.
fn write_hexadecimal(encoding: &[u8], text: &mut String) -> Result<(), Unwritable> {
    use std::fmt::Write as _;
    if encoding.len() > MAX_LENGTH {
        return Err(Unwritable::TooLong);
    }
    text.push('#');
    encoding.iter().try_for_each(|byte| write!(text, "{byte:02X}")).map_err(|_| Unwritable::TooLong)
}

#[cfg(test)]
mod tests;

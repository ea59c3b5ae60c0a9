//! The encoding of certificates (DER, ITU-T X.690): tags, lengths and contents. Strict, so that one thing has one encoding.

/// One value.
pub(crate) struct Value<'a> {
    /// The tag's byte: class, whether it is constructed, and number.
    pub tag: u8,
    pub content: &'a [u8],
    /// All of it, tag and length included.
    pub encoding: &'a [u8],
}

/// The tags of what contains others.
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// The tag of an object identifier.
pub(crate) const OID: u8 = 0x06;

/// All values of an encoding, one behind the other.
pub(crate) fn values(mut encoding: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut values = Vec::new();
    while !encoding.is_empty() {
        let (value, rest) = split(encoding)?;
        values.push(value);
        encoding = rest;
    }
    Some(values)
}

/// The content of the one value that an encoding is, which has to have this tag.
pub(crate) fn content(encoding: &[u8], tag: u8) -> Option<&[u8]> {
    let (value, rest) = split(encoding)?;
    (value.tag == tag && rest.is_empty()).then_some(value.content)
}

fn split(encoding: &[u8]) -> Option<(Value<'_>, &[u8])> {
    /// The number of a tag that goes on in the next byte: no part of a name has one.
    const LONG: u8 = 0x1f;
    let (&tag, rest) = encoding.split_first()?;
    if tag & LONG == LONG {
        return None;
    }
    let (length, rest) = length(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Value { tag, content, encoding: &encoding[..encoding.len() - rest.len()] }, rest))
}

/// A length in its shortest form, of at most four bytes.
fn length(encoding: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = encoding.split_first()?;
    match first {
        0..=0x7f => Some((first.into(), rest)),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked((first & 0x7f).into())?;
            let length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            (bytes[0] != 0 && length > 0x7f).then_some((length, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_one_form() {
        assert_eq!(content(&[0x30, 0], SEQUENCE), Some(&[][..]));
        assert_eq!(content(&[0x30, 2, 1, 2], SEQUENCE), Some(&[1, 2][..]));
        let long = [&[0x30, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(content(&long, SEQUENCE), Some(&[7; 0x80][..]));
        for wrong in [&[][..], &[0x30], &[0x30, 1], &[0x30, 0, 0], &[0x31, 0], &[0x30, 0x81, 1, 7], &[0x30, 0x80, 0, 0], &[0x3f, 0x20, 0]] {
            assert_eq!(content(wrong, SEQUENCE), None, "{wrong:x?}");
        }
        let padded = [&[0x30, 0x82, 0, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(content(&padded, SEQUENCE), None);
        assert!(values(&[0x30, 0, 0x31, 0]).is_some_and(|values| values.len() == 2) && values(&[0x30, 0, 0x31]).is_none());
    }
}

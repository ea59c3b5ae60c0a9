//! `?algorithm=NAME&context_NAME=VALUE`
//!
//! Names and values are percent-decoded once. A `+` is refused because half of the world reads it as a space. Context names are
//! `[A-Za-z0-9_.:/-]{1,128}`: ASCII, so that the order of the canonical spelling is also that of RFC 8785. Values are any UTF-8
//! without control characters; they are compared by bytes, no Unicode normalisation. An empty value is refused: it comes from an unset
//! variable in a script more often than from intent, and would bind nothing.
//!
//! The canonical spelling sorts all entries by name, which puts `algorithm` first, and writes letters, digits and `-._~/:` as they
//! are, every other byte as `%XX` in upper case.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::{KeyUriError, quoted};
use super::parts::{consists, is_name_byte};

/// The most entries of an encryption context.
pub const MAX_CONTEXT_ENTRIES: usize = 16;

/// How a key wraps: a JWA name (RFC 7518, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// `RSA-OAEP-256`: RSA-OAEP with SHA-256 and MGF1 with SHA-256.
    RsaOaep256,
    /// `A256KW`: AES key wrap with a 256-bit key.
    A256Kw,
    /// `ECDH-ES+A256KW`: ephemeral-static Diffie-Hellman, then AES key wrap. In a query its `+` is written `%2B`.
    EcdhEsA256Kw,
    /// `HPKE-9-KE`: HPKE with X-Wing (ML-KEM-768 and X25519), SHAKE256 and AES-256-GCM (draft-ietf-jose-hpke-pq-pqt-00).
    Hpke9Ke,
    /// `HPKE-12-KE`: HPKE with ML-KEM-768, SHAKE256 and AES-256-GCM (draft-ietf-jose-hpke-pq-pqt-00).
    Hpke12Ke,
}

impl Algorithm {
    /// Every algorithm that a query can name.
    pub const ALL: &'static [Algorithm] =
        &[Algorithm::RsaOaep256, Algorithm::A256Kw, Algorithm::EcdhEsA256Kw, Algorithm::Hpke9Ke, Algorithm::Hpke12Ke];

    /// The JWA name.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::RsaOaep256 => "RSA-OAEP-256",
            Algorithm::A256Kw => "A256KW",
            Algorithm::EcdhEsA256Kw => "ECDH-ES+A256KW",
            Algorithm::Hpke9Ke => "HPKE-9-KE",
            Algorithm::Hpke12Ke => "HPKE-12-KE",
        }
    }

    fn parse(text: &str) -> Result<Self, KeyUriError> {
        let named = Self::ALL.iter().find(|algorithm| algorithm.as_str() == text);
        named.copied().ok_or_else(|| KeyUriError::Algorithm(quoted(text)))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Query {
    pub algorithm: Option<Algorithm>,
    pub context: BTreeMap<String, String>,
}

impl Query {
    /// Reads what follows the `?`.
    pub fn parse(text: &str) -> Result<Self, KeyUriError> {
        if text.contains('+') {
            return Err(KeyUriError::PlusInQuery(quoted(text)));
        }
        let mut query = Self::default();
        for entry in text.split('&') {
            let (name, value) = entry.split_once('=').ok_or_else(|| KeyUriError::QueryEntry(quoted(entry)))?;
            query.add(&decode(name)?, decode(value)?)?;
        }
        Ok(query)
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), KeyUriError> {
        let context_name = name.strip_prefix("context_");
        if context_name.is_none() && name != "algorithm" {
            return Err(KeyUriError::QueryName(quoted(name)));
        }
        if value.is_empty() {
            return Err(KeyUriError::EmptyValue(quoted(name)));
        }
        let before = match context_name {
            Some(name) => self.context.insert(check_context_name(name)?, value).is_some(),
            None => self.algorithm.replace(Algorithm::parse(&value)?).is_some(),
        };
        if before {
            return Err(KeyUriError::DuplicateQueryName(quoted(name)));
        }
        if self.context.len() > MAX_CONTEXT_ENTRIES {
            return Err(KeyUriError::TooManyContextEntries);
        }
        Ok(())
    }

    /// Whether `other` has every entry of this one, with the same value.
    pub fn is_part_of(&self, other: &Self) -> bool {
        (self.algorithm.is_none() || self.algorithm == other.algorithm)
            && self.context.iter().all(|(name, value)| other.context.get(name) == Some(value))
    }
}

/// The canonical spelling, with its `?`; nothing for an empty query.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.algorithm.iter().map(|algorithm| format!("algorithm={}", encode(algorithm.as_str())));
        let context = self.context.iter().map(|(name, value)| format!("context_{name}={}", encode(value)));
        for (index, entry) in algorithm.chain(context).enumerate() {
            write!(f, "{}{entry}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// Percent-decodes a name or value. Unlike the usual decoders it takes no `%` that isn't followed by two hexadecimal digits.
fn decode(text: &str) -> Result<String, KeyUriError> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return Err(KeyUriError::PercentEncoding(quoted(text)));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| KeyUriError::NotUtf8(quoted(text)))?;
    if decoded.contains(char::is_control) {
        return Err(KeyUriError::ControlCharacter(quoted(&decoded)));
    }
    Ok(decoded.into_owned())
}

fn encode(value: &str) -> impl fmt::Display {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');
    utf8_percent_encode(value, ENCODED)
}

fn check_context_name(name: &str) -> Result<String, KeyUriError> {
    if consists(name, 1..=128, |byte| is_name_byte(byte) || matches!(byte, b'.' | b':' | b'/')) {
        return Ok(name.to_owned());
    }
    Err(KeyUriError::ContextName(quoted(name)))
}

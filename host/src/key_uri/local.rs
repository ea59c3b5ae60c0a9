//! `local://NAME`
//!
//! The JWK set `NAME.jwks` in the keystore directory. The rule leaves nothing that a file system reads as anything but one name.

use super::Service;
use super::error::{KeyUriError, quoted};
use super::parts::{Rule, consists, is_name_byte, segments};

/// A key of the local keystore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct LocalKey {
    /// The file's name without `.jwks`.
    pub name: String,
}

impl LocalKey {
    pub(super) fn parse(rest: &str) -> Result<Self, KeyUriError> {
        match segments(rest)?.as_slice() {
            [name] => Ok(Self { name: NAME.check(name)? }),
            _ => Err(KeyUriError::Shape { service: Service::Local, found: quoted(rest) }),
        }
    }

    pub(super) fn identity(&self) -> String {
        format!("local://{}", self.name)
    }
}

const NAME: Rule = Rule {
    service: Service::Local,
    part: "key name",
    says: "a letter or digit, then up to 63 letters, digits, dots, underscores and hyphens",
    holds: |text| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && consists(text, 1..=64, |byte| is_name_byte(byte) || byte == b'.')
    },
};

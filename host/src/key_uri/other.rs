//! `SCHEME://SEGMENT[/SEGMENT…]` of a service that an embedding program brings along.

use std::fmt;

use super::error::{KeyUriError, quoted};
use super::parts::{consists, is_label_byte, is_name_byte, segments};
use super::{Scheme, Service};

/// The most segments of such a URI.
const MAX_SEGMENTS: usize = 16;

/// A service that isn't built in: its name, which is also the scheme of its key URIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherService(&'static str);

/// A name that no service may have.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` can't be the name of a service: it has to be 2 to 32 of a-z, 0-9 and `-`, begin with a letter, and be no scheme of a built-in service"
)]
pub struct BadServiceName(&'static str);

impl OtherService {
    /// A service with this name, such as `my-hsm` for keys like `my-hsm://slot-1/team`.
    ///
    /// # Errors
    /// If it isn't 2 to 32 of `a-z`, `0-9` and `-`, doesn't begin with a letter, or is the scheme of a built-in service.
    pub fn new(name: &'static str) -> Result<Self, BadServiceName> {
        match Self::may_be_called(name) {
            true => Ok(Self(name)),
            false => Err(BadServiceName(name)),
        }
    }

    /// Whether a service that isn't built in may have this name.
    pub(crate) fn may_be_called(name: &str) -> bool {
        let is_name = consists(name, 2..=32, is_label_byte) && name.starts_with(|first: char| first.is_ascii_lowercase());
        is_name && Scheme::named(name).is_none() && name != "http"
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for OtherService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A key of a service that isn't built in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct OtherKey {
    /// The service.
    pub service: OtherService,
    /// What follows the scheme: 1 to 16 segments of up to 128 letters, digits and characters of `_-.`, none of them `.` or `..`.
    pub segments: Vec<String>,
}

impl OtherKey {
    pub(super) fn parse(service: OtherService, rest: &str) -> Result<Self, KeyUriError> {
        let segments = segments(rest)?;
        let is_segment = |segment: &&str| consists(segment, 1..=128, |byte| is_name_byte(byte) || byte == b'.');
        match segments.len() <= MAX_SEGMENTS && segments.iter().all(is_segment) {
            true => Ok(Self { service, segments: segments.into_iter().map(str::to_owned).collect() }),
            false => Err(KeyUriError::Shape { service: Service::Other(service), found: quoted(rest) }),
        }
    }

    pub(super) fn identity(&self) -> String {
        format!("{}://{}", self.service, self.segments.join("/"))
    }
}

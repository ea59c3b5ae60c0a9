//! `http-kms://ENDPOINT/KEY`
//!
//! A key behind an [endpoint] of the configuration, whose service only a component knows. The endpoint is a name there, never an address.
//! The key is whatever the service calls it, in 1 to 8 segments, which stand as they are in the paths of requests.
//!
//! [endpoint]: crate::config::HttpKms

use super::Service;
use super::error::{KeyUriError, quoted};
use super::parts::{Rule, consists, is_label_byte, is_name_byte, segments};

/// The most segments of the key.
const MAX_SEGMENTS: usize = 8;

/// A key behind an endpoint of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct HttpKmsKey {
    /// The name of the endpoint.
    pub endpoint: String,
    /// The key: 1 to 8 segments of letters, digits and characters of `_-.` with slashes between them, none of them `.` or `..`.
    pub key: String,
}

impl HttpKmsKey {
    pub(super) fn parse(rest: &str) -> Result<Self, KeyUriError> {
        match segments(rest)?.as_slice() {
            [endpoint, key @ ..] if (1..=MAX_SEGMENTS).contains(&key.len()) => {
                let endpoint = ENDPOINT.check(endpoint)?;
                key.iter().try_for_each(|segment| SEGMENT.check(segment).map(drop))?;
                Ok(Self { endpoint, key: key.join("/") })
            }
            _ => Err(KeyUriError::Shape { service: Service::HttpKms, found: quoted(rest) }),
        }
    }

    pub(super) fn identity(&self) -> String {
        format!("http-kms://{}/{}", self.endpoint, self.key)
    }
}

/// Whether an endpoint can have this name: then key URIs can say it.
pub fn is_endpoint_name(name: &str) -> bool {
    consists(name, 1..=63, is_label_byte)
}

const ENDPOINT: Rule =
    Rule { service: Service::HttpKms, part: "endpoint", says: "1 to 63 lower-case letters, digits and hyphens", holds: is_endpoint_name };

const SEGMENT: Rule = Rule {
    service: Service::HttpKms,
    part: "key",
    says: "1 to 8 names of at most 128 letters, digits and characters of `_-.`",
    holds: |text| consists(text, 1..=128, |byte| is_name_byte(byte) || byte == b'.'),
};

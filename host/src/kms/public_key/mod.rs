//! Wrapping for public keys, by AWS-LC: what the keystore and services with RSA keys share.
//!
//! | `alg` | |
//! |---|---|
//! | `RSA-OAEP-256` | RFC 7518 section 4.3: [`rsa`] |
//! | `ECDH-ES+A256KW` | RFC 7518 section 4.6, RFC 8037 section 3.2: [`agreement`] |
//! | `HPKE-9-KE`, `HPKE-12-KE` | drafts, with the feature `post-quantum` and by other libraries: `hpke` |

pub mod agreement;
mod generate;
#[cfg(feature = "post-quantum")]
pub mod hpke;
pub mod rsa;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

pub use self::generate::generate;
use super::keystore::Jwk;

/// Why a key didn't do what it was asked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The key itself can't be used: what is wrong with it.
    Key(&'static str),
    /// The JWE's header lacks what this key needs: what that is.
    Header(&'static str),
    /// Only the public half is here, which can't unwrap.
    PublicOnly,
    /// What was to be unwrapped was not wrapped for this key, or was changed.
    Mismatch,
}

/// The JWK thumbprint by SHA-256, in base64url (RFC 7638 section 3). `None` for a symmetric key.
#[must_use]
pub fn thumbprint(jwk: &Jwk) -> Option<String> {
    Some(BASE64URL.encode(digest(&SHA256, jwk.thumbprint_input()?.as_bytes())))
}

#[cfg(test)]
mod tests;

//! What can go wrong between a client and the service.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};

use super::refusal;
use crate::faults::{self, Disturb, Planned};
use crate::transport::{self, altered};

/// One disturbance. Those that alter an answer leave an error answer as it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// An error with this HTTP status, as Google's APIs give it.
    Status(u16),
    /// 429, with this `Retry-After` header.
    RetryAfter(&'static str),
    /// The answer says that it is so long, whatever its length is, and breaks off.
    Length(u64),
    /// The answer has this JSON as this member, whether a reader would take it or not.
    Member(&'static str, &'static str),
    /// The answer's checksum is not that of its data.
    WrongChecksum,
    /// The answer does not say that the plaintext's checksum was verified.
    PlaintextNotVerified,
    /// The answer does not say that the ciphertext's checksum was verified.
    CiphertextNotVerified,
    /// The answer does not say that the additional data's checksum was verified.
    AadNotVerified,
    /// The answer has data, but none of the checksum fields, as from a service or a proxy that does not know them.
    NoChecksums,
    /// An answer that names this key version instead.
    Name(String),
    /// An answer with the public key of this PEM text, and the checksum of that.
    Pem(String),
    /// A well-formed answer of so many MiB, streamed without saying its length first.
    Oversized(usize),
    /// The right answer, this much later.
    Slow(Duration),
    /// The connection closes in the middle of the answer.
    Reset,
    /// The connection closes without an answer.
    HangUp,
    /// The answer arrives whole, as HTTP goes, but its JSON ends in the middle.
    TruncatedJson,
    /// 307 to this URL, which clients that follow it would repeat the request to.
    Redirect(String),
}

/// How often a [`Fault`] happens, and to what. As it is, a fault happens once, to the KMS.
pub type FaultPlan = faults::FaultPlan<Fault>;

impl Planned for Fault {}

impl Disturb for Fault {
    async fn disturb(self, answer: impl Future<Output = Response> + Send) -> Response {
        match self {
            Self::Status(status) => refusal::bare(StatusCode::from_u16(status).expect("an HTTP status")),
            Self::RetryAfter(wait) => transport::retry_after(wait, refusal::bare(StatusCode::TOO_MANY_REQUESTS)),
            Self::Length(length) => transport::of_length(length, answer.await).await,
            Self::Member(name, json) => transport::with_member(name, json, answer.await).await,
            Self::WrongChecksum => altered(answer.await, wrong_checksum).await,
            Self::PlaintextNotVerified => altered(answer.await, |body| drop(body.remove("verifiedPlaintextCrc32c"))).await,
            Self::CiphertextNotVerified => altered(answer.await, |body| drop(body.remove("verifiedCiphertextCrc32c"))).await,
            Self::AadNotVerified => altered(answer.await, |body| drop(body.remove("verifiedAdditionalAuthenticatedDataCrc32c"))).await,
            Self::NoChecksums => altered(answer.await, |body| body.retain(|name, _| !name.ends_with("Crc32c"))).await,
            Self::Name(name) => altered(answer.await, |body| drop(body.insert("name".to_owned(), name.into()))).await,
            Self::Pem(pem) => {
                let sum = crc32c::crc32c(pem.as_bytes()).to_string();
                let change =
                    |body: &mut Map<String, Value>| body.extend([("pem".to_owned(), pem.into()), ("pemCrc32c".to_owned(), sum.into())]);
                altered(answer.await, change).await
            }
            Self::Oversized(mebibytes) => transport::oversized(mebibytes),
            Self::Slow(delay) => transport::slow(delay, answer).await,
            Self::Reset => transport::broken_off(answer.await).await,
            Self::HangUp => transport::hang_up(),
            Self::TruncatedJson => transport::truncated(answer.await).await,
            Self::Redirect(url) => transport::redirect(&url),
        }
    }
}

fn wrong_checksum(body: &mut Map<String, Value>) {
    for name in ["ciphertextCrc32c", "plaintextCrc32c", "pemCrc32c"] {
        if let Some(checksum) = body.get_mut(name) {
            let right: u32 = checksum.as_str().and_then(|text| text.parse().ok()).expect("a checksum");
            *checksum = Value::String((right ^ 1).to_string());
        }
    }
}

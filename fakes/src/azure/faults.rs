//! What can go wrong between a client and the service.

use std::time::Duration;

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};

use super::refusal;
use crate::faults::{self, Disturb, Planned};
use crate::transport::{self, altered};

/// One disturbance. Those that alter an answer leave an error answer as it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// An error with this HTTP status, as the service gives it.
    Status(u16),
    /// 401, with this `WWW-Authenticate` header.
    Challenge(String),
    /// 429, with this `Retry-After` header.
    RetryAfter(&'static str),
    /// The answer says that it is so long, whatever its length is, and breaks off.
    Length(u64),
    /// The answer has this JSON as this member, whether a reader would take it or not.
    Member(&'static str, &'static str),
    /// An answer of this key identifier instead.
    Kid(String),
    /// An answer without this member.
    Without(&'static str),
    /// An answer of which one bit of `value` is another.
    Flipped,
    /// A well-formed answer of so many MiB, streamed without saying its length first.
    Oversized(usize),
    /// The right answer, this much later.
    Slow(Duration),
    /// The connection closes without an answer.
    HangUp,
    /// The answer arrives whole, as HTTP goes, but its JSON ends in the middle.
    TruncatedJson,
    /// 307 to this URL, which clients that follow it would repeat the request to.
    Redirect(String),
}

/// How often a [`Fault`] happens, and to what. As it is, a fault happens once, to a vault.
pub type FaultPlan = faults::FaultPlan<Fault>;

impl Planned for Fault {}

impl Disturb for Fault {
    async fn disturb(self, answer: impl Future<Output = Response> + Send) -> Response {
        match self {
            Self::Status(status) => refusal::bare(StatusCode::from_u16(status).expect("an HTTP status")),
            Self::Challenge(challenge) => {
                let mut response = refusal::bare(StatusCode::UNAUTHORIZED);
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_str(&challenge).expect("a header"));
                response
            }
            Self::RetryAfter(wait) => transport::retry_after(wait, refusal::bare(StatusCode::TOO_MANY_REQUESTS)),
            Self::Length(length) => transport::of_length(length, answer.await).await,
            Self::Member(name, json) => transport::with_member(name, json, answer.await).await,
            Self::Kid(kid) => altered(answer.await, |body| drop(body.insert("kid".to_owned(), kid.into()))).await,
            Self::Without(member) => altered(answer.await, |body| drop(body.remove(member))).await,
            Self::Flipped => altered(answer.await, flip).await,
            Self::Oversized(mebibytes) => transport::oversized(mebibytes),
            Self::Slow(delay) => transport::slow(delay, answer).await,
            Self::HangUp => transport::hang_up(),
            Self::TruncatedJson => transport::truncated(answer.await).await,
            Self::Redirect(url) => transport::redirect(&url),
        }
    }
}

fn flip(body: &mut Map<String, Value>) {
    let value = body.get_mut("value").expect("an answer of a vault");
    let text = value.as_str().expect("a string");
    let other = if text.starts_with('A') { "B" } else { "A" };
    *value = Value::String(other.to_owned() + &text[1..]);
}

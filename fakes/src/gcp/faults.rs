//! What can go wrong between a client and the service.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value};

use super::refusal;
use super::server::HangUp;

const MIB: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// One disturbance. Those that alter an answer leave an error answer as it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// An error with this HTTP status, as Google's APIs give it.
    Status(u16),
    /// 429, with a `Retry-After` header of so many seconds.
    RetryAfter(u64),
    /// The answer's checksum is not that of its data.
    WrongChecksum,
    /// The answer does not say that the plaintext's checksum was verified.
    PlaintextNotVerified,
    /// The answer does not say that the additional data's checksum was verified.
    AadNotVerified,
    /// The answer has data, but none of the checksum fields, as from a service or a proxy that does not know them.
    NoChecksums,
    /// An encrypt answer that names this key version instead.
    Name(String),
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
#[derive(Clone, Debug)]
pub struct FaultPlan {
    fault: Fault,
    /// None: until cleared.
    left: Option<u32>,
    tokens: bool,
}

impl Fault {
    /// It happens to so many requests.
    pub fn times(self, count: u32) -> FaultPlan {
        FaultPlan { left: Some(count), ..self.into() }
    }

    /// It happens until faults are cleared.
    pub fn until_cleared(self) -> FaultPlan {
        FaultPlan { left: None, ..self.into() }
    }

    /// It happens to the endpoints that give out tokens, not to the KMS.
    pub fn on_tokens(self) -> FaultPlan {
        FaultPlan::from(self).on_tokens()
    }
}

impl FaultPlan {
    /// It happens to the endpoints that give out tokens, not to the KMS.
    pub fn on_tokens(self) -> Self {
        Self { tokens: true, ..self }
    }
}

impl From<Fault> for FaultPlan {
    fn from(fault: Fault) -> Self {
        Self { fault, left: Some(1), tokens: false }
    }
}

/// The faults still to happen, the next one first.
#[derive(Default)]
pub(super) struct Queue(VecDeque<FaultPlan>);

impl Queue {
    pub(super) fn push(&mut self, plan: FaultPlan) {
        if plan.left != Some(0) {
            self.0.push_back(plan);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that happens to this request.
    pub(super) fn next(&mut self, to_kms: bool) -> Option<Fault> {
        let index = self.0.iter().position(|plan| plan.tokens != to_kms)?;
        let plan = &mut self.0[index];
        let fault = plan.fault.clone();
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(index);
            }
        }
        Some(fault)
    }
}

/// Answers with the fault; `answer` is what the service would have said, and happens only if it is needed.
pub(super) async fn disturb(fault: Fault, answer: impl Future<Output = Response>) -> Response {
    match fault {
        Fault::Status(status) => refusal::bare(StatusCode::from_u16(status).expect("an HTTP status")),
        Fault::RetryAfter(seconds) => {
            let mut response = refusal::bare(StatusCode::TOO_MANY_REQUESTS);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Fault::WrongChecksum => altered(answer.await, wrong_checksum).await,
        Fault::PlaintextNotVerified => altered(answer.await, |body| drop(body.remove("verifiedPlaintextCrc32c"))).await,
        Fault::AadNotVerified => altered(answer.await, |body| drop(body.remove("verifiedAdditionalAuthenticatedDataCrc32c"))).await,
        Fault::NoChecksums => altered(answer.await, |body| body.retain(|name, _| !name.ends_with("Crc32c"))).await,
        Fault::Name(name) => altered(answer.await, |body| drop(body.insert("name".to_owned(), name.into()))).await,
        Fault::Oversized(mebibytes) => oversized(mebibytes),
        Fault::Slow(delay) => {
            tokio::time::sleep(delay).await;
            answer.await
        }
        Fault::Reset => broken_off(answer.await).await,
        Fault::HangUp => (axum::Extension(HangUp), ()).into_response(),
        Fault::TruncatedJson => {
            let bytes = whole(answer.await).await;
            json(Body::from(bytes.slice(..bytes.len() / 2)))
        }
        Fault::Redirect(url) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, url)]).into_response(),
    }
}

/// The same answer with another body, unless it is an error.
async fn altered(answer: Response, change: impl FnOnce(&mut Map<String, Value>)) -> Response {
    if !answer.status().is_success() {
        return answer;
    }
    let mut body = serde_json::from_slice(&whole(answer).await).expect("the service answers with an object");
    change(&mut body);
    json(Body::from(serde_json::to_vec(&body).expect("JSON")))
}

fn wrong_checksum(body: &mut Map<String, Value>) {
    for name in ["ciphertextCrc32c", "plaintextCrc32c"] {
        if let Some(checksum) = body.get_mut(name) {
            let right: u32 = checksum.as_str().and_then(|text| text.parse().ok()).expect("a checksum");
            *checksum = Value::String((right ^ 1).to_string());
        }
    }
}

fn oversized(mebibytes: usize) -> Response {
    let filling = stream::repeat(Bytes::from_static(&[b'A'; CHUNK])).take(mebibytes * MIB / CHUNK);
    let chunks = stream::iter([Bytes::from_static(b"{\"name\":\"")]).chain(filling).chain(stream::iter([Bytes::from_static(b"\"}")]));
    json(Body::from_stream(chunks.map(Ok::<_, Infallible>)))
}

async fn broken_off(answer: Response) -> Response {
    let bytes = whole(answer).await;
    let first = stream::iter([Ok(bytes.slice(..bytes.len() / 2))]);
    let then = stream::once(async {
        // The client gets the first half before the connection closes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let mut response = json(Body::from_stream(first.chain(then)));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    response
}

fn json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=UTF-8")], body).into_response()
}

async fn whole(answer: Response) -> Bytes {
    to_bytes(answer.into_body(), usize::MAX).await.expect("the service's answers are in memory")
}

//! What can go wrong between a client and any service that is reached by HTTP.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value};

use crate::server::HangUp;

const MIB: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// A well-formed answer of so many MiB, streamed without saying its length first.
pub(crate) fn oversized(mebibytes: usize) -> Response {
    let filling = stream::repeat(Bytes::from_static(&[b'A'; CHUNK])).take(mebibytes * MIB / CHUNK);
    let chunks = stream::iter([Bytes::from_static(b"{\"name\":\"")]).chain(filling).chain(stream::iter([Bytes::from_static(b"\"}")]));
    json(Body::from_stream(chunks.map(Ok::<_, Infallible>)))
}

/// The first half of the answer; then the connection closes.
pub(crate) async fn broken_off(answer: Response) -> Response {
    let bytes = whole(answer).await;
    let first = stream::iter([Ok(bytes.slice(..bytes.len() / 2))]);
    let then = stream::once(async {
        // The client gets the first half before the connection closes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let mut response = json(Body::from_stream(first.chain(then)));
    response.headers_mut().insert(CONTENT_LENGTH, bytes.len().into());
    response
}

/// The answer's first half, as if it were the whole.
pub(crate) async fn truncated(answer: Response) -> Response {
    let bytes = whole(answer).await;
    json(Body::from(bytes.slice(..bytes.len() / 2)))
}

/// The connection closes without an answer.
pub(crate) fn hang_up() -> Response {
    (axum::Extension(HangUp), ()).into_response()
}

/// 307 to this URL, which clients that follow it would repeat the request to.
pub(crate) fn redirect(url: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, url)]).into_response()
}

/// The service is busy, as this refusal says, until when this header says.
pub(crate) fn retry_after(wait: &'static str, refusal: Response) -> Response {
    ([(RETRY_AFTER, wait)], refusal).into_response()
}

/// The answer, which says that it is so long, whatever its length is; then the connection closes.
pub(crate) async fn of_length(length: u64, answer: Response) -> Response {
    let mut response = broken_off(answer).await;
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// The same answer with this JSON as a member, whether a reader would take it or not, unless it is an error.
pub(crate) async fn with_member(name: &'static str, json: &'static str, answer: Response) -> Response {
    const PLACE: &str = "\"the place of a member\"";
    let placed = altered(answer, |body| drop(body.insert(name.to_owned(), PLACE.trim_matches('"').into()))).await;
    let (head, body) = placed.into_parts();
    let text = String::from_utf8(whole(Response::new(body)).await.to_vec()).expect("the service answers in UTF-8");
    Response::from_parts(head, Body::from(text.replace(PLACE, json)))
}

/// The right answer, this much later.
pub(crate) async fn slow(delay: Duration, answer: impl Future<Output = Response>) -> Response {
    tokio::time::sleep(delay).await;
    answer.await
}

/// The same answer with another body, unless it is an error.
pub(crate) async fn altered(answer: Response, change: impl FnOnce(&mut Map<String, Value>)) -> Response {
    if !answer.status().is_success() {
        return answer;
    }
    let mut body = serde_json::from_slice(&whole(answer).await).expect("the service answers with an object");
    change(&mut body);
    json(Body::from(serde_json::to_vec(&body).expect("JSON")))
}

pub(crate) fn json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=UTF-8")], body).into_response()
}

pub(crate) async fn whole(answer: Response) -> Bytes {
    to_bytes(answer.into_body(), usize::MAX).await.expect("the service's answers are in memory")
}

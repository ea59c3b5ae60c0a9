//! Which path is answered by whom, and what happens to every request: it is recorded, and perhaps disturbed.

use axum::Router;
use axum::body::Bytes;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use super::record::Request as Record;
use super::refusal::Refusal;
use super::{Shared, faults, kms, metadata, sts, tokens};

/// Larger than any request that a limit of the service allows, so that the service's own limits are what is met.
const MAX_REQUEST: usize = 1024 * 1024;

/// What a method gets to see of a request.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/token", post(tokens::token))
        .route("/v1/token", post(sts::exchange))
        .route("/v1/{*name}", post(custom_method))
        .route("/subject-token", get(sts::subject_token))
        .route("/", get(metadata::root))
        .route("/computeMetadata/v1/{*path}", get(metadata::value))
        .fallback(async || not_found())
        .method_not_allowed_fallback(async || not_found())
        .layer(from_fn_with_state(shared.clone(), record_and_disturb))
        .with_state(shared)
}

/// Google's APIs name their methods after a colon: `/v1/RESOURCE:METHOD`.
async fn custom_method(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let call = Call { shared: &shared, headers: &headers, query: uri.query().unwrap_or(""), body: &body };
    match name.rsplit_once(':') {
        Some((name, "encrypt")) => kms::encrypt(&call, name),
        Some((name, "decrypt")) => kms::decrypt(&call, name),
        Some((name, "generateAccessToken")) => tokens::generate_access_token(&call, name),
        _ => Ok(not_found()),
    }
}

/// A path that no API has is answered by Google's web server, not by the API: in HTML.
pub(super) fn not_found() -> Response {
    let page = "<!DOCTYPE html>\n<html lang=en>\n  <title>Error 404 (Not Found)!!1</title>\n";
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

async fn record_and_disturb(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_REQUEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let fault = {
        let record = Record::of(&parts, &body);
        let mut state = shared.lock();
        let fault = state.faults.next(record.is_kms());
        state.requests.push(record);
        fault
    };
    let request = Request::from_parts(parts, Body::from(body));
    match fault {
        None => next.run(request).await,
        Some(fault) => faults::disturb(fault, next.run(request)).await,
    }
}

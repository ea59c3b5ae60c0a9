//! Which path is answered by whom.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use super::refusal::Refusal;
use super::{Fault, Shared, asymmetric, kms, metadata, sts, tokens};
use crate::traffic::{Traffic, record_and_disturb};

/// What a method gets to see of a request.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

pub(super) fn router(shared: Shared, traffic: Traffic<Fault>) -> Router {
    Router::new()
        .route("/token", post(tokens::token))
        .route("/v1/token", post(sts::exchange))
        .route("/v1/oauthtoken", post(sts::refresh))
        .route("/v1/{*name}", post(custom_method).get(resource))
        .route("/subject-token", get(sts::subject_token))
        .route("/", get(metadata::root))
        .route("/computeMetadata/v1/{*path}", get(metadata::value))
        .fallback(async || not_found())
        .method_not_allowed_fallback(async || not_found())
        .layer(from_fn_with_state(traffic, record_and_disturb::<Fault>))
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
        Some((name, "asymmetricDecrypt")) => asymmetric::asymmetric_decrypt(&call, name),
        Some((name, "generateAccessToken")) => tokens::generate_access_token(&call, name),
        _ => Ok(not_found()),
    }
}

/// What is read without a method's name: `/v1/RESOURCE`.
async fn resource(State(shared): State<Shared>, Path(name): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    let call = Call { shared: &shared, headers: &headers, query: uri.query().unwrap_or(""), body: b"" };
    match name.rsplit_once('/') {
        Some((name, "publicKey")) => asymmetric::public_key(&call, name),
        _ => Ok(not_found()),
    }
}

/// A path that no API has is answered by Google's web server, not by the API: in HTML.
pub(super) fn not_found() -> Response {
    let page = "<!DOCTYPE html>\n<html lang=en>\n  <title>Error 404 (Not Found)!!1</title>\n";
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

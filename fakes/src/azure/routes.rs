//! Which path is answered by whom.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};

use super::refusal::Refusal;
use super::vault::Call;
use super::{Fault, Shared, entra};
use crate::traffic::{Traffic, record_and_disturb};

pub(super) fn router(shared: Shared, traffic: Traffic<Fault>) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(entra::token))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(entra::openid_configuration))
        .route("/msi/token", get(entra::managed_identity))
        .route("/keys/{*path}", get(get_key).post(post_key))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(from_fn_with_state(traffic, record_and_disturb::<Fault>))
        .with_state(shared)
}

async fn get_key(State(shared): State<Shared>, Path(path): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    Call { shared: &shared, headers: &headers, query: uri.query().unwrap_or(""), body: &[] }.get(&path)
}

async fn post_key(
    State(shared): State<Shared>,
    Path(path): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    Call { shared: &shared, headers: &headers, query: uri.query().unwrap_or(""), body: &body }.post(&path)
}

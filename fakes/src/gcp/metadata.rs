//! The metadata server: <https://cloud.google.com/compute/docs/metadata/querying-metadata>.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::Shared;
use super::identity::{CLOUD_PLATFORM, LIFETIME, PROJECT, SERVICE_ACCOUNT};

const FLAVOR: &str = "Metadata-Flavor";

/// Clients look here to learn whether there is a metadata server.
pub(super) async fn root(headers: HeaderMap) -> Response {
    guarded(&headers, || "computeMetadata/\n".into_response())
}

pub(super) async fn value(
    State(shared): State<Shared>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    guarded(&headers, || answer(&shared, &path, &query.unwrap_or_default()))
}

/// The header keeps out requests that somebody talked a program on the machine into making.
fn guarded(headers: &HeaderMap, answer: impl FnOnce() -> Response) -> Response {
    let mut response = if headers.get(FLAVOR).is_some_and(|flavor| flavor == "Google") {
        answer()
    } else {
        let page = "<!DOCTYPE html>\n<title>Error 403 (Forbidden)!!1</title>\nMissing required header: Metadata-Flavor";
        (StatusCode::FORBIDDEN, Html(page)).into_response()
    };
    response.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
    response.headers_mut().insert("Server", HeaderValue::from_static("Metadata Server for VM"));
    response
}

fn answer(shared: &Shared, path: &str, query: &str) -> Response {
    match path {
        "project/project-id" => PROJECT.into_response(),
        "universe/universe-domain" => "googleapis.com".into_response(),
        _ => match path.strip_prefix("instance/service-accounts/") {
            Some("default/token") => token(shared, query),
            Some("default/email") => SERVICE_ACCOUNT.into_response(),
            Some("default/scopes") => format!("{CLOUD_PLATFORM}\n").into_response(),
            Some("default/") if query.contains("recursive=true") => account().into_response(),
            _ => (StatusCode::NOT_FOUND, Html("<!DOCTYPE html>\n<title>Error 404 (Not Found)!!1</title>\n")).into_response(),
        },
    }
}

fn account() -> Json<serde_json::Value> {
    Json(json!({"aliases": ["default"], "email": SERVICE_ACCOUNT, "scopes": [CLOUD_PLATFORM]}))
}

fn token(shared: &Shared, query: &str) -> Response {
    let query: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    let asked = query.iter().find(|(name, _)| name == "scopes").map(|(_, scopes)| scopes.as_str());
    let scopes: Vec<_> = asked.unwrap_or(CLOUD_PLATFORM).split(',').collect();
    let token = shared.lock().identity.issue(&scopes);
    Json(json!({"access_token": token, "expires_in": LIFETIME.as_secs(), "token_type": "Bearer"})).into_response()
}

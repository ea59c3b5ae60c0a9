//! Workload identity federation: `sts.googleapis.com` (RFC 8693), and the outside identity provider it trusts.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Shared;
use super::identity::{AUDIENCE, CLIENT_ID, CLOUD_PLATFORM, LIFETIME, bearer};
use super::tokens::OauthError;
use crate::record::json_or_form;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

pub(super) async fn exchange(State(shared): State<Shared>, body: Bytes) -> Result<Json<Value>, OauthError> {
    let request = json_or_form(&body);
    let fixed = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token_type", JWT),
        ("audience", AUDIENCE),
    ];
    for (name, value) in fixed {
        if request[name] != value {
            return Err(OauthError::bad("invalid_request", format!("Invalid value for \"{name}\": {}", request[name])));
        }
    }
    let scopes: Vec<_> = request["scope"].as_str().unwrap_or("").split_whitespace().collect();
    if scopes.is_empty() {
        return Err(OauthError::bad("invalid_scope", "Scope(s) must be provided."));
    }
    let mut state = shared.lock();
    if request["subject_token"] != state.identity.subject_token.as_str() {
        return Err(OauthError::bad("invalid_grant", "Error connecting the given credential to its issuer."));
    }
    Ok(Json(json!({
        "access_token": state.identity.issue(&scopes),
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": LIFETIME.as_secs(),
    })))
}

/// Renews the token of a workforce user, whose client shows who it is by Basic authentication alone.
pub(super) async fn refresh(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, OauthError> {
    let request = json_or_form(&body);
    let mut state = shared.lock();
    let pair = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{}", state.identity.client_secret));
    if headers.get(AUTHORIZATION).is_none_or(|value| value != &format!("Basic {pair}")) {
        return Err(OauthError(StatusCode::UNAUTHORIZED, "invalid_client", "Client authentication failed.".into()));
    }
    if request["grant_type"] != "refresh_token" || request["refresh_token"] != state.identity.refresh_token.as_str() {
        return Err(OauthError::bad("invalid_grant", "The refresh token is expired."));
    }
    Ok(Json(json!({
        "access_token": state.identity.issue(&[CLOUD_PLATFORM]),
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": LIFETIME.as_secs(),
        "refresh_token": state.identity.refresh_token,
    })))
}

/// Answers as the identity provider of a CI service does: to a caller with a request token, in text or JSON.
pub(super) async fn subject_token(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let state = shared.lock();
    let caller = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    if caller != Some(&state.identity.subject_request_token) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let token = state.identity.subject_token.clone();
    match query.as_deref() {
        Some("format=json") => Json(json!({"count": token.len(), "value": token})).into_response(),
        _ => token.into_response(),
    }
}

//! `oauth2.googleapis.com/token` and `iamcredentials.googleapis.com`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fields::Fields;
use super::identity::{CLIENT_ID, CLOUD_PLATFORM, Identity, LIFETIME, Service, TARGET_ACCOUNT};
use super::refusal::Refusal;
use super::routes::Call;
use super::{Shared, routes};
use crate::record::json_or_form;

/// The address of what `/token` stands for.
const GOOGLE: &str = "https://oauth2.googleapis.com/token";

/// An error of a token endpoint: RFC 6749, section 5.2.
#[derive(Debug)]
pub(super) struct OauthError(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

impl OauthError {
    pub(super) fn bad(error: &'static str, description: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, error, description.into())
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1, "error_description": self.2}))).into_response()
    }
}

pub(super) async fn token(State(shared): State<Shared>, body: Bytes) -> Result<Json<Value>, OauthError> {
    let request = json_or_form(&body);
    let mut state = shared.lock();
    let audience = format!("{}/token", state.endpoint);
    let scopes = match request["grant_type"].as_str() {
        Some("refresh_token") => refresh(&state.identity, &request)?,
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => assertion(&state.identity, &request, &audience)?,
        other => {
            let description = format!("Invalid grant_type: {}", other.unwrap_or(""));
            return Err(OauthError::bad("unsupported_grant_type", description));
        }
    };
    let scopes: Vec<_> = scopes.split_whitespace().collect();
    Ok(Json(json!({
        "access_token": state.identity.issue(&scopes),
        "expires_in": LIFETIME.as_secs(),
        "scope": scopes.join(" "),
        "token_type": "Bearer",
    })))
}

/// The scopes of a user's refresh token.
fn refresh(identity: &Identity, request: &Value) -> Result<String, OauthError> {
    let unauthorized = |text: &str| OauthError(StatusCode::UNAUTHORIZED, "invalid_client", text.to_owned());
    if request["client_id"] != CLIENT_ID {
        return Err(unauthorized("The OAuth client was not found."));
    }
    if request["client_secret"] != identity.client_secret.as_str() {
        return Err(unauthorized("The provided client secret is invalid."));
    }
    if request["refresh_token"] != identity.refresh_token.as_str() {
        return Err(OauthError::bad("invalid_grant", "Token has been expired or revoked."));
    }
    match request["scope"].as_str() {
        None | Some("") | Some(CLOUD_PLATFORM) => Ok(CLOUD_PLATFORM.to_owned()),
        Some(_) => Err(OauthError::bad("invalid_scope", "Some requested scopes were not granted by the user.")),
    }
}

/// The scopes that a service account's assertion asks for (RFC 7523).
fn assertion(identity: &Identity, request: &Value, audience: &str) -> Result<String, OauthError> {
    let assertion = request["assertion"].as_str().unwrap_or("");
    let claims = identity.verify_assertion(assertion).map_err(|flaw| OauthError::bad("invalid_grant", flaw))?;
    // Some clients name Google's own address whatever `token_uri` says: Python's, for one.
    if !claims.text("aud").is_some_and(|named| [audience, GOOGLE].contains(&named)) {
        let description = format!("Invalid JWT: Failed audience check. The right audience is {audience}");
        return Err(OauthError::bad("invalid_grant", description));
    }
    let scope = claims.text("scope").filter(|scope| !scope.is_empty());
    let missing = || OauthError::bad("invalid_scope", "Invalid OAuth scope or ID token audience provided.");
    scope.map(str::to_owned).ok_or_else(missing)
}

/// Impersonation: a token for another service account, for a caller who has one already.
pub(super) fn generate_access_token(call: &Call<'_>, name: &str) -> Result<Response, Refusal> {
    let Some(account) = name.strip_prefix("projects/-/serviceAccounts/") else { return Ok(routes::not_found()) };
    let mut state = call.shared.lock();
    state.identity.check_bearer(call.headers, Service::IamCredentials)?;
    let fields = Fields::parse(call.body, &["name", "delegates", "scope", "lifetime"])?;
    let scopes = fields.texts("scope")?;
    if scopes.is_empty() {
        return Err(Refusal::invalid_argument("The scopes field is required."));
    }
    if account != TARGET_ACCOUNT {
        return Err(Refusal::not_found(format!("Not found; Gaia id not found for email {account}")));
    }
    let lifetime = lifetime(fields.text("lifetime")?)?;
    let expires = OffsetDateTime::now_utc() + lifetime;
    let expires = expires.replace_nanosecond(0).expect("0 is in range").format(&Rfc3339).expect("a date to write");
    let token = state.identity.issue_for(&scopes, lifetime);
    Ok(Json(json!({"accessToken": token, "expireTime": expires})).into_response())
}

/// A `Duration` in proto3's JSON, `3600s`, within the hour that the service allows.
fn lifetime(text: &str) -> Result<Duration, Refusal> {
    if text.is_empty() {
        return Ok(Duration::from_secs(3600));
    }
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
    match seconds {
        Some(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(Refusal::invalid_argument(format!("The lifetime must be at most 3600s: {text}"))),
    }
}

//! Microsoft Entra: one tenant with one application, and the tokens that it was given
//! (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>).

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::assertion::Trusted;
use super::refusal::Refusal;
use crate::record::json_or_form;

/// The tenant that the vaults are of.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const CLIENT_ID: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) struct Entra {
    pub(super) client_secret: String,
    pub(super) federated_token: String,
    pub(super) identity_header: String,
    pub(super) lifetime: Duration,
    /// The certificate that the application has, if it has one.
    pub(super) trusted: Option<Trusted>,
    issued: HashMap<String, Issued>,
}

struct Issued {
    resource: String,
    expires: Instant,
}

impl Entra {
    pub(super) fn new() -> Self {
        Self {
            client_secret: format!("secret~{}", random_hex()),
            federated_token: format!("federated.{}", random_hex()),
            identity_header: random_hex(),
            lifetime: Duration::from_secs(3599),
            trusted: None,
            issued: HashMap::new(),
        }
    }

    pub(super) fn issue(&mut self, resource: &str) -> String {
        let token = format!("eyJ0.{}.{}", random_hex(), random_hex());
        self.issued.insert(token.clone(), Issued { resource: resource.to_owned(), expires: Instant::now() + self.lifetime });
        token
    }

    pub(super) fn revoke_all(&mut self) {
        for token in self.issued.values_mut() {
            token.expires = Instant::now();
        }
    }

    /// Whether the request carries a token for a host below `domain`.
    pub(super) fn check_bearer(&self, headers: &HeaderMap, domain: &str) -> Result<(), Refusal> {
        let expected = format!("https://{domain}");
        let header = headers.get("authorization").and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|header| header.strip_prefix("Bearer ")) else {
            return Err(Refusal::unauthorized("AKV10000: Request is missing a Bearer or PoP token.", &expected));
        };
        match self.issued.get(token) {
            Some(issued) if issued.expires <= Instant::now() => Err(Refusal::unauthorized("AKV10033: The token has expired.", &expected)),
            Some(issued) if issued.resource != expected => {
                let message = format!("AKV10022: Invalid audience. Expected {expected}, found: {}.", issued.resource);
                Err(Refusal::unauthorized(&message, &expected))
            }
            Some(_) => Ok(()),
            None => Err(Refusal::unauthorized("AKV10046: Unable to resolve the key used for signature validation.", &expected)),
        }
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let fixed = [&self.client_secret, &self.federated_token, &self.identity_header];
        fixed.into_iter().chain(self.issued.keys()).cloned().collect()
    }
}

/// `POST /TENANT/oauth2/v2.0/token`: client credentials.
pub(super) async fn token(State(shared): State<Shared>, Path(tenant): Path<String>, body: Bytes) -> Response {
    let form = json_or_form(&body);
    let mut state = shared.lock();
    if tenant != TENANT {
        return no(90002, "invalid_request", &format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."));
    }
    if form["client_id"] != CLIENT_ID {
        return no(
            700016,
            "unauthorized_client",
            &format!("Application with identifier {} was not found in the directory.", form["client_id"]),
        );
    }
    if form["grant_type"] != "client_credentials" {
        return no(70003, "unsupported_grant_type", "The app requested an unsupported grant type.");
    }
    let by_secret = form["client_secret"] == state.entra.client_secret.as_str();
    let is_assertion = form["client_assertion_type"] == JWT_BEARER;
    let by_certificate = match (&state.entra.trusted, form["client_assertion"].as_str().filter(|_| is_assertion)) {
        (Some(trusted), Some(assertion)) => {
            let endpoint = format!("{}/{TENANT}/oauth2/v2.0/token", state.endpoint);
            if let Some((code, words)) = trusted.refuses(assertion, CLIENT_ID, &endpoint) {
                return no(code, "invalid_client", words);
            }
            true
        }
        _ => false,
    };
    let by_assertion = by_certificate || (is_assertion && form["client_assertion"] == state.entra.federated_token.as_str());
    if !by_secret && form["client_assertion"].is_null() {
        return no(
            7000215,
            "invalid_client",
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.",
        );
    }
    if !by_secret && !by_assertion {
        return no(700213, "invalid_client", "No matching federated identity record found for presented assertion.");
    }
    // The scope is the resource with `/.default`, and libraries add those of OpenID.
    let scopes = form["scope"].as_str().unwrap_or_default();
    let Some(resource) = scopes.split(' ').find_map(|scope| scope.strip_suffix("/.default")) else {
        return no(70011, "invalid_scope", "The provided value for the input parameter 'scope' is not valid.");
    };
    let lifetime = state.entra.lifetime.as_secs();
    let token = state.entra.issue(resource);
    Json(json!({"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token})).into_response()
}

fn no(code: u32, error: &str, description: &str) -> Response {
    let description = format!("AADSTS{code}: {description} Trace ID: 0 Correlation ID: 0 Timestamp: 2026-01-01 00:00:00Z");
    let status = if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    (status, Json(json!({"error": error, "error_description": description, "error_codes": [code]}))).into_response()
}

/// What MSAL looks up before it asks for a token.
pub(super) async fn openid_configuration(State(shared): State<Shared>, Path(tenant): Path<String>, headers: HeaderMap) -> Json<Value> {
    let own = shared.lock().endpoint.clone();
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let base = if own.ends_with(host) { own } else { format!("https://{host}") };
    Json(json!({
        "issuer": format!("https://login.microsoftonline.com/{tenant}/v2.0"),
        "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
        "device_authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/devicecode"),
    }))
}

/// The [managed identity endpoint] of App Service, version 2019-08-01.
///
/// [managed identity endpoint]: https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
pub(super) async fn managed_identity(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let mut state = shared.lock();
    let query: HashMap<String, String> = serde_urlencoded::from_str(&query.unwrap_or_default()).unwrap_or_default();
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if headers.get("x-identity-header").is_none_or(|header| header.as_bytes() != state.entra.identity_header.as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if text("api-version") != "2019-08-01" || !["", CLIENT_ID].contains(&text("client_id")) {
        let body = json!({"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found for specified ClientId"});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
    let expires = (now + state.entra.lifetime).as_secs().to_string();
    let resource = text("resource").to_owned();
    let token = state.entra.issue(&resource);
    Json(json!({"access_token": token, "expires_on": expires, "resource": resource, "token_type": "Bearer"})).into_response()
}

pub(super) fn random_hex() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

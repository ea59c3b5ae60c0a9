//! Errors in the form in which Key Vault gives them: <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>.

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::entra::{CLIENT_ID, TENANT};
use super::keys::{Denial, Key};

#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    inner: Option<&'static str>,
    challenge: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), inner: None, challenge: None }
    }

    pub(super) fn unauthorized(message: &str, resource: &str) -> Self {
        let challenge = format!("Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"{resource}\"");
        Self { challenge: Some(challenge), ..Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message) }
    }

    pub(super) fn bad_parameter(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    pub(super) fn not_found(name: &str) -> Self {
        let message = format!(
            "A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may be able to recover it \
             using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
        );
        Self::new(StatusCode::NOT_FOUND, "KeyNotFound", message)
    }

    fn forbidden(inner: &'static str, message: String) -> Self {
        Self { inner: Some(inner), ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    pub(super) fn disabled(operation: &str) -> Self {
        Self::forbidden("KeyDisabled", format!("Operation {operation} is not allowed on a disabled key."))
    }

    pub(super) fn expired(operation: &str) -> Self {
        Self::forbidden("KeyExpired", format!("Operation {operation} is not allowed on an expired key."))
    }

    pub(super) fn denied(denial: Denial, operation: &str, key: &Key) -> Self {
        let vault = key.host.split('.').next().unwrap_or_default();
        let caller = format!("appid={CLIENT_ID};oid={CLIENT_ID};iss=https://sts.windows.net/{TENANT}/");
        match denial {
            Denial::Rbac => {
                let action = operation.trim_end_matches("Key");
                let message = format!(
                    "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions \
                     were changed recently, please observe propagation time.\r\nCaller: {caller}\r\n\
                     Action: 'Microsoft.KeyVault/vaults/keys/{action}/action'\r\nVault: {vault};location=westeurope\r\n"
                );
                Self::forbidden("ForbiddenByRbac", message)
            }
            Denial::Policy => {
                let message = format!(
                    "The user, group or application '{caller}' does not have keys {operation} permission on key vault \
                     '{vault};location=westeurope'."
                );
                Self::forbidden("AccessDenied", message)
            }
            Denial::Firewall => {
                let message = format!(
                    "Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.7\r\n\
                     Caller: {caller}\r\nVault: {vault};location=westeurope"
                );
                Self::forbidden("ForbiddenByFirewall", message)
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(inner) = self.inner {
            error["innererror"] = json!({"code": inner});
        }
        let mut response = (self.status, Json(json!({"error": error}))).into_response();
        if let Some(challenge) = self.challenge {
            let challenge = HeaderValue::from_str(&challenge).expect("a header");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// An error of the service with nothing to explain it, as it gives it when it is in trouble.
pub(super) fn bare(status: StatusCode) -> Response {
    let (code, message) = match status.as_u16() {
        400 => ("BadParameter", "The parameter is incorrect.\r\n"),
        401 => ("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."),
        403 => ("Forbidden", "The caller may not do this."),
        404 => ("KeyNotFound", "The key was not found."),
        409 => ("Conflict", "Key k is currently being deleted."),
        429 => ("Throttled", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"),
        _ => ("InternalServerError", "The service is in trouble."),
    };
    Refusal::new(status, code, message).into_response()
}

//! Errors in the form in which Google's APIs give them: <https://cloud.google.com/apis/design/errors>.

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The canonical code's name.
    code: &'static str,
    message: String,
    details: Vec<Value>,
    challenge: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Vec::new(), challenge: None }
    }

    pub(super) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// The version exists but is not usable.
    pub(super) fn disabled(version: &str) -> Self {
        let message = format!("{version} is not enabled, current state is: DISABLED.");
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message).with(json!({
            "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
            "violations": [{"type": "KEY_DISABLED", "subject": version}],
        }))
    }

    /// The caller is known, but may not do this. The service does not say whether the resource exists.
    pub(super) fn permission_denied(permission: &str, resource: &str) -> Self {
        let message = format!("Permission '{permission}' denied on resource '{resource}' (or it may not exist).");
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message).with(error_info(
            "IAM_PERMISSION_DENIED",
            "cloudkms.googleapis.com",
            json!({"permission": permission, "resource": resource}),
        ))
    }

    pub(super) fn no_credential(service: &str) -> Self {
        let message = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                       cookie or other valid authentication credential.";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message)
            .with(error_info("CREDENTIALS_MISSING", "googleapis.com", json!({"service": service})))
            .challenging("Bearer realm=\"https://accounts.google.com/\"")
    }

    pub(super) fn invalid_credential(service: &str) -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                       other valid authentication credential.";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message)
            .with(error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", "googleapis.com", json!({"service": service})))
            .challenging("Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"")
    }

    pub(super) fn insufficient_scope(service: &str) -> Self {
        let message = "Request had insufficient authentication scopes.";
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
            .with(error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "googleapis.com", json!({"service": service})))
            .challenging("Bearer realm=\"https://accounts.google.com/\", error=\"insufficient_scope\"")
    }

    fn with(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    fn challenging(mut self, challenge: &'static str) -> Self {
        self.challenge = Some(challenge);
        self
    }
}

fn error_info(reason: &str, domain: &str, metadata: Value) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": metadata,
    })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.status.as_u16(), "message": self.message, "status": self.code});
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details);
        }
        let mut response = (self.status, Json(json!({"error": error}))).into_response();
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// An error of the service with nothing to explain it, as it gives it when it is in trouble.
pub(super) fn bare(status: StatusCode) -> Response {
    let (code, message) = match status.as_u16() {
        400 => ("INVALID_ARGUMENT", "Request contains an invalid argument."),
        401 => return Refusal::invalid_credential("cloudkms.googleapis.com").into_response(),
        403 => ("PERMISSION_DENIED", "The caller does not have permission"),
        404 => ("NOT_FOUND", "Requested entity was not found."),
        409 => ("ABORTED", "The operation was aborted."),
        429 => return quota().into_response(),
        499 => ("CANCELLED", "The operation was cancelled."),
        500 => ("INTERNAL", "Internal error encountered."),
        501 => ("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
        503 => ("UNAVAILABLE", "The service is currently unavailable."),
        504 => ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
        // Others come from the web server in front of the service.
        other => return (status, Html(format!("<!DOCTYPE html>\n<title>Error {other}</title>\n"))).into_response(),
    };
    Refusal::new(status, code, message).into_response()
}

fn quota() -> Refusal {
    let message = "Quota exceeded for quota metric 'Cryptographic requests' and limit 'Cryptographic requests per \
                   minute' of service 'cloudkms.googleapis.com' for consumer 'project_number:123456789012'.";
    let metadata = json!({"service": "cloudkms.googleapis.com", "consumer": "projects/123456789012"});
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message).with(error_info(
        "RATE_LIMIT_EXCEEDED",
        "googleapis.com",
        metadata,
    ))
}

//! What the fake remembers of a request.

use std::collections::BTreeMap;

use axum::http::request::Parts;
use serde_json::Value;

/// A request as it arrived.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// Without the query, not decoded.
    pub path: String,
    /// What follows the question mark, not decoded; empty if nothing does.
    pub query: String,
    /// All headers; their names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON as it came, a form as an object of strings, `null` if it was neither.
    pub body: Value,
}

impl Request {
    pub(crate) fn of(parts: &Parts, body: &[u8]) -> Self {
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or("").to_owned(),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: json_or_form(body),
        }
    }

    /// A header's value; the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// Whether it was addressed to the KMS, rather than to one of the token endpoints.
    pub fn is_kms(&self) -> bool {
        let is_cloud_kms = self.path.starts_with("/v1/projects/") && !self.path.starts_with("/v1/projects/-/");
        is_cloud_kms || self.path.starts_with("/keys/")
    }
}

/// The token endpoints read one or both.
pub(crate) fn json_or_form(body: &[u8]) -> Value {
    if let Ok(json) = serde_json::from_slice(body) {
        return json;
    }
    match serde_urlencoded::from_bytes::<BTreeMap<String, String>>(body) {
        Ok(form) if !form.is_empty() => form.into_iter().map(|(name, text)| (name, Value::String(text))).collect(),
        _ => Value::Null,
    }
}

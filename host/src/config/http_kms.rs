//! The sections `[http-kms.NAME]`: endpoints of services that only a component knows. What they mean is in `docs/components.md`.

use std::path::PathBuf;

use serde::Deserialize;

/// Settings of one endpoint. Exactly one of `bearer-file`, `header` and `client-certificate` is set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpKms {
    /// What all paths are below: `https`, or `http` to loopback.
    pub url: String,
    /// Certificate authorities in PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file that holds a bearer token, sent as `Authorization`.
    pub bearer_file: Option<PathBuf>,
    /// Another header that holds a credential.
    pub header: Option<HttpKmsHeader>,
    /// The client's certificate chain in PEM.
    pub client_certificate: Option<PathBuf>,
    /// The certificate's key in PEM.
    pub client_key: Option<PathBuf>,
    /// The requests that are let through.
    #[serde(default)]
    pub allow: Vec<HttpKmsRule>,
    /// Headers that a component may set, besides `accept` and `content-type`.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// How many requests of one lent key may succeed; 1 to 16.
    #[serde(default = "HttpKms::usual_requests")]
    pub max_requests: u32,
    /// The most KiB of a request's and of an answer's body; 1 to 512.
    #[serde(default = "HttpKms::usual_body")]
    pub max_body_kib: u32,
    /// How long one request may take; 1 to 60.
    #[serde(default = "HttpKms::usual_timeout")]
    pub timeout_seconds: u32,
}

/// A header that holds a credential.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpKmsHeader {
    /// The header's name.
    pub name: String,
    /// A file that holds its value.
    pub file: PathBuf,
}

/// Requests that are let through.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpKmsRule {
    /// What the endpoint was opened for.
    pub usage: HttpKmsUsage,
    /// The method, in upper case.
    pub method: String,
    /// Below `url`: names, `{key}` for the key of the URI, `*` for any one name.
    pub path: String,
    /// The names that a query may have.
    #[serde(default)]
    pub query: Vec<String>,
}

/// What an endpoint is opened for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum HttpKmsUsage {
    /// To wrap.
    Wrap,
    /// To unwrap.
    Unwrap,
}

impl HttpKms {
    fn usual_requests() -> u32 {
        1
    }

    fn usual_body() -> u32 {
        128
    }

    fn usual_timeout() -> u32 {
        10
    }
}

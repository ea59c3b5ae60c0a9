//! Google credentials: Application Default Credentials, or one credential file, by Google's own `google-cloud-auth`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::{self as google, CacheableResource, external_account, impersonated, service_account, user_account};
use google_cloud_auth::errors::CredentialsError;
use reqwest::header::HeaderMap;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};

/// The most bytes of a credential file.
const MAX_LENGTH: u64 = 64 << 10;

/// Credentials that are looked up when they are first needed.
pub(super) struct Credentials {
    file: Option<PathBuf>,
    found: OnceCell<google::Credentials>,
}

impl Credentials {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, found: OnceCell::new() }
    }

    /// The headers that authorise one call for `key`.
    pub(super) async fn headers(&self, key: &str, deadline: Instant) -> Result<HeaderMap, Error> {
        let time = deadline.saturating_duration_since(Instant::now());
        tokio::time::timeout(time, self.token(key)).await.unwrap_or_else(|_| Err(late(key, time)))
    }

    async fn token(&self, key: &str) -> Result<HeaderMap, Error> {
        let credentials = self.found.get_or_try_init(|| async { find(self.file.as_deref()) }).await?;
        match credentials.headers(http::Extensions::new()).await.map_err(|error| refused(key, &error))? {
            CacheableResource::New { data, .. } => Ok(data),
            // Answered only to those who say which version they have.
            CacheableResource::NotModified => Ok(HeaderMap::new()),
        }
    }
}

fn find(file: Option<&Path>) -> Result<google::Credentials, Error> {
    match file {
        Some(path) => read(path),
        None => google::Builder::default().build().map_err(|error| unusable("Application Default Credentials", &error.to_string())),
    }
}

/// Reads a credential file of any type that Application Default Credentials may have ([AIP-4110]).
///
/// [AIP-4110]: https://google.aip.dev/auth/4110
fn read(path: &Path) -> Result<google::Credentials, Error> {
    let place = path.display().to_string();
    let length = std::fs::metadata(path).map_err(|error| unusable(&place, &error.to_string()))?.len();
    if length > MAX_LENGTH {
        return Err(unusable(&place, &format!("it is longer than {MAX_LENGTH} bytes")));
    }
    let text = std::fs::read(path).map(Zeroizing::new).map_err(|error| unusable(&place, &error.to_string()))?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|_| unusable(&place, "it is not JSON"))?;
    let kind = json.get("type").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "service_account" => service_account::Builder::new(json).build(),
        "authorized_user" => user_account::Builder::new(json).build(),
        "impersonated_service_account" => impersonated::Builder::new(json).build(),
        "external_account" => external_account::Builder::new(json).build(),
        _ => return Err(unusable(&place, &format!("its `type` is not that of a credential: `{kind}`"))),
    };
    built.map_err(|error| unusable(&place, &error.to_string()))
}

fn unusable(place: &str, reason: &str) -> Error {
    Error::Configuration { place: format!("the credentials in {place}"), reason: printable(reason, MAX_OUTSIDE_TEXT) }
}

fn late(key: &str, time: Duration) -> Error {
    Error::Unavailable { key: key.to_owned(), reason: format!("no Google access token was had within {:.1} seconds", time.as_secs_f32()) }
}

/// Google's library puts the token service's answer into its errors: shown, but as text of outside origin.
fn refused(key: &str, error: &CredentialsError) -> Error {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        reason = format!("{reason}: {next}");
        cause = next.source();
    }
    let reason = printable(&reason, MAX_OUTSIDE_TEXT);
    match error.is_transient() {
        true => Error::Unavailable { key: key.to_owned(), reason: format!("no Google access token was had: {reason}") },
        false => Error::Kms {
            key: key.to_owned(),
            status: 401,
            code: "CREDENTIALS".into(),
            message: format!("Google's token service refused the credentials: {reason}"),
            hint: "check the credential file (--adc, GOOGLE_APPLICATION_CREDENTIALS) or log in: gcloud auth application-default login"
                .into(),
        },
    }
}

//! Google credentials: Application Default Credentials ([AIP-4110]), or one credential file, by Google's own `google-cloud-auth`.
//!
//! That library would find them by itself, but it knows only the process's environment, and its errors quote what it can't read.
//!
//! [AIP-4110]: https://google.aip.dev/auth/4110

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_auth::build_errors;
use google_cloud_auth::credentials::{
    self as google, CacheableResource, EntityTag, external_account, impersonated, mds, service_account, user_account,
};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use google_cloud_gax::retry_policy::{Aip194Strict, LimitedAttemptCount, RetryPolicyExt};
use reqwest::header::HeaderMap;

use super::tasks::Tasks;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::Service;
use crate::kms::absurd::read_by_library;
use crate::trusted_file::{self, Trust, Untrusted};
use crate::{Environment, Error, count, shown};

/// The most bytes of a credential file.
const MAX_LENGTH: usize = 64 << 10;
/// Where the metadata server is, if elsewhere than usual.
const METADATA_VARIABLE: &str = "GCE_METADATA_HOST";
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Where `gcloud auth application-default login` puts them, below the home folder.
const WELL_KNOWN: &str = ".config/gcloud/application_default_credentials.json";
/// What Google's library adds to its messages.
const ASIDES: [&str; 2] = [" and future attempts will not succeed", " but future attempts may succeed"];
const HINT: &str = "check the credential file (--adc, GOOGLE_APPLICATION_CREDENTIALS) or log in: gcloud auth application-default login";

/// Credentials that are looked up when they are first needed.
pub(super) struct Credentials {
    place: Place,
    found: Mutex<Option<Arc<Found>>>,
    /// Which token was given last: the library renews it by itself.
    token: Mutex<Option<EntityTag>>,
}

/// What Google's library made of them. What it does in the background ends when nobody holds this any more.
struct Found {
    credentials: google::Credentials,
    _tasks: Tasks,
}

/// Where they are.
enum Place {
    /// A file that somebody named.
    File(PathBuf),
    /// Gcloud's file if there is one, else the metadata server: the default one, or the one at this address.
    Default { file: Option<PathBuf>, metadata_server: Option<String> },
}

impl Credentials {
    /// Those in `file`, or Application Default Credentials.
    pub(super) fn new(file: Option<PathBuf>, environment: &Environment) -> Self {
        let named = file.or_else(|| environment.get(VARIABLE).map(PathBuf::from));
        let place = named.map(Place::File).unwrap_or_else(|| Place::Default {
            file: environment.get("HOME").map(|home| PathBuf::from(home).join(WELL_KNOWN)),
            metadata_server: environment.get(METADATA_VARIABLE).map(|host| format!("http://{}", host.to_string_lossy())),
        });
        Self { place, found: Mutex::new(None), token: Mutex::new(None) }
    }

    /// The headers that authorise one call for `key`.
    pub(super) async fn headers(&self, key: &str, deadline: Instant) -> Result<HeaderMap, Error> {
        let found = self.get(key)?;
        let time = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(time, read_by_library(found.credentials.headers(http::Extensions::new()))).await {
            Ok(Ok(Ok(CacheableResource::New { data, entity_tag }))) => {
                let before = self.token.lock().unwrap_or_else(PoisonError::into_inner).replace(entity_tag.clone());
                if before != Some(entity_tag) {
                    count::token(Service::Gcp, true);
                }
                Ok(data)
            }
            // Answered only to those who say which version they have.
            Ok(Ok(Ok(CacheableResource::NotModified))) => Ok(HeaderMap::new()),
            Ok(Ok(Err(error))) => Err(self.failed(key, &error)),
            // The task that asks for tokens has ended, so the library would panic for ever.
            Ok(Err(absurd)) => {
                count::token(Service::Gcp, false);
                self.forget();
                Err(self.unavailable(key, &absurd.to_string()))
            }
            Err(_) => Err(self.unavailable(key, &format!("there was no answer within {:.1} seconds", time.as_secs_f32()))),
        }
    }

    fn get(&self, key: &str) -> Result<Arc<Found>, Error> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some(found) => Ok(found.clone()),
            None => Ok(found.insert(Arc::new(self.find(key)?)).clone()),
        }
    }

    fn find(&self, key: &str) -> Result<Found, Error> {
        let failed =
            |error| Error::Unavailable { key: key.to_owned(), reason: format!("no thread can ask for Google access tokens: {error}") };
        let tasks = Tasks::new().map_err(failed)?;
        let credentials = tasks.run(|| self.place.find())?;
        Ok(Found { credentials, _tasks: tasks })
    }

    fn forget(&self) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn failed(&self, key: &str, error: &CredentialsError) -> Error {
        count::token(Service::Gcp, false);
        let reason = told(error);
        if error.is_transient() {
            return self.unavailable(key, &reason);
        }
        // The library would say the same for ever; the next exchange looks whether they were mended.
        self.forget();
        let message = format!("no Google access token was given: {reason}");
        // No KMS has answered: hence no status.
        Error::Kms { key: key.to_owned(), status: 0, code: "CREDENTIALS".into(), message, hint: HINT.into() }
    }

    fn unavailable(&self, key: &str, reason: &str) -> Error {
        let key = key.to_owned();
        match &self.place {
            Place::Default { file, .. } if !self.place.is_file() => {
                let file = file.as_ref().map(|path| format!(" or in {}", shown::path(path))).unwrap_or_default();
                Error::NoCredentials {
                    key,
                    reason: format!(
                        "there are no Google credentials: no file is named by --adc, `credentials` below `[gcp]` or {VARIABLE}{file}, and \
                         the metadata server gave no token: {reason}"
                    ),
                    hint: "log in (gcloud auth application-default login) or name a credential file; on Google Cloud, attach a service account"
                        .into(),
                }
            }
            _ => Error::Unavailable { key, reason: format!("no Google access token was given: {reason}") },
        }
    }
}

impl Place {
    fn find(&self) -> Result<google::Credentials, Error> {
        match self {
            Self::File(path) => read(path),
            Self::Default { file: Some(path), .. } if self.is_file() => read(path),
            Self::Default { metadata_server, .. } => {
                let builder = mds::Builder::default().with_retry_policy(retries()).with_backoff_policy(waits());
                if let Some(address) = metadata_server.as_ref().filter(|address| !shown::address(address).is_harmless()) {
                    return Err(unusable(METADATA_VARIABLE, &format!("{} is no address", shown::address(address))));
                }
                let builder = metadata_server.iter().fold(builder, |builder, address| builder.with_endpoint(address));
                builder.build().map_err(|error| unusable("the metadata server", &error.to_string()))
            }
        }
    }

    fn is_file(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Default { file, .. } => file.as_ref().is_some_and(|path| path.exists()),
        }
    }
}

/// Reads a credential file of any type that Application Default Credentials may have.
fn read(path: &Path) -> Result<google::Credentials, Error> {
    let place = shown::path(path).to_string();
    let text = trusted_file::read(path, Trust::Credential, MAX_LENGTH).map_err(|untrusted| unusable(&place, &untrusted.line(path)))?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|_| unusable(&place, "it is not JSON"))?;
    let kind = json.get("type").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    // A token that the library reads by itself, at each exchange of it.
    if let Some(file) = json.pointer("/credential_source/file").and_then(serde_json::Value::as_str) {
        check_subject_token(Path::new(file))?;
    }
    let built = match kind.as_str() {
        // Signs its own tokens, so there is nothing to try again.
        "service_account" => service_account::Builder::new(json).build(),
        "authorized_user" => user_account::Builder::new(json).with_retry_policy(retries()).with_backoff_policy(waits()).build(),
        "impersonated_service_account" => {
            impersonated::Builder::new(json).with_retry_policy(retries()).with_backoff_policy(waits()).build()
        }
        "external_account" => external_account::Builder::new(json).with_retry_policy(retries()).with_backoff_policy(waits()).build(),
        _ => return Err(unusable(&place, &format!("its `type` is not that of a credential: {}", shown::name(&kind)))),
    };
    built.map_err(|error| unusable(&place, &malformed(&kind, &error)))
}

fn check_subject_token(file: &Path) -> Result<(), Error> {
    match trusted_file::check(file, Trust::Credential, MAX_LENGTH) {
        // It may be there by the time that it is needed, and the library says so where it isn't.
        Ok(()) | Err(Untrusted::System(_)) => Ok(()),
        Err(untrusted) => Err(unusable(&shown::path(file).to_string(), &untrusted.line(file))),
    }
}

/// Only what passes is tried again: the same as with the KMS itself.
fn retries() -> LimitedAttemptCount<Aip194Strict> {
    Aip194Strict.with_attempt_limit(4)
}

fn waits() -> ExponentialBackoff {
    ExponentialBackoffBuilder::new().with_initial_delay(Duration::from_millis(200)).clamp()
}

/// What is wrong with a file. The library's text may quote a value, which may be a secret, unless it is about one that isn't there.
fn malformed(kind: &str, error: &build_errors::Error) -> String {
    let text = error.to_string();
    match text.find("missing field `") {
        Some(start) => format!("it is not a whole credential of type `{kind}`: {}", &text[start..]),
        None if error.is_missing_field() => format!("it is not a whole credential of type `{kind}`: {text}"),
        None => format!("it is not a well-formed credential of type `{kind}`"),
    }
}

fn unusable(place: &str, reason: &str) -> Error {
    let reason = format!(
        "{}; name a readable credential file with --adc or {VARIABLE}, or log in: gcloud auth application-default login",
        printable(reason, MAX_OUTSIDE_TEXT)
    );
    Error::Configuration { place: format!("the credentials in {place}"), reason }
}

/// What Google's library says where it knows most, and the cause of that. A token service's answer is among it: shown, but as text of
/// outside origin.
fn told(error: &CredentialsError) -> String {
    let chain = || std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let plain = |text: String| ASIDES.iter().fold(text, |text, aside| text.replace(aside, ""));
    let says = chain().filter_map(|error| error.downcast_ref::<CredentialsError>()).last();
    let says = plain(says.map(ToString::to_string).unwrap_or_default());
    let cause = plain(chain().last().map(ToString::to_string).unwrap_or_default());
    printable(&if says == cause { says } else { format!("{says}: {cause}") }, MAX_OUTSIDE_TEXT)
}

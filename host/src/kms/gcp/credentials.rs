//! Google credentials: Application Default Credentials ([AIP-4110]), or one credential file.
//!
//! Google's own library for Rust is not used: it makes HTTP clients of its own, which panic without certificate authorities, read answers of any
//! length and send tokens in plain http through a proxy. Here each request goes through [`Http`].
//!
//! [AIP-4110]: https://google.aip.dev/auth/4110

mod aws;
mod executable;
mod federation;
mod fields;
mod file;
mod metadata_server;
mod refresh;
mod service_account;
mod subject_token;
mod token;
mod token_service;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::sync::{Mutex, MutexGuard};

use self::federation::Federation;
use self::metadata_server::MetadataServer;
use self::refresh::RefreshToken;
use self::service_account::ServiceAccount;
use self::token::Token;
use self::token_service::{Impersonation, TokenService};
use super::universe::Universe;
use crate::key_uri::Service;
use crate::kms::http::Http;
use crate::{Environment, Error, ErrorKind, count, shown};

const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Where gcloud keeps its files, if elsewhere than below the home folder.
const GCLOUD_VARIABLE: &str = "CLOUDSDK_CONFIG";
const GCLOUD_FOLDER: &str = ".config/gcloud";
/// What `gcloud auth application-default login` writes there.
const WELL_KNOWN: &str = "application_default_credentials.json";
const QUOTA_VARIABLE: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";
/// What a token may be used for: whatever the caller's roles allow.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const HINT: &str = "check the credential file (--adc, GOOGLE_APPLICATION_CREDENTIALS) or log in: gcloud auth application-default login";

/// A token is renewed this long before it ends: then metadata servers have a new one.
const RENEWED: Duration = Duration::from_secs(240);
/// Where no new token can be got, the old one is used up to this long before it ends.
const LAST_USE: Duration = Duration::from_secs(10);

/// Credentials that are looked up when they are first needed.
pub(super) struct Credentials {
    http: Arc<Http>,
    environment: Environment,
    place: Place,
    /// Which universe they have to be of, unless the address of Cloud KMS was configured.
    universe: Option<Universe>,
    /// Held while a token is asked for, so that one request serves all who wait for it.
    current: Mutex<Option<Current>>,
}

/// Where they are.
enum Place {
    /// A file that somebody named.
    File(PathBuf),
    /// Gcloud's file if there is one, else the metadata server.
    Default(Option<PathBuf>),
}

/// What was found, and the last token of it.
struct Current {
    found: Found,
    token: Option<Token>,
}

/// What a place has.
struct Found {
    /// What errors call it.
    place: String,
    source: Source,
    /// The domain of its universe, unless it is the usual one.
    universe: Option<String>,
    /// Which project calls are counted for.
    quota_project: Option<String>,
}

/// Where tokens come from.
enum Source {
    ServiceAccount(ServiceAccount),
    Refresh(RefreshToken),
    Federated(Box<Federation>),
    /// With another source's token, for another account.
    Impersonated(Box<Source>, Impersonation),
    MetadataServer(MetadataServer),
}

impl Source {
    async fn token(&self, service: &TokenService<'_>) -> Result<Token, Error> {
        match self {
            Self::ServiceAccount(account) => account.token(service.key),
            Self::Refresh(refresh) => refresh.token(service).await,
            Self::Federated(federation) => federation.token(service).await,
            Self::Impersonated(source, impersonation) => {
                let token = Box::pin(source.token(service)).await?;
                impersonation.token(service, &token).await
            }
            Self::MetadataServer(server) => server.token(service).await,
        }
    }
}

impl Credentials {
    /// Those in `file`, or Application Default Credentials.
    pub(super) fn new(http: Arc<Http>, file: Option<PathBuf>, environment: &Environment, universe: Option<Universe>) -> Self {
        let named = file.or_else(|| environment.get(VARIABLE).map(PathBuf::from));
        let gcloud = || {
            let home = || environment.get("HOME").map(|home| PathBuf::from(home).join(GCLOUD_FOLDER));
            environment.get(GCLOUD_VARIABLE).map(PathBuf::from).or_else(home)
        };
        let place = named.map_or_else(|| Place::Default(gcloud().map(|folder| folder.join(WELL_KNOWN))), Place::File);
        Self { http, environment: environment.clone(), place, universe, current: Mutex::default() }
    }

    /// The headers that authorise one call for `key`.
    pub(super) async fn headers(&self, key: &str, deadline: Instant) -> Result<HeaderMap, Error> {
        let mut current = self.lock(key, deadline).await?;
        let service = TokenService { http: &self.http, environment: &self.environment, key, deadline };
        let Current { found, token } = match &mut *current {
            Some(current) => current,
            none => none.insert(Current { found: self.find(&service).await?, token: None }),
        };
        let header = match token {
            Some(token) if token.lasts(RENEWED) => token.header(),
            _ => match self.renewed(found, &service).await {
                Ok(new) => token.insert(new).header(),
                Err(error) => match token.take().filter(|old| error.kind() == ErrorKind::Unavailable && old.lasts(LAST_USE)) {
                    Some(old) => token.insert(old).header(),
                    None => {
                        // The next exchange looks whether they were mended, or others came.
                        *current = None;
                        return Err(error);
                    }
                },
            },
        };
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, header)]);
        if let Some(project) = &found.quota_project {
            headers.insert("x-goog-user-project", HeaderValue::from_str(project).expect("it was looked at when it was read"));
        }
        Ok(headers)
    }

    /// Forgets the token, which Cloud KMS doesn't accept: it may have been revoked before its time.
    pub(super) async fn forget_token(&self, key: &str, deadline: Instant) {
        if let Ok(mut current) = self.lock(key, deadline).await {
            *current = None;
        }
    }

    async fn lock(&self, key: &str, deadline: Instant) -> Result<MutexGuard<'_, Option<Current>>, Error> {
        let late = |_| Error::Unavailable {
            key: key.to_owned(),
            reason: "another exchange's request for a Google token did not end in time".into(),
        };
        tokio::time::timeout_at(deadline.into(), self.current.lock()).await.map_err(late)
    }

    async fn renewed(&self, found: &Found, service: &TokenService<'_>) -> Result<Token, Error> {
        tracing::debug!(key = service.key, place = found.place, "asking for a Google access token");
        let time = service.deadline.saturating_duration_since(Instant::now());
        let late = |_| service.unavailable(&format!("there was no answer within {:.1} seconds", time.as_secs_f32()));
        let token = tokio::time::timeout(time, found.source.token(service)).await.map_err(late).flatten();
        count::token(Service::Gcp, token.is_ok());
        token.map_err(|error| match &found.source {
            Source::MetadataServer(_) => self.no_credentials(service.key, error),
            _ => error,
        })
    }

    async fn find(&self, service: &TokenService<'_>) -> Result<Found, Error> {
        let mut found = match self.file() {
            Some(path) => file::read(path)?,
            None => {
                let server = MetadataServer::new(&self.environment)?;
                // Asked only where it matters: who names an address has said where tokens may go.
                let universe = match &self.universe {
                    Some(_) => server.universe(service).await.map_err(|error| self.no_credentials(service.key, error))?,
                    None => None,
                };
                Found { place: "the metadata server".into(), source: Source::MetadataServer(server), universe, quota_project: None }
            }
        };
        if let Some(universe) = &self.universe {
            universe.check(&found.place, found.universe.as_deref())?;
        }
        found.quota_project = self.quota_project(found.quota_project)?;
        Ok(found)
    }

    /// The environment's, or else the file's.
    fn quota_project(&self, of_file: Option<String>) -> Result<Option<String>, Error> {
        let named = self.environment.get(QUOTA_VARIABLE).map(|project| project.to_string_lossy().into_owned());
        let place = if named.is_some() { QUOTA_VARIABLE } else { "`quota_project_id` in the credential file" };
        let project = named.or(of_file);
        let is_project = |project: &String| shown::name(project).is_harmless() && HeaderValue::from_str(project).is_ok();
        if project.as_ref().is_none_or(is_project) {
            return Ok(project);
        }
        Err(Error::Configuration { place: place.into(), reason: "it does not hold the id of a project; set it to one, or unset it".into() })
    }

    /// The file with credentials, unless the metadata server is to be asked.
    fn file(&self) -> Option<&PathBuf> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Default(path) => path.as_ref().filter(|path| path.exists()),
        }
    }

    /// There is no file, and the metadata server gave nothing.
    fn no_credentials(&self, key: &str, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Kms) {
            return error;
        }
        let said = error.to_string();
        let said = said.strip_prefix(key).and_then(|said| said.strip_prefix(": ")).unwrap_or(&said);
        let gcloud = match &self.place {
            Place::Default(Some(path)) => format!(", there is no {} (its folder can be set by {GCLOUD_VARIABLE})", shown::path(path)),
            _ => String::new(),
        };
        Error::NoCredentials {
            key: key.to_owned(),
            reason: format!(
                "there are no Google credentials: no file is named by --adc, `credentials` below `[gcp]` or {VARIABLE}{gcloud}, and the metadata \
                 server gave no token: {}",
                said.strip_prefix(token_service::NO_TOKEN).unwrap_or(said)
            ),
            hint: "log in (gcloud auth application-default login) or name a credential file; on Google Cloud, attach a service account, and on GKE let the \
                   pod's account use one (roles/iam.workloadIdentityUser)"
                .into(),
        }
    }
}

//! `gcpkms://…`: keys of Google Cloud KMS over [REST]: symmetric ones, and asymmetric versions that wrap by RSA-OAEP.
//!
//! Integrity is checked end to end with the CRC32C fields, as [Google recommends]: a request's sums are verified by the service, which
//! says so, and an answer's sums are verified here.
//!
//! [REST]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys
//! [Google recommends]: https://cloud.google.com/kms/docs/data-integrity-guidelines

#[cfg_attr(not(feature = "asymmetric"), allow(dead_code))]
mod answer;
#[cfg(feature = "asymmetric")]
mod asymmetric;
mod call;
mod credentials;
mod refusal;
mod symmetric;
mod universe;
#[cfg_attr(not(feature = "asymmetric"), allow(dead_code))]
mod verb;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms_protocol::Operation;
use reqwest::Url;

use self::call::Remote;
use self::credentials::Credentials;
use self::universe::Universe;
use super::http::{Http, parse_endpoint};
use super::{KeyService, OpenKey};
use crate::key_uri::{Key, KeyUri};
use crate::{Environment, Error};

const ENDPOINT_VARIABLE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";

/// Google Cloud KMS as a service.
pub struct Gcp {
    http: Arc<Http>,
    endpoint: Result<Url, Error>,
    credentials: Arc<Credentials>,
}

impl Gcp {
    /// The service at the address of the environment's universe (`GOOGLE_CLOUD_UNIVERSE_DOMAIN`, else `googleapis.com`), unless
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS` or else `endpoint` says another. With `credentials`, a credential file, in place of Application
    /// Default Credentials; neither is looked up before a key is used. If the address isn't one that may be used, opening a key says so.
    #[must_use]
    pub fn new(http: Arc<Http>, environment: &Environment, endpoint: Option<&str>, credentials: Option<PathBuf>) -> Self {
        let variable = environment.get(ENDPOINT_VARIABLE).map(|value| value.to_string_lossy().into_owned());
        let place = if variable.is_some() { ENDPOINT_VARIABLE } else { "gcp.endpoint" };
        let (endpoint, universe) = match variable.as_deref().or(endpoint) {
            Some(text) => (parse_endpoint(text).map_err(|reason| Error::Configuration { place: place.into(), reason }), None),
            None => match Universe::new(environment) {
                Ok(universe) => (Ok(universe.endpoint()), Some(universe)),
                Err(error) => (Err(error), None),
            },
        };
        Self { endpoint, credentials: Arc::new(Credentials::new(http.clone(), credentials, environment, universe)), http }
    }
}

#[async_trait]
impl KeyService for Gcp {
    async fn open(&self, uri: &KeyUri, _: Operation, deadline: Instant) -> Result<OpenKey, Error> {
        let Key::Gcp(name) = uri.key() else { unreachable!("{uri} was given to Cloud KMS") };
        let remote = Remote {
            http: self.http.clone(),
            endpoint: self.endpoint.clone()?,
            credentials: self.credentials.clone(),
            uri: uri.canonical().to_owned(),
            name: name.clone(),
            deadline,
        };
        match uri.algorithm() {
            None => Ok(OpenKey::Cipher(Box::new(symmetric::SymmetricKey::new(remote, uri.context())))),
            // Key URIs allow a version no other algorithm than RSA-OAEP-256.
            #[cfg(feature = "asymmetric")]
            Some(_) => Ok(OpenKey::KeyWrap(Box::new(asymmetric::RsaKey(remote)))),
            #[cfg(not(feature = "asymmetric"))]
            Some(algorithm) => Err(Error::InvalidInput {
                reason: format!("{uri}: this build has no support for keys that wrap by {algorithm}"),
                hint: "build it with the feature `asymmetric`".into(),
            }),
        }
    }
}

//! The [metadata server] of Compute Engine, GKE and Cloud Run. It speaks plain http, which never goes through a proxy.
//!
//! [metadata server]: https://cloud.google.com/compute/docs/metadata/overview

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use zeroize::Zeroizing;

use super::token::Token;
use super::token_service::TokenService;
use crate::kms::http::{Answer, Call, Repeat};
use crate::{Environment, Error, shown};

/// Where it is, if elsewhere than usual.
const VARIABLE: &str = "GCE_METADATA_HOST";
const HOST: &str = "metadata.google.internal";
/// It is on the same machine, so that one which doesn't answer for so long isn't there. In a new pod of GKE it takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);
const HINT: &str = "attach a service account to the machine, or name a credential file";

/// A metadata server.
pub(super) struct MetadataServer(Url);

impl MetadataServer {
    /// The usual one, or that of the environment.
    pub fn new(environment: &Environment) -> Result<Self, Error> {
        let named = environment.get(VARIABLE).map(|host| host.to_string_lossy().into_owned());
        let text = format!("http://{}", named.as_deref().unwrap_or(HOST));
        let is_address = |url: &Url| shown::address(&text).is_harmless() && url.has_host() && url.path() == "/";
        Url::parse(&text).ok().filter(is_address).map(Self).ok_or_else(|| Error::Configuration {
            place: VARIABLE.into(),
            reason: format!(
                "{} is no address; set it to HOST or HOST:PORT, or unset it",
                shown::address(named.as_deref().unwrap_or_default())
            ),
        })
    }

    /// A token of the machine's service account.
    pub async fn token(&self, service: &TokenService<'_>) -> Result<Token, Error> {
        let url = self.url("instance/service-accounts/default/token");
        let service = TokenService { deadline: deadline(service), ..*service };
        let answer = service.send(Method::GET, &url, flavor(), Zeroizing::default(), HINT).await?;
        service.token_in(&url, &answer)
    }

    /// The domain of its universe; older servers don't know of it.
    pub async fn universe(&self, service: &TokenService<'_>) -> Result<Option<String>, Error> {
        let url = self.url("universe/universe-domain");
        let TokenService { http, key, .. } = *service;
        let (headers, deadline) = (flavor(), deadline(service));
        let call = Call { key, method: Method::GET, url: &url, headers, body: Zeroizing::default(), deadline, repeat: Repeat::Freely };
        let Answer { status, body, .. } = http.send(call).await?;
        Ok((status == StatusCode::OK).then(|| String::from_utf8_lossy(body.trim_ascii()).into_owned()))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("computeMetadata/v1/{path}"));
        url
    }
}

fn deadline(service: &TokenService<'_>) -> Instant {
    service.deadline.min(Instant::now() + PATIENCE)
}

/// It answers nobody who was only talked into asking.
fn flavor() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"))])
}

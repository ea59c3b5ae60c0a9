//! `azurekms://…`: keys of Azure Key Vault and Managed HSM over REST ([`wrapKey`], [`unwrapKey`]), around a JWE.
//!
//! The service wraps a content-encryption key with the current version of its key and says with which: that goes into the JWE's `kid`,
//! as the whole key identifier, and selects the version that unwraps. What the service can't check, the JWE's tag does.
//!
//! [`wrapKey`]: https://learn.microsoft.com/rest/api/keyvault/keys/wrap-key/wrap-key
//! [`unwrapKey`]: https://learn.microsoft.com/rest/api/keyvault/keys/unwrap-key/unwrap-key

mod answer;
mod az;
mod challenge;
mod client_certificate;
mod credentials;
mod entra;
mod refusal;
mod transport;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine as _;
use ocicrypt_kms_protocol::Operation;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use self::answer::{Asked, BASE64_URL, identifier, version_of};
use self::credentials::Credentials;
use super::answer::Answer;
use super::http::{Call, Http, Repeat, below, parse_endpoint};
use super::{Header, KeyService, KeyWrap, OpenKey, WrappedKey};
use crate::error::printable;
use crate::key_uri::{Algorithm, AzureKey, Key, KeyUri};
use crate::{Environment, Error};

/// The version of the data plane's API. Not the newest (2026-04-01), but one that every cloud and every Managed HSM has had for years; what is
/// used of it has not changed since.
const API_VERSION: &str = "7.4";
/// Azure Key Vault and Managed HSM as a service.
pub struct Azure {
    http: Arc<Http>,
    endpoint: Option<Result<Url, Error>>,
    credentials: Arc<Credentials>,
}

impl Azure {
    /// The service at the hosts that key URIs name, all of which are below known domains; with `endpoint`, all of it at that address, while
    /// tokens are still for the URI's host. Credentials are found as Azure's libraries find them, and not before a key is used; the variables
    /// of a managed identity are those of the process, which is where its library reads them. If the address isn't one that may be used,
    /// opening a key says so.
    #[must_use]
    pub fn new(http: Arc<Http>, environment: &Environment, endpoint: Option<&str>) -> Self {
        let checked = |text| parse_endpoint(text).map_err(|reason| Error::Configuration { place: "azure.endpoint".into(), reason });
        let credentials = Arc::new(Credentials::new(http.clone(), environment.clone()));
        Self { http, endpoint: endpoint.map(checked), credentials }
    }
}

#[async_trait]
impl KeyService for Azure {
    async fn open(&self, uri: &KeyUri, _: Operation, deadline: Instant) -> Result<OpenKey, Error> {
        let Key::Azure(name) = uri.key() else { unreachable!("{uri} was given to Azure Key Vault") };
        let base = match &self.endpoint {
            Some(endpoint) => endpoint.clone()?,
            None => Url::parse(&format!("https://{}", name.host)).expect("a host name that was checked"),
        };
        Ok(OpenKey::KeyWrap(Box::new(WrappingKey {
            http: self.http.clone(),
            base,
            credentials: self.credentials.clone(),
            uri: uri.canonical().to_owned(),
            name: name.clone(),
            algorithm: uri.algorithm().unwrap_or(Algorithm::RsaOaep256).as_str(),
            deadline,
        })))
    }
}

struct WrappingKey {
    http: Arc<Http>,
    base: Url,
    credentials: Arc<Credentials>,
    uri: String,
    name: AzureKey,
    algorithm: &'static str,
    deadline: Instant,
}

#[derive(Serialize)]
struct Request<'a> {
    alg: &'static str,
    value: &'a str,
}

#[async_trait]
impl KeyWrap for WrappingKey {
    fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
        let asked = self.name.version.as_deref();
        let answer = self.post(Operation::Wrap, asked, cek).await?;
        let (version, encrypted_key) = self.asked(asked).read(&answer.body)?;
        let kid = serde_json::Value::from(identifier(&self.name) + &version).to_string();
        Ok(WrappedKey { encrypted_key: encrypted_key.to_vec(), header: vec![("kid".to_owned(), kid)] })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        let version = self.selected(header.kid.as_deref())?;
        let answer = self.post(Operation::Unwrap, version.as_deref(), encrypted_key).await?;
        Ok(self.asked(version.as_deref()).read(&answer.body)?.1)
    }
}

impl WrappingKey {
    fn asked<'a>(&'a self, version: Option<&'a str>) -> Asked<'a> {
        Asked { uri: &self.uri, name: &self.name, version }
    }

    /// The version that a JWE's `kid` selects; none is the current one, by the service's own choice. `kid` comes with the image, so it selects
    /// among the versions of this key and can do no more. Azure's libraries leave the version out where they may not see the key.
    fn selected(&self, kid: Option<&str>) -> Result<Option<String>, Error> {
        match kid {
            Some(kid) if !self.is_whole_key(kid) => version_of(&self.name, kid).map(Some).ok_or_else(|| self.other_kid(kid)),
            _ => Ok(self.name.version.clone()),
        }
    }

    fn is_whole_key(&self, kid: &str) -> bool {
        identifier(&self.name).strip_suffix('/').is_some_and(|identifier| identifier.eq_ignore_ascii_case(kid))
    }

    fn address(&self, operation: Operation, version: Option<&str>) -> Url {
        let verb = match operation {
            Operation::Wrap => "wrapkey",
            Operation::Unwrap => "unwrapkey",
        };
        let version = version.map(|version| format!("/{version}")).unwrap_or_default();
        let mut url = below(&self.base, &format!("keys/{}{version}/{verb}", self.name.key));
        url.set_query(Some(&format!("api-version={API_VERSION}")));
        url
    }

    async fn post(&self, operation: Operation, version: Option<&str>, bytes: &[u8]) -> Result<Answer, Error> {
        let url = self.address(operation, version);
        let value = Zeroizing::new(BASE64_URL.encode(bytes));
        // Sized beforehand, so that no copy of the key is left behind by a buffer that grew.
        let mut body = Zeroizing::new(Vec::with_capacity(value.len() + 64));
        serde_json::to_writer(&mut *body, &Request { alg: self.algorithm, value: &value }).expect("strings serialise");
        let token = self.credentials.bearer(&self.uri, self.name.domain(), self.deadline).await?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, token)]);
        tracing::debug!(key = self.uri, host = url.host_str(), path = url.path(), "calling Key Vault");
        let call = Call { key: &self.uri, method: Method::POST, url: &url, headers, body, deadline: self.deadline, repeat: Repeat::Freely };
        let answer = self.http.send(call).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        if answer.status.as_u16() == 401 {
            // It may have been revoked; the next exchange looks for another.
            self.credentials.forget(self.name.domain());
        }
        Err(refusal::Refusal { uri: &self.uri, name: &self.name, algorithm: self.algorithm, operation, version }.of(&answer))
    }

    fn other_kid(&self, kid: &str) -> Error {
        Error::InvalidInput {
            reason: format!("{}: the JWE's `kid` is not one of this key: `{}`", self.uri, printable(kid, 256)),
            hint: "check the annotation, or wrap the image anew".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_uri::Addresses;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    fn key(endpoint: Option<&str>, uri: &str) -> Box<dyn KeyWrap> {
        let azure = Azure::new(Arc::default(), &Environment::empty(), endpoint);
        let uri = KeyUri::parse(uri, &Addresses::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(azure.open(&uri, Operation::Wrap, Instant::now())).unwrap() {
            OpenKey::KeyWrap(key) => key,
            OpenKey::Cipher(_) => unreachable!(),
        }
    }

    fn wrapping_key(endpoint: Option<&str>, uri: &str) -> WrappingKey {
        let uri = KeyUri::parse(uri, &Addresses::default()).unwrap();
        let Key::Azure(name) = uri.key() else { unreachable!() };
        let base = endpoint.map_or_else(|| format!("https://{}", name.host), str::to_owned);
        WrappingKey {
            http: Arc::default(),
            base: Url::parse(&base).unwrap(),
            credentials: Arc::new(Credentials::new(Arc::default(), Environment::empty())),
            uri: uri.canonical().to_owned(),
            name: name.clone(),
            algorithm: "RSA-OAEP-256",
            deadline: Instant::now(),
        }
    }

    #[test]
    fn the_algorithm_is_rsa_unless_the_uri_says_another() {
        assert_eq!(key(None, "azurekms://team.vault.azure.net/k").algorithm(), "RSA-OAEP-256");
        assert_eq!(key(None, "azurekms://team.managedhsm.azure.net/k").algorithm(), "RSA-OAEP-256");
        assert_eq!(key(None, "azurekms://team.managedhsm.azure.net/k?algorithm=A256KW").algorithm(), "A256KW");
    }

    #[test]
    fn the_address_is_the_host_of_the_uri_or_the_configured_one() {
        let uri = "azurekms://team.vault.azure.net/k";
        let address = |endpoint, version| wrapping_key(endpoint, uri).address(Operation::Wrap, version).to_string();
        assert_eq!(address(None, None), "https://team.vault.azure.net/keys/k/wrapkey?api-version=7.4");
        assert_eq!(
            address(Some("http://127.0.0.1:1/base/"), Some(VERSION)),
            format!("http://127.0.0.1:1/base/keys/k/{VERSION}/wrapkey?api-version=7.4")
        );
    }
}

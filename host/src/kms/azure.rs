//! `azurekms://…`: keys of Azure Key Vault and Managed HSM over REST ([`wrapKey`], [`unwrapKey`]), around a JWE.
//!
//! The service wraps a content-encryption key with the current version of its key and says with which: that goes into the JWE's `kid`,
//! as the whole key identifier, and selects the version that unwraps. What the service can't check, the JWE's tag does.
//!
//! [`wrapKey`]: https://learn.microsoft.com/rest/api/keyvault/keys/wrap-key/wrap-key
//! [`unwrapKey`]: https://learn.microsoft.com/rest/api/keyvault/keys/unwrap-key/unwrap-key

mod az;
mod challenge;
mod credentials;
mod refusal;
mod transport;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::{Object, string};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use self::credentials::Credentials;
use super::http::{Answer, Call, Http, below, parse_endpoint};
use super::{Header, KeyService, KeyWrap, OpenKey, WrappedKey};
use crate::error::printable;
use crate::key_uri::{Algorithm, AzureKey, Key, KeyUri};
use crate::{Environment, Error};

/// The version of the data plane's API. Not the newest (2026-04-01), but one that every cloud and every Managed HSM has had for years; what is
/// used of it has not changed since.
const API_VERSION: &str = "7.4";
/// Bytes that the service sends and wants (RFC 4648 section 5, without padding).
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
        let (version, encrypted_key) = self.read(&answer, asked)?;
        let kid = serde_json::Value::from(self.identifier() + &version).to_string();
        Ok(WrappedKey { encrypted_key: encrypted_key.to_vec(), header: vec![("kid".to_owned(), kid)] })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        let version = self.selected(header.kid.as_deref())?;
        let answer = self.post(Operation::Unwrap, version.as_deref(), encrypted_key).await?;
        Ok(self.read(&answer, version.as_deref())?.1)
    }
}

impl WrappingKey {
    /// The beginning of the [identifiers] of this key's versions.
    ///
    /// [identifiers]: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers
    fn identifier(&self) -> String {
        format!("https://{}/keys/{}/", self.name.host, self.name.key)
    }

    /// The version that a JWE's `kid` selects; none is the current one, by the service's own choice. `kid` comes with the image, so it selects
    /// among the versions of this key and can do no more. Azure's libraries leave the version out where they may not see the key.
    fn selected(&self, kid: Option<&str>) -> Result<Option<String>, Error> {
        match kid {
            Some(kid) if !self.is_whole_key(kid) => self.version_of(kid).map(Some).ok_or_else(|| self.other_kid(kid)),
            _ => Ok(self.name.version.clone()),
        }
    }

    fn is_whole_key(&self, kid: &str) -> bool {
        self.identifier().strip_suffix('/').is_some_and(|identifier| identifier.eq_ignore_ascii_case(kid))
    }

    /// The version that a key identifier names, if it is one of this key, and the one that the URI names if it names one.
    fn version_of(&self, kid: &str) -> Option<String> {
        let kid = kid.to_ascii_lowercase();
        let version = kid.strip_prefix(&self.identifier())?;
        let is_version = version.len() == 32 && version.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_asked = self.name.version.as_deref().is_none_or(|asked| asked == version);
        (is_version && is_asked).then(|| version.to_owned())
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
        let call = Call { key: &self.uri, method: Method::POST, url: &url, headers, body, deadline: self.deadline };
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

    /// The version that did it and the bytes that came of it. The answer must be this key's, and if a version was asked for, that one's.
    fn read(&self, answer: &Answer, asked: Option<&str>) -> Result<(String, Zeroizing<Vec<u8>>), Error> {
        let answer = Object::parse(&answer.body).map_err(|error| self.damaged(&format!("it is {error}")))?;
        let kid = answer.get("kid").and_then(string).unwrap_or_default();
        let version = self.version_of(&kid).filter(|version| asked.is_none_or(|asked| asked == version));
        let version = version.ok_or_else(|| self.damaged(&format!("it is of another key, `{}`", printable(&kid, 256))))?;
        let value = answer.get("value").and_then(string).map(|text| Zeroizing::new(text.into_owned()));
        let bytes = value.and_then(|value| BASE64_URL.decode(value.as_bytes()).ok()).map(Zeroizing::new);
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => Ok((version, bytes)),
            None => Err(self.damaged("it holds no `value`")),
        }
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.clone(), reason: format!("Key Vault's answer can't be trusted: {reason}") }
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
        let azure = Azure::new(Arc::default(), &Environment::default(), endpoint);
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
            credentials: Arc::new(Credentials::new(Arc::default(), Environment::default())),
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
    fn a_key_identifier_is_of_this_key_only_if_all_of_it_is() {
        let key = wrapping_key(None, "azurekms://team.vault.azure.net/k");
        let good = format!("https://team.vault.azure.net/keys/k/{VERSION}");
        assert_eq!(key.version_of(&good).as_deref(), Some(VERSION));
        assert_eq!(key.version_of(&good.to_ascii_uppercase()).as_deref(), Some(VERSION));
        for bad in [
            "",
            VERSION,
            "https://team.vault.azure.net/keys/k",
            "https://team.vault.azure.net/keys/k/",
            &good[..good.len() - 1],
            &format!("{good}0"),
            &format!("{good}/"),
            &format!("{good}?a=b"),
            &good.replace("https", "http"),
            &good.replace("team", "other"),
            &good.replace("vault.azure.net", "vault.azure.net.example.com"),
            &good.replace("azure.net/", "azure.net:443/"),
            &good.replace("/k/", "/k2/"),
            &good.replace("/keys/", "/secrets/"),
            &format!("https://team.vault.azure.net/keys/k/../../keys/other/{VERSION}"),
            &good.replace("0123456789abcdef0", "../../secrets/abc"),
        ] {
            assert_eq!(key.version_of(bad), None, "{bad}");
        }
        let named = wrapping_key(None, &format!("azurekms://team.vault.azure.net/k/{VERSION}"));
        assert_eq!(named.version_of(&good).as_deref(), Some(VERSION));
        assert_eq!(named.version_of(&good.replace("0123456789abcdef", "1123456789abcdef")), None);
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

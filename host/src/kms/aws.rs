//! `awskms:///…`: keys of AWS KMS over its JSON API ([`Encrypt`], [`Decrypt`]).
//!
//! A symmetric key encrypts the opts data itself, with the URI's context as encryption context. An RSA key (`?algorithm=RSA-OAEP-256`)
//! wraps the content-encryption key of a JWE. The key is named in both directions, so that a ciphertext, which comes with an image, never
//! chooses it; and the answer has to be of that key.
//!
//! [`Encrypt`]: https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
//! [`Decrypt`]: https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html

mod answer;
mod chain;
mod connector;
mod files;
mod places;
mod profile;
mod refusal;
mod region;
mod signature;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms_protocol::{Operation, bytes};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use zeroize::Zeroizing;

use self::answer::{Answered, Asked, is_of, may_be_for, parse};
use self::chain::Chain;
use self::places::Places;
use self::profile::Profile;
use self::region::Region;
use super::http::{self, Call, Http, Repeat};
use super::{Cipher, Header, KeyService, KeyWrap, OpenKey, WrappedKey};
use crate::error::printable;
use crate::key_uri::{Algorithm, AwsKey, Key, KeyUri};
use crate::{Environment, Error};

/// The most bytes that AWS KMS encrypts (`Plaintext` of `Encrypt`).
const MAX_PLAINTEXT: usize = 4096;
/// The most bytes that it decrypts (`CiphertextBlob` of `Decrypt`).
const MAX_CIPHERTEXT: usize = 6144;
/// Room for a request: a ciphertext in base64, and a context and a key id that fit into a key URI.
const MAX_REQUEST: usize = 16 << 10;

/// AWS KMS as a service.
pub struct Aws {
    environment: Environment,
    endpoint: Option<String>,
    settings: Mutex<Option<Arc<Shared>>>,
}

/// What all keys share, once variables and the profile were read.
struct Shared {
    http: Arc<Http>,
    places: Places,
    chain: Chain,
}

impl Aws {
    /// The service at the address of a key's region, unless `AWS_ENDPOINT_URL_KMS`, `AWS_ENDPOINT_URL`, else `endpoint`, else the profile says
    /// another. When a key is opened, the profile is read, and an address that may not be used is an error. Credentials, and the region of keys
    /// whose URI doesn't say it, are looked up when a key is first used, by AWS's default chains.
    #[must_use]
    pub fn new(environment: &Environment, endpoint: Option<&str>) -> Self {
        Self { environment: environment.clone(), endpoint: endpoint.map(str::to_owned), settings: Mutex::default() }
    }

    /// What was read before, unless it was of no use.
    async fn shared(&self) -> Result<Arc<Shared>, Error> {
        let before = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(before) = before.filter(|before| !before.chain.has_failed()) {
            return Ok(before);
        }
        let profile = Profile::read(&self.environment).await?;
        let places = Places::new(&self.environment, self.endpoint.as_deref(), &profile)?;
        let named =
            http::Settings { authority: "AWS_CA_BUNDLE, `ca_bundle` of the profile or SSL_CERT_FILE".into(), client_certificate: None };
        let http = Http::new(&self.environment).with_authorities(places.authorities.clone()).with_settings(named);
        let http = Arc::new(http);
        let chain = Chain::new(http.clone(), self.environment.clone(), profile, &places);
        let shared = Arc::new(Shared { http, places, chain });
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared.clone());
        Ok(shared)
    }
}

#[async_trait]
impl KeyService for Aws {
    async fn open(&self, uri: &KeyUri, _: Operation, deadline: Instant) -> Result<OpenKey, Error> {
        let Key::Aws(name) = uri.key() else { unreachable!("{uri} was given to AWS KMS") };
        let key = KmsKey { shared: self.shared().await?, uri: uri.canonical().to_owned(), name: name.clone(), deadline };
        match uri.algorithm() {
            None => Ok(OpenKey::Cipher(Box::new(SymmetricKey { key, context: uri.context().clone() }))),
            Some(Algorithm::RsaOaep256) if uri.context().is_empty() => Ok(OpenKey::KeyWrap(Box::new(RsaKey { key }))),
            Some(Algorithm::RsaOaep256) => Err(key.invalid("an RSA key of AWS KMS can't bind an encryption context", NO_CONTEXT)),
            Some(algorithm) => Err(key.invalid(&format!("no key of AWS KMS wraps by {algorithm}"), "leave `algorithm` out of the URI")),
        }
    }
}

const NO_CONTEXT: &str = "leave context_… out of the URI, or name a symmetric key";

/// One key, for one exchange.
struct KmsKey {
    shared: Arc<Shared>,
    uri: String,
    name: AwsKey,
    deadline: Instant,
}

/// The body of both calls. Fields that have no value are left out.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_context: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_algorithm: Option<&'a str>,
}

struct SymmetricKey {
    key: KmsKey,
    context: BTreeMap<String, String>,
}

impl SymmetricKey {
    /// `None`: `SYMMETRIC_DEFAULT`, the only algorithm of symmetric keys.
    fn request(&self) -> Request<'_> {
        let encryption_context = (!self.context.is_empty()).then_some(&self.context);
        Request { key_id: &self.key.name.key_id, encryption_context, ..Request::default() }
    }
}

#[async_trait]
impl Cipher for SymmetricKey {
    fn binds_context(&self) -> bool {
        true
    }

    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        if plaintext.len() > MAX_PLAINTEXT {
            let reason = format!("AWS KMS encrypts at most {MAX_PLAINTEXT} bytes, and the layer's opts data has {}", plaintext.len());
            return Err(self.key.invalid(&reason, "wrap it with an RSA key (?algorithm=RSA-OAEP-256) or a key of another service"));
        }
        let encoded = Zeroizing::new(bytes::encode(plaintext));
        let answered = self.key.call(Operation::Wrap, &Request { plaintext: Some(&encoded), ..self.request() }).await?;
        Ok(answered.bytes.to_vec())
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let encoded = self.key.ciphertext(ciphertext)?;
        let answered = self.key.call(Operation::Unwrap, &Request { ciphertext_blob: Some(&encoded), ..self.request() }).await?;
        Ok(answered.bytes)
    }
}

struct RsaKey {
    key: KmsKey,
}

impl RsaKey {
    fn request(&self) -> Request<'_> {
        Request { key_id: &self.key.name.key_id, encryption_algorithm: Some(RSA_OAEP_256), ..Request::default() }
    }
}

/// AWS KMS's name of RSA-OAEP with SHA-256 and MGF1 with SHA-256.
const RSA_OAEP_256: &str = "RSAES_OAEP_SHA_256";

#[async_trait]
impl KeyWrap for RsaKey {
    fn algorithm(&self) -> &'static str {
        Algorithm::RsaOaep256.as_str()
    }

    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
        let encoded = Zeroizing::new(bytes::encode(cek));
        let answered = self.key.call(Operation::Wrap, &Request { plaintext: Some(&encoded), ..self.request() }).await?;
        // Behind an alias there may be another key later; this one's ARN tells which to ask for then.
        let kid = serde_json::Value::from(answered.key.key_id).to_string();
        Ok(WrappedKey { encrypted_key: answered.bytes.to_vec(), header: vec![("kid".to_owned(), kid)] })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        let kid = header.kid.as_deref().map(|kid| self.check_kid(kid)).transpose()?;
        let encoded = self.key.ciphertext(encrypted_key)?;
        let answered = self.key.call(Operation::Unwrap, &Request { ciphertext_blob: Some(&encoded), ..self.request() }).await;
        match (kid, answered) {
            (Some(kid), Ok(answered)) if !is_of(&kid, &answered.key) && !kid.is_related_to(&answered.key) => {
                Err(self.other_key(&kid.key_id))
            }
            (Some(kid), Err(error)) if self.key.name.is_alias() => Err(maybe_moved(error, &kid)),
            (_, answered) => Ok(answered?.bytes),
        }
    }
}

/// What an alias stands for now refuses what another key has wrapped.
fn maybe_moved(error: Error, kid: &AwsKey) -> Error {
    match error {
        Error::Kms { key, status, code, message, .. } if refusal::is_of_ciphertext(&code) => {
            let hint = format!("the packet was made with the key {}; if the alias was moved since, point it back", kid.key_id);
            Error::Kms { key, status, code, message, hint }
        }
        other => other,
    }
}

impl RsaKey {
    /// `kid` comes with the image. It is never sent; if it is of another key than the lent one, no call is made.
    fn check_kid(&self, kid: &str) -> Result<AwsKey, Error> {
        parse(kid).filter(|kid| may_be_for(&self.key.name, kid)).ok_or_else(|| self.other_key(kid))
    }

    fn other_key(&self, kid: &str) -> Error {
        let reason = format!("the packet is for another key: its `kid` is `{}`", printable(kid, 256));
        self.key.invalid(&reason, "name the key that the packet was made with, or point the alias to it")
    }
}

impl KmsKey {
    /// A ciphertext for a request, if it is one that AWS KMS may have made.
    fn ciphertext(&self, ciphertext: &[u8]) -> Result<String, Error> {
        match ciphertext.len() {
            1..=MAX_CIPHERTEXT => Ok(bytes::encode(ciphertext)),
            length => {
                let reason = format!("the packet's ciphertext has {length} bytes, and those of AWS KMS have 1 to {MAX_CIPHERTEXT}");
                Err(self.invalid(&reason, "check the annotation, or wrap the image anew"))
            }
        }
    }

    /// One call, signed with the caller's credentials; retried while AWS KMS is busy.
    async fn call(&self, operation: Operation, request: &Request<'_>) -> Result<Answered, Error> {
        let Shared { http, places, chain } = &*self.shared;
        let region = match &self.name.arn {
            Some(arn) => Region { name: arn.region.clone(), place: self.uri.clone() },
            None => chain.region(&self.uri, self.deadline).await?,
        };
        let url = places.url(&region)?;
        let credentials = chain.credentials(&self.uri, &region.name, self.deadline).await?;
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
        serde_json::to_writer(&mut *body, request).expect("strings serialise");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", HeaderValue::from_static(target(operation)));
        signature::sign(credentials, &region.name, &url, &mut headers, &body).map_err(|reason| self.unsigned(&reason))?;
        tracing::debug!(key = self.uri, host = url.host_str(), target = target(operation), "calling AWS KMS");
        let call = Call { key: &self.uri, method: Method::POST, url: &url, headers, body, deadline: self.deadline, repeat: Repeat::Freely };
        let answer = http.send_while(call, refusal::is_busy).await.map_err(|error| self.with_advice(error, &region))?;
        if !answer.status.is_success() {
            let refusal = refusal::Refusal::read(&answer);
            if refusal.is_about_credentials() {
                // The next exchange looks whether they were mended.
                chain.forget();
            }
            return Err(refusal.explain(&answer, operation, &self.uri, &self.name.key_id, &region.name));
        }
        Asked { uri: &self.uri, name: &self.name, region: &region.name, operation, algorithm: request.encryption_algorithm }
            .read(&answer.body)
    }

    /// A host that can't be found may be a matter of settings rather than of the network.
    fn with_advice(&self, error: Error, region: &Region) -> Error {
        match (error, region.doubt()) {
            (Error::Unavailable { key, reason }, Some(doubt)) if self.shared.places.are_aws() && reason.contains("lookup") => {
                Error::Unavailable { key, reason: format!("{reason}; {doubt}") }
            }
            (error, _) => error,
        }
    }

    fn unsigned(&self, reason: &str) -> Error {
        let message = format!("the call can't be signed: {reason}");
        Error::Kms { key: self.uri.clone(), status: 0, code: "CREDENTIALS".into(), message, hint: "check the AWS credentials".into() }
    }

    fn invalid(&self, reason: &str, hint: &str) -> Error {
        Error::InvalidInput { reason: format!("{}: {reason}", self.uri), hint: hint.to_owned() }
    }
}

fn target(operation: Operation) -> &'static str {
    match operation {
        Operation::Wrap => "TrentService.Encrypt",
        Operation::Unwrap => "TrentService.Decrypt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    #[test]
    fn a_request_holds_only_what_was_given() {
        let request = Request { key_id: ID, plaintext: Some("YQ=="), ..Request::default() };
        assert_eq!(serde_json::to_string(&request).unwrap(), format!(r#"{{"KeyId":"{ID}","Plaintext":"YQ=="}}"#));
        let context = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let request = Request { key_id: ID, ciphertext_blob: Some("YQ=="), encryption_context: Some(&context), ..Request::default() };
        let expected = format!(r#"{{"KeyId":"{ID}","CiphertextBlob":"YQ==","EncryptionContext":{{"a":"b"}}}}"#);
        assert_eq!(serde_json::to_string(&request).unwrap(), expected);
    }
}

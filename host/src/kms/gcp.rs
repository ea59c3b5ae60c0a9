//! `gcpkms://…`: symmetric keys of Google Cloud KMS over REST ([`cryptoKeys.encrypt`], [`cryptoKeys.decrypt`]).
//!
//! Integrity is checked end to end with the CRC32C fields, as [Google recommends]: a request's sums are verified by the service, which
//! says so, and an answer's sums are verified here.
//!
//! [`cryptoKeys.encrypt`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt
//! [`cryptoKeys.decrypt`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/decrypt
//! [Google recommends]: https://cloud.google.com/kms/docs/data-integrity-guidelines

mod credentials;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use crc32c::crc32c;
use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Operation, bytes};
use reqwest::Url;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use self::credentials::Credentials;
use super::http::{Answer, Call, Http, parse_endpoint};
use super::{Cipher, KeyService, OpenKey};
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::{Addresses, GcpKey, Key, KeyUri};
use crate::{Environment, Error};

const ENDPOINT: &str = "https://cloudkms.googleapis.com/";
const ENDPOINT_VARIABLE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";

/// Google Cloud KMS as a service.
pub struct Gcp {
    http: Arc<Http>,
    endpoint: Url,
    credentials: Arc<Credentials>,
}

impl Gcp {
    /// The service at the built-in address, unless `CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS` or else `endpoint` says another. With
    /// `credentials`, a credential file, in place of Application Default Credentials; neither is looked up before a key is used.
    ///
    /// # Errors
    /// If the address isn't one that may be used.
    pub fn new(http: Arc<Http>, environment: &Environment, endpoint: Option<&str>, credentials: Option<PathBuf>) -> Result<Self, Error> {
        let variable = environment.get(ENDPOINT_VARIABLE).map(|value| value.to_string_lossy().into_owned());
        let place = if variable.is_some() { ENDPOINT_VARIABLE } else { "gcp.endpoint" };
        let text = variable.as_deref().or(endpoint).unwrap_or(ENDPOINT);
        let endpoint = parse_endpoint(text).map_err(|reason| Error::Configuration { place: place.into(), reason })?;
        Ok(Self { http, endpoint, credentials: Arc::new(Credentials::new(credentials, environment)) })
    }
}

#[async_trait]
impl KeyService for Gcp {
    async fn open(&self, uri: &KeyUri, _: Operation, deadline: Instant) -> Result<OpenKey, Error> {
        let Key::Gcp(name) = uri.key() else { unreachable!("{uri} was given to Cloud KMS") };
        if let Some(algorithm) = uri.algorithm() {
            let reason = format!("{uri}: asymmetric keys of Cloud KMS ({algorithm}) are not supported yet");
            return Err(Error::InvalidInput { reason, hint: "name a symmetric key".into() });
        }
        Ok(OpenKey::Cipher(Box::new(SymmetricKey {
            http: self.http.clone(),
            endpoint: self.endpoint.clone(),
            credentials: self.credentials.clone(),
            uri: uri.canonical().to_owned(),
            name: name.clone(),
            aad: additional_data(uri.context()),
            deadline,
        })))
    }
}

/// The encryption context as additional authenticated data: its RFC 8785 JSON, or nothing. Names are ASCII and sorted, and serde_json
/// escapes strings as RFC 8785 section 3.2.2.2 wants it.
fn additional_data(context: &BTreeMap<String, String>) -> Vec<u8> {
    match context.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(context).expect("strings serialise"),
    }
}

struct SymmetricKey {
    http: Arc<Http>,
    endpoint: Url,
    credentials: Arc<Credentials>,
    uri: String,
    name: GcpKey,
    aad: Vec<u8>,
    deadline: Instant,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptRequest<'a> {
    plaintext: &'a str,
    plaintext_crc32c: String,
    #[serde(flatten)]
    additional: Option<AdditionalData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecryptRequest<'a> {
    ciphertext: &'a str,
    ciphertext_crc32c: String,
    #[serde(flatten)]
    additional: Option<AdditionalData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdditionalData {
    additional_authenticated_data: String,
    additional_authenticated_data_crc32c: String,
}

/// proto3's JSON writes 64-bit numbers as strings.
fn checksum(bytes: &[u8]) -> String {
    crc32c(bytes).to_string()
}

#[async_trait]
impl Cipher for SymmetricKey {
    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let encoded = Zeroizing::new(bytes::encode(plaintext));
        let request = EncryptRequest { plaintext: &encoded, plaintext_crc32c: checksum(plaintext), additional: self.additional() };
        let answer = self.post(Operation::Wrap, &self.name.resource_name(), &request).await?;
        let answer = self.members(&answer)?;
        let ciphertext = self.bytes(&answer, "ciphertext")?.to_vec();
        self.check_name(&answer)?;
        let verified = |name| Check { name, holds: answer.get(name).map(|value| value.get() == "true") };
        let mut checks = vec![verified("verifiedPlaintextCrc32c"), sum(&answer, "ciphertextCrc32c", &ciphertext)];
        checks.extend((!self.aad.is_empty()).then(|| verified("verifiedAdditionalAuthenticatedDataCrc32c")));
        self.check_sums(&checks)?;
        Ok(ciphertext)
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let encoded = bytes::encode(ciphertext);
        let request = DecryptRequest { ciphertext: &encoded, ciphertext_crc32c: checksum(ciphertext), additional: self.additional() };
        // The key finds the version by itself, and refuses to be told.
        let answer = self.post(Operation::Unwrap, &self.name.key_name(), &request).await?;
        let answer = self.members(&answer)?;
        let plaintext = self.bytes(&answer, "plaintext")?;
        self.check_sums(&[sum(&answer, "plaintextCrc32c", &plaintext)])?;
        Ok(plaintext)
    }
}

/// One checksum field of an answer: `None` if it is missing.
struct Check {
    name: &'static str,
    holds: Option<bool>,
}

fn sum(answer: &Object<'_>, name: &'static str, over: &[u8]) -> Check {
    let given = |value: &RawValue| string(value).map_or_else(|| value.get().to_owned(), |text| text.into_owned());
    Check { name, holds: answer.get(name).map(|value| given(value) == checksum(over)) }
}

impl SymmetricKey {
    fn additional(&self) -> Option<AdditionalData> {
        (!self.aad.is_empty()).then(|| AdditionalData {
            additional_authenticated_data: bytes::encode(&self.aad),
            additional_authenticated_data_crc32c: checksum(&self.aad),
        })
    }

    async fn post(&self, operation: Operation, name: &str, request: &impl Serialize) -> Result<Answer, Error> {
        let verb = match operation {
            Operation::Wrap => "encrypt",
            Operation::Unwrap => "decrypt",
        };
        let mut url = self.endpoint.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/v1/{name}:{verb}"));
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut body = Zeroizing::new(Vec::with_capacity(2 * super::MAX_CIPHERTEXT));
        serde_json::to_writer(&mut *body, request).expect("strings serialise");
        let headers = self.credentials.headers(&self.uri, self.deadline).await?;
        tracing::debug!(key = self.uri, host = url.host_str(), verb, "calling Cloud KMS");
        let answer = self.http.post(Call { key: &self.uri, url: &url, headers, body, deadline: self.deadline }).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refused(operation, &answer)),
        }
    }

    fn members<'a>(&self, answer: &'a Answer) -> Result<Object<'a>, Error> {
        Object::parse(&answer.body).map_err(|error| self.corrupt(&format!("its answer is {error}")))
    }

    fn bytes(&self, answer: &Object<'_>, name: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let value = answer.get(name).and_then(bytes::read);
        value.ok_or_else(|| self.corrupt(&format!("its answer holds no `{name}`")))
    }

    /// The answer must be this key's, or a version's of it, and if the URI names a version, that one's.
    fn check_name(&self, answer: &Object<'_>) -> Result<(), Error> {
        let name = answer.get("name").and_then(string).unwrap_or_default();
        let uri = KeyUri::parse(&format!("gcpkms://{name}"), &Addresses::default());
        let same = match uri.as_ref().map(KeyUri::key) {
            Ok(Key::Gcp(answered)) => is_of(&self.name, answered),
            _ => false,
        };
        if same { Ok(()) } else { Err(self.corrupt(&format!("it answered for another key, `{}`", printable(&name, 256)))) }
    }

    /// All checksum fields hold, or the service sends none at all (as some private endpoints do).
    fn check_sums(&self, checks: &[Check]) -> Result<(), Error> {
        if checks.iter().all(|check| check.holds.is_none()) {
            tracing::warn!(key = self.uri, "the answer has no checksums");
            return Ok(());
        }
        match checks.iter().find(|check| check.holds != Some(true)) {
            Some(Check { name, holds: None }) => Err(self.corrupt(&format!("its answer lacks `{name}`"))),
            Some(Check { name, .. }) => Err(self.corrupt(&format!("`{name}` does not hold, so the call was damaged on its way"))),
            None => Ok(()),
        }
    }

    fn corrupt(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.clone(), reason: format!("Cloud KMS's answer can't be trusted: {reason}") }
    }

    /// Google's error JSON (`google.rpc.Status` in `error`) as an error with its remedy.
    fn refused(&self, operation: Operation, answer: &Answer) -> Error {
        let status = answer.status.as_u16();
        let outer = Object::parse(&answer.body).unwrap_or_default();
        let inner = outer.object("error").unwrap_or_default();
        let text = |name| inner.get(name).and_then(string).unwrap_or_default();
        let code = printable(&text("status"), 64);
        let message = printable(&text("message"), MAX_OUTSIDE_TEXT);
        let key = self.uri.clone();
        if status == 429 || status >= 500 {
            return Error::Unavailable {
                key,
                reason: format!("Cloud KMS answered {status} {code}, however often it was asked in the time there was: {message}"),
            };
        }
        let hint = self.hint(operation, status, &code, &message);
        Error::Kms { key, status, code, message, hint }
    }

    fn hint(&self, operation: Operation, status: u16, code: &str, message: &str) -> String {
        let (role, permission) = match operation {
            Operation::Wrap => ("roles/cloudkms.cryptoKeyEncrypter", "encrypt"),
            Operation::Unwrap => ("roles/cloudkms.cryptoKeyDecrypter", "decrypt"),
        };
        match (status, code) {
            (400, "FAILED_PRECONDITION") if message.contains("not enabled") || message.contains("DISABLED") => {
                "enable the key's version: gcloud kms keys versions enable".into()
            }
            (400, _) if operation == Operation::Unwrap => {
                "the packet was not made by this key, or with another encryption context (context_… in the key URI)".into()
            }
            (401, _) => "the credentials were not accepted; renew them (gcloud auth application-default login) or check --adc".into(),
            (403, _) => format!("grant {role} on the key to the caller, who lacks the permission to {permission}"),
            (404, _) => "check the project, location, key ring and key in the URI".into(),
            _ => "see the service's message".into(),
        }
    }
}

/// Whether `answered` is `asked` or a version of it. A project may be asked for by number and answered by id, or the other way round.
fn is_of(asked: &GcpKey, answered: &GcpKey) -> bool {
    let is_number = |project: &str| project.bytes().all(|byte| byte.is_ascii_digit());
    let same_project = asked.project == answered.project || is_number(&asked.project) != is_number(&answered.project);
    let place = |key: &GcpKey| (key.location.clone(), key.key_ring.clone(), key.key.clone());
    same_project && place(asked) == place(answered) && (asked.version.is_none() || asked.version == answered.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> GcpKey {
        match KeyUri::parse(uri, &Addresses::default()).unwrap().key() {
            Key::Gcp(key) => key.clone(),
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_answer_is_of_the_key_or_a_version_of_it() {
        let name = |project: &str, key: &str| format!("gcpkms://projects/{project}/locations/l/keyRings/r/cryptoKeys/{key}");
        let asked = key(&name("p", "k"));
        assert!(is_of(&asked, &key(&name("p", "k/cryptoKeyVersions/7"))));
        assert!(is_of(&asked, &key(&name("1234", "k"))));
        assert!(!is_of(&asked, &key(&name("p2", "k"))));
        assert!(!is_of(&asked, &key(&name("p", "k2"))));
        let version = key(&name("p", "k/cryptoKeyVersions/7"));
        assert!(is_of(&version, &version) && !is_of(&version, &asked) && !is_of(&version, &key(&name("p", "k/cryptoKeyVersions/8"))));
    }

    #[test]
    fn the_context_is_sent_as_canonical_json() {
        let context = BTreeMap::from([("b".to_owned(), "\u{e9}\"\\".to_owned()), ("a".to_owned(), "1".to_owned())]);
        assert_eq!(additional_data(&context), "{\"a\":\"1\",\"b\":\"\u{e9}\\\"\\\\\"}".as_bytes());
        assert_eq!(additional_data(&BTreeMap::new()), b"");
    }

    #[test]
    fn a_request_holds_no_additional_data_without_context() {
        let request = EncryptRequest { plaintext: "YQ==", plaintext_crc32c: checksum(b"a"), additional: None };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"plaintext":"YQ==","plaintextCrc32c":"3251651376"}"#);
    }
}

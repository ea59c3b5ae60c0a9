//! One call of Cloud KMS: where a key is, how it is asked, and what the answer must show.

use std::sync::Arc;
use std::time::Instant;

use crc32c::crc32c;
use ocicrypt_kms_protocol::bytes;
use ocicrypt_kms_protocol::json::{Object, Value, string};
use reqwest::{Method, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::{Addresses, GcpKey, Key, KeyUri};
use crate::kms::MAX_CIPHERTEXT;
use crate::kms::http::{Answer, Call, Http, below};

/// A key of Cloud KMS, and what it takes to ask for it.
pub(super) struct Remote {
    pub(super) http: Arc<Http>,
    pub(super) endpoint: Url,
    pub(super) credentials: Arc<Credentials>,
    pub(super) uri: String,
    pub(super) name: GcpKey,
    pub(super) deadline: Instant,
}

/// The methods of the API that are called, and no others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    /// [`cryptoKeys.encrypt`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt).
    Encrypt,
    /// [`cryptoKeys.decrypt`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/decrypt).
    Decrypt,
    /// [`cryptoKeyVersions.getPublicKey`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/getPublicKey).
    #[cfg(feature = "asymmetric")]
    GetPublicKey,
    /// [`cryptoKeyVersions.asymmetricDecrypt`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/asymmetricDecrypt).
    #[cfg(feature = "asymmetric")]
    AsymmetricDecrypt,
}

impl Verb {
    /// What follows the resource's name in the path.
    fn suffix(self) -> &'static str {
        match self {
            Self::Encrypt => ":encrypt",
            Self::Decrypt => ":decrypt",
            #[cfg(feature = "asymmetric")]
            Self::GetPublicKey => "/publicKey",
            #[cfg(feature = "asymmetric")]
            Self::AsymmetricDecrypt => ":asymmetricDecrypt",
        }
    }

    /// The narrowest predefined role that allows it, and what that permits.
    fn role(self) -> (&'static str, &'static str) {
        match self {
            Self::Encrypt => ("roles/cloudkms.cryptoKeyEncrypter", "encrypt"),
            Self::Decrypt => ("roles/cloudkms.cryptoKeyDecrypter", "decrypt"),
            #[cfg(feature = "asymmetric")]
            Self::GetPublicKey => ("roles/cloudkms.publicKeyViewer", "read the public key"),
            #[cfg(feature = "asymmetric")]
            Self::AsymmetricDecrypt => ("roles/cloudkms.cryptoKeyDecrypter", "decrypt"),
        }
    }

    fn unwraps(self) -> bool {
        match self {
            Self::Decrypt => true,
            #[cfg(feature = "asymmetric")]
            Self::AsymmetricDecrypt => true,
            _ => false,
        }
    }
}

/// proto3's JSON writes 64-bit numbers as strings.
pub(super) fn checksum(bytes: &[u8]) -> String {
    crc32c(bytes).to_string()
}

/// One checksum field of an answer.
pub(super) struct Check {
    name: &'static str,
    /// `None` if it is missing.
    holds: Option<bool>,
}

impl Check {
    /// A field that says that the service has verified what was sent.
    pub(super) fn verified(answer: &Object<'_>, name: &'static str) -> Self {
        Self { name, holds: answer.get(name).map(|value| value.text() == "true") }
    }

    /// A field that holds the sum of what was answered.
    pub(super) fn sum(answer: &Object<'_>, name: &'static str, over: &[u8]) -> Self {
        let given = |value: &Value<'_>| string(value).map_or_else(|| value.text().to_owned(), |text| text.into_owned());
        Self { name, holds: answer.get(name).map(|value| given(value) == checksum(over)) }
    }
}

impl Remote {
    /// Asks `name`, which is this key or its version, with the JSON of `request`.
    pub(super) async fn post(&self, verb: Verb, name: &str, request: &impl Serialize) -> Result<Answer, Error> {
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut body = Zeroizing::new(Vec::with_capacity(2 * MAX_CIPHERTEXT));
        serde_json::to_writer(&mut *body, request).expect("strings serialise");
        self.call(Method::POST, verb, name, body).await
    }

    /// Reads what belongs to `name`.
    #[cfg(feature = "asymmetric")]
    pub(super) async fn get(&self, verb: Verb, name: &str) -> Result<Answer, Error> {
        self.call(Method::GET, verb, name, Zeroizing::default()).await
    }

    async fn call(&self, method: Method, verb: Verb, name: &str, body: Zeroizing<Vec<u8>>) -> Result<Answer, Error> {
        let url = below(&self.endpoint, &format!("v1/{name}{}", verb.suffix()));
        let headers = self.credentials.headers(&self.uri, self.deadline).await?;
        tracing::debug!(key = self.uri, host = url.host_str(), ?verb, "calling Cloud KMS");
        let call = Call { key: &self.uri, method, url: &url, headers, body, deadline: self.deadline };
        let answer = self.http.send(call).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refused(verb, &answer)),
        }
    }

    pub(super) fn members<'a>(&self, answer: &'a Answer) -> Result<Object<'a>, Error> {
        Object::parse(&answer.body).map_err(|error| self.corrupt(&format!("its answer is {error}")))
    }

    pub(super) fn bytes(&self, answer: &Object<'_>, name: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let value = answer.get(name).and_then(bytes::read);
        value.ok_or_else(|| self.corrupt(&format!("its answer holds no `{name}`")))
    }

    /// The answer must be this key's, or a version's of it, and if the URI names a version, that one's.
    pub(super) fn check_name(&self, answer: &Object<'_>) -> Result<(), Error> {
        let name = answer.get("name").and_then(string).unwrap_or_default();
        let uri = KeyUri::parse(&format!("gcpkms://{name}"), &Addresses::default());
        let same = match uri.as_ref().map(KeyUri::key) {
            Ok(Key::Gcp(answered)) => is_of(&self.name, answered),
            _ => false,
        };
        if same { Ok(()) } else { Err(self.corrupt(&format!("it answered for another key, `{}`", printable(&name, 256)))) }
    }

    /// All checksum fields hold, or the service sends none at all (as some private endpoints do).
    pub(super) fn check_sums(&self, checks: &[Check]) -> Result<(), Error> {
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

    pub(super) fn corrupt(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.clone(), reason: format!("Cloud KMS's answer can't be trusted: {reason}") }
    }

    /// Google's error JSON (`google.rpc.Status` in `error`) as an error with its remedy.
    fn refused(&self, verb: Verb, answer: &Answer) -> Error {
        let status = answer.status.as_u16();
        let outer = Object::parse(&answer.body).unwrap_or_default();
        let inner = outer.object("error").unwrap_or_default();
        let text = |name| inner.get(name).and_then(string).unwrap_or_default();
        let code = printable(&text("status"), 64);
        let message = printable(&text("message"), MAX_OUTSIDE_TEXT);
        let key = self.uri.clone();
        if answer.is_busy() {
            return Error::Busy { key, status, message: format!("{code}: {message}") };
        }
        let hint = self.hint(verb, status, &code, &message);
        Error::Kms { key, status, code, message, hint }
    }

    fn enable(&self) -> String {
        let GcpKey { project, location, key_ring, key, version } = &self.name;
        let version = version.as_deref().unwrap_or("VERSION");
        format!(
            "enable the key's version: gcloud kms keys versions enable {version} --key {key} --keyring {key_ring} --location {location} \
             --project {project}"
        )
    }

    fn hint(&self, verb: Verb, status: u16, code: &str, message: &str) -> String {
        let (role, permission) = verb.role();
        match (status, code) {
            (400, "FAILED_PRECONDITION") if message.contains("not enabled") || message.contains("DISABLED") => self.enable(),
            (400, _) if message.contains("purpose") => {
                "a symmetric key is named without `algorithm`; an asymmetric one by its version and ?algorithm=RSA-OAEP-256".into()
            }
            (400, _) if verb.unwraps() => {
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
}

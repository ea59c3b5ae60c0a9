//! The two operations of the engine, and what their answers have to look like.
//!
//! The engine doesn't say of what type a key is, unless it is asked, which takes another round trip and another permission. How much
//! longer a ciphertext is than its plaintext shows it: nonce and tag of an authenticated cipher are 28 or 40 bytes, and what an RSA key
//! makes is as long as its modulus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Operation, bytes};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::context::additional_data;
use super::super::http::Answer;
use super::super::{Cipher, Header, KeyWrap, MAX_CIPHERTEXT, WrappedKey};
use super::refusal::Refusal;
use super::session::Session;
use crate::Error;
use crate::key_uri::VaultKey;

/// Nonce and tag of AES-GCM and ChaCha20-Poly1305 (12 and 16 bytes), and of XChaCha20-Poly1305 (24 and 16).
const AEAD_OVERHEAD: [usize; 2] = [12 + 16, 24 + 16];
/// The shortest ciphertext of the engine's RSA keys, which have 2048 bits or more.
const RSA_LENGTH: usize = 2048 / 8;
/// In place of the type of the key to create: with the permission to, the engine would create a key that is missing, which is then most
/// often a misspelled one. It looks at the type in that case alone, and refuses one that it doesn't know.
pub(super) const NO_TYPE: &str = "none-the-key-must-exist";
/// What the engine answers where a server doesn't know a parameter.
const IGNORED: &str = "associated_data";

/// A key of the engine, and the way to it.
pub(super) struct Transit {
    pub session: Arc<Session>,
    pub uri: String,
    pub name: VaultKey,
    pub deadline: Instant,
}

#[derive(Serialize)]
struct EncryptRequest<'a> {
    plaintext: &'a str,
    #[serde(rename = "type")]
    type_if_created: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    associated_data: Option<&'a str>,
}

#[derive(Serialize)]
struct DecryptRequest<'a> {
    ciphertext: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    associated_data: Option<&'a str>,
}

/// `vault:vN:…`
struct Ciphertext {
    version: u32,
    bytes: Vec<u8>,
}

impl Ciphertext {
    /// Reads it in the one spelling that [`Ciphertext::to_text`] gives.
    fn parse(text: &str) -> Option<Self> {
        let (version, encoded) = text.strip_prefix("vault:v")?.split_once(':')?;
        Some(Self { version: parse_version(version)?, bytes: bytes::decode(encoded)?.to_vec() })
    }

    fn to_text(&self) -> String {
        format!("vault:v{}:{}", self.version, bytes::encode(&self.bytes))
    }
}

/// A version as a decimal number from 1, without anything else.
fn parse_version(text: &str) -> Option<u32> {
    text.parse().ok().filter(|version: &u32| *version > 0 && version.to_string() == text)
}

impl Transit {
    async fn encrypt(&self, plaintext: &[u8], associated_data: Option<&str>) -> Result<(String, Ciphertext), Error> {
        let plaintext = Zeroizing::new(bytes::encode(plaintext));
        let request = EncryptRequest { plaintext: &plaintext, type_if_created: NO_TYPE, associated_data };
        let answer = self.post(Operation::Wrap, None, &request).await?;
        self.check_bound(&answer, associated_data)?;
        let text = self.data(&answer)?.get("ciphertext").and_then(string).map(|text| text.into_owned());
        let text = text.ok_or_else(|| self.untrusted("it holds no `ciphertext`"))?;
        let ciphertext = Ciphertext::parse(&text).ok_or_else(|| self.untrusted("its `ciphertext` is not of the form `vault:vN:…`"))?;
        Ok((text, ciphertext))
    }

    async fn decrypt(&self, text: &str, version: u32, associated_data: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let request = DecryptRequest { ciphertext: text, associated_data };
        let answer = self.post(Operation::Unwrap, Some(version), &request).await?;
        self.check_bound(&answer, associated_data)?;
        let plaintext = self.data(&answer)?.get("plaintext").and_then(bytes::read);
        plaintext.ok_or_else(|| self.untrusted("it holds no `plaintext`"))
    }

    async fn post(&self, operation: Operation, version: Option<u32>, request: &impl Serialize) -> Result<Answer, Error> {
        let VaultKey { mount, key, .. } = &self.name;
        let verb = match operation {
            Operation::Wrap => "encrypt",
            Operation::Unwrap => "decrypt",
        };
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut body = Zeroizing::new(Vec::with_capacity(2 * MAX_CIPHERTEXT));
        serde_json::to_writer(&mut *body, request).expect("strings serialise");
        let answer = self.session.post(&self.uri, &format!("{mount}/{verb}/{key}"), &body, self.deadline).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(Refusal { key: &self.uri, name: &self.name, operation, version }.error(&answer)),
        }
    }

    fn data<'a>(&self, answer: &'a Answer) -> Result<Object<'a>, Error> {
        let data = Object::parse(&answer.body).and_then(|outer| outer.object("data"));
        data.map_err(|error| self.untrusted(&format!("it is {error}")))
    }

    /// Servers before Vault 1.13 don't know associated data. They would leave it out, with no more than a warning.
    fn check_bound(&self, answer: &Answer, associated_data: Option<&str>) -> Result<(), Error> {
        let outer = Object::parse(&answer.body).unwrap_or_default();
        let ignored = outer.get("warnings").is_some_and(|warnings| warnings.text().contains(IGNORED));
        match associated_data {
            Some(_) if ignored => Err(Error::InvalidInput {
                reason: format!("{}: the server does not know associated data, so it can't bind an encryption context", self.uri),
                hint: "use Vault 1.13, OpenBao 2.0 or newer, or leave context_… out of the URI".into(),
            }),
            _ => Ok(()),
        }
    }

    fn untrusted(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.clone(), reason: format!("Vault's answer can't be used: {reason}") }
    }

    /// The key is not of the type that its URI says.
    fn other_type(&self, is: &str, hint: &str) -> Error {
        Error::InvalidInput { reason: format!("{}: the key {is}", self.uri), hint: hint.to_owned() }
    }

    /// The packet holds nothing that this key could have made.
    fn not_made_here(&self, what: &str) -> Error {
        let hint = "check the annotation, or wrap the image anew".to_owned();
        Error::InvalidInput { reason: format!("{}: {what}", self.uri), hint }
    }
}

/// A key that encrypts with authentication.
pub(super) struct AeadKey {
    transit: Transit,
    associated_data: Option<String>,
}

impl AeadKey {
    pub fn new(transit: Transit, context: &BTreeMap<String, String>) -> Self {
        let data = additional_data(context);
        Self { transit, associated_data: (!data.is_empty()).then(|| bytes::encode(&data)) }
    }

    fn check_type(&self, ciphertext: &Ciphertext, plaintext: &[u8]) -> Result<(), Error> {
        let overhead = ciphertext.bytes.len().checked_sub(plaintext.len());
        match overhead.is_some_and(|overhead| AEAD_OVERHEAD.contains(&overhead)) {
            true => Ok(()),
            false => Err(self.transit.other_type(
                "does not encrypt with authentication",
                "for an RSA key, add ?algorithm=RSA-OAEP-256 to the URI; else name a key of the type aes256-gcm96",
            )),
        }
    }
}

#[async_trait]
impl Cipher for AeadKey {
    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let (text, ciphertext) = self.transit.encrypt(plaintext, self.associated_data.as_deref()).await?;
        self.check_type(&ciphertext, plaintext)?;
        Ok(text.into_bytes())
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let text = std::str::from_utf8(ciphertext).ok();
        let parsed = text.and_then(|text| Some((text, Ciphertext::parse(text)?)));
        let (text, parsed) = parsed.ok_or_else(|| self.transit.not_made_here("the wrapped key is not of the form `vault:vN:…`"))?;
        let plaintext = self.transit.decrypt(text, parsed.version, self.associated_data.as_deref()).await?;
        self.check_type(&parsed, &plaintext)?;
        Ok(plaintext)
    }
}

/// An RSA key: RSA-OAEP with SHA-256, also for MGF1, which is what the engine uses unless it is told otherwise.
pub(super) struct RsaKey {
    transit: Transit,
}

impl RsaKey {
    pub fn new(transit: Transit) -> Self {
        Self { transit }
    }
}

#[async_trait]
impl KeyWrap for RsaKey {
    fn algorithm(&self) -> &'static str {
        "RSA-OAEP-256"
    }

    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
        let (_, ciphertext) = self.transit.encrypt(cek, None).await?;
        if ciphertext.bytes.len() < RSA_LENGTH {
            return Err(self.transit.other_type("is not an RSA key", "leave `algorithm` out of the URI, or name an RSA key"));
        }
        let kid = serde_json::Value::from(ciphertext.version.to_string()).to_string();
        Ok(WrappedKey { encrypted_key: ciphertext.bytes, header: vec![("kid".to_owned(), kid)] })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        let version = header.kid.as_deref().and_then(parse_version);
        let version = version.ok_or_else(|| self.transit.not_made_here("the JWE's `kid` is not a version of a Vault key, such as 1"))?;
        if encrypted_key.len() < RSA_LENGTH {
            return Err(self.transit.not_made_here("the JWE's encrypted key is not one of an RSA key"));
        }
        let ciphertext = Ciphertext { version, bytes: encrypted_key.to_vec() };
        self.transit.decrypt(&ciphertext.to_text(), version, None).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertexts_are_read_in_one_spelling() {
        let read = Ciphertext::parse("vault:v12:AAEC").unwrap();
        assert_eq!((read.version, read.bytes.as_slice(), read.to_text().as_str()), (12, &[0, 1, 2][..], "vault:v12:AAEC"));
        for other in [
            "",
            "vault:v1",
            "vault:1:AAEC",
            "vault:v0:AAEC",
            "vault:v01:AAEC",
            "vault:v+1:AAEC",
            "vault:v1:A*",
            "v1:AAEC",
            "vault:v4294967296:AA==",
        ] {
            assert!(Ciphertext::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_request_holds_no_associated_data_without_context() {
        let request = EncryptRequest { plaintext: "YQ==", type_if_created: "t", associated_data: None };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"plaintext":"YQ==","type":"t"}"#);
        let request = DecryptRequest { ciphertext: "vault:v1:AA==", associated_data: Some("e30=") };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"ciphertext":"vault:v1:AA==","associated_data":"e30="}"#);
    }
}

//! The two operations of the engine, by a key that encrypts with authentication or by one of RSA.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms_protocol::{Operation, bytes};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::answer::Answer;
use super::super::context::additional_data;
use super::super::{Cipher, Header, KeyWrap, MAX_CIPHERTEXT, WrappedKey};
use super::answer::{Asked, Ciphertext, RSA_LENGTH, parse_version};
use super::refusal::{NO_TYPE, Refusal};
use super::session::Session;
use crate::Error;
use crate::key_uri::VaultKey;

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

impl Transit {
    fn asked(&self, associated_data: Option<&str>) -> Asked<'_> {
        Asked { uri: &self.uri, bound: associated_data.is_some() }
    }

    async fn encrypt(&self, plaintext: &[u8], associated_data: Option<&str>) -> Result<(String, Ciphertext), Error> {
        let plaintext = Zeroizing::new(bytes::encode(plaintext));
        let request = EncryptRequest { plaintext: &plaintext, type_if_created: NO_TYPE, associated_data };
        let answer = self.post(Operation::Wrap, None, &request).await?;
        self.asked(associated_data).encrypted(&answer.body)
    }

    async fn decrypt(&self, text: &str, version: u32, associated_data: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let request = DecryptRequest { ciphertext: text, associated_data };
        let answer = self.post(Operation::Unwrap, Some(version), &request).await?;
        self.asked(associated_data).decrypted(&answer.body)
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
}

#[async_trait]
impl Cipher for AeadKey {
    fn binds_context(&self) -> bool {
        true
    }

    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let (text, ciphertext) = self.transit.encrypt(plaintext, self.associated_data.as_deref()).await?;
        ciphertext.check_aead(&self.transit.uri, plaintext)?;
        Ok(text.into_bytes())
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let text = std::str::from_utf8(ciphertext).ok();
        let parsed = text.and_then(|text| Some((text, Ciphertext::parse(text)?)));
        let (text, parsed) = parsed.ok_or_else(|| self.transit.not_made_here("the wrapped key is not of the form `vault:vN:…`"))?;
        let plaintext = self.transit.decrypt(text, parsed.version, self.associated_data.as_deref()).await?;
        parsed.check_aead(&self.transit.uri, &plaintext)?;
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
        ciphertext.check_rsa(&self.transit.uri)?;
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
    fn a_request_holds_no_associated_data_without_context() {
        let request = EncryptRequest { plaintext: "YQ==", type_if_created: "t", associated_data: None };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"plaintext":"YQ==","type":"t"}"#);
        let request = DecryptRequest { ciphertext: "vault:v1:AA==", associated_data: Some("e30=") };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"ciphertext":"vault:v1:AA==","associated_data":"e30="}"#);
    }
}

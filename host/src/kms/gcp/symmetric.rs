//! Symmetric keys: the service encrypts and decrypts the opts data itself ([`cryptoKeys.encrypt`], [`cryptoKeys.decrypt`]).
//!
//! [`cryptoKeys.encrypt`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt
//! [`cryptoKeys.decrypt`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/decrypt

use std::collections::BTreeMap;

use async_trait::async_trait;
use ocicrypt_kms_protocol::bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::checksum;
use super::call::Remote;
use super::verb::Verb;
use crate::Error;
use crate::kms::Cipher;
use crate::kms::context::additional_data;

/// A symmetric key, or a version of one that encrypts.
pub(super) struct SymmetricKey {
    remote: Remote,
    aad: Vec<u8>,
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

impl SymmetricKey {
    /// The key with this encryption context.
    pub(super) fn new(remote: Remote, context: &BTreeMap<String, String>) -> Self {
        Self { remote, aad: additional_data(context) }
    }

    fn additional(&self) -> Option<AdditionalData> {
        (!self.aad.is_empty()).then(|| AdditionalData {
            additional_authenticated_data: bytes::encode(&self.aad),
            additional_authenticated_data_crc32c: checksum(&self.aad),
        })
    }
}

#[async_trait]
impl Cipher for SymmetricKey {
    fn binds_context(&self) -> bool {
        true
    }

    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let remote = &self.remote;
        let encoded = Zeroizing::new(bytes::encode(plaintext));
        let request = EncryptRequest { plaintext: &encoded, plaintext_crc32c: checksum(plaintext), additional: self.additional() };
        let answer = remote.post(Verb::Encrypt, &remote.name.resource_name(), &request).await?;
        remote.asked().encrypted(&answer.body, !self.aad.is_empty())
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let remote = &self.remote;
        let encoded = bytes::encode(ciphertext);
        let request = DecryptRequest { ciphertext: &encoded, ciphertext_crc32c: checksum(ciphertext), additional: self.additional() };
        // The key finds the version by itself, and refuses to be told.
        let answer = remote.post(Verb::Decrypt, &remote.name.key_name(), &request).await?;
        remote.asked().decrypted(&answer.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_no_additional_data_without_context() {
        let request = EncryptRequest { plaintext: "YQ==", plaintext_crc32c: checksum(b"a"), additional: None };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"plaintext":"YQ==","plaintextCrc32c":"3251651376"}"#);
    }
}

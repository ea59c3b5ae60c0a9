//! Asymmetric versions of purpose `ASYMMETRIC_DECRYPT`: the host wraps with the public half, which it asks for, and the service unwraps
//! ([`cryptoKeyVersions.getPublicKey`], [`cryptoKeyVersions.asymmetricDecrypt`]).
//!
//! [`cryptoKeyVersions.getPublicKey`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/getPublicKey
//! [`cryptoKeyVersions.asymmetricDecrypt`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/asymmetricDecrypt

use async_trait::async_trait;
use aws_lc_rs::rsa::PublicEncryptingKey;
use ocicrypt_kms_protocol::bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::checksum;
use super::call::Remote;
use super::verb::Verb;
use crate::Error;
use crate::key_uri::{Algorithm, GcpKey};
use crate::kms::public_key::rsa;
use crate::kms::{Header, KeyWrap, WrappedKey};

/// A version that wraps by RSA-OAEP-256.
pub(super) struct RsaKey(pub(super) Remote);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecryptRequest<'a> {
    ciphertext: &'a str,
    ciphertext_crc32c: String,
}

#[async_trait]
impl KeyWrap for RsaKey {
    fn algorithm(&self) -> &'static str {
        Algorithm::RsaOaep256.as_str()
    }

    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
        let Self(remote) = self;
        let answer = remote.get(Verb::GetPublicKey, &remote.name.resource_name()).await?;
        let public = remote.asked().public_key(&answer.body, read_public_key)?;
        let encrypted_key = rsa::wrap_for(public, cek).map_err(|_| remote.asked().corrupt("its public key can't be used"))?;
        // The key URI says the version.
        Ok(WrappedKey { encrypted_key, header: Vec::new() })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Self(remote) = self;
        if header.kid.as_deref().is_some_and(|kid| !names(&remote.name, kid)) {
            return Err(Error::InvalidInput {
                reason: format!("{}: the JWE's `kid` is of another version than the key URI's", remote.uri),
                hint: "check the annotation, or wrap the image anew".into(),
            });
        }
        let encoded = bytes::encode(encrypted_key);
        let request = DecryptRequest { ciphertext: &encoded, ciphertext_crc32c: checksum(encrypted_key) };
        let answer = remote.post(Verb::AsymmetricDecrypt, &remote.name.resource_name(), &request).await?;
        remote.asked().asymmetric_decrypted(&answer.body)
    }
}

/// Whether a `kid` is this version: its number, or its resource name.
fn names(version: &GcpKey, kid: &str) -> bool {
    version.version.as_deref() == Some(kid) || version.resource_name() == kid
}

/// A public key of this many bits from its DER (`SubjectPublicKeyInfo`).
fn read_public_key(der: &[u8], bits: usize) -> Option<PublicEncryptingKey> {
    PublicEncryptingKey::from_der(der).ok().filter(|key| key.key_size_bits() == bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_uri::{Addresses, Key, KeyUri};

    #[test]
    fn a_kid_names_the_version_by_number_or_in_full() {
        let name = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7";
        let uri = KeyUri::parse(&format!("gcpkms://{name}?algorithm=RSA-OAEP-256"), &Addresses::default()).unwrap();
        let Key::Gcp(key) = uri.key() else { panic!() };
        assert!(names(key, "7") && names(key, name));
        assert!(!names(key, "8") && !names(key, "") && !names(key, name.trim_end_matches("/cryptoKeyVersions/7")));
    }
}

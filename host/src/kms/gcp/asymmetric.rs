//! Asymmetric versions of purpose `ASYMMETRIC_DECRYPT`: the host wraps with the public half, which it asks for, and the service unwraps
//! ([`cryptoKeyVersions.getPublicKey`], [`cryptoKeyVersions.asymmetricDecrypt`]).
//!
//! [`cryptoKeyVersions.getPublicKey`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/getPublicKey
//! [`cryptoKeyVersions.asymmetricDecrypt`]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/asymmetricDecrypt

use async_trait::async_trait;
use aws_lc_rs::rsa::PublicEncryptingKey;
use ocicrypt_kms_protocol::bytes;
use ocicrypt_kms_protocol::json::{Object, string};
use serde::Serialize;
use zeroize::Zeroizing;

use super::call::{Check, Remote, Verb, checksum};
use crate::Error;
use crate::error::printable;
use crate::key_uri::{Algorithm, GcpKey};
use crate::kms::public_key::rsa;
use crate::kms::{Header, KeyWrap, WrappedKey};

/// The [algorithms] of Cloud KMS that are RSA-OAEP-256, and the bits of their moduli.
///
/// [algorithms]: https://cloud.google.com/kms/docs/reference/rest/v1/CryptoKeyVersionAlgorithm
const ALGORITHMS: [(&str, usize); 3] =
    [("RSA_DECRYPT_OAEP_2048_SHA256", 2048), ("RSA_DECRYPT_OAEP_3072_SHA256", 3072), ("RSA_DECRYPT_OAEP_4096_SHA256", 4096)];

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
        let public = self.public_key(&remote.members(&answer)?)?;
        let encrypted_key = rsa::wrap_for(public, cek).map_err(|_| remote.corrupt("its public key can't be used"))?;
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
        let answer = remote.members(&answer)?;
        let cek = remote.bytes(&answer, "plaintext")?;
        remote.check_sums(&[Check::verified(&answer, "verifiedCiphertextCrc32c"), Check::sum(&answer, "plaintextCrc32c", &cek)])?;
        Ok(cek)
    }
}

/// Whether a `kid` is this version: its number, or its resource name.
fn names(version: &GcpKey, kid: &str) -> bool {
    version.version.as_deref() == Some(kid) || version.resource_name() == kid
}

impl RsaKey {
    /// The public key of an answer, after checking that it is this version's, undamaged, and for RSA-OAEP-256.
    fn public_key(&self, answer: &Object<'_>) -> Result<PublicEncryptingKey, Error> {
        let Self(remote) = self;
        let text = |name| answer.get(name).and_then(string).unwrap_or_default();
        remote.check_name(answer)?;
        let pem = text("pem");
        remote.check_sums(&[Check::sum(answer, "pemCrc32c", pem.as_bytes())])?;
        let algorithm = text("algorithm");
        let known = ALGORITHMS.iter().find(|(name, _)| *name == algorithm);
        let (_, bits) = known.ok_or_else(|| self.other_algorithm(&algorithm))?;
        let key = decode_pem(&pem).and_then(|der| PublicEncryptingKey::from_der(&der).ok()).filter(|key| key.key_size_bits() == *bits);
        key.ok_or_else(|| remote.corrupt(&format!("its `pem` is not the public key of {algorithm}")))
    }

    fn other_algorithm(&self, found: &str) -> Error {
        let Self(remote) = self;
        let GcpKey { project, location, key_ring, .. } = &remote.name;
        let found = printable(found, 64);
        Error::InvalidInput {
            reason: format!("{}: this version's algorithm is {found}, which is not RSA-OAEP-256 (RSA_DECRYPT_OAEP_…_SHA256)", remote.uri),
            hint: format!(
                "name another version, or make a key: gcloud kms keys create KEY --purpose asymmetric-encryption --default-algorithm \
                 rsa-decrypt-oaep-3072-sha256 --keyring {key_ring} --location {location} --project {project}"
            ),
        }
    }
}

/// The one block of a PEM text (RFC 7468 section 13).
fn decode_pem(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = body.split_ascii_whitespace().collect();
    bytes::decode(&base64).map(|der| der.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_uri::{Addresses, Key, KeyUri};

    #[test]
    fn a_pem_text_is_one_block_and_nothing_else() {
        let pem = "-----BEGIN PUBLIC KEY-----\nAAEC\r\nAwQ=\n-----END PUBLIC KEY-----\n";
        assert_eq!(decode_pem(pem).unwrap(), [0, 1, 2, 3, 4]);
        for other in
            ["", "AAEC", "-----BEGIN PUBLIC KEY-----", &pem.replace("PUBLIC", "RSA PUBLIC"), &pem.replace("AAEC", "*"), &pem.repeat(2)]
        {
            assert_eq!(decode_pem(other), None, "{other}");
        }
    }

    #[test]
    fn a_kid_names_the_version_by_number_or_in_full() {
        let name = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7";
        let uri = KeyUri::parse(&format!("gcpkms://{name}?algorithm=RSA-OAEP-256"), &Addresses::default()).unwrap();
        let Key::Gcp(key) = uri.key() else { panic!() };
        assert!(names(key, "7") && names(key, name));
        assert!(!names(key, "8") && !names(key, "") && !names(key, name.trim_end_matches("/cryptoKeyVersions/7")));
    }
}

//! `publicKey` and `asymmetricDecrypt` of Cloud KMS v1:
//! <https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions>.

use std::collections::HashMap;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA512_MGF1SHA512, OaepAlgorithm, OaepPrivateDecryptingKey,
    PrivateDecryptingKey,
};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::fields::Fields;
use super::kms::{Answer, Name, authorize};
use super::refusal::Refusal;
use super::routes::{self, Call};

/// The algorithms of purpose `ASYMMETRIC_DECRYPT`: name, number in the API, size, padding.
const ALGORITHMS: [(&str, i32, KeySize, &OaepAlgorithm); 7] = [
    ("RSA_DECRYPT_OAEP_2048_SHA256", 8, KeySize::Rsa2048, &OAEP_SHA256_MGF1SHA256),
    ("RSA_DECRYPT_OAEP_3072_SHA256", 9, KeySize::Rsa3072, &OAEP_SHA256_MGF1SHA256),
    ("RSA_DECRYPT_OAEP_4096_SHA256", 10, KeySize::Rsa4096, &OAEP_SHA256_MGF1SHA256),
    ("RSA_DECRYPT_OAEP_4096_SHA512", 17, KeySize::Rsa4096, &OAEP_SHA512_MGF1SHA512),
    ("RSA_DECRYPT_OAEP_2048_SHA1", 37, KeySize::Rsa2048, &OAEP_SHA1_MGF1SHA1),
    ("RSA_DECRYPT_OAEP_3072_SHA1", 38, KeySize::Rsa3072, &OAEP_SHA1_MGF1SHA1),
    ("RSA_DECRYPT_OAEP_4096_SHA1", 39, KeySize::Rsa4096, &OAEP_SHA1_MGF1SHA1),
];

/// The asymmetric keys, by the key's resource name.
#[derive(Default)]
pub(super) struct AsymmetricKeys(HashMap<String, Vec<Version>>);

struct Version {
    algorithm: &'static str,
    number: i32,
    padding: &'static OaepAlgorithm,
    key: PrivateDecryptingKey,
    enabled: bool,
}

impl AsymmetricKeys {
    /// Adds a version, and the key if there is none; answers the version's number.
    pub(super) fn add(&mut self, name: &str, algorithm: &str) -> usize {
        let known = ALGORITHMS.iter().find(|(known, ..)| *known == algorithm);
        let &(algorithm, number, size, padding) = known.unwrap_or_else(|| panic!("no such algorithm: {algorithm}"));
        let key = PrivateDecryptingKey::generate(size).expect("a key");
        let versions = self.0.entry(name.to_owned()).or_default();
        versions.push(Version { algorithm, number, padding, key, enabled: true });
        versions.len()
    }

    pub(super) fn disable(&mut self, name: &str, version: usize) {
        let versions = self.0.get_mut(name).unwrap_or_else(|| panic!("no such key was added: {name}"));
        versions[version - 1].enabled = false;
    }

    fn get(&self, name: &Name<'_>) -> Result<&Version, Refusal> {
        let versions = self.0.get(name.key).ok_or_else(|| Refusal::not_found(format!("CryptoKey {} not found.", name.key)))?;
        let text = name.version.unwrap_or_default();
        let index = text.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let missing = || Refusal::not_found(format!("CryptoKeyVersion {}/cryptoKeyVersions/{text} not found.", name.key));
        let version = index.and_then(|index| versions.get(index)).ok_or_else(missing)?;
        match version.enabled {
            true => Ok(version),
            false => Err(Refusal::disabled(&format!("{}/cryptoKeyVersions/{text}", name.key))),
        }
    }
}

impl Version {
    fn pem(&self) -> String {
        let der = self.key.public_key().as_der().expect("a public key");
        let base64 = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Option<Vec<u8>> {
        let key = OaepPrivateDecryptingKey::new(self.key.clone()).ok()?;
        let mut plaintext = vec![0; key.min_output_size()];
        Some(key.decrypt(self.padding, ciphertext, &mut plaintext, None).ok()?.to_vec())
    }
}

/// A version's resource name; others have no such methods.
fn version_name(name: &str) -> Option<Name<'_>> {
    Name::parse(name).filter(|name| name.version.is_some())
}

pub(super) fn public_key(call: &Call<'_>, name: &str) -> Result<Response, Refusal> {
    let Some(parsed) = version_name(name) else { return Ok(routes::not_found()) };
    let state = call.shared.lock();
    authorize(&state, call, parsed.key, "cloudkms.cryptoKeyVersions.viewPublicKey")?;
    let version = state.asymmetric.get(&parsed)?;
    let pem = version.pem();
    let mut answer = Answer::new(call);
    answer.text("name", name.to_owned());
    answer.checksum("pemCrc32c", pem.as_bytes());
    answer.text("pem", pem);
    answer.symbol("algorithm", version.algorithm, version.number);
    Ok(answer.into_response())
}

pub(super) fn asymmetric_decrypt(call: &Call<'_>, name: &str) -> Result<Response, Refusal> {
    let Some(parsed) = version_name(name) else { return Ok(routes::not_found()) };
    let state = call.shared.lock();
    authorize(&state, call, parsed.key, "cloudkms.cryptoKeyVersions.useToDecrypt")?;
    let fields = Fields::parse(call.body, &["name", "ciphertext", "ciphertext_crc32c"])?;
    let ciphertext = fields.bytes("ciphertext")?;
    let verified = fields.verify("ciphertext", &ciphertext)?;
    let version = state.asymmetric.get(&parsed)?;
    let plaintext = version.decrypt(&ciphertext);
    let plaintext = plaintext.ok_or_else(|| Refusal::invalid_argument("Decryption failed: the ciphertext is invalid."))?;
    let mut answer = Answer::new(call);
    answer.bytes("plaintext", &plaintext);
    answer.checksum("plaintextCrc32c", &plaintext);
    answer.flag("verifiedCiphertextCrc32c", verified);
    Ok(answer.into_response())
}

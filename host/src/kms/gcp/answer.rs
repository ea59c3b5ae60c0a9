//! What an answer of Cloud KMS must show before what it holds is used: that it is of the key, and undamaged.

use crc32c::crc32c;
use ocicrypt_kms_protocol::bytes;
use ocicrypt_kms_protocol::json::{Object, Value, string};
use zeroize::Zeroizing;

use crate::Error;
use crate::error::printable;
use crate::key_uri::{Addresses, GcpKey, Key, KeyUri};

/// The [algorithms] of Cloud KMS that are RSA-OAEP-256, and the bits of their moduli.
///
/// [algorithms]: https://cloud.google.com/kms/docs/reference/rest/v1/CryptoKeyVersionAlgorithm
const ALGORITHMS: [(&str, usize); 3] =
    [("RSA_DECRYPT_OAEP_2048_SHA256", 2048), ("RSA_DECRYPT_OAEP_3072_SHA256", 3072), ("RSA_DECRYPT_OAEP_4096_SHA256", 4096)];

/// What an answer has to be of.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The key's URI.
    pub uri: &'a str,
    pub name: &'a GcpKey,
}

impl Asked<'_> {
    /// The ciphertext of an answer to `encrypt`. `additional`: whether additional authenticated data was sent.
    pub fn encrypted(&self, body: &[u8], additional: bool) -> Result<Vec<u8>, Error> {
        let answer = self.members(body)?;
        let ciphertext = self.bytes(&answer, "ciphertext")?.to_vec();
        self.check_name(&answer)?;
        let mut checks = vec![Check::verified(&answer, "verifiedPlaintextCrc32c"), Check::sum(&answer, "ciphertextCrc32c", &ciphertext)];
        checks.extend(additional.then(|| Check::verified(&answer, "verifiedAdditionalAuthenticatedDataCrc32c")));
        self.check_sums(&checks)?;
        Ok(ciphertext)
    }

    /// The plaintext of an answer to `decrypt`.
    pub fn decrypted(&self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let answer = self.members(body)?;
        let plaintext = self.bytes(&answer, "plaintext")?;
        self.check_sums(&[Check::sum(&answer, "plaintextCrc32c", &plaintext)])?;
        Ok(plaintext)
    }

    /// The plaintext of an answer to `asymmetricDecrypt`.
    pub fn asymmetric_decrypted(&self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let answer = self.members(body)?;
        let plaintext = self.bytes(&answer, "plaintext")?;
        self.check_sums(&[Check::verified(&answer, "verifiedCiphertextCrc32c"), Check::sum(&answer, "plaintextCrc32c", &plaintext)])?;
        Ok(plaintext)
    }

    /// The public key of an answer to `getPublicKey`, after checking that it is this version's, undamaged, and for RSA-OAEP-256. `read`
    /// makes it of its DER if its modulus has this many bits.
    pub fn public_key<K>(&self, body: &[u8], read: impl FnOnce(&[u8], usize) -> Option<K>) -> Result<K, Error> {
        let answer = self.members(body)?;
        let text = |name| answer.get(name).and_then(string).unwrap_or_default();
        self.check_name(&answer)?;
        let pem = text("pem");
        self.check_sums(&[Check::sum(&answer, "pemCrc32c", pem.as_bytes())])?;
        let algorithm = text("algorithm");
        let known = ALGORITHMS.iter().find(|(name, _)| *name == algorithm);
        let (_, bits) = known.ok_or_else(|| self.other_algorithm(&algorithm))?;
        let key = decode_pem(&pem).and_then(|der| read(&der, *bits));
        key.ok_or_else(|| self.corrupt(&format!("its `pem` is not the public key of {algorithm}")))
    }

    fn members<'b>(&self, body: &'b [u8]) -> Result<Object<'b>, Error> {
        Object::parse(body).map_err(|error| self.corrupt(&format!("its answer is {error}")))
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
            Ok(Key::Gcp(answered)) => answered.resource_name() == name && is_of(self.name, answered),
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

    /// An answer that is not one to what was asked, or was damaged.
    pub fn corrupt(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.to_owned(), reason: format!("Cloud KMS's answer can't be trusted: {reason}") }
    }

    fn other_algorithm(&self, found: &str) -> Error {
        let GcpKey { project, location, key_ring, .. } = self.name;
        let found = printable(found, 64);
        Error::InvalidInput {
            reason: format!("{}: this version's algorithm is {found}, which is not RSA-OAEP-256 (RSA_DECRYPT_OAEP_…_SHA256)", self.uri),
            hint: format!(
                "name another version, or make a key: gcloud kms keys create KEY --purpose asymmetric-encryption --default-algorithm \
                 rsa-decrypt-oaep-3072-sha256 --keyring {key_ring} --location {location} --project {project}"
            ),
        }
    }
}

/// proto3's JSON writes 64-bit numbers as strings.
pub fn checksum(bytes: &[u8]) -> String {
    crc32c(bytes).to_string()
}

/// One checksum field of an answer.
struct Check {
    name: &'static str,
    /// `None` if it is missing.
    holds: Option<bool>,
}

impl Check {
    /// A field that says that the service has verified what was sent.
    fn verified(answer: &Object<'_>, name: &'static str) -> Self {
        Self { name, holds: answer.get(name).map(|value| value.text() == "true") }
    }

    /// A field that holds the sum of what was answered.
    fn sum(answer: &Object<'_>, name: &'static str, over: &[u8]) -> Self {
        let given = |value: &Value<'_>| string(value).map_or_else(|| value.text().to_owned(), |text| text.into_owned());
        Self { name, holds: answer.get(name).map(|value| given(value) == checksum(over)) }
    }
}

/// Whether `answered` is `asked` or a version of it. A project may be asked for by number and answered by id, or the other way round.
fn is_of(asked: &GcpKey, answered: &GcpKey) -> bool {
    let is_number = |project: &str| project.bytes().all(|byte| byte.is_ascii_digit());
    let same_project = asked.project == answered.project || is_number(&asked.project) != is_number(&answered.project);
    let place = |key: &GcpKey| (key.location.clone(), key.key_ring.clone(), key.key.clone());
    same_project && place(asked) == place(answered) && (asked.version.is_none() || asked.version == answered.version)
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
    fn a_name_is_a_resource_name_and_nothing_else() {
        let name = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
        let uri = format!("gcpkms://{name}");
        let asked = Asked { uri: &uri, name: &key(&uri) };
        let answer = |name: &str| format!(r#"{{"name":"{name}","ciphertext":"AAEC"}}"#);
        assert_eq!(asked.encrypted(answer(name).as_bytes(), false).unwrap(), [0, 1, 2]);
        for other in ["", "k", &format!("{name}/"), &format!("{name}2"), &format!("{name}?context_a=b")] {
            assert!(asked.encrypted(answer(other).as_bytes(), false).is_err(), "{other}");
        }
    }

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
}

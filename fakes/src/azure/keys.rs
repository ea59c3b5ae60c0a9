//! The keys: versions, their states, and how they wrap.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use aws_lc_rs::rsa::{KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::entra::random_hex;

/// How a vault says that a caller may not use a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Denial {
    /// No role assignment allows it.
    Rbac,
    /// No access policy does.
    Policy,
    /// The caller's address is kept out.
    Firewall,
}

/// All keys, by host and name.
#[derive(Default)]
pub(super) struct Keys(BTreeMap<(String, String), Key>);

/// A key. Its last version is the current one.
pub(super) struct Key {
    pub(super) host: String,
    pub(super) name: String,
    pub(super) denial: Option<Denial>,
    pub(super) hidden: bool,
    versions: Vec<Version>,
}

pub(super) struct Version {
    pub(super) id: String,
    pub(super) enabled: bool,
    pub(super) expired: bool,
    material: Material,
}

enum Material {
    /// Made when it is first used, because that takes a while.
    Rsa(OnceLock<KeyPair>),
    Aes([u8; 32]),
}

impl Keys {
    pub(super) fn add(&mut self, identifier: &str, version: Version) -> String {
        let parts: Vec<_> = identifier.split('/').collect();
        let ["https:", "", host, "keys", name] = parts[..] else { panic!("not a key identifier without version: {identifier}") };
        let id = version.id.clone();
        let key = Key { host: host.to_owned(), name: name.to_owned(), denial: None, hidden: false, versions: vec![version] };
        self.0.insert((host.to_owned(), name.to_owned()), key);
        id
    }

    /// The key, which the test must have added.
    pub(super) fn existing(&mut self, identifier: &str) -> &mut Key {
        let found = self.0.values_mut().find(|key| format!("https://{}/keys/{}", key.host, key.name) == identifier);
        found.unwrap_or_else(|| panic!("no such key was added: {identifier}"))
    }

    /// The key that a request to `host` means.
    pub(super) fn get(&self, host: &str, name: &str) -> Option<&Key> {
        let is_vault = host.contains(".vault.") || host.contains(".managedhsm.");
        self.0.values().find(|key| key.name == name && (!is_vault || key.host == host))
    }
}

impl Key {
    pub(super) fn rotate(&mut self) -> String {
        let version = match self.current().material {
            Material::Rsa(_) => Version::rsa(),
            Material::Aes(_) => Version::aes(),
        };
        let id = version.id.clone();
        self.versions.push(version);
        id
    }

    pub(super) fn current(&self) -> &Version {
        self.versions.last().expect("a key has a version")
    }

    pub(super) fn current_mut(&mut self) -> &mut Version {
        self.versions.last_mut().expect("a key has a version")
    }

    /// The version of this name, or with an empty name the current one.
    pub(super) fn version(&self, id: &str) -> Option<&Version> {
        if id.is_empty() { Some(self.current()) } else { self.versions.iter().find(|version| version.id == id) }
    }

    pub(super) fn identifier(&self, version: &Version) -> String {
        format!("https://{}/keys/{}/{}", self.host, self.name, version.id)
    }

    /// What `GET /keys/NAME` answers: the public half, as a JSON Web Key.
    pub(super) fn bundle(&self, version: &Version) -> Value {
        let base64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let mut key = json!({"kid": self.identifier(version), "key_ops": ["wrapKey", "unwrapKey"]});
        match &version.material {
            Material::Rsa(pair) => {
                let public = made(pair).public_key();
                key["kty"] = "RSA".into();
                key["n"] = base64(public.modulus().big_endian_without_leading_zero()).into();
                key["e"] = base64(public.exponent().big_endian_without_leading_zero()).into();
            }
            Material::Aes(_) => key["kty"] = "oct-HSM".into(),
        }
        let attributes = json!({"enabled": version.enabled, "created": 1_600_000_000, "updated": 1_600_000_000});
        json!({"key": key, "attributes": attributes})
    }
}

impl Version {
    pub(super) fn rsa() -> Self {
        Self::of(Material::Rsa(OnceLock::new()))
    }

    pub(super) fn aes() -> Self {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("the system has random bytes");
        Self::of(Material::Aes(key))
    }

    fn of(material: Material) -> Self {
        Self { id: random_hex(), enabled: true, expired: false, material }
    }

    /// Whether it can do this algorithm.
    pub(super) fn does(&self, algorithm: &str) -> bool {
        matches!((&self.material, algorithm), (Material::Rsa(_), "RSA-OAEP-256") | (Material::Aes(_), "A256KW"))
    }

    pub(super) fn wrap(&self, key: &[u8]) -> Option<Vec<u8>> {
        match &self.material {
            Material::Rsa(pair) => {
                let public = OaepPublicEncryptingKey::new(private(pair).public_key()).ok()?;
                let mut out = vec![0; public.ciphertext_size()];
                Some(public.encrypt(&OAEP_SHA256_MGF1SHA256, key, &mut out, None).ok()?.to_vec())
            }
            Material::Aes(kek) => {
                let mut out = vec![0; key.len() + 8];
                Some(AesKek::new(&AES_256, kek).ok()?.wrap(key, &mut out).ok()?.to_vec())
            }
        }
    }

    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Option<Vec<u8>> {
        match &self.material {
            Material::Rsa(pair) => {
                let private = OaepPrivateDecryptingKey::new(private(pair)).ok()?;
                let mut out = vec![0; private.min_output_size()];
                Some(private.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut out, None).ok()?.to_vec())
            }
            Material::Aes(kek) => {
                let mut out = vec![0; wrapped.len()];
                Some(AesKek::new(&AES_256, kek).ok()?.unwrap(wrapped, &mut out).ok()?.to_vec())
            }
        }
    }
}

fn made(pair: &OnceLock<KeyPair>) -> &KeyPair {
    pair.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).expect("an RSA key"))
}

/// The library has the modulus in one type and decryption in another.
fn private(pair: &OnceLock<KeyPair>) -> PrivateDecryptingKey {
    let der: Pkcs8V1Der<'_> = made(pair).as_der().expect("an RSA key has a PKCS#8 form");
    PrivateDecryptingKey::from_pkcs8(der.as_ref()).expect("its own form")
}

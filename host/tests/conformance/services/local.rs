//! Keys of the local keystore, one fixture for each way in which they wrap.

use std::path::Path;

use ocicrypt_kms::key_uri::Algorithm;
use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
use ocicrypt_kms::kms::{keystore::Curve, public_key::generate};

use super::fresh_name;
use crate::fixture::{Fixture, Settings};

pub struct Local {
    name: &'static str,
    generate: fn() -> Jwk,
    keystore: tempfile::TempDir,
}

impl Local {
    pub fn symmetric() -> Self {
        Self::of("local", || Jwk::generate_symmetric().unwrap())
    }

    fn of(name: &'static str, generate: fn() -> Jwk) -> Self {
        Self { name, generate, keystore: tempfile::tempdir().unwrap() }
    }
}

impl Local {
    pub fn rsa() -> Self {
        Self::of("local-rsa", || generate(Algorithm::RsaOaep256, Curve::P256).unwrap())
    }

    pub fn p256() -> Self {
        Self::of("local-p256", || generate(Algorithm::EcdhEsA256Kw, Curve::P256).unwrap())
    }

    pub fn x25519() -> Self {
        Self::of("local-x25519", || generate(Algorithm::EcdhEsA256Kw, Curve::X25519).unwrap())
    }
}

impl Fixture for Local {
    fn name(&self) -> &'static str {
        self.name
    }

    fn create_key(&self) -> String {
        let name = fresh_name();
        Keystore::new(self.keystore.path().to_owned()).create(&name, Existing::Refuse, &(self.generate)()).unwrap();
        format!("local://{name}")
    }

    fn missing_key(&self) -> String {
        format!("local://{}", fresh_name())
    }

    fn settings(&self, _: &str, _: &Path) -> Settings {
        // The program's user in these tests has this variable, which overrides the configuration's `keystore`.
        let keystore = self.keystore.path().display().to_string();
        Settings { environment: vec![("HOME", "/nonexistent".to_owned()), ("OCICRYPT_KMS_KEYSTORE", keystore)], ..Settings::default() }
    }

    fn elsewhere(&self) -> &'static [&'static str] {
        &["local:///etc/shadow", "local://../key", "local://a/b", "local://..", "local://host/key"]
    }
}

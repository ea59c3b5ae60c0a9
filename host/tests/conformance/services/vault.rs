//! Keys of a transit engine: OpenBao's own server.

use std::path::Path;
use std::sync::Mutex;

use ocicrypt_kms_testing::bao::Bao;

use super::fresh_name;
use crate::fixture::{Fixture, Settings, Upstream};

const QUERY: &str = "?algorithm=RSA-OAEP-256";

/// What a key is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Kind {
    /// AES-GCM.
    Aead,
    /// RSA.
    Rsa,
}

pub struct Vault {
    bao: Bao,
    kind: Kind,
    /// The caller's.
    token: String,
    /// The policy that takes from the caller what another one gives.
    denied: Mutex<String>,
}

impl Vault {
    pub fn start(kind: Kind) -> Self {
        let bao = Bao::start();
        bao.policy("may", "path \"transit/+/+\" { capabilities = [\"update\"] }");
        let token = bao.run(&["token", "create", "-no-default-policy", "-field=token", "-policy=may", "-policy=denied"]);
        Self { bao, kind, token, denied: Mutex::default() }
    }
}

/// The key's own name.
fn name(uri: &str) -> &str {
    uri.trim_end_matches(QUERY).strip_prefix("openbao://transit/").unwrap()
}

impl Fixture for Vault {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Aead => "vault",
            Kind::Rsa => "vault-rsa",
        }
    }

    fn create_key(&self) -> String {
        let uri = self.missing_key();
        let kind = match self.kind {
            Kind::Aead => "type=aes256-gcm96",
            Kind::Rsa => "type=rsa-2048",
        };
        self.bao.run(&["write", &format!("transit/keys/{}", name(&uri)), kind]);
        uri
    }

    fn missing_key(&self) -> String {
        let query = if self.kind == Kind::Rsa { QUERY } else { "" };
        format!("openbao://transit/{}{query}", fresh_name())
    }

    fn upstream(&self) -> Option<Upstream> {
        Some(Upstream { url: self.bao.address(), root: Some(std::fs::read_to_string(self.bao.authority()).unwrap()) })
    }

    fn settings(&self, address: &str, _: &Path) -> Settings {
        Settings { environment: vec![("BAO_ADDR", address.to_owned()), ("BAO_TOKEN", self.token.clone())], ..Settings::default() }
    }

    fn binds_context(&self) -> bool {
        self.kind == Kind::Aead
    }

    fn can_disable(&self) -> bool {
        true
    }

    fn disable(&self, uri: &str) {
        self.bao.run(&["delete", &format!("transit/keys/{}/soft-delete", name(uri))]);
    }

    fn can_deny(&self) -> bool {
        true
    }

    fn deny(&self, uri: &str) {
        let mut denied = self.denied.lock().unwrap();
        denied.push_str(&format!("path \"transit/+/{}\" {{ capabilities = [\"deny\"] }}\n", name(uri)));
        self.bao.policy("denied", &denied);
    }

    fn elsewhere(&self) -> &'static [&'static str] {
        &[
            "openbao://evil.example:8200/transit/k",
            "openbao://sys/raw/k",
            "openbao://transit/../sys/seal",
            "openbao://transit/k%2f..%2f..%2fsys",
            "hcvault://evil.example/transit/keys/k",
            "openbao://user@transit/k",
        ]
    }
}

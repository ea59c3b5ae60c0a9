//! Keys of AWS KMS: moto, which `moto_server.py` completes by what it lacks.

use std::path::Path;

use ocicrypt_kms_testing::moto::{Moto, REGION};
use serde_json::json;

use crate::fixture::{Fixture, Settings, Upstream};

const QUERY: &str = "?algorithm=RSA-OAEP-256";

pub struct Aws {
    moto: &'static Moto,
    symmetric: bool,
}

impl Aws {
    pub fn symmetric() -> Self {
        Self { moto: Moto::shared(), symmetric: true }
    }

    pub fn rsa() -> Self {
        Self { moto: Moto::shared(), symmetric: false }
    }

    fn uri(&self, arn: &str) -> String {
        format!("awskms:///{arn}{}", if self.symmetric { "" } else { QUERY })
    }
}

impl Fixture for Aws {
    fn name(&self) -> &'static str {
        if self.symmetric { "aws" } else { "aws-rsa" }
    }

    fn create_key(&self) -> String {
        self.uri(&if self.symmetric { self.moto.symmetric_key() } else { self.moto.rsa_key() })
    }

    fn missing_key(&self) -> String {
        self.uri(&format!("arn:aws:kms:{REGION}:123456789012:key/00000000-0000-0000-0000-000000000000"))
    }

    fn upstream(&self) -> Option<Upstream> {
        Some(Upstream { url: self.moto.endpoint.clone(), root: None })
    }

    fn settings(&self, address: &str, _: &Path) -> Settings {
        let environment = [
            ("AWS_ENDPOINT_URL_KMS", address),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("HOME", "/nonexistent"),
        ];
        Settings { environment: environment.map(|(name, value)| (name, value.to_owned())).to_vec(), ..Settings::default() }
    }

    fn binds_context(&self) -> bool {
        self.symmetric
    }

    fn can_disable(&self) -> bool {
        true
    }

    fn disable(&self, uri: &str) {
        // moto finds keys by their ids alone.
        let id = uri.trim_end_matches(QUERY).rsplit('/').next();
        self.moto.call("kms", "disable_key", json!({"KeyId": id}));
    }

    fn elsewhere(&self) -> &'static [&'static str] {
        &[
            "awskms://evil.example/alias/k",
            "awskms:///arn:aws:kms:evil.example:123456789012:alias/k",
            "awskms:///arn:evil:kms:eu-central-1:123456789012:alias/k",
            "awskms:///alias/../k",
            "awskms:///user@alias/k",
        ]
    }
}

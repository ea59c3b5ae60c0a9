//! Symmetric keys and asymmetric versions of Cloud KMS: a fake that Google's own client works against.

use std::path::Path;

use ocicrypt_kms_fakes::gcp::FakeGcp;

use super::fresh_name;
use crate::fixture::{Fixture, Settings, Upstream};

/// What follows the key's name in the URI of an asymmetric version.
const VERSION: &str = "/cryptoKeyVersions/1?algorithm=RSA-OAEP-256";

pub struct Gcp {
    fake: FakeGcp,
    symmetric: bool,
}

impl Gcp {
    pub fn symmetric() -> Self {
        Self::start(true)
    }

    pub fn rsa() -> Self {
        Self::start(false)
    }

    fn start(symmetric: bool) -> Self {
        let fake = FakeGcp::start();
        fake.require_auth(true);
        Self { fake, symmetric }
    }
}

/// The key's name.
fn name(uri: &str) -> &str {
    uri.strip_prefix("gcpkms://").unwrap().trim_end_matches(VERSION)
}

impl Fixture for Gcp {
    fn name(&self) -> &'static str {
        if self.symmetric { "gcp" } else { "gcp-rsa" }
    }

    fn create_key(&self) -> String {
        let uri = self.missing_key();
        match self.symmetric {
            true => self.fake.add_key(name(&uri)),
            false => drop(self.fake.add_asymmetric_version(name(&uri), "RSA_DECRYPT_OAEP_2048_SHA256")),
        }
        uri
    }

    fn missing_key(&self) -> String {
        let version = if self.symmetric { "" } else { VERSION };
        format!("gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/{}{version}", fresh_name())
    }

    fn upstream(&self) -> Option<Upstream> {
        Some(Upstream { url: self.fake.endpoint(), root: None })
    }

    fn settings(&self, address: &str, folder: &Path) -> Settings {
        // Its tokens come from the fake itself, so that only calls to the KMS go through the proxy.
        let credentials = self.fake.authorized_user_file(folder);
        Settings {
            config: format!("[gcp]\ncredentials = \"{}\"", credentials.display()),
            environment: vec![("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", address.to_owned())],
        }
    }

    fn can_disable(&self) -> bool {
        true
    }

    fn disable(&self, uri: &str) {
        match self.symmetric {
            true => self.fake.disable(name(uri)),
            false => self.fake.disable_asymmetric_version(name(uri), 1),
        }
    }

    fn can_deny(&self) -> bool {
        true
    }

    fn deny(&self, uri: &str) {
        self.fake.deny(name(uri));
    }

    fn elsewhere(&self) -> &'static [&'static str] {
        &[
            "gcpkms://evil.example/projects/p/locations/l/keyRings/r/cryptoKeys/k",
            "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/../../../../../v1/x",
            "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k:decrypt",
            "gcpkms://user@projects/p/locations/l/keyRings/r/cryptoKeys/k",
        ]
    }
}

//! A fake and a key provider that uses it, in one process.

use std::ops::Deref;
use std::time::Duration;

use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_fakes::azure::FakeAzure;
use ocicrypt_kms_testing::azure_cli;
use ocicrypt_kms_testing::in_process::InProcess;

use super::{AES, KEY, OTHER, uri};

/// A fake with the keys [`KEY`], [`OTHER`] and [`AES`], and a provider that gets tokens for it from the stand-in for the Azure CLI: of all credentials, the Azure CLI
/// is the one that needs neither TLS nor variables of this process.
pub struct Stage(InProcess<FakeAzure>);

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let fake = FakeAzure::start();
        fake.add_key(KEY);
        fake.add_key(OTHER);
        fake.add_symmetric_key(AES);
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { keystore: Some(folder.path().join("keys")), ..Config::default() };
        config.azure.endpoint = Some(fake.endpoint());
        change(&mut config);
        let provider =
            KeyProvider::builder(config).environment(Environment::of(azure_cli::variables(folder.path()))).instances(Instances::Pooled(4));
        let stage = Self(InProcess::of(fake, folder, provider));
        stage.log_in(Duration::from_secs(3600));
        stage
    }

    /// Gives the stand-in for the Azure CLI new tokens, which it says to live so long.
    pub fn log_in(&self, lifetime: Duration) {
        for service in ["vault", "managedhsm"] {
            let token = self.fake.issue_token(&format!("https://{service}.azure.net"));
            azure_cli::log_in(self.folder.path(), service, &token, lifetime);
        }
    }

    /// What the stand-in for the Azure CLI was asked so far, each time one line.
    pub fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Both operations with [`KEY`], each disturbed beforehand as `disturb` says, and each calling the vault so many times.
    pub fn outcomes(&self, calls: usize, disturb: impl Fn(&FakeAzure)) -> [Result<Vec<u8>, Error>; 2] {
        self.disturbed(&uri(KEY), calls, disturb)
    }

    /// The paths of the requests that reached a vault.
    pub fn paths(&self) -> Vec<String> {
        self.fake.kms_requests().into_iter().map(|request| request.path).collect()
    }
}

impl Deref for Stage {
    type Target = InProcess<FakeAzure>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

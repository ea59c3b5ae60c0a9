//! A fake and a key provider that uses it, in one process.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_fakes::azure::{FakeAzure, Fault};

use crate::in_process::InProcess;
use crate::secrets::Fake;
use crate::{AES, KEY, OTHER, uri};

/// A fake with the keys [`KEY`], [`OTHER`] and [`AES`], and a provider that gets tokens for it from `bin/az`: of all credentials, the Azure CLI
/// is the one that needs neither TLS nor variables of this process.
pub type Stage = InProcess<FakeAzure>;

impl Fake for FakeAzure {
    type Fault = Fault;

    fn secrets(&self) -> Vec<String> {
        FakeAzure::secrets(self)
    }
}

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
        let provider = KeyProvider::builder(config).environment(environment(folder.path())).instances(Instances::Pooled(4));
        let stage = Self::of(fake, folder, provider);
        stage.log_in(Duration::from_secs(3600));
        stage
    }

    /// Gives `bin/az` new tokens, which it says to live so long.
    pub fn log_in(&self, lifetime: Duration) {
        for service in ["vault", "managedhsm"] {
            let token = self.fake.issue_token(&format!("https://{service}.azure.net"));
            let expires = (SystemTime::now() + lifetime).duration_since(UNIX_EPOCH).unwrap().as_secs();
            let json = serde_json::json!({"accessToken": token, "expires_on": expires, "tokenType": "Bearer"});
            std::fs::write(self.folder.path().join(service).with_extension("json"), json.to_string()).unwrap();
        }
    }

    /// What `bin/az` was asked so far, each time one line.
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

/// The variables that lead to `bin/az` and to no other credential.
pub fn environment(folder: &Path) -> Environment {
    let path = format!("{}:/usr/bin:/bin", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azure/bin").display());
    let folder = folder.to_str().unwrap().to_owned();
    Environment::of([("PATH", path), ("AZ_FOLDER", folder), ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential".to_owned())])
}

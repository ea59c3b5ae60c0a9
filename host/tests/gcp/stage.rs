//! A fake and a key provider that uses it, in one process.

use std::ops::Deref;

use ocicrypt_kms::config::Gcp;
use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::in_process::InProcess;

use super::{KEY, OTHER, uri};

/// A fake with the keys [`KEY`] and [`OTHER`], which asks for tokens, and a provider that has credentials for it.
pub struct Stage(InProcess<FakeGcp>);

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let fake = FakeGcp::start();
        fake.add_key(KEY);
        fake.add_key(OTHER);
        fake.require_auth(true);
        let folder = tempfile::tempdir().unwrap();
        let credentials = Some(fake.authorized_user_file(folder.path()));
        let mut config =
            Config { keystore: Some(folder.path().join("keys")), gcp: Gcp { endpoint: None, credentials }, ..Config::default() };
        change(&mut config);
        let environment = Environment::of([
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", fake.endpoint()),
            // Asked where the configuration names no credentials.
            ("GCE_METADATA_HOST", fake.address().to_string()),
        ]);
        let provider = KeyProvider::builder(config).environment(environment).instances(Instances::Pooled(2));
        Self(InProcess::of(fake, folder, provider))
    }

    /// Both operations with [`KEY`], each disturbed beforehand as `disturb` says, and each calling the KMS so many times.
    pub fn outcomes(&self, query: &str, calls: usize, disturb: impl Fn(&FakeGcp)) -> [Result<Vec<u8>, Error>; 2] {
        self.disturbed(&(uri(KEY) + query), calls, disturb)
    }

    /// The paths of the requests that reached the KMS, without `/v1/`.
    pub fn paths(&self) -> Vec<String> {
        self.fake.kms_requests().into_iter().map(|request| request.path["/v1/".len()..].to_owned()).collect()
    }
}

impl Deref for Stage {
    type Target = InProcess<FakeGcp>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

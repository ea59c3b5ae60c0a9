//! A fake and a key provider that uses it, in one process.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use ocicrypt_kms::config::Gcp;
use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_fakes::gcp::FakeGcp;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use crate::{KEY, OTHER, secrets, uri};

/// A fake with the keys [`KEY`] and [`OTHER`], which asks for tokens, and a provider that has credentials for it.
pub struct Stage {
    pub fake: FakeGcp,
    provider: KeyProvider,
    runtime: tokio::runtime::Runtime,
    log: Log,
    _folder: tempfile::TempDir,
}

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
        let environment = Environment::of([("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", fake.endpoint())]);
        let provider = KeyProvider::builder(config).environment(environment).instances(Instances::Pooled(2)).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { fake, provider, runtime, log: Log::new(), _folder: folder }
    }

    /// One exchange. What it logs and the line of its error are searched for secrets.
    pub fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let outcome = self.log.during(|| self.runtime.block_on(self.provider.exchange(message)));
        secrets::assert_none_in(&self.log.text(), &self.fake, "the log");
        if let Err(error) = &outcome {
            secrets::assert_none_in(&error.line(), &self.fake, "the error");
        }
        outcome.map(|answer| answer.to_vec())
    }

    /// The annotation for these keys.
    pub fn wrap(&self, uris: &[&str]) -> Vec<u8> {
        annotation_of(&self.exchange(&wrapping(uris)).unwrap())
    }

    /// Unwraps, naming these keys, or none.
    pub fn unwrap(&self, uris: &[&str], annotation: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchange(&unwrapping(uris, annotation)).map(|answer| opts_data_of(&answer))
    }

    /// Both operations with [`KEY`], each disturbed beforehand as `disturb` says, and each calling the KMS so many times.
    pub fn outcomes(&self, query: &str, calls: usize, disturb: impl Fn(&FakeGcp)) -> [Result<Vec<u8>, Error>; 2] {
        let uri = uri(KEY) + query;
        let annotation = self.wrap(&[&uri]);
        let disturbed = |message: &[u8]| {
            self.fake.clear_requests();
            disturb(&self.fake);
            let outcome = self.exchange(message);
            self.fake.clear_faults();
            assert_eq!(self.paths().len(), calls, "{outcome:?}");
            outcome
        };
        let wrapped = disturbed(&wrapping(&[&uri])).map(|answer| annotation_of(&answer));
        [wrapped, disturbed(&unwrapping(&[&uri], &annotation)).map(|answer| opts_data_of(&answer))]
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Forgets what happened so far.
    pub fn clear(&self) {
        self.fake.clear_requests();
        self.log.clear();
    }

    /// The paths of the requests that reached the KMS, without `/v1/`.
    pub fn paths(&self) -> Vec<String> {
        self.fake.kms_requests().into_iter().map(|request| request.path["/v1/".len()..].to_owned()).collect()
    }
}

/// A message that asks to wrap the opts data for these keys.
pub fn wrapping(uris: &[&str]) -> Vec<u8> {
    keywrap(&[("kmscrypt", uris)], OPTS_DATA)
}

/// A message that asks to unwrap and names these keys, or none.
pub fn unwrapping(uris: &[&str], annotation: &[u8]) -> Vec<u8> {
    match uris {
        [] => keyunwrap(&[], annotation),
        uris => keyunwrap(&[("kmscrypt", uris)], annotation),
    }
}

/// What the program would write into its debug log.
struct Log {
    lines: Lines,
    dispatch: tracing::Dispatch,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn new() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let own = Targets::new().with_target("ocicrypt_kms", Level::DEBUG);
        Self { lines, dispatch: tracing_subscriber::registry().with(own).with(layer).into() }
    }

    fn during<T>(&self, run: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, run)
    }

    fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }

    fn clear(&self) {
        self.lines.0.lock().unwrap().clear();
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

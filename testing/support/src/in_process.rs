//! A fake and a key provider that uses it, in one process.

use std::time::{Duration, Instant};

use ocicrypt_kms::{Builder, Error, KeyProvider};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::log::Log;
use crate::messages::{annotation_of, opts_data_of, unwrapping, wrapping};
use crate::secrets::{self, Fake};

/// A fake, a provider that has credentials for it, and what they logged.
pub struct InProcess<F> {
    /// The service.
    pub fake: F,
    /// What is under test.
    pub provider: KeyProvider,
    /// What runs exchanges.
    pub runtime: Runtime,
    /// What the provider reads is in here.
    pub folder: TempDir,
    log: Log,
}

impl<F: Fake> InProcess<F> {
    /// The provider that this builder builds, which reads its settings in `folder`.
    pub fn of(fake: F, folder: TempDir, provider: Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { fake, provider: provider.build().unwrap(), runtime, folder, log: Log::new() }
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

    /// One exchange, and how long it took.
    pub fn timed(&self, message: &[u8]) -> (Result<Vec<u8>, Error>, Duration) {
        let start = Instant::now();
        (self.exchange(message), start.elapsed())
    }

    /// The annotation for these keys.
    pub fn wrap(&self, uris: &[&str]) -> Vec<u8> {
        annotation_of(&self.exchange(&wrapping(uris)).unwrap())
    }

    /// Unwraps, naming these keys, or none.
    pub fn unwrap(&self, uris: &[&str], annotation: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchange(&unwrapping(uris, annotation)).map(|answer| opts_data_of(&answer))
    }

    /// Both operations with this key, each disturbed beforehand as `disturb` says, and each calling the service so many times.
    pub fn disturbed(&self, uri: &str, calls: usize, disturb: impl Fn(&F)) -> [Result<Vec<u8>, Error>; 2] {
        let annotation = self.wrap(&[uri]);
        let disturbed = |message: &[u8]| {
            self.fake.clear_requests();
            disturb(&self.fake);
            let outcome = self.exchange(message);
            self.fake.clear_faults();
            assert_eq!(self.fake.kms_requests().len(), calls, "{outcome:?}");
            outcome
        };
        let wrapped = disturbed(&wrapping(&[uri])).map(|answer| annotation_of(&answer));
        [wrapped, disturbed(&unwrapping(&[uri], &annotation)).map(|answer| opts_data_of(&answer))]
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
}

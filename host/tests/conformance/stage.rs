//! A provider and, between it and the service, a proxy that counts and disturbs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicrypt_kms::policy::Policy;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Builder, Error, ErrorKind, Instances, KeyProvider};
use ocicrypt_kms_fakes::{Disturbance, Proxy};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};

use crate::fixture::Fixture;

/// The provider's deadline, unless a row is about it.
const DEADLINE: u16 = 20;

pub struct Stage {
    // Dropped before the runtime that its connections live on.
    provider: KeyProvider,
    runtime: tokio::runtime::Runtime,
    proxy: Option<Proxy>,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub fn new(fixture: &dyn Fixture) -> Self {
        Self::with_deadline(fixture, DEADLINE)
    }

    pub fn with_deadline(fixture: &dyn Fixture, seconds: u16) -> Self {
        Self::with(fixture, seconds, |builder| builder)
    }

    pub fn with_policy(fixture: &dyn Fixture, policy: Arc<dyn Policy>) -> Self {
        Self::with(fixture, DEADLINE, |builder| builder.policy(policy))
    }

    fn with(fixture: &dyn Fixture, seconds: u16, change: impl FnOnce(Builder) -> Builder) -> Self {
        let proxy = fixture.upstream().map(|upstream| Proxy::start(&upstream.url, upstream.root.as_deref()));
        let address = proxy.as_ref().map(Proxy::address).unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        let builder = fixture.provider(&address, seconds, folder.path()).instances(Instances::Pooled(2));
        let provider = change(builder).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { provider, runtime, proxy, _folder: folder }
    }

    /// Of a service that is reached by HTTP.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the row is for services that are reached by HTTP")
    }

    /// The calls since this was last asked; none for a service that isn't reached by HTTP.
    pub fn calls(&self) -> usize {
        self.proxy.as_ref().map_or(0, Proxy::take_calls)
    }

    /// The next call, if one comes, is refused in the service's place: quicker where thousands are made.
    pub fn refuse_calls(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.take_calls();
            proxy.disturb(Disturbance::Status(400), 1);
        }
    }

    /// One exchange. An error is one line of printable text without a secret.
    fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let outcome = self.runtime.block_on(self.provider.exchange(message));
        if let Err(error) = &outcome {
            let line = error.line();
            let opts_data = String::from_utf8_lossy(OPTS_DATA);
            let secrets = [bytes::encode(OPTS_DATA), opts_data.split('"').nth(3).unwrap().to_owned(), opts_data.into_owned()];
            assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        outcome.map(|answer| answer.to_vec())
    }

    /// The annotation for these keys, or why there is none.
    pub fn try_wrap(&self, uris: &[&str]) -> Result<Vec<u8>, Error> {
        self.exchange(&keywrap(&[("kmscrypt", uris)], OPTS_DATA)).map(|answer| annotation_of(&answer))
    }

    pub fn wrap(&self, uri: &str) -> Vec<u8> {
        self.try_wrap(&[uri]).unwrap_or_else(|error| panic!("{}", error.line()))
    }

    /// Unwraps, naming these keys.
    pub fn unwrap(&self, uris: &[&str], annotation: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchange(&keyunwrap(&[("kmscrypt", uris)], annotation)).map(|answer| opts_data_of(&answer))
    }

    /// Both operations with this key, each with what `disturb` does to the proxy beforehand, and how long each took.
    pub fn disturbed(&self, uri: &str, disturb: impl Fn(&Proxy)) -> [(Result<Vec<u8>, Error>, Duration); 2] {
        let annotation = self.wrap(uri);
        let run = |exchange: &dyn Fn() -> Result<Vec<u8>, Error>| {
            self.proxy().take_calls();
            disturb(self.proxy());
            let start = Instant::now();
            (exchange(), start.elapsed())
        };
        [run(&|| self.try_wrap(&[uri])), run(&|| self.unwrap(&[uri], &annotation))]
    }
}

/// The line of a failure of one of these kinds.
#[track_caller]
pub fn refused(outcome: Result<Vec<u8>, Error>, kinds: &[ErrorKind]) -> String {
    match outcome {
        Ok(_) => panic!("it was answered, not refused"),
        Err(error) => {
            assert!(kinds.contains(&error.kind()), "{:?}: {}", error.kind(), error.line());
            assert!(!error.hint().is_empty(), "no hint: {}", error.line());
            error.line()
        }
    }
}

//! A provider and, between it and the service, a proxy that counts and disturbs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicrypt_kms::policy::Policy;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Builder, Config, Environment, Error, ErrorKind, Instances, KeyProvider};
use ocicrypt_kms_fakes::{Disturbance, Proxy};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::program::{self, Program};

use crate::fixture::{Case, Settings, Way};

/// The provider's deadline, unless a row is about it.
const DEADLINE: u16 = 20;

pub struct Stage {
    provider: Provider,
    proxy: Option<Proxy>,
    _folder: tempfile::TempDir,
}

/// What exchanges messages, in one [`Way`].
enum Provider {
    // Dropped before the runtime that its connections live on.
    Library(Box<KeyProvider>, tokio::runtime::Runtime),
    Program(Program),
}

/// Why there is no answer, as both ways say it.
pub struct Failure {
    pub kind: ErrorKind,
    /// The line that a user sees.
    pub line: String,
    /// Whether it says what to do.
    hints: bool,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.line)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), line: error.line(), hints: !error.hint().is_empty() }
    }
}

impl Provider {
    fn new(way: Way, Settings { config, environment }: Settings, change: impl FnOnce(Builder) -> Builder) -> Self {
        match way {
            Way::Library => {
                let builder = KeyProvider::builder(Config::parse(&config).unwrap()).environment(Environment::of(environment));
                let provider = change(builder.instances(Instances::Pooled(2))).build().unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                Self::Library(Box::new(provider), runtime)
            }
            Way::Program => {
                let mut program = Program::new();
                program.write(".config/ocicrypt-kms/config.toml", config);
                for (name, value) in environment.into_iter().filter(|(name, _)| *name != "HOME") {
                    program.set(name, value);
                }
                Self::Program(program)
            }
        }
    }

    fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Library(provider, runtime) => Ok(runtime.block_on(provider.exchange(message)).map(|answer| answer.to_vec())?),
            Self::Program(program) => {
                let output = program.run(&[], message);
                if output.status.success() {
                    return Ok(program::answer(output));
                }
                let (code, line) = program::refusal(&output);
                let kind = *ErrorKind::ALL.iter().find(|kind| i32::from(kind.exit_code()) == code).expect("one of its own exit codes");
                Err(Failure { kind, hints: line.contains("; "), line })
            }
        }
    }
}

impl Stage {
    pub fn new(case: &Case<'_>) -> Self {
        Self::with_deadline(case, DEADLINE)
    }

    pub fn with_deadline(case: &Case<'_>, seconds: u16) -> Self {
        Self::with(case, seconds, |builder| builder)
    }

    /// Of the library alone.
    pub fn with_policy(case: &Case<'_>, policy: Arc<dyn Policy>) -> Self {
        assert_eq!(case.way, Way::Library, "the program takes policies as files");
        Self::with(case, DEADLINE, |builder| builder.policy(policy))
    }

    fn with(case: &Case<'_>, seconds: u16, change: impl FnOnce(Builder) -> Builder) -> Self {
        let proxy = case.upstream().map(|upstream| Proxy::start(&upstream.url, upstream.root.as_deref()));
        let address = proxy.as_ref().map(Proxy::address).unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        let mut settings = case.settings(&address, folder.path());
        settings.config.insert_str(0, &format!("deadline-seconds = {seconds}\n"));
        Self { provider: Provider::new(case.way, settings, change), proxy, _folder: folder }
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

    /// One exchange. A failure is one line of printable text without a secret.
    fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        self.provider.exchange(message).inspect_err(|Failure { line, .. }| {
            let opts_data = String::from_utf8_lossy(OPTS_DATA);
            let secrets = [bytes::encode(OPTS_DATA), opts_data.split('"').nth(3).unwrap().to_owned(), opts_data.into_owned()];
            assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        })
    }

    /// The annotation for these keys, or why there is none.
    pub fn try_wrap(&self, uris: &[&str]) -> Result<Vec<u8>, Failure> {
        self.exchange(&keywrap(&[("kmscrypt", uris)], OPTS_DATA)).map(|answer| annotation_of(&answer))
    }

    pub fn wrap(&self, uri: &str) -> Vec<u8> {
        self.try_wrap(&[uri]).unwrap_or_else(|failure| panic!("{}", failure.line))
    }

    /// Unwraps, naming these keys.
    pub fn unwrap(&self, uris: &[&str], annotation: &[u8]) -> Result<Vec<u8>, Failure> {
        self.exchange(&keyunwrap(&[("kmscrypt", uris)], annotation)).map(|answer| opts_data_of(&answer))
    }

    /// Both operations with this key, each with what `disturb` does to the proxy beforehand, and how long each took.
    pub fn disturbed(&self, uri: &str, disturb: impl Fn(&Proxy)) -> [(Result<Vec<u8>, Failure>, Duration); 2] {
        let annotation = self.wrap(uri);
        let run = |exchange: &dyn Fn() -> Result<Vec<u8>, Failure>| {
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
pub fn refused(outcome: Result<Vec<u8>, Failure>, kinds: &[ErrorKind]) -> String {
    match outcome {
        Ok(_) => panic!("it was answered, not refused"),
        Err(failure) => {
            assert!(kinds.contains(&failure.kind), "{failure:?}");
            assert!(failure.hints, "no hint: {failure:?}");
            failure.line
        }
    }
}

//! A key provider in this process, and the program in one of its own, with nothing of this machine's settings.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::sandbox::Sandbox;
use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::moto::REGION;
use ocicrypt_kms_testing::program;

/// What no log, no error and no line on standard error may hold: the secret of each place where credentials are.
pub const SECRET: &str = "hunter2+secret/access/key";

/// One for all providers of this process: a pool is quicker shared than made.
fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    SANDBOX.get_or_init(|| Arc::new(Sandbox::built_in(Instances::Pooled(8)).unwrap())).clone()
}

/// A provider with an access key for an endpoint.
pub struct Stage {
    provider: KeyProvider,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    pub fn new(endpoint: &str) -> Self {
        Self::with(endpoint, Config::default())
    }

    pub fn with(endpoint: &str, config: Config) -> Self {
        Self::of(config, &[("AWS_ENDPOINT_URL_KMS", endpoint), ("AWS_REGION", REGION)], ("id", SECRET))
    }

    pub fn of(config: Config, variables: &[(&str, &str)], (id, secret): (&str, &str)) -> Self {
        let key = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret), ("HOME", "/nonexistent")];
        let environment = Environment::of(variables.iter().copied().chain(key));
        let provider = KeyProvider::builder(config).environment(environment).sandbox(sandbox()).build().unwrap();
        Self { provider, runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap() }
    }

    pub fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let outcome = self.runtime.block_on(self.provider.exchange(message));
        outcome.map(|answer| answer.to_vec()).inspect_err(|error| assert_secret_free(&error.line()))
    }

    pub fn try_wrap(&self, uri: &str) -> Result<Vec<u8>, Error> {
        self.exchange(&wrapping(uri)).map(|answer| annotation_of(&answer))
    }

    pub fn wrap(&self, uri: &str) -> Vec<u8> {
        self.try_wrap(uri).unwrap()
    }

    pub fn unwrap(&self, uri: &str, annotation: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchange(&unwrapping(uri, annotation)).map(|answer| opts_data_of(&answer))
    }
}

pub fn wrapping(uri: &str) -> Vec<u8> {
    keywrap(&[("kmscrypt", &[uri])], OPTS_DATA)
}

pub fn unwrapping(uri: &str, annotation: &[u8]) -> Vec<u8> {
    keyunwrap(&[("kmscrypt", &[uri])], annotation)
}

pub fn assert_secret_free(text: &str) {
    let opts_data = String::from_utf8(OPTS_DATA.to_vec()).unwrap();
    for secret in [SECRET, &opts_data, &bytes::encode(OPTS_DATA)] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// The program as a user of AWS.
pub struct Program(program::Program);

impl Program {
    /// One that finds keys at `endpoint`, and neither credentials nor, unless told, a metadata server.
    pub fn new(endpoint: &str) -> Self {
        let program = Self(program::Program::new());
        program.set("PATH", "/usr/bin:/bin").set("AWS_ENDPOINT_URL_KMS", endpoint).set("AWS_EC2_METADATA_DISABLED", "true")
    }

    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.0.set(name, value);
        self
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        self.0.write(name, content)
    }

    /// The line of a wrap that fails.
    pub fn refusal(&self, uri: &str) -> String {
        self.wrap(uri).expect_err(uri).1
    }

    /// The annotation, or the exit code and the line.
    pub fn wrap(&self, uri: &str) -> Result<Vec<u8>, (i32, String)> {
        let output = self.0.run_logged(&[], &wrapping(uri), |text, _| assert_secret_free(text));
        match output.status.success() {
            true => Ok(annotation_of(&program::answer(output))),
            false => Err(program::refusal(&output)),
        }
    }
}

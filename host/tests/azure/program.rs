//! The program as a user of Azure.

use std::ffi::OsStr;
use std::ops::Deref;
use std::process::Output;

use ocicrypt_kms_fakes::azure::{Certificate, FakeAzure};
use ocicrypt_kms_testing::program::{self, Program as User};
use ocicrypt_kms_testing::secrets;

use super::{AES, KEY, OTHER};

/// A fake with the keys [`KEY`], [`OTHER`] and [`AES`] that speaks TLS, as Azure's libraries want it of whoever gives out tokens, and a
/// user without credentials.
pub struct Program {
    pub fake: FakeAzure,
    user: User,
}

impl Program {
    pub fn new() -> Self {
        let certificate = Certificate::generate();
        let fake = FakeAzure::start_tls(0, &certificate);
        fake.add_key(KEY);
        fake.add_key(OTHER);
        fake.add_symmetric_key(AES);
        let mut user = User::new();
        user.set("SSL_CERT_FILE", user.write("authority.pem", certificate.authority_pem));
        user.set("OCICRYPT_KMS_CONFIG", user.home().join("config.toml"));
        let program = Self { fake, user };
        program.configure("");
        program
    }

    /// The same with a client secret for the fake.
    pub fn with_credentials() -> Self {
        let program = Self::new();
        let variables = program.fake.client_secret();
        program.set_all(variables)
    }

    /// Sets an environment variable.
    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.user.set(name, value);
        self
    }

    /// Sets environment variables.
    pub fn set_all(self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        variables.into_iter().fold(self, |program, (name, value)| program.set(name, value))
    }

    /// Writes the configuration file, in which the address is the fake's.
    pub fn configure(&self, text: &str) {
        self.user.write("config.toml", format!("{text}\n[azure]\nendpoint = '{}'\n", self.fake.endpoint()));
    }

    /// The answer of an exchange that works.
    pub fn exchange(&self, message: &[u8]) -> Vec<u8> {
        program::answer(self.run(message))
    }

    /// The exit code and the one line of an exchange that fails.
    pub fn refused(&self, message: &[u8]) -> (i32, String) {
        program::refusal(&self.run(message))
    }

    /// Runs it. What it logs and its standard error are searched for secrets.
    fn run(&self, message: &[u8]) -> Output {
        self.user.run_logged(&[], message, |text, place| secrets::assert_none_in(text, &self.fake, place))
    }
}

impl Deref for Program {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

//! The program as a user of Cloud KMS.

use std::ffi::OsStr;
use std::ops::Deref;
use std::process::Output;

use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::program::{self, Program as User};
use ocicrypt_kms_testing::secrets;

use super::{KEY, OTHER};

/// A fake with the keys [`KEY`] and [`OTHER`], which asks for tokens, and a user without credentials.
pub struct Program {
    pub fake: FakeGcp,
    user: User,
}

impl Program {
    pub fn new() -> Self {
        let fake = FakeGcp::start();
        fake.add_key(KEY);
        fake.add_key(OTHER);
        fake.require_auth(true);
        let mut user = User::new();
        user.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", fake.endpoint());
        user.set("OCICRYPT_KMS_CONFIG", user.write("config.toml", ""));
        Self { fake, user }
    }

    /// The same with a credential file for the fake.
    pub fn with_credentials() -> Self {
        let program = Self::new();
        let file = program.fake.authorized_user_file(program.home());
        program.set("GOOGLE_APPLICATION_CREDENTIALS", file)
    }

    /// Sets an environment variable.
    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.change(name, value);
        self
    }

    /// Sets an environment variable anew.
    pub fn change(&mut self, name: &'static str, value: impl AsRef<OsStr>) {
        self.user.set(name, value);
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        self.user.write("config.toml", text);
    }

    /// The answer of an exchange that works.
    pub fn exchange(&self, arguments: &[&str], message: &[u8]) -> Vec<u8> {
        program::answer(self.run(arguments, message))
    }

    /// The exit code and the one line of an exchange that fails.
    pub fn refused(&self, arguments: &[&str], message: &[u8]) -> (i32, String) {
        program::refusal(&self.run(arguments, message))
    }

    /// Runs it. What it logs and its standard error are searched for secrets.
    fn run(&self, arguments: &[&str], message: &[u8]) -> Output {
        self.user.run_logged(arguments, message, |text, place| secrets::assert_none_in(text, &self.fake, place))
    }
}

impl Deref for Program {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

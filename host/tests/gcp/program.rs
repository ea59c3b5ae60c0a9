//! The program, with nothing of this machine's settings.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ocicrypt_kms_fakes::gcp::FakeGcp;

use crate::{KEY, OTHER, secrets};

/// A fake with the keys [`KEY`] and [`OTHER`], which asks for tokens, and a user's home folder without credentials.
pub struct Program {
    pub fake: FakeGcp,
    home: tempfile::TempDir,
    variables: Vec<(&'static str, OsString)>,
}

impl Program {
    pub fn new() -> Self {
        let fake = FakeGcp::start();
        fake.add_key(KEY);
        fake.add_key(OTHER);
        fake.require_auth(true);
        let program = Self { fake, home: tempfile::tempdir().unwrap(), variables: Vec::new() };
        program.configure("");
        program
    }

    /// The same with a credential file for the fake.
    pub fn with_credentials() -> Self {
        let program = Self::new();
        let file = program.fake.authorized_user_file(program.home());
        program.set("GOOGLE_APPLICATION_CREDENTIALS", file)
    }

    /// Sets an environment variable.
    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.home().join("config.toml"), text).unwrap();
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into the home folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// What the debug log of all runs holds.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home().join("debug.log")).unwrap_or_default()
    }

    /// The answer of an exchange that works.
    pub fn exchange(&self, arguments: &[&str], message: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, message);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The exit code and the one line of an exchange that fails.
    pub fn refused(&self, arguments: &[&str], message: &[u8]) -> (i32, String) {
        let output = self.run(arguments, message);
        assert!(output.stdout.is_empty(), "nothing on standard output: {}", String::from_utf8_lossy(&output.stdout));
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.starts_with("ocicrypt-kms: ") && !line.contains(char::is_control), "{text:?}");
        (output.status.code().unwrap(), line["ocicrypt-kms: ".len()..].to_owned())
    }

    /// Runs it. What it logs and its standard error are searched for secrets.
    fn run(&self, arguments: &[&str], message: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ocicrypt-kms"))
            .arg("--debugLog")
            .arg(self.home().join("debug.log"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.home())
            .env("OCICRYPT_KMS_CONFIG", self.home().join("config.toml"))
            .env("OCICRYPT_KMS_KEYSTORE", self.home().join("keys"))
            .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", self.fake.endpoint())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses its arguments doesn't read its input.
        let _ = child.stdin.take().unwrap().write_all(message);
        let output = child.wait_with_output().unwrap();
        secrets::assert_none_in(&self.log(), &self.fake, "the debug log");
        secrets::assert_none_in(&String::from_utf8_lossy(&output.stderr), &self.fake, "standard error");
        output
    }
}

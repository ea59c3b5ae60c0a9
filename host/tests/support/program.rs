//! The program, in a home folder of its own, with nothing of this machine's settings.
// Each test file uses a part of it.
#![allow(dead_code)]

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A user of the program: a home folder with a keystore `keys`, and environment variables.
pub struct Program {
    home: tempfile::TempDir,
    variables: Vec<(&'static str, OsString)>,
}

impl Program {
    /// A home folder with an empty configuration, which keeps this machine's from being read, and nothing else set.
    pub fn new() -> Self {
        let user = Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() };
        user.write(".config/ocicrypt-kms/config.toml", "");
        user
    }

    /// Sets an environment variable.
    pub fn set(&mut self, name: &'static str, value: impl AsRef<OsStr>) {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value.as_ref().to_owned()));
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

    /// The program with these arguments, as this user would run it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocicrypt-kms"));
        command.args(arguments);
        self.as_user(&mut command);
        command
    }

    /// Gives another program this user's environment.
    pub fn as_user(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.home())
            .env("OCICRYPT_KMS_KEYSTORE", self.home().join("keys"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home());
    }

    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        piped(&mut self.command(arguments), input)
    }

    /// Runs it with a debug log. What that and standard error hold is shown to `check`, with where it stands.
    pub fn run_logged(&self, arguments: &[&str], input: &[u8], check: impl Fn(&str, &str)) -> Output {
        let file = self.home().join("debug.log");
        let output = self.run(&[&["--debugLog", file.to_str().unwrap()], arguments].concat(), input);
        check(&self.log(), "the debug log");
        check(&String::from_utf8_lossy(&output.stderr), "standard error");
        output
    }

    /// What the debug log of all runs holds.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home().join("debug.log")).unwrap_or_default()
    }
}

/// Runs a program to its end, with this on its standard input.
pub fn piped(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses its arguments doesn't read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The answer of an exchange that works.
pub fn answer(output: Output) -> Vec<u8> {
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The exit code and the one line of an exchange that fails.
pub fn refusal(output: &Output) -> (i32, String) {
    assert!(output.stdout.is_empty(), "nothing on standard output: {}", String::from_utf8_lossy(&output.stdout));
    let text = std::str::from_utf8(&output.stderr).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(line.starts_with("ocicrypt-kms: ") && !line.contains(char::is_control), "{text:?}");
    (output.status.code().unwrap(), line["ocicrypt-kms: ".len()..].to_owned())
}

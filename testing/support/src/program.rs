//! The program, in a home folder of its own, with nothing of this machine's settings.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The path of the program under test: what `OCICRYPT_KMS_TEST_PROGRAM` names, else the one that cargo built together with the tests.
///
/// # Panics
/// If neither is there, or if cargo built it in another profile than `e2e`: another panic strategy or overflow that goes unnoticed would make it
/// another program than the one that is shipped.
pub fn path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| find().into_os_string().into_string().expect("a path in UTF-8"))
}

fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("OCICRYPT_KMS_TEST_PROGRAM") {
        let path = std::path::absolute(&named).expect("a path");
        assert!(path.is_file(), "OCICRYPT_KMS_TEST_PROGRAM: there is no {}", path.display());
        return path;
    }
    // Tests are in `deps`, below the folder of the program.
    let beside = || own_folder().with_file_name("ocicrypt-kms");
    let path = std::env::var_os("CARGO_BIN_EXE_ocicrypt-kms").map_or_else(beside, PathBuf::from);
    let profile = path.parent().and_then(Path::file_name);
    assert!(
        profile.is_some_and(|profile| profile == "e2e"),
        "{} is not built as what is shipped is; run the tests with `cargo test --profile e2e`, or name a program with OCICRYPT_KMS_TEST_PROGRAM",
        path.display()
    );
    assert!(path.is_file(), "there is no {}; run the tests with `cargo test --profile e2e --all-features`", path.display());
    path
}

/// The folder of the running test's own program.
pub(crate) fn own_folder() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    program.parent().expect("a folder").to_owned()
}

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

    /// The home folder.
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
        let mut command = Command::new(path());
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

    /// Runs the program to its end, with this on its standard input.
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
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| cannot_start(command, &error));
    // A program that refuses its arguments doesn't read its input.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("the end of a process")
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| cannot_start(command, &error))
}

fn cannot_start(command: &Command, error: &std::io::Error) -> ! {
    let program = command.get_program().display();
    panic!("{program} can't be started: {error}; `tools/setup test skopeo embed` installs what tests start")
}

/// Runs a command that has to succeed, and gives what it wrote to standard output.
pub fn text_of(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What a run that has to succeed wrote to standard output.
pub fn succeeded(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
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

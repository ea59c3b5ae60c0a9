//! skopeo, and an ocicrypt.json by which it starts the program under test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{self, run, text_of};

/// The oldest skopeo whose key providers work, as in tools/setup.
const OLDEST: (u32, u32) = (1, 14);

/// One user of skopeo: a home folder, an ocicrypt.json, a keystore, and nothing of the environment but the path.
pub struct Skopeo {
    program: PathBuf,
    folder: TempDir,
    environment: BTreeMap<OsString, OsString>,
}

/// What skopeo's user sees of a failure of the key provider.
#[derive(Debug)]
pub struct Refusal {
    /// The one line that the program wrote to standard error, without its name.
    pub line: String,
    /// The program's exit code.
    pub code: i32,
}

impl Skopeo {
    /// A user whose ocicrypt.json holds `kmscrypt`, without arguments.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut skopeo = Self { program: find().unwrap_or_else(|problem| panic!("{problem}")), folder, environment: BTreeMap::new() };
        skopeo.set("PATH", std::env::var_os("PATH").expect("a path"));
        skopeo.set("HOME", skopeo.path(""));
        skopeo.set("OCICRYPT_KMS_KEYSTORE", skopeo.path("keys"));
        skopeo.provider("kmscrypt", &[]);
        skopeo
    }

    /// A file or folder of this user's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of this user's.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Sets a variable for skopeo and, through it, the program.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.insert(name.into(), value.into());
    }

    /// Writes an ocicrypt.json that holds one provider: the program with these arguments.
    pub fn provider(&mut self, name: &str, arguments: &[&str]) {
        self.ocicrypt_json(&json!({"key-providers": {name: {"cmd": {"path": program::path(), "args": arguments}}}}));
    }

    /// Writes an ocicrypt.json that holds one provider: a gRPC server at this address.
    pub fn server(&mut self, name: &str, address: &str) {
        self.ocicrypt_json(&json!({"key-providers": {name: {"grpc": address}}}));
    }

    /// Has the program started by a shell that keeps each message in a file of its own; [`Skopeo::messages`] reads them.
    pub fn record_messages(&mut self) {
        let folder = self.path("messages");
        std::fs::create_dir(&folder).expect("a folder");
        let script = format!("tee '{}'/$$ | '{}'", folder.display(), program::path());
        self.ocicrypt_json(&json!({"key-providers": {"kmscrypt": {"cmd": {"path": "/bin/sh", "args": ["-c", script]}}}}));
    }

    /// The messages since the last call.
    pub fn messages(&self) -> Vec<Value> {
        let files = std::fs::read_dir(self.path("messages")).expect("a folder").map(|entry| entry.expect("an entry").path());
        let read = |path: PathBuf| {
            let message = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("a JSON message");
            std::fs::remove_file(path).expect("the file can be removed");
            message
        };
        files.map(read).collect()
    }

    fn ocicrypt_json(&mut self, content: &Value) {
        let path = self.write("ocicrypt.json", &content.to_string());
        self.set("OCICRYPT_KEYPROVIDER_CONFIG", path);
    }

    /// Runs the program itself, as this user.
    pub fn ocicrypt_kms(&self, arguments: &[&str]) -> String {
        text_of(self.command(program::path()).args(arguments))
    }

    /// Makes a key in the keystore.
    pub fn keygen(&self, name: &str) {
        self.ocicrypt_kms(&["keygen", name]);
    }

    /// Copies an image.
    pub fn copy(&self, from: &str, to: &str, options: &[&str]) {
        text_of(&mut self.skopeo_copy(from, to, options));
    }

    /// Encrypts an image for keys as `--encryption-key` takes them.
    pub fn encrypt(&self, from: &str, to: &str, keys: &[&str]) {
        self.copy(from, to, &each("--encryption-key", keys));
    }

    /// Decrypts an image with keys as `--decryption-key` takes them.
    pub fn decrypt(&self, from: &str, to: &str, keys: &[&str]) {
        self.copy(from, to, &each("--decryption-key", keys));
    }

    /// Encrypts an image, which has to fail.
    pub fn refused_encryption(&self, from: &str, keys: &[&str]) -> Refusal {
        self.refused(from, &each("--encryption-key", keys))
    }

    /// Decrypts an image, which has to fail.
    pub fn refused_decryption(&self, from: &str, keys: &[&str]) -> Refusal {
        self.refused(from, &each("--decryption-key", keys))
    }

    fn refused(&self, from: &str, options: &[&str]) -> Refusal {
        let errors = self.failed(from, options);
        Refusal::read(&errors).unwrap_or_else(|| panic!("skopeo failed for another reason: {errors}"))
    }

    /// What skopeo says to a copy that has to fail.
    pub fn failed(&self, from: &str, options: &[&str]) -> String {
        let to = tempfile::tempdir_in(self.folder.path()).expect("a folder");
        let output = run(&mut self.skopeo_copy(from, &oci(to.path()), options));
        assert!(!output.status.success(), "it should have failed");
        assert!(!to.path().join("index.json").exists(), "a failed copy left an image behind");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn skopeo_copy(&self, from: &str, to: &str, options: &[&str]) -> Command {
        let mut command = self.command(&self.program);
        command.args(["--insecure-policy", "copy", "--quiet"]).args(options).args([from, to]);
        command
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().envs(&self.environment);
        command
    }
}

impl Refusal {
    /// Finds the program's words in skopeo's: `… Error while running command: PROGRAM. stderr: TEXT: exit status N`.
    fn read(errors: &str) -> Option<Self> {
        let message = errors.lines().find_map(|line| line.split_once("level=fatal msg=")).map(|(_, message)| unquote(message))?;
        let (_, rest) = message.split_once("stderr: ")?;
        let (text, code) = rest.rsplit_once(": exit status ")?;
        let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("the text does not end its line: {text:?}"));
        assert!(!line.contains('\n'), "more than one line: {line}");
        let line = line.strip_prefix("ocicrypt-kms: ").unwrap_or_else(|| panic!("the line does not say whose it is: {line}"));
        Some(Self { line: line.to_owned(), code: code.trim().parse().ok()? })
    }

    /// The line is this sentence and, after a semicolon, this remedy.
    #[track_caller]
    pub fn assert(&self, code: i32, sentence: &str, remedy: &str) {
        assert_eq!((self.line.as_str(), self.code), (format!("{sentence}; {remedy}").as_str(), code));
    }
}

/// skopeo's log quotes as Go does, which for printable text is as JSON does.
fn unquote(quoted: &str) -> String {
    serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned())
}

/// An image layout's name.
pub fn oci(folder: &Path) -> String {
    format!("oci:{}:latest", folder.display())
}

fn each<'a>(option: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    values.iter().flat_map(|value| [option, value]).collect()
}

/// The skopeo that tools/setup takes: the installed one if it is new enough, else the unpacked one.
fn find() -> Result<PathBuf, String> {
    let unpacked = ocicrypt_kms_fakes::cached("skopeo/bin/skopeo");
    ["skopeo".into(), unpacked].into_iter().find(|program| is_new(program)).ok_or_else(|| {
        let (major, minor) = OLDEST;
        format!("these tests need skopeo {major}.{minor} or newer, which is not here; run `tools/setup skopeo`")
    })
}

fn is_new(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.trim_start_matches("skopeo version ").split('.').map_while(|number| number.parse::<u32>().ok());
    output.status.success() && numbers.next().zip(numbers.next()) >= Some(OLDEST)
}

//! Packets for local keys are JWEs that standard tools open and make, as `docs/packet-format.md` promises: here Debian's `jose`, which
//! shares no code with this project.
#![cfg(feature = "local")]

#[path = "support/messages.rs"]
mod messages;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::protocol::json::{Object, string};

const PROVIDER: &str = "kmscrypt";
const KEY: &str = "local://team";

/// A folder with a keystore that holds the key `team`.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.ocicrypt_kms(&["keygen", "team"], b"");
        home
    }

    /// The JWK set, as it stands in the keystore.
    fn key(&self) -> PathBuf {
        self.0.path().join("keys/team.jwks")
    }

    fn rotate(&self) {
        self.ocicrypt_kms(&["keygen", "--rotate", "team"], b"");
    }

    /// One file of the folder.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs the program with nothing else of this machine's settings.
    fn try_ocicrypt_kms(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocicrypt-kms"));
        let command = command.args(arguments).env_clear().env("HOME", self.0.path());
        run(command.env("OCICRYPT_KMS_KEYSTORE", self.0.path().join("keys")), input).unwrap()
    }

    fn ocicrypt_kms(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        succeeded(self.try_ocicrypt_kms(arguments, input))
    }

    /// What our program wraps these opts data to: the JWE's text.
    fn wrap(&self, uri: &str, opts_data: &[u8]) -> Vec<u8> {
        let annotation = annotation_of(&self.ocicrypt_kms(&[], &keywrap(&[(PROVIDER, &[uri])], opts_data)));
        let packet = Object::parse(&annotation).unwrap();
        assert_eq!(string(packet.get("wrap_type").unwrap()).unwrap(), "JWE");
        bytes::read(packet.get("wrapped_key").unwrap()).unwrap().to_vec()
    }

    /// The message that asks to unwrap a JWE for [`KEY`].
    fn message(compact: &[u8]) -> Vec<u8> {
        let annotation = format!(r#"{{"key_url":"{KEY}","wrapped_key":"{}","wrap_type":"JWE"}}"#, bytes::encode(compact));
        keyunwrap(&[(PROVIDER, &[KEY])], annotation.as_bytes())
    }

    /// A JWE that `jose` makes with a key and this protected header.
    fn jose_enc(&self, key: &Path, protected: &str) -> Vec<u8> {
        let template = format!(r#"{{"protected":{protected}}}"#);
        let plaintext = self.file("opts-data", OPTS_DATA);
        jose(&["jwe", "enc", "-i", &template, "-k", text(key), "-I", text(&plaintext), "-c"])
    }

    /// The current version of the key as a file of its own, and its `kid`.
    fn current(&self) -> (PathBuf, String) {
        let set = std::fs::read(self.key()).unwrap();
        let keys: Vec<&serde_json::value::RawValue> =
            serde_json::from_str(Object::parse(&set).unwrap().get("keys").unwrap().get()).unwrap();
        let kid = string(Object::from_value(keys[0]).unwrap().get("kid").unwrap()).unwrap().into_owned();
        (self.file(&format!("{kid}.jwk"), keys[0].get().as_bytes()), kid)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A program that refuses its arguments doesn't read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output()
}

fn succeeded(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn try_jose(arguments: &[&str]) -> Output {
    run(Command::new("jose").args(arguments), b"")
        .unwrap_or_else(|error| panic!("`jose` can't be started ({error}): run `tools/setup test`"))
}

fn jose(arguments: &[&str]) -> Vec<u8> {
    succeeded(try_jose(arguments))
}

#[test]
fn jose_opens_what_was_wrapped_with_nothing_but_the_keystores_file() {
    let home = Home::new();
    for uri in [KEY, "local://team?context_image=registry%2Eexample"] {
        let compact = home.file("compact", &home.wrap(uri, OPTS_DATA));
        assert_eq!(jose(&["jwe", "dec", "-i", text(&compact), "-k", text(&home.key())]), OPTS_DATA, "{uri}");
    }
}

#[test]
fn jose_opens_what_was_wrapped_before_the_key_was_rotated() {
    let home = Home::new();
    let before = home.file("before", &home.wrap(KEY, OPTS_DATA));
    home.rotate();
    let after = home.file("after", &home.wrap(KEY, OPTS_DATA));
    for compact in [&before, &after] {
        assert_eq!(jose(&["jwe", "dec", "-i", text(compact), "-k", text(&home.key())]), OPTS_DATA);
    }
    let (current, _) = home.current();
    assert!(!try_jose(&["jwe", "dec", "-i", text(&before), "-k", text(&current)]).status.success());
}

#[test]
fn jose_opens_no_other_key_s_packet() {
    let compact = Home::new().wrap(KEY, OPTS_DATA);
    let other = Home::new();
    let compact = other.file("compact", &compact);
    assert!(!try_jose(&["jwe", "dec", "-i", text(&compact), "-k", text(&other.key())]).status.success());
}

#[test]
fn what_jose_makes_is_unwrapped_with_and_without_the_version_in_its_header() {
    let home = Home::new();
    let (key, kid) = home.current();
    let with_kid = format!(r#"{{"alg":"A256KW","enc":"A256GCM","kid":"{kid}"}}"#);
    let made: Vec<_> = [r#"{"alg":"A256KW","enc":"A256GCM"}"#, &with_kid].map(|header| home.jose_enc(&key, header)).into();
    let unwrap = |compact: &[u8]| opts_data_of(&home.ocicrypt_kms(&[], &Home::message(compact)));
    for compact in &made {
        assert_eq!(unwrap(compact), OPTS_DATA);
    }
    home.rotate();
    for compact in &made {
        assert_eq!(unwrap(compact), OPTS_DATA, "an older version unwraps");
    }
}

#[test]
fn what_jose_makes_with_other_algorithms_or_another_key_is_refused() {
    let home = Home::new();
    let key = home.file("key", &jose(&["jwk", "gen", "-i", r#"{"kty":"oct","bytes":32}"#]));
    let refused = |header: &str, code: i32| {
        let output = home.try_ocicrypt_kms(&[], &Home::message(&home.jose_enc(&key, header)));
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.stdout.is_empty() && line.contains(KEY), "{line}");
        assert_eq!(output.status.code(), Some(code), "{line}");
    };
    refused(r#"{"alg":"A256KW","enc":"A256GCM"}"#, 7);
    refused(r#"{"alg":"A256KW","enc":"A256CBC-HS512"}"#, 2);
    refused(r#"{"alg":"A256KW","enc":"A256GCM","zip":"DEF"}"#, 2);
    refused(r#"{"alg":"A256GCMKW","enc":"A256GCM"}"#, 2);
    refused(r#"{"alg":"dir","enc":"A256GCM"}"#, 2);
}

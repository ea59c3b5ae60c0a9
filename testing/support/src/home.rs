//! A folder with a keystore, and the program with nothing else of this machine's settings.

use std::path::{Path, PathBuf};
use std::process::Output;

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::protocol::json::{Object, string};

use crate::messages::{annotation_of, keyunwrap, keywrap, opts_data_of};
use crate::program::{Program, refusal, succeeded};

/// What clients call the key provider.
pub const PROVIDER: &str = "kmscrypt";
/// The URI of the key `team`.
pub const KEY: &str = "local://team";

/// A user with a keystore.
pub struct Home(Program);

impl Home {
    /// One whose keystore is empty.
    pub fn empty() -> Self {
        let home = Self(Program::new());
        std::fs::create_dir(home.0.home().join("keys")).unwrap();
        home
    }

    /// One whose keystore holds the key `team`, made with these options.
    pub fn with(options: &[&str]) -> Self {
        let home = Self::empty();
        home.ocicrypt_kms(&[&["keygen"], options, &["team"]].concat(), b"");
        home
    }

    /// The JWK set, as it stands in the keystore.
    pub fn key(&self) -> PathBuf {
        self.0.home().join("keys/team.jwks")
    }

    /// Adds a version to the key.
    pub fn rotate(&self) {
        self.ocicrypt_kms(&["keygen", "--rotate", "team"], b"");
    }

    /// One file of the folder.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        self.0.write(name, content)
    }

    /// Runs the program.
    pub fn try_ocicrypt_kms(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.0.run(arguments, input)
    }

    /// What a run that has to succeed writes to standard output.
    pub fn ocicrypt_kms(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        succeeded(self.try_ocicrypt_kms(arguments, input))
    }

    /// The exit code and the one line of a run that fails.
    pub fn refused(&self, arguments: &[&str], input: &[u8]) -> (i32, String) {
        refusal(&self.try_ocicrypt_kms(arguments, input))
    }

    /// The annotation that our program wraps these opts data to.
    pub fn annotation(&self, uri: &str, opts_data: &[u8]) -> Vec<u8> {
        annotation_of(&self.ocicrypt_kms(&[], &keywrap(&[(PROVIDER, &[uri])], opts_data)))
    }

    /// The same, the JWE's text alone.
    pub fn wrap(&self, uri: &str, opts_data: &[u8]) -> Vec<u8> {
        let annotation = self.annotation(uri, opts_data);
        let packet = Object::parse(&annotation).unwrap();
        assert_eq!(string(packet.get("wrap_type").unwrap()).unwrap(), "JWE");
        bytes::read(packet.get("wrapped_key").unwrap()).unwrap().to_vec()
    }

    /// The message that asks to unwrap a JWE for [`KEY`].
    pub fn message(compact: &[u8]) -> Vec<u8> {
        let annotation = format!(r#"{{"key_url":"{KEY}","wrapped_key":"{}","wrap_type":"JWE"}}"#, bytes::encode(compact));
        keyunwrap(&[(PROVIDER, &[KEY])], annotation.as_bytes())
    }

    /// What our program unwraps a JWE for [`KEY`] to.
    pub fn unwrap(&self, compact: &[u8]) -> Vec<u8> {
        opts_data_of(&self.ocicrypt_kms(&[], &Self::message(compact)))
    }

    /// The keys of the set, as they stand there.
    pub fn keys(&self) -> Vec<serde_json::Value> {
        let set: serde_json::Value = serde_json::from_slice(&std::fs::read(self.key()).unwrap()).unwrap();
        set["keys"].as_array().unwrap().clone()
    }

    /// The current version of the key as a file of its own, and its `kid`.
    pub fn current(&self) -> (PathBuf, String) {
        let key = self.keys().remove(0);
        let kid = key["kid"].as_str().unwrap().to_owned();
        (self.file(&format!("{kid}.jwk"), key.to_string().as_bytes()), kid)
    }
}

/// A path as an argument of a program.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

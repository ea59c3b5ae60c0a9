//! A user whose configuration names an audit log.

use std::path::PathBuf;
use std::process::Output;

use ocicrypt_kms::Digest;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::program::{self, Program};
use serde_json::Value;

/// The key that each user has.
pub const KEY: &str = "local://team";

pub struct Stage {
    pub user: Program,
}

impl Stage {
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// With more lines in the configuration: before its sections, and in `[audit]`.
    pub fn with(before: &str, audit: &str) -> Self {
        let mut user = Program::new();
        let log = user.home().join("audit.jsonl");
        user.set("OCICRYPT_KMS_CONFIG", user.write("config.toml", format!("{before}\n[audit]\nfile = \"{}\"\n{audit}\n", log.display())));
        std::fs::create_dir(user.home().join("keys")).unwrap();
        assert!(user.run(&["keygen", "team"], b"").status.success());
        Self { user }
    }

    pub fn path(&self) -> PathBuf {
        self.user.home().join("audit.jsonl")
    }

    /// The log's text.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }

    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    pub fn records(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Wraps for the key, and gives the annotation.
    pub fn wrap(&self) -> Vec<u8> {
        annotation_of(&program::answer(self.user.run(&[], &wrapping())))
    }

    pub fn unwrap(&self, annotation: &[u8]) -> Output {
        self.user.run(&[], &keyunwrap(&[("kmscrypt", &[KEY])], annotation))
    }

    pub fn unwraps(&self, annotation: &[u8]) {
        assert_eq!(opts_data_of(&program::answer(self.unwrap(annotation))), OPTS_DATA);
    }

    pub fn audit(&self, arguments: &[&str]) -> Output {
        self.user.run(&[&["audit"], arguments].concat(), b"")
    }

    /// What `audit` with these arguments prints, if it succeeds.
    pub fn printed(&self, arguments: &[&str]) -> String {
        String::from_utf8(program::answer(self.audit(arguments))).unwrap()
    }

    pub fn is_whole(&self) -> String {
        let text = self.printed(&["verify"]);
        assert!(text.starts_with("ok "), "{text}");
        text
    }

    /// The line that says what is wrong with the log.
    pub fn is_bad(&self, arguments: &[&str]) -> String {
        let output = self.audit(&[&["verify"], arguments].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(7) && text.starts_with("BAD ") && text.lines().count() == 1, "{text}");
        text
    }
}

pub fn wrapping() -> Vec<u8> {
    keywrap(&[("kmscrypt", &[KEY])], OPTS_DATA)
}

/// A member of a record, as text; empty if it isn't there.
pub fn member<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

/// A record of this text, with a hash that fits.
pub fn sealed(line: &str) -> String {
    let (text, _) = line.rsplit_once(",\"hash\":\"").unwrap();
    format!("{text},\"hash\":\"{}\"}}", Digest::of(text.as_bytes()))
}

//! A host with an endpoint and an audit log, and the component that asks it for whatever a test says.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ocicrypt_kms::sandbox::Sandbox;
use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_testing::guest;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use serde_json::Value;

/// What the service would know the host by.
pub const TOKEN: &str = "token-of-the-host-alone";
/// The key that exchanges are about.
pub const KEY: &str = "http-kms://kms/team/k";
/// What the endpoint lets through.
pub const RULES: &str = r#"allow = [
    { usage = "wrap", method = "POST", path = "/v1/encrypt/{key}", query = ["version"] },
    { usage = "wrap", method = "PUT", path = "/v1/store/{key}/*" },
    { usage = "unwrap", method = "POST", path = "/v1/decrypt/{key}" },
]"#;

/// The component, built and compiled once.
fn hostile() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let compile = || Arc::new(Sandbox::compile(guest::component("hostile-http"), Instances::Pooled(8)).unwrap());
    SANDBOX.get_or_init(compile).clone()
}

pub struct Stage {
    pub folder: tempfile::TempDir,
    settings: String,
    before: String,
}

/// What a component asks for.
#[derive(Clone, Copy, Default)]
pub struct Asks<'a> {
    /// Opens this key; by default [`KEY`].
    pub open: &'a str,
    /// Opens it for this, rather than for what the exchange is.
    pub usage: &'a str,
    /// Sends these, a line each.
    pub send: &'a str,
    /// Bytes of each body.
    pub body: usize,
    /// Ends with this error.
    pub report: &'a str,
    /// Opens the key by the interface `kms`, too.
    pub other_interface: &'a str,
}

impl<'a> Asks<'a> {
    pub fn send(requests: &'a str) -> Self {
        Self { send: requests, ..Self::default() }
    }
}

impl Stage {
    /// With this URL, the usual rules and a bearer token.
    pub fn new(url: &str) -> Self {
        Self::with(url, |token| format!("bearer-file = {token:?}\n{RULES}"))
    }

    /// With other settings, which are given the file with [`TOKEN`].
    pub fn with(url: &str, settings: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = secret(folder.path(), "token", &format!("{TOKEN}\n"));
        let settings = format!("[http-kms.kms]\nurl = \"{url}\"\n{}\n", settings(&token));
        Self { folder, settings, before: String::new() }
    }

    /// More lines for the endpoint.
    pub fn and(mut self, settings: &str) -> Self {
        self.settings += settings;
        self
    }

    /// More lines in front of the sections.
    pub fn before(mut self, settings: &str) -> Self {
        self.before += settings;
        self
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn provider(&self, asks: Asks<'_>, usage: &str) -> Result<KeyProvider, Error> {
        let mut config = Config::parse(&format!("{}\n{}[audit]\nfile = {:?}\n", self.before, self.settings, self.log())).unwrap();
        let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        config.options = [
            ("open", or(asks.open, KEY)),
            ("usage", or(asks.usage, usage)),
            ("send", asks.send.to_owned()),
            ("body", asks.body.to_string()),
            ("report", asks.report.to_owned()),
            ("other-interface", asks.other_interface.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        KeyProvider::builder(config).environment(Environment::of([("HOME", self.folder.path())])).sandbox(hostile()).build()
    }

    /// What a component is told in an exchange that wraps for [`KEY`].
    pub fn wrap(&self, asks: Asks<'_>) -> Result<String, Error> {
        told(self.exchange(asks, "wrap", &keywrap(&[("kmscrypt", &[KEY])], OPTS_DATA)), annotation_of)
    }

    /// The same in one that unwraps, and names the key, or leaves that to the annotation.
    pub fn unwrap(&self, named: &[&str], asks: Asks<'_>) -> Result<String, Error> {
        let annotation = format!(r#"{{"key_url":"{KEY}"}}"#);
        told(self.exchange(asks, "unwrap", &keyunwrap(&[("kmscrypt", named)], annotation.as_bytes())), opts_data_of)
    }

    fn exchange(&self, asks: Asks<'_>, usage: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let provider = self.provider(asks, usage)?;
        let answer = runtime.block_on(provider.exchange(message));
        let secret = |text: &str| assert!(!text.contains(TOKEN), "{text}");
        secret(&std::fs::read_to_string(self.log()).unwrap());
        answer.as_ref().err().map(Error::line).iter().for_each(|line| secret(line));
        answer.map(|answer| answer.to_vec())
    }

    pub fn provider_listing(&self) -> Result<KeyProvider, Error> {
        self.provider(Asks::default(), "unwrap")
    }

    /// The records of requests and of keys that were asked for in vain.
    pub fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log()).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["event"] != "exchange").collect()
    }

    /// What is written down of the only request.
    pub fn record(&self) -> Value {
        let records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records.into_iter().next().unwrap()
    }
}

/// What a component says it was told: by an answer, or by an error if no request succeeded.
fn told(answer: Result<Vec<u8>, Error>, said: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<String, Error> {
    match answer {
        Ok(answer) => Ok(String::from_utf8(said(&answer)).unwrap()),
        Err(Error::NoMatchingKey { reason, .. }) => Ok(reason),
        Err(error) => Err(error),
    }
}

/// A file that is this user's alone.
pub fn secret(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

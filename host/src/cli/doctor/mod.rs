//! `ocicrypt-kms doctor [KEY_URI]`: checks what a container tool needs to use this program.

mod grpc_tls;
mod members;
mod ocicrypt_json;
mod program;
mod reach;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ocicrypt_kms::audit::Audit;
use ocicrypt_kms::config::{self, Config, HttpKms};
use ocicrypt_kms::kms::keystore::{Keystore, PUBLIC_ONLY, default_folder};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms::sandbox::Sandbox;
use ocicrypt_kms::{DEFAULT_NAME, Environment, Error, KeyProvider, shown};

use self::report::{Finding, Report};
use super::{Options, block_on, print};

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// A key to try: wraps and unwraps a made-up layer key with it
    key_uri: Option<String>,
}

/// What is checked, as a user of this machine finds it.
struct Subject {
    key_uri: Option<String>,
    config: Option<Config>,
    /// The configuration's file, if there is one.
    file: Option<PathBuf>,
    /// The provider's name.
    name: String,
    /// What an exchange begins with.
    provider: Result<KeyProvider, Error>,
    /// Whether clients call a service, which has settings and keys of its own.
    is_client: bool,
}

/// One thing that is looked at, or several of a kind.
type Check = fn(&mut Subject, &mut Report);

/// In the order of an exchange: what is read, who starts it, what it uses, and the exchange itself.
const CHECKS: [Check; 9] = [configuration, clients, audit_log, endpoints, server, local_keystore, hardening, component, key];

impl Doctor {
    pub(super) fn run(self, options: Options) -> Result<ExitCode, Error> {
        let mut subject = Subject::new(self.key_uri, options);
        let mut report = Report::default();
        CHECKS.iter().for_each(|check| check(&mut subject, &mut report));
        print(report.text.as_bytes())?;
        Ok(if report.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Subject {
    fn new(key_uri: Option<String>, options: Options) -> Self {
        let config = options.config().ok();
        // What keeps it from being found stands in the line about the configuration.
        let file = options.config_file().ok().flatten();
        let name = options.provider.clone().or_else(|| config.as_ref()?.provider.clone());
        let name = name.unwrap_or_else(|| DEFAULT_NAME.into());
        let provider = options.provider().and_then(|builder| builder.name(Some(name.clone())).build());
        Self { key_uri, config, file, name, provider, is_client: false }
    }

    /// Whether the configuration has a section `[server]`, be it empty: the machine serves.
    fn serves(&self) -> bool {
        // What can't be used may be a pipe, which would be waited for.
        let file = self.file.as_ref().filter(|_| self.config.is_some());
        let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        text.parse::<toml::Table>().is_ok_and(|sections| sections.contains_key("server"))
    }

    /// Whether keys and audit log are those that are used: a service has its own, which are no concern of its clients unless a key is to be tried here.
    fn uses_own(&self) -> bool {
        self.key_uri.is_some() || !self.is_client
    }
}

fn configuration(subject: &mut Subject, report: &mut Report) {
    let found = match (&subject.provider, &subject.file) {
        (Err(error @ Error::Configuration { .. }), _) => Err(error.line()),
        (_, Some(file)) => Ok(format!("{} can be used", shown::path(file))),
        (_, None) => Ok("no file, so that the defaults hold".into()),
    };
    report.add("configuration", found);
}

fn clients(subject: &mut Subject, report: &mut Report) {
    subject.is_client = ocicrypt_json::check(report, &subject.name, subject.serves());
}

/// What `serve` would say of its settings before it listens.
fn server(subject: &mut Subject, report: &mut Report) {
    if let (true, Some(config)) = (subject.serves(), &subject.config) {
        report.add("server", served(&config.server));
    }
}

#[cfg(feature = "server")]
fn served(settings: &config::Server) -> Result<String, String> {
    ocicrypt_kms::server::Server::check(settings).map_err(|error| error.line())?;
    let tls = if settings.tls_cert.is_some() { "the files of TLS fit together" } else { "they name no files of TLS" };
    Ok(format!("the settings below `[server]` can be used; {tls}"))
}

#[cfg(not(feature = "server"))]
fn served(_: &config::Server) -> Finding {
    Finding::Note("this program was built without the feature `server`, which reads the settings below `[server]`".into())
}

/// The component that loads, by its digest.
fn component(subject: &mut Subject, report: &mut Report) {
    let named = subject.config.as_ref().and_then(|config| config.component.file.as_deref());
    let digest = match &subject.provider {
        // It stands in the line about the configuration, without which no component is looked for.
        Err(Error::Configuration { .. }) => return,
        Err(error) => return report.add("component", Err(error.line())),
        Ok(provider) => provider.component(),
    };
    let text = match named {
        Some(file) if digest == Sandbox::built_in_digest() => format!("{}, which is the built-in one, SHA-256 {digest}", shown::path(file)),
        Some(file) => format!("{}, SHA-256 {digest}", shown::path(file)),
        None => format!("the built-in one, SHA-256 {digest}"),
    };
    report.add("component", Ok(text));
}

/// The exchange itself, if there is a key to try it with.
fn key(subject: &mut Subject, report: &mut Report) {
    let (Some(uri), Ok(provider)) = (&subject.key_uri, &subject.provider) else { return };
    let tried = block_on(true, try_key(provider, uri)).map_err(|error| error.line()).and_then(|tried| tried);
    // What is no key URI may be anything.
    let name = if uri.contains("://") && !uri.contains('@') { uri } else { "key" };
    report.add(name, tried.map(str::to_owned).map_err(|line| without(uri, line)));
}

/// The audit log, tried as far as that leaves no trace.
fn audit_log(subject: &mut Subject, report: &mut Report) {
    let Some(config) = subject.config.as_ref().filter(|_| subject.uses_own()).map(|config| &config.audit) else { return };
    // What is wrong with the settings themselves stands in the line about the configuration.
    let Ok(Some(audit)) = Audit::of(config, true, Vec::new()) else { return };
    let place = match &config.file {
        None => "no file; each process has a log of its own, for its sinks".to_owned(),
        Some(file) if file.is_absolute() => shown::path(file).to_string(),
        Some(file) => {
            let here = std::path::absolute(file).unwrap_or_default();
            format!("{}, which is {} here and another file in other folders: write its whole path", shown::path(file), shown::path(&here))
        }
    };
    report.add("audit log", audit.check().map(|()| place).map_err(|error| error.line()));
}

fn endpoints(subject: &mut Subject, report: &mut Report) {
    let settings = subject.config.iter().map(|config| &config.http_kms);
    settings.flat_map(tried).for_each(|(name, finding)| report.add(&name, finding));
}

/// Each endpoint of the configuration, tried as far as that sends nothing.
#[cfg(feature = "http-kms")]
fn tried(settings: &BTreeMap<String, HttpKms>) -> Vec<(String, Result<String, String>)> {
    // What is wrong with the settings themselves stands in the line about the configuration.
    let endpoints = ocicrypt_kms::kms::endpoint::Endpoints::new(settings, &Environment::process()).unwrap_or_default();
    let finding = |endpoint: &ocicrypt_kms::kms::endpoint::Endpoint| {
        let usable = format!("{}, whose credential and certificates can be used; it was sent nothing", endpoint.url());
        (format!("http-kms.{}", endpoint.name()), endpoint.check().map(|()| usable).map_err(|error| error.line()))
    };
    endpoints.all().map(finding).collect()
}

#[cfg(not(feature = "http-kms"))]
fn tried(settings: &BTreeMap<String, HttpKms>) -> Vec<(String, Result<String, String>)> {
    let missing = "this program was built without the feature `http-kms`, which lends endpoints";
    settings.keys().map(|name| (format!("http-kms.{}", ocicrypt_kms::error::printable(name, 64)), Err(missing.to_owned()))).collect()
}

/// What a process of one exchange can give up on this machine.
fn hardening(subject: &mut Subject, report: &mut Report) {
    report.add("hardening", Ok(offered(subject.config.as_ref().is_none_or(|config| config.hardening))));
}

#[cfg(feature = "hardening")]
fn offered(configured: bool) -> String {
    let offered = super::harden::offered();
    if configured { offered } else { format!("not used, since `hardening` is false in the configuration; {offered}") }
}

#[cfg(not(feature = "hardening"))]
fn offered(_: bool) -> String {
    "not in this build".into()
}

/// A line about a key without the key, whose name stands before it already.
fn without(uri: &str, line: String) -> String {
    line.strip_prefix(uri).and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned).unwrap_or(line)
}

fn local_keystore(subject: &mut Subject, report: &mut Report) {
    let finding = if subject.uses_own() {
        keystore(subject.config.as_ref().and_then(|config| config.keystore.as_deref())).into()
    } else {
        Finding::Note("neither it nor an audit log is looked at, since clients of a service use those of the service".into())
    };
    report.add("local keystore", finding);
}

fn keystore(configured: Option<&Path>) -> Result<String, String> {
    let folder = default_folder(&Environment::process(), configured).map_err(|error| error.line())?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(format!("none yet ({}); `keygen NAME` creates it", shown::path(&folder)));
        }
        Err(error) => return Err(format!("{0}: {error}; see whose it is: ls -ld {0}", shown::path(&folder))),
    };
    let sets = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".jwks")?.to_owned()));
    let (store, sets) = (Keystore::new(folder.clone()), sets.collect::<Vec<_>>());
    let unusable: Vec<_> = sets.iter().filter_map(|name| Some(store.load(name, Operation::Unwrap).err()?.line())).collect();
    if unusable.is_empty() { Ok(format!("keys in {}: {}", shown::path(&folder), sets.len())) } else { Err(unusable.join("; ")) }
}

/// Wraps and unwraps a made-up layer key, and says what came of it.
async fn try_key(provider: &KeyProvider, uri: &str) -> Result<&'static str, String> {
    const OPTS_DATA: &[u8] = br#"{"symkey":"bWFkZSB1cCBieSBkb2N0b3I=","digest":"","cipheroptions":{}}"#;
    let annotation = provider.wrap(OPTS_DATA, &[uri]).await.map_err(|error| error.line())?;
    match provider.unwrap(&annotation, &[uri]).await {
        Ok(opened) if opened.as_slice() == OPTS_DATA => Ok("a key was wrapped and unwrapped"),
        Ok(_) => Err("what was unwrapped is not what was wrapped".into()),
        // As it should be on a machine that only wraps.
        Err(Error::Kms { code, .. }) if code == PUBLIC_ONLY => Ok("a key was wrapped; only the public half is here, so none unwraps"),
        Err(error) => Err(format!("a key was wrapped, which is all that a machine needs that only encrypts; unwrapping: {}", error.line())),
    }
}

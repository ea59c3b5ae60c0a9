//! `ocicrypt-kms doctor [KEY_URI]`: checks what a container tool needs to use this program.

mod grpc_tls;
mod ocicrypt_json;
mod reach;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use ocicrypt_kms::audit::Audit;
use ocicrypt_kms::config::{self, HttpKms};
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

impl Doctor {
    pub(super) fn run(self, options: Options) -> Result<ExitCode, Error> {
        let mut report = Report::default();
        let config = options.config().ok();
        // What keeps it from being found stands in the line about the configuration.
        let config_file = options.config_file().ok().flatten();
        let serves = config.is_some() && config_file.as_deref().is_some_and(has_server);
        let name = options.provider.clone().or_else(|| config.as_ref()?.provider.clone());
        let name = name.unwrap_or_else(|| DEFAULT_NAME.into());
        let hardening = config.as_ref().is_none_or(|config| config.hardening);
        let file = config.as_ref().and_then(|config| config.component.file.clone());
        let provider = options.provider().and_then(|builder| builder.name(Some(name.clone())).build());
        let (configuration, provider) = match provider {
            Err(error @ Error::Configuration { .. }) => (Err(error.line()), None),
            provider => (Ok(configuration_file(config_file.as_deref())), Some(provider)),
        };
        report.add("configuration", configuration);
        let by_service = ocicrypt_json::check(&mut report, &name, serves);
        // A service has its own, which are no concern of its clients unless a key is to be tried here.
        let looks = self.key_uri.is_some() || !by_service;
        if let Some(config) = &config {
            let log = looks.then(|| audit_log(&config.audit)).flatten();
            log.into_iter().for_each(|finding| report.add("audit log", finding));
            endpoints(&config.http_kms).into_iter().for_each(|(name, finding)| report.add(&name, finding));
        }
        if let (true, Some(config)) = (serves, &config) {
            report.add("server", server(&config.server));
        }
        report.add(
            "local keystore",
            match looks {
                true => keystore(config.and_then(|config| config.keystore).as_deref()).into(),
                false => {
                    Finding::Note("neither it nor an audit log is looked at, since clients of a service use those of the service".into())
                }
            },
        );
        report.add("hardening", Ok(offered(hardening)));
        match provider {
            // Without a configuration there is nothing to try.
            None => {}
            Some(Err(error)) => report.add("component", Err(error.line())),
            Some(Ok(provider)) => {
                report.add("component", Ok(component(&provider, file.as_deref())));
                if let Some(uri) = &self.key_uri {
                    let tried = block_on(true, try_key(&provider, uri)).map_err(|error| error.line()).and_then(|tried| tried);
                    // What is no key URI may be anything.
                    let name = if uri.contains("://") && !uri.contains('@') { uri } else { "key" };
                    report.add(name, tried.map(str::to_owned).map_err(|line| without(uri, line)));
                }
            }
        }
        print(report.text.as_bytes())?;
        Ok(if report.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn configuration_file(path: Option<&Path>) -> String {
    path.map_or_else(|| "no file, so that the defaults hold".into(), |path| format!("{} can be used", shown::path(path)))
}

/// Whether a configuration has a section `[server]`, be it empty: the machine serves.
fn has_server(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.parse::<toml::Table>().is_ok_and(|sections| sections.contains_key("server"))
}

/// What `serve` would say of its settings before it listens.
#[cfg(feature = "server")]
fn server(settings: &config::Server) -> Result<String, String> {
    ocicrypt_kms::server::Server::check(settings).map_err(|error| error.line())?;
    let tls = if settings.tls_cert.is_some() { "the files of TLS fit together" } else { "they name no files of TLS" };
    Ok(format!("the settings below `[server]` can be used; {tls}"))
}

#[cfg(not(feature = "server"))]
fn server(_: &config::Server) -> Finding {
    Finding::Note("this program was built without the feature `server`, which reads the settings below `[server]`".into())
}

/// The component that loads, by its digest.
fn component(provider: &KeyProvider, file: Option<&Path>) -> String {
    let digest = provider.component();
    match file {
        Some(file) if digest == Sandbox::built_in_digest() => format!("{}, which is the built-in one, SHA-256 {digest}", shown::path(file)),
        Some(file) => format!("{}, SHA-256 {digest}", shown::path(file)),
        None => format!("the built-in one, SHA-256 {digest}"),
    }
}

/// The audit log, tried as far as that leaves no trace; `None` if there is none.
fn audit_log(config: &config::Audit) -> Option<Result<String, String>> {
    // What is wrong with the settings themselves stands in the line about the configuration.
    let audit = Audit::of(config, true, Vec::new()).ok()??;
    let place = match &config.file {
        None => "no file; each process has a log of its own, for its sinks".to_owned(),
        Some(file) if file.is_absolute() => shown::path(file).to_string(),
        Some(file) => {
            let here = std::path::absolute(file).unwrap_or_default();
            format!("{}, which is {} here and another file in other folders: write its whole path", shown::path(file), shown::path(&here))
        }
    };
    Some(audit.check().map(|()| place).map_err(|error| error.line()))
}

/// Each endpoint of the configuration, tried as far as that sends nothing.
#[cfg(feature = "http-kms")]
fn endpoints(settings: &BTreeMap<String, HttpKms>) -> Vec<(String, Result<String, String>)> {
    // What is wrong with the settings themselves stands in the line about the configuration.
    let endpoints = ocicrypt_kms::kms::endpoint::Endpoints::new(settings, &Environment::process()).unwrap_or_default();
    let finding = |endpoint: &ocicrypt_kms::kms::endpoint::Endpoint| {
        let usable = format!("{}, whose credential and certificates can be used; it was sent nothing", endpoint.url());
        (format!("http-kms.{}", endpoint.name()), endpoint.check().map(|()| usable).map_err(|error| error.line()))
    };
    endpoints.all().map(finding).collect()
}

#[cfg(not(feature = "http-kms"))]
fn endpoints(settings: &BTreeMap<String, HttpKms>) -> Vec<(String, Result<String, String>)> {
    let missing = "this program was built without the feature `http-kms`, which lends endpoints";
    settings.keys().map(|name| (format!("http-kms.{}", ocicrypt_kms::error::printable(name, 64)), Err(missing.to_owned()))).collect()
}

/// What a process of one exchange can give up on this machine.
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

fn keystore(configured: Option<&Path>) -> Result<String, String> {
    let folder = default_folder(&Environment::process(), configured).map_err(|error| error.line())?;
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            let sets = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".jwks")?.to_owned()));
            let (store, sets) = (Keystore::new(folder.clone()), sets.collect::<Vec<_>>());
            let unusable: Vec<_> = sets.iter().filter_map(|name| Some(store.load(name, Operation::Unwrap).err()?.line())).collect();
            match unusable.is_empty() {
                true => Ok(format!("keys in {}: {}", shown::path(&folder), sets.len())),
                false => Err(unusable.join("; ")),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(format!("none yet ({}); `keygen NAME` creates it", shown::path(&folder)))
        }
        Err(error) => Err(format!("{}: {error}", shown::path(&folder))),
    }
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

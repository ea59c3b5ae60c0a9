//! What the program gives up once it knows what its exchange needs, so that whoever takes it over gets little more than the exchange.
//!
//! Landlock and seccomp hold for this thread, its children and the programs that they start: called while the process has one thread.
//! A kernel that lacks one of them is used as it is.

mod calls;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use ocicrypt_kms::Environment;
use ocicrypt_kms::config::{Audit, AuditSink};
use ocicrypt_kms::key_uri::Service;

/// What an exchange may need of the system, besides reading files. Each needs what those before it need.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Needs {
    /// Keys in files.
    Local,
    /// A KMS that is somewhere else.
    Network,
    /// Programs that credentials come from, too. They need things of their own: to write tokens, to answer a browser.
    Programs,
}

impl Needs {
    /// What keys of these services need.
    pub(super) fn of(services: &[Service], environment: &Environment) -> Self {
        // It is asked before anything is started that a credential file of Google names.
        let executables = || environment.get("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES").is_some_and(|value| value == "1");
        let needs = |service: &Service| match service {
            Service::Local => Self::Local,
            Service::Vault | Service::HttpKms => Self::Network,
            Service::Gcp if !executables() => Self::Network,
            // `az`, and `credential_process` of AWS's configuration.
            _ => Self::Programs,
        };
        services.iter().map(needs).max().unwrap_or(Self::Local)
    }
}

/// Where the audit log is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// The folders that its files are in.
    folders: Vec<PathBuf>,
    /// Whether the system's logs get it, by Unix sockets.
    sockets: bool,
}

impl Records {
    /// Where a log that is configured so is written.
    pub(super) fn of(audit: &Audit) -> Self {
        let by_socket = |sink: &AuditSink| matches!(sink, AuditSink::Journald | AuditSink::Syslog);
        Self { folders: audit.folders(), sockets: audit.sinks.iter().any(by_socket) }
    }
}

/// Gives up what isn't needed. Nothing but the audit log can still be written.
pub(super) fn harden(needs: Needs, records: &Records) {
    if needs < Needs::Programs {
        match restrict_files(needs, records) {
            Ok(RulesetStatus::FullyEnforced) => {}
            Ok(status) => tracing::warn!(?status, "this kernel's Landlock lacks some of what is asked of it"),
            Err(error) => tracing::warn!(%error, "Landlock is not used"),
        }
    }
    if let Err(error) = calls::restrict(needs, records) {
        tracing::warn!(%error, "seccomp is not used");
    }
    tracing::debug!(?needs, folders = records.folders.len(), "hardened");
}

/// What this kernel has of it, as a line for a person. Found by a thread that gives up everything, and ends.
pub(super) fn offered() -> String {
    let landlock =
        || -> Result<_, RulesetError> { Ok(Ruleset::default().handle_access(AccessFs::Execute)?.create()?.restrict_self()?.landlock) };
    let tried = std::thread::spawn(move || (landlock(), calls::restrict(Needs::Local, &Records::default()))).join();
    let Ok((landlock, seccomp)) = tried else { return "it can't be tried".into() };
    let landlock = match landlock {
        Ok(LandlockStatus::Available { effective_abi, kernel_abi }) => {
            format!("Landlock ABI {}", kernel_abi.unwrap_or(effective_abi as i32))
        }
        Ok(LandlockStatus::NotEnabled) => "no Landlock: this kernel has it, but not enabled".into(),
        Ok(LandlockStatus::NotImplemented) => "no Landlock: this kernel has none".into(),
        Err(error) => format!("no Landlock: {error}"),
    };
    let seccomp = seccomp.map_or_else(|error| format!("no seccomp: {error}"), |()| "seccomp".into());
    format!("{landlock}, {seccomp}")
}

/// Nothing else is written, executed or listened on. Files that are open stay so: the debug log.
fn restrict_files(needs: Needs, records: &Records) -> Result<RulesetStatus, RulesetError> {
    let network = if needs == Needs::Local { AccessNet::from_all(ABI::V4) } else { AccessNet::BindTcp.into() };
    let ruleset = Ruleset::default().handle_access(AccessFs::from_write(ABI::V4) | AccessFs::Execute)?.handle_access(network)?;
    let ruleset = ruleset.scope(Scope::from_all(ABI::V6))?.create()?;
    let ruleset = ruleset.add_rules(path_beneath_rules(&records.folders, AccessFs::from_write(ABI::V4)))?;
    ruleset.restrict_self().map(|status| status.ruleset)
}

//! `--debugLog FILE`: what happens, step by step, without secrets.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use ocicrypt_kms::{Error, shown};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging, if a file was named. Only this program's own events are written: those of HTTP libraries may hold credentials.
pub(super) fn start(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::Configuration { place: format!("--debugLog {}", shown::path(path)), reason: error.to_string() })?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(Mutex::new(file));
    tracing_subscriber::registry().with(Targets::new().with_target("ocicrypt_kms", Level::DEBUG)).with(lines).init();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), process = std::process::id(), "start");
    Ok(())
}

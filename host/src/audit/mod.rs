//! The audit log: what was done with which key, in a form that can be checked later.
//!
//! An [`Audit`] appends records to a file, where each is chained to the one before by its hash, and hands them to further [`Sink`]s. A
//! key is released only when the record of it is on the disk. `docs/audit-log.md` describes the format, and what it proves.

mod chain;
mod checkpoint;
mod file;
mod ledger;
mod obstacle;
pub mod record;
mod sink;
mod verify;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use self::checkpoint::{Checkpoint, PrivateKey, PublicKey};
pub(crate) use self::ledger::{Decided, Ledger};
use self::obstacle::Obstacle;
pub use self::record::{Entry, Event, Flaw, Position, Record};
pub use self::sink::{Journald, Sink, Stream, Syslog};
pub use self::verify::{Expected, Fault, Summary, Verifier, files, verify};
use self::writer::Writer;
use crate::Error;
use crate::config;
use crate::error::printable;

/// How long a record may wait whose exchange was given up.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The longest name of this machine in a record.
const MAX_HOST: usize = 255;

/// An audit log that is written.
///
/// Nothing is opened and nothing started before the first record. When it is dropped, what waits is written, and the chain's end is signed; a sink that
/// hangs is waited for ten seconds.
pub struct Audit {
    file: Option<PathBuf>,
    writer: Writer,
}

/// Where an [`Audit`] writes to.
#[derive(Default)]
pub struct Settings {
    /// The file. Without one, each process makes a chain of its own, for its sinks.
    pub file: Option<PathBuf>,
    /// How many bytes a file has at least when it is rotated away; `None`: only [`Audit::rotate`] does it.
    pub rotate_at: Option<u64>,
    /// How the chain's end is signed.
    pub checkpoints: Option<Checkpoints>,
    /// Who else gets each record. All have to take it, or no key is released.
    pub sinks: Vec<Arc<dyn Sink>>,
}

/// How the chain's end is signed.
pub struct Checkpoints {
    /// The file of the private key; it is read when something is to be signed.
    pub key: PathBuf,
    /// The file that signatures are appended to.
    pub file: PathBuf,
    /// After how many records the next signature is made.
    pub every: u64,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Audit {
    /// Writes to what these settings say.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { file: settings.file.clone(), writer: Writer::new(settings) }
    }

    /// What a configuration says, and further sinks; `None` if there is neither a file nor a sink.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub fn of(config: &config::Audit, standard_output_is_free: bool, further: Vec<Arc<dyn Sink>>) -> Result<Option<Self>, Error> {
        let named = config.sinks.iter().map(|sink| sink::built_in(*sink, standard_output_is_free));
        let sinks = named.chain(further.into_iter().map(Ok)).collect::<Result<Vec<_>, _>>()?;
        match config.file.is_none() && sinks.is_empty() {
            true if config.wants_a_log() => {
                let reason = "it says how the log is kept and names neither `file` nor `sinks`, so that nothing would be written down";
                return Err(Error::Configuration { place: "audit".into(), reason: reason.into() });
            }
            true => return Ok(None),
            false => {}
        }
        let checkpoints = config.checkpoints()?.map(|(key, file, every)| Checkpoints { key, file, every });
        Ok(Some(Self::new(Settings { file: config.file.clone(), rotate_at: config.rotate_at()?, checkpoints, sinks })))
    }

    /// Says no, before a service is called, if a record could surely not be written.
    ///
    /// # Errors
    /// That the file can't be written, that its disk is full, or that as many records wait as may.
    pub fn ready(&self) -> Result<(), Error> {
        self.writer.ready()?;
        match &self.file {
            Some(file) => file::ready(file).map_err(|obstacle| obstacle.at(file)),
            None => Ok(()),
        }
    }

    /// Does all that writing a record and signing a checkpoint do up to where they would write, and makes no file: for saying beforehand whether
    /// they could be written. No sink is asked.
    ///
    /// # Errors
    /// Those of [`Audit::append`] and [`Audit::checkpoint`].
    pub fn check(&self) -> Result<(), Error> {
        self.writer.check(Instant::now() + LAST_WAIT)
    }

    /// Opens the log and reads where it ends, for a process that stays: from then on it is noticed if the log is taken away, and one that can't be
    /// written is told of before anybody asks for a key. What a crash left is repaired.
    ///
    /// # Errors
    /// Those of [`Audit::append`].
    pub fn begin(&self) -> Result<(), Error> {
        self.writer.begin(Instant::now() + LAST_WAIT)
    }

    /// Appends records, and returns when they are on the disk and with each sink.
    ///
    /// # Errors
    /// If they aren't when the deadline passes. They may be there later: a record says what was about to happen. If the log doesn't hold any more
    /// what this process wrote before. If as many records wait as may: then these are not written, and the next record says how many are missing.
    pub async fn append(&self, entries: Vec<Entry>, deadline: Instant) -> Result<(), Error> {
        let written = self.writer.send(entries, deadline);
        match tokio::time::timeout_at(deadline.into(), written).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(self.failed(&Obstacle::Ended)),
            Err(_) => Err(self.failed(&Obstacle::Late)),
        }
    }

    /// Appends records for somebody who doesn't wait.
    pub(crate) fn leave(&self, entries: Vec<Entry>) {
        drop(self.writer.send(entries, Instant::now() + LAST_WAIT));
    }

    /// Goes on in a new file. Gives the name that the old one has now.
    ///
    /// # Errors
    /// If there is no file, or no record in it.
    pub fn rotate(&self) -> Result<PathBuf, Error> {
        self.writer.rotate(Instant::now() + LAST_WAIT)
    }

    /// Signs the chain's end now.
    ///
    /// # Errors
    /// If no key is configured or it can't be used, or the log has no record.
    pub fn checkpoint(&self) -> Result<Checkpoint, Error> {
        self.writer.checkpoint(Instant::now() + LAST_WAIT)
    }

    fn failed(&self, obstacle: &Obstacle) -> Error {
        obstacle.at(self.file.as_deref().unwrap_or(Path::new(obstacle::NO_FILE)))
    }
}

/// An entry of this process, of now.
fn blank() -> Entry {
    static HOST: OnceLock<String> = OnceLock::new();
    let host = || printable(&rustix::system::uname().nodename().to_string_lossy(), MAX_HOST);
    Entry { time: record::now(), host: HOST.get_or_init(host).clone(), pid: std::process::id(), ..Entry::default() }
}

//! Who else gets each record: the journal, syslog, standard output, or what an embedding program gives.
//!
//! Both logs of the system take one datagram a record. The crates that speak to them bring descriptors of memory, or logging facades, for
//! what are a few lines here: a record is shorter than any socket's limit.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record;
use crate::Error;
use crate::config::AuditSink;
use crate::shown;

/// The program's name in the logs of the system.
const PROGRAM: &str = "ocicrypt-kms";
/// RFC 5424 section 6.2.1: facility 13 (log audit), severity 6 (informational).
const PRIORITY: u32 = 13 * 8 + 6;

/// Takes records, beside the file or in its place.
///
/// [`Builder::audit_sink`](crate::Builder::audit_sink) adds one to what the configuration names; who writes the log without a
/// configuration, or shares it among providers, has them in [`Settings::sinks`](super::Settings::sinks).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::mpsc::{Sender, channel};
/// use std::time::Instant;
///
/// use ocicrypt_kms::audit::Sink;
/// use ocicrypt_kms::{Config, KeyProvider};
///
/// struct Queue(Sender<String>);
///
/// impl Sink for Queue {
///     fn name(&self) -> &str {
///         "the queue"
///     }
///
///     fn take(&self, line: &str, _: Instant) -> Result<(), String> {
///         self.0.send(line.to_owned()).map_err(|error| error.to_string())
///     }
/// }
///
/// let (sender, records) = channel();
/// let provider = KeyProvider::builder(Config::default()).audit_sink(Arc::new(Queue(sender))).build()?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// provider.wrap(br#"{"symkey":"AAAA"}"#, &["local://no-such-key"]).await.unwrap_err();
/// # });
/// assert!(records.recv()?.contains(r#""key":"local://no-such-key""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Sink: Send + Sync {
    /// Its name, for errors.
    fn name(&self) -> &str;

    /// Takes one record, which [`record::read`](crate::audit::record::read) reads, or one checkpoint ([`Checkpoint`](crate::audit::Checkpoint)):
    /// a line of JSON without its end. Called by one thread at a time, in the order of the chain;
    /// it should not wait longer than until the deadline.
    ///
    /// # Errors
    /// A sentence that says why the line isn't kept. No key is released then.
    fn take(&self, line: &str, deadline: Instant) -> Result<(), String>;
}

/// The journal of systemd, by its [native protocol](https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
pub struct Journald {
    /// Its socket.
    pub socket: PathBuf,
}

/// A syslog daemon, by RFC 5424.
pub struct Syslog {
    /// Its socket.
    pub socket: PathBuf,
}

/// A stream of this process.
pub enum Stream {
    /// Standard output, where nothing else is written to it.
    Output,
    /// Standard error.
    Error,
}

impl Default for Journald {
    fn default() -> Self {
        Self { socket: "/run/systemd/journal/socket".into() }
    }
}

impl Default for Syslog {
    fn default() -> Self {
        Self { socket: "/dev/log".into() }
    }
}

impl Sink for Journald {
    fn name(&self) -> &str {
        "journald"
    }

    fn take(&self, line: &str, deadline: Instant) -> Result<(), String> {
        // A record has no line end, so each field is one line.
        let message = format!("PRIORITY=6\nSYSLOG_FACILITY=13\nSYSLOG_IDENTIFIER={PROGRAM}\nMESSAGE={line}\n");
        send(&self.socket, message.as_bytes(), deadline)
    }
}

impl Sink for Syslog {
    fn name(&self) -> &str {
        "syslog"
    }

    fn take(&self, line: &str, deadline: Instant) -> Result<(), String> {
        let (time, process) = (record::now(), std::process::id());
        let host = super::blank().host.replace(' ', "-");
        let host = if host.is_empty() { "-" } else { &host };
        send(&self.socket, format!("<{PRIORITY}>1 {time} {host} {PROGRAM} {process} audit - {line}").as_bytes(), deadline)
    }
}

impl Sink for Stream {
    fn name(&self) -> &str {
        match self {
            Self::Output => "standard output",
            Self::Error => "standard error",
        }
    }

    fn take(&self, line: &str, _: Instant) -> Result<(), String> {
        let line = format!("{line}\n");
        let written = match self {
            Self::Output => {
                let mut output = std::io::stdout().lock();
                output.write_all(line.as_bytes()).and_then(|()| output.flush())
            }
            Self::Error => std::io::stderr().lock().write_all(line.as_bytes()),
        };
        written.map_err(|error| error.to_string())
    }
}

fn send(socket: &PathBuf, message: &[u8], deadline: Instant) -> Result<(), String> {
    let time = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let sent = UnixDatagram::unbound().and_then(|datagram| {
        datagram.set_write_timeout(Some(time))?;
        datagram.send_to(message, socket)
    });
    sent.map(drop).map_err(|error| format!("{}: {error}", shown::path(socket)))
}

/// A sink that a configuration names.
pub(super) fn built_in(sink: AuditSink, standard_output_is_free: bool) -> Result<Arc<dyn Sink>, Error> {
    match sink {
        AuditSink::Journald => Ok(Arc::new(Journald::default())),
        AuditSink::Syslog => Ok(Arc::new(Syslog::default())),
        AuditSink::Stderr => Ok(Arc::new(Stream::Error)),
        AuditSink::Stdout if standard_output_is_free => Ok(Arc::new(Stream::Output)),
        AuditSink::Stdout => {
            let reason = "standard output is where the answer goes; only `serve` can write records there".into();
            Err(Error::Configuration { place: "audit.sinks".into(), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(sink: impl FnOnce(PathBuf) -> Box<dyn Sink>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        sink(path).take(r#"{"v":1}"#, Instant::now() + Duration::from_secs(5)).unwrap();
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_journal_gets_fields_and_the_record_as_the_message() {
        let message = received(|socket| Box::new(Journald { socket }));
        assert!(message.ends_with("\nMESSAGE={\"v\":1}\n") && message.lines().all(|line| line.contains('=')), "{message}");
    }

    #[test]
    fn syslog_gets_a_message_of_rfc_5424() {
        let message = received(|socket| Box::new(Syslog { socket }));
        let parts: Vec<_> = message.splitn(8, ' ').collect();
        assert_eq!((parts[0], parts[3], parts[5], parts[6], parts[7]), ("<110>1", PROGRAM, "audit", "-", r#"{"v":1}"#));
    }

    #[test]
    fn a_sink_that_nobody_listens_at_is_an_error_that_names_it() {
        let sink = Journald { socket: "/nonexistent/socket".into() };
        let error = sink.take("{}", Instant::now() + Duration::from_secs(1)).unwrap_err();
        assert!(error.starts_with("/nonexistent/socket: "), "{error}");
    }

    #[test]
    fn a_sink_that_is_full_is_waited_for_until_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let (sink, began) = (Journald { socket: path }, Instant::now());
        let refused = (0..100_000).find_map(|_| sink.take(&"x".repeat(4096), Instant::now() + Duration::from_millis(50)).err());
        assert!(refused.is_some() && began.elapsed() < Duration::from_secs(10));
    }
}

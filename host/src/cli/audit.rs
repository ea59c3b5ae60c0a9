//! `ocicrypt-kms audit …`: reads, checks, rotates and signs the audit log.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use ocicrypt_kms::audit::{self, Audit, Checkpoint, Expected, PrivateKey, PublicKey, Record, Summary};
use ocicrypt_kms::error::printable;
use ocicrypt_kms::{Digest, Error, ErrorKind, config};

use super::{Options, complain, counted, print};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check the log: names the first record that is wrong
    Verify(Verify),
    /// Print records
    Show(Show),
    /// Go on in a new file
    Rotate,
    /// Sign the log's end, and print the signed line
    Checkpoint,
    /// Make a key pair that signs checkpoints: FILE and FILE.pub
    Keygen {
        /// The file of the private key
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The log, with the files that were rotated away from it [default: the configured one]
    log: Option<PathBuf>,
    /// Checkpoints whose records have to be in the log [default: the configured ones, if there are any]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The key that checks them [default: the public half of the configured one]
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The record that the log is known to begin with, at the latest: those before it were put away, and aren't missing [default: 1, if there are
    /// checkpoints]
    #[arg(long, value_name = "RECORD", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The log, with the files that were rotated away from it [default: the configured one]
    log: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Print the records as they stand in the log
    #[arg(long)]
    json: bool,
}

/// What a record's `outcome` can be: `docs/audit-log.md` says what each means.
fn outcomes() -> PossibleValuesParser {
    ["ok", "cancelled", "unused"].into_iter().chain(ErrorKind::ALL.iter().map(|kind| kind.as_str())).into()
}

/// Which records are wanted: those that all of it holds for.
#[derive(Debug, Default, clap::Args)]
struct Filter {
    /// Records of this key; a `*` at the end stands for anything
    #[arg(long, value_name = "URI")]
    key: Option<String>,
    /// What a key was used for
    #[arg(long, value_parser = ["wrap", "unwrap"])]
    operation: Option<String>,
    /// Records of this caller, as the log calls it: uid:1000, spiffe://…
    #[arg(long)]
    caller: Option<String>,
    /// How it ended
    #[arg(long, value_parser = outcomes())]
    outcome: Option<String>,
    /// Records from this time on, as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Records before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Records of this annotation: the SHA-256 digest of what it is decoded
    #[arg(long, value_name = "DIGEST")]
    annotation: Option<Digest>,
}

/// A time of the command line.
fn time(text: &str) -> Result<Timestamp, String> {
    let formats = "a time is a date, an hour and an offset from UTC (RFC 3339), as 2026-01-31T08:00:00Z or 2026-01-31T09:00:00+01:00";
    text.parse().map_err(|_| formats.to_owned())
}

impl Command {
    pub(super) fn run(self, options: &Options) -> Result<ExitCode, Error> {
        let config = Configured { audit: options.config()?.audit, file: options.config_file()? };
        let done = |text: String| print(text.as_bytes()).map(|()| ExitCode::SUCCESS);
        match self {
            Self::Verify(verify) => verify.run(&config),
            Self::Show(show) => show.run(&config),
            Self::Rotate => done(format!("{}\n", config.log()?.rotate()?.display())),
            Self::Checkpoint => done(format!("{}\n", config.log()?.checkpoint()?.line)),
            Self::Keygen { file } => done(keygen(&file)?),
        }
    }
}

/// The settings below `[audit]`, and the configuration that they are from.
struct Configured {
    audit: config::Audit,
    file: Option<PathBuf>,
}

impl Configured {
    /// The configured log, to write to.
    fn log(&self) -> Result<Audit, Error> {
        Audit::of(&self.audit, true, Vec::new())?.ok_or_else(|| self.missing(""))
    }

    /// The log that is to be read, and its files; at least one.
    fn files(&self, named: Option<PathBuf>) -> Result<(PathBuf, Vec<PathBuf>), Error> {
        let log = named.or_else(|| self.audit.file.clone()).ok_or_else(|| self.missing(", or name the log"))?;
        match audit::files(&log) {
            Ok(files) if !files.is_empty() => Ok((log, files)),
            Ok(_) => Err(unreadable(&log, "there is no such file")),
            Err(error) => Err(unreadable(&log, &error.to_string())),
        }
    }

    /// No log is configured. A server often has a configuration of its own.
    fn missing(&self, instead: &str) -> Error {
        let read = match &self.file {
            Some(file) => format!("{} was read", ocicrypt_kms::shown::path(file)),
            None => "no configuration file was found".into(),
        };
        let remedy = "set `file` below `[audit]`, or read another configuration, such as a server's, with --config FILE";
        let reason = format!("no audit log is configured: {read}; {remedy}{instead}");
        Error::Configuration { place: "audit.file".into(), reason }
    }
}

fn keygen(file: &Path) -> Result<String, Error> {
    let key = PrivateKey::generate()?;
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    key.write(file)?;
    // Half a pair is none.
    key.public().write(Path::new(&public)).inspect_err(|_| drop(std::fs::remove_file(file)))?;
    Ok(format!("{}  {}  key {}\n", file.display(), Path::new(&public).display(), key.public().id()))
}

fn unreadable(place: &Path, reason: &str) -> Error {
    Error::Configuration { place: ocicrypt_kms::shown::path(place).to_string(), reason: reason.into() }
}

impl Verify {
    fn run(self, config: &Configured) -> Result<ExitCode, Error> {
        let expected = Expected { checkpoints: self.checkpoints(config)?, from: self.from };
        let (log, files) = config.files(self.log)?;
        let verified = audit::verify(&files, expected, |_| {}).map_err(|error| unreadable(&files[0], &error.to_string()))?;
        let (text, code) = match verified {
            Ok(mut summary) => {
                if !files.contains(&log) {
                    let note = format!("{} is not there: what was written since the last rotation can't be told", log.display());
                    summary.notes.push(note);
                }
                (describe(&summary), ExitCode::SUCCESS)
            }
            Err(fault) => (format!("BAD     {}\n", printable(&fault.to_string(), 4096)), ExitCode::from(ErrorKind::Corrupt.exit_code())),
        };
        print(text.as_bytes())?;
        Ok(code)
    }

    fn checkpoints(&self, config: &Configured) -> Result<Vec<Checkpoint>, Error> {
        let configured = || self.log.is_none().then(|| config.audit.checkpoint_file()).flatten();
        let Some(file) = self.checkpoint.clone().or_else(configured) else { return Ok(Vec::new()) };
        // A file that can't be looked for is not taken for none.
        if self.checkpoint.is_none() && !file.try_exists().map_err(|error| unreadable(&file, &error.to_string()))? {
            return Ok(Vec::new());
        }
        let key = match (&self.public_key, &config.audit.checkpoint_key) {
            (Some(public), _) => PublicKey::read(public)?,
            (None, Some(private)) => PrivateKey::read(private)?.public(),
            (None, None) => return Err(unreadable(&file, "no key checks these checkpoints; name it with --public-key")),
        };
        let checkpoints = key.check_file(&file)?;
        match checkpoints.is_empty() && self.checkpoint.is_some() {
            true => Err(unreadable(&file, "it has no checkpoint that the log could be compared with")),
            false => Ok(checkpoints),
        }
    }
}

fn describe(summary: &Summary) -> String {
    let mut text = match summary.last {
        Some(last) => {
            let records = counted(summary.records, "record");
            format!("ok      {records}, {} to {}; the last one's hash is {}\n", summary.first, last.sequence, last.hash)
        }
        None => "ok      no record\n".to_owned(),
    };
    for note in &summary.notes {
        writeln!(text, "note    {}", printable(note, 4096)).expect("a string can be written");
    }
    match summary.checkpoints {
        0 => text.push_str("note    no checkpoint was compared: whether the log's end was cut off can't be told\n"),
        count => writeln!(text, "ok      it agrees with {}", counted(count, "checkpoint")).expect("a string can be written"),
    }
    text
}

impl Show {
    fn run(self, config: &Configured) -> Result<ExitCode, Error> {
        let (_, files) = config.files(self.log)?;
        let (mut text, mut shown) = (String::new(), Ok(()));
        let outcome = audit::verify(&files, Vec::new(), |record| {
            if self.filter.wants(record) {
                text.push_str(&if self.json { json(record) } else { line(record) });
            }
            if text.len() > 64 << 10 && shown.is_ok() {
                shown = print(std::mem::take(&mut text).as_bytes());
            }
        });
        let outcome = outcome.map_err(|error| unreadable(&files[0], &error.to_string()))?;
        shown.and_then(|()| print(text.as_bytes()))?;
        match outcome {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(fault) => {
                complain(&printable(&format!("{fault}; what follows is not shown"), 4096));
                Ok(ErrorKind::Corrupt.exit_code().into())
            }
        }
    }
}

impl Filter {
    fn wants(&self, Record { entry, .. }: &Record) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|wanted| is == Some(wanted));
        let key = |wanted: &String| match (wanted.strip_suffix('*'), entry.key.as_deref()) {
            (Some(start), Some(key)) => key.starts_with(start),
            (None, key) => key == Some(wanted),
            (Some(_), None) => false,
        };
        let time = || entry.time.parse::<Timestamp>().ok();
        self.key.as_ref().is_none_or(key)
            && same(&self.operation, entry.operation.as_deref())
            && same(&self.caller, entry.caller.as_ref().map(|caller| caller.name.as_str()))
            && same(&self.outcome, entry.outcome.as_deref())
            && self.annotation.is_none_or(|digest| entry.annotation == Some(digest.to_string()))
            && self.since.is_none_or(|since| time().is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time().is_some_and(|time| time < until))
    }
}

/// The record as it stands in the log.
fn json(record: &Record) -> String {
    format!("{}\n", record.line)
}

/// The record for people: what is always there first, then what some have.
fn line(Record { entry, position, .. }: &Record) -> String {
    let word = |text: Option<&str>| printable(text.unwrap_or("-"), 4096);
    let outcome = word(entry.outcome.as_deref());
    let caller = word(entry.caller.as_ref().map(|caller| caller.name.as_str()));
    let mut line = format!(
        "{} #{} {}[{}] {caller} {} {} {outcome} {}",
        word(Some(&entry.time)),
        position.sequence,
        word(Some(&entry.host)),
        entry.pid,
        entry.event.as_str(),
        word(entry.operation.as_deref()),
        word(entry.key.as_deref())
    );
    let more = [
        ("decision", entry.decision.clone()),
        ("rules", (!entry.rules.is_empty()).then(|| entry.rules.join(","))),
        ("policy", entry.policy.clone()),
        ("request", entry.request_id.clone()),
        ("annotation", entry.annotation.clone()),
        ("previous", entry.previous.clone()),
        ("torn", entry.torn.as_ref().map(|torn| torn.bytes.to_string())),
        ("error", entry.error.clone()),
    ];
    for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        write!(line, " {name}={}", printable(&value, 4096)).expect("a string can be written");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use ocicrypt_kms::audit::{Entry, Position};

    use super::*;

    fn record(key: &str) -> Record {
        let entry = Entry {
            time: "2026-01-02T03:04:05Z".into(),
            key: Some(key.into()),
            error: Some("a\u{1b}[2J\u{202e}b".into()),
            ..Entry::default()
        };
        Record { position: Position::GENESIS, previous: Position::GENESIS.hash, entry, line: String::new() }
    }

    #[test]
    fn a_key_is_filtered_by_its_name_or_the_beginning_of_it() {
        for (wanted, shown) in [("local://a", true), ("local://*", true), ("local://", false), ("gcpkms://*", false)] {
            assert_eq!(Filter { key: Some(wanted.into()), ..Filter::default() }.wants(&record("local://a")), shown, "{wanted}");
        }
    }

    #[test]
    fn a_time_is_filtered_from_and_before() {
        let filter = |since: Option<&str>, until: Option<&str>| {
            let time = |text: &str| text.parse().unwrap();
            Filter { since: since.map(time), until: until.map(time), ..Filter::default() }.wants(&record("local://a"))
        };
        assert!(filter(Some("2026-01-02T03:04:05Z"), Some("2026-01-02T05:04:06+02:00")));
        assert!(!filter(Some("2026-01-02T03:04:06Z"), None) && !filter(None, Some("2026-01-02T03:04:05Z")));
    }

    #[test]
    fn what_steers_a_terminal_is_not_printed() {
        let line = line(&record("local://a"));
        assert!(line.ends_with("error=a [2J b\n"), "{line:?}");
    }
}

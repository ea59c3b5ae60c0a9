//! Checks a log: each record whole, each chained to the one before, none of those missing that were signed for.
//!
//! What the log says of itself excuses it from nothing: that it continues another one is believed only where a checkpoint or whoever checks
//! says so, too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::checkpoint::Checkpoint;
use super::file;
use super::record::{self, Event, Flaw, Position, Record, Torn};
use crate::digest::Digest;
use crate::error::printable;
use crate::shown;

/// The longest line that is looked at: several times what a record has.
const MAX_LINE: u64 = 4 << 20;

/// What is wrong, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}: line {line} of the file, where the record with `seq` {sequence} belongs: {what}")]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// The number that the record there has or ought to have.
    pub sequence: u64,
    /// What is wrong, as a sentence.
    pub what: String,
}

/// What a log holds in which nothing is wrong.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// How many records there are.
    pub records: u64,
    /// The first record's number.
    pub first: u64,
    /// The last record.
    pub last: Option<Position>,
    /// How many checkpoints the log agrees with.
    pub checkpoints: u64,
    /// What an operator should know of, as sentences: torn lines, files and checkpoints that aren't here.
    pub notes: Vec<String>,
}

/// What a log has to agree with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// The checkpoints. The record of each has to be there.
    pub checkpoints: Vec<Checkpoint>,
    /// The record that the log is known to begin with at the latest, because those before it were put away: they need not be there. `None`:
    /// nobody says so.
    pub from: Option<u64>,
}

impl From<Vec<Checkpoint>> for Expected {
    fn from(checkpoints: Vec<Checkpoint>) -> Self {
        Self { checkpoints, from: None }
    }
}

/// Checks a log line by line.
#[derive(Default)]
pub struct Verifier {
    file: String,
    line: u64,
    summary: Summary,
    /// What is no record, and has to be explained by the next one.
    torn: Option<Remains>,
    /// By their records' numbers. Of a log that was replaced, there can be several for one number.
    expected: BTreeMap<u64, Vec<Checkpoint>>,
    from: Option<u64>,
}

/// Lines that are no record.
struct Remains {
    fault: Fault,
    bytes: u64,
    digest: Sha256,
    ended: bool,
}

impl Verifier {
    /// For a log that has to agree with this.
    #[must_use]
    pub fn new(expected: impl Into<Expected>) -> Self {
        let Expected { checkpoints, from } = expected.into();
        let mut expected = BTreeMap::<_, Vec<_>>::new();
        checkpoints.into_iter().for_each(|checkpoint| expected.entry(checkpoint.position.sequence).or_default().push(checkpoint));
        Self { expected, from, ..Self::default() }
    }

    /// The lines that come next are those of this file.
    pub fn begin(&mut self, file: impl Into<String>) {
        self.file = file.into();
        self.line = 0;
    }

    /// Checks one line, with its end if it has one. Gives the record, if it is one.
    ///
    /// # Errors
    /// If it doesn't belong there.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Record>, Fault> {
        self.line += 1;
        match record::read(line.strip_suffix(b"\n").unwrap_or(line)) {
            Ok(record) => self.record(&record).map(|()| Some(record)),
            Err(Flaw::Torn) => {
                self.remains(line);
                Ok(None)
            }
            // A crash leaves the beginning of a line, and that has no hash.
            Err(flaw) => Err(self.torn.take().map_or_else(|| self.fault(flaw.to_string()), |torn| torn.fault)),
        }
    }

    fn remains(&mut self, line: &[u8]) {
        let fault = self.fault(Flaw::Torn.to_string());
        let torn = self.torn.get_or_insert_with(|| Remains { fault, bytes: 0, digest: Sha256::new(), ended: true });
        torn.bytes += line.len() as u64;
        torn.digest.update(line);
        torn.ended = line.ends_with(b"\n");
    }

    fn record(&mut self, record: &Record) -> Result<(), Fault> {
        self.explained(record.entry.torn.as_ref())?;
        self.follows(record)?;
        self.agrees(record.position, "it is")?;
        self.summary.records += 1;
        self.summary.last = Some(record.position);
        Ok(())
    }

    /// Whether what stood before a record and is none is what the record says of it.
    fn explained(&mut self, said: Option<&Torn>) -> Result<(), Fault> {
        match (self.torn.take(), said) {
            (None, None) => Ok(()),
            (Some(torn), Some(said)) if is_said(&torn, said) => {
                let Fault { file, line, .. } = torn.fault;
                self.summary
                    .notes
                    .push(format!("{file}: line {line}: {} bytes are torn, as a crash leaves them; the next record says so", said.bytes));
                Ok(())
            }
            (Some(torn), _) => Err(torn.fault),
            (None, Some(_)) => Err(self.fault("it tells of torn bytes before it, which are not there".into())),
        }
    }

    /// Whether a record is the one that was signed for under its number, if one was. `says` begins the sentence that it isn't.
    fn agrees(&mut self, Position { sequence, hash }: Position, says: &str) -> Result<(), Fault> {
        for checkpoint in self.expected.remove(&sequence).unwrap_or_default() {
            if checkpoint.position.hash != hash {
                return Err(self.fault(format!("{says} another record than the one that was signed for at {}", checkpoint.time)));
            }
            self.summary.checkpoints += 1;
        }
        Ok(())
    }

    fn follows(&mut self, record: &Record) -> Result<(), Fault> {
        let last = match self.summary.last {
            Some(last) => last,
            None if record.entry.event == Event::Continued => return self.begins_later(record),
            None => {
                self.summary.first = 1;
                Position::GENESIS
            }
        };
        if record.position.sequence != last.sequence + 1 {
            return Err(self.fault(format!("its `seq` is {}: records are missing, added or in another order", record.position.sequence)));
        }
        match record.previous == last.hash {
            true => Ok(()),
            false => Err(self.fault("it follows another record than the one before it: that was exchanged, or this".into())),
        }
    }

    /// The first record says that it continues a file that isn't here. It says which record it follows: if that was signed for, it is proved.
    fn begins_later(&mut self, record: &Record) -> Result<(), Fault> {
        let first = record.position.sequence;
        if first < 2 {
            return Err(self.fault("it says that it continues another file, and has the number of a log's first record".into()));
        }
        self.summary.first = first;
        if let Some(from) = self.from
            && first > from
        {
            return Err(self.fault(format!("the log begins with record {first}, not with record {from} or one before it")));
        }
        let any = !self.expected.is_empty();
        self.agrees(Position { sequence: first - 1, hash: record.previous }, "it follows")?;
        // Whoever checks says so: these aren't here.
        let put_away = self.from.map_or(0, |_| self.waive(first));
        if let Some(Checkpoint { position, time, .. }) = self.expected.range(..first).find_map(|(_, expected)| expected.first()) {
            let what = format!(
                "the log begins with record {first}, and record {} was signed for at {time}; put the files that were put away beside the log, or \
                 say which record it is known to begin with (--from)",
                position.sequence
            );
            return Err(self.fault(what));
        }
        if any && self.expected.is_empty() && self.summary.checkpoints == 0 {
            let what = format!("no checkpoint is of record {} or a later one, so that nothing shows that this is the log", first - 1);
            return Err(self.fault(what));
        }
        if put_away > 0 {
            self.summary.notes.push(format!("checkpoints of records that were put away: {put_away}"));
        }
        let before = record.entry.previous.as_deref().unwrap_or("another file");
        self.summary.notes.push(format!("the log begins in {}, as its first record says, which is not here", printable(before, 256)));
        Ok(())
    }

    /// Takes out the checkpoints of the records before this one. Gives their number.
    fn waive(&mut self, before: u64) -> usize {
        let later = self.expected.split_off(&before);
        std::mem::replace(&mut self.expected, later).values().map(Vec::len).sum()
    }

    fn fault(&self, what: String) -> Fault {
        let sequence = self.summary.last.map_or(1, |last| last.sequence + 1);
        Fault { file: self.file.clone(), line: self.line, sequence, what }
    }

    /// Checks what can only be told at the end.
    ///
    /// # Errors
    /// If the last line is no record and a crash didn't leave it, or records are missing that were signed for.
    pub fn finish(mut self) -> Result<Summary, Fault> {
        match self.torn.take() {
            Some(Remains { fault, ended: true, .. }) => return Err(fault),
            Some(Remains { fault, .. }) => {
                self.summary
                    .notes
                    .push(format!("{}: line {}: it is torn, as a crash leaves it; the next record will say so", fault.file, fault.line));
            }
            None => {}
        }
        let last = self.summary.last.map_or(0, |last| last.sequence);
        // None is left of a record that is here, or before the first one.
        if let Some(Checkpoint { position, time, .. }) = self.expected.values().next_back().and_then(|expected| expected.first()) {
            // It is the next line that isn't there.
            self.line += 1;
            let what =
                format!("the log was cut off: record {} was signed for at {time}, and the last one here is {last}", position.sequence);
            return Err(self.fault(what));
        }
        if let Some(from) = self.from
            && last == 0
        {
            self.line += 1;
            return Err(self.fault(format!("there is no record, and the log is known to begin with record {from} or one before it")));
        }
        Ok(self.summary)
    }
}

fn is_said(torn: &Remains, said: &Torn) -> bool {
    let digest = Digest::from_bytes(torn.digest.clone().finalize().into());
    torn.bytes == said.bytes && digest.to_string() == said.sha256
}

/// The files of a log, the oldest first: those that were rotated away, and the one that is written to, if it is there.
///
/// # Errors
/// If their folder can't be read.
pub fn files(log: &Path) -> std::io::Result<Vec<PathBuf>> {
    let rotated = file::rotated(log)?.into_iter().map(|(_, path)| path);
    Ok(rotated.chain(log.try_exists()?.then(|| log.to_owned())).collect())
}

/// Checks a log, and shows each record as it is read. What it has to agree with are checkpoints, or [`Expected`].
///
/// # Errors
/// Outside: that a file can't be read. Inside: the first fault.
pub fn verify(files: &[PathBuf], expected: impl Into<Expected>, mut show: impl FnMut(&Record)) -> std::io::Result<Result<Summary, Fault>> {
    let mut verifier = Verifier::new(expected);
    for path in files {
        verifier.begin(shown::path(path).to_string());
        let mut reader = BufReader::with_capacity(128 << 10, File::open(path)?);
        let mut line = Vec::new();
        while reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
            match verifier.line(&line) {
                Ok(record) => record.iter().for_each(&mut show),
                Err(fault) => return Ok(Err(fault)),
            }
            line.clear();
        }
    }
    Ok(verifier.finish())
}

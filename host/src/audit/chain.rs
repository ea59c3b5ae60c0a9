//! The log's file: records appended to one chain by many processes at once.
//!
//! The file is only ever appended to, so that it can have the attribute "append only" (`chattr +a`). Whoever appends holds its lock;
//! whoever finds that its name is another file's by then begins anew, and goes on only if that one continues what it knows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use super::file;
use super::obstacle::Obstacle;
use super::record::{self, Entry, Event, Flaw, Position, Torn};
use crate::digest::Digest;

/// How much of a file's end is read at first: mostly enough for its last record.
const FIRST_LOOK: u64 = 8 << 10;
/// The most bytes after the last record that are taken for what a crash left.
const MAX_TORN: u64 = 4 << 20;
/// How much of a file's beginning is read for its first record, before which a crash may have left another one's beginning.
const BEGINNING: u64 = 4 * record::MAX_LINE as u64;

/// The chain in one file, and those that it continues.
pub(super) struct Chain {
    path: PathBuf,
    rotate_at: Option<u64>,
    open: Option<Open>,
    /// What stays true of the log, whatever becomes of the file, unless somebody tampers with it.
    known: Option<Known>,
    /// How the file's lock is given back: in a test, it isn't.
    unlock: fn(&File) -> std::io::Result<()>,
}

/// The file that is open.
struct Open {
    file: File,
    /// Whether it is the one whose end is known.
    is_known: bool,
}

/// The last record when this process last wrote, and where its line ended in its file.
#[derive(Clone, Copy)]
struct Known {
    last: Position,
    end: u64,
}

/// The end of a file.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Tail {
    /// The last record; `None`: there is none.
    pub last: Option<Position>,
    /// What stands after it and is no record.
    pub torn: Vec<u8>,
    /// Whether the file ends with a line end.
    pub ended: bool,
}

/// Where to go on: the last record, what has to be written to end its line, and the record that says what is unusual there.
type Resumed = (Position, String, Option<Entry>);

/// What was appended.
pub(super) struct Appended {
    pub lines: Vec<String>,
    pub before: Position,
    pub last: Position,
}

impl Chain {
    pub fn new(path: PathBuf, rotate_at: Option<u64>) -> Self {
        Self { path, rotate_at, open: None, known: None, unlock: File::unlock }
    }

    /// Appends these records, and returns when they are on the disk.
    pub fn append(&mut self, entries: &[Entry], deadline: Instant) -> Result<Appended, Obstacle> {
        let appended = loop {
            let step = self.locked(deadline, |chain, open| match chain.is_full(open)? {
                true => chain.move_away(open).map(|_| None),
                false => chain.write(open, entries).map(Some),
            });
            // What was moved away is found to be so in the next round.
            if let Some(appended) = step? {
                break appended;
            }
        };
        // The lock is free by now: processes that wait for the disk wait together.
        self.sync()?;
        Ok(appended)
    }

    /// Goes on in a new file. Gives the name of the old one.
    pub fn rotate(&mut self, deadline: Instant) -> Result<(PathBuf, Appended), Obstacle> {
        let old = self.locked(deadline, |chain, open| chain.move_away(open))?;
        Ok((old, self.append(&[], deadline)?))
    }

    /// The last record, whoever wrote it; that of the genesis if there is none.
    pub fn last(&mut self, deadline: Instant) -> Result<Position, Obstacle> {
        self.locked(deadline, |chain, open| Ok(chain.resume(&open.file)?.0))
    }

    /// Does what an append does up to where it would write, and makes no file.
    pub fn check(&self, deadline: Instant) -> Result<(), Obstacle> {
        file::ready(&self.path)?;
        match file::open_existing(&self.path)? {
            Some(file) => file::lock(&file, deadline).and_then(|()| self.resume(&file).map(drop)),
            None => self.predecessor().and_then(|(last, _)| self.check_known(None, last)),
        }
    }

    /// What isn't open any more is not known to be on the disk.
    fn sync(&self) -> Result<(), Obstacle> {
        let open = self.open.as_ref().ok_or(Obstacle::Closed)?;
        open.file.sync_data().map_err(Obstacle::to("it can't be brought to the disk"))
    }

    fn open_file(&self) -> Result<File, Obstacle> {
        match file::open_existing(&self.path)? {
            Some(file) => Ok(file),
            None => file::open(&self.path, file::first_mode(&self.path)?),
        }
    }

    /// Does something with the file while this process alone may.
    fn locked<T>(&mut self, deadline: Instant, act: impl FnOnce(&mut Self, &mut Open) -> Result<T, Obstacle>) -> Result<T, Obstacle> {
        let mut open = loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => Open { file: self.open_file()?, is_known: false },
            };
            file::lock(&open.file, deadline)?;
            if file::is_at(&open.file, &self.path) {
                break open;
            }
        };
        let outcome = act(self, &mut open);
        let unlocked = (self.unlock)(&open.file).map_err(Obstacle::to("its lock can't be given back"));
        // After a failure the file is looked at anew.
        let outcome = outcome.and_then(|done| unlocked.map(|()| done))?;
        self.open = Some(open);
        Ok(outcome)
    }

    fn write(&mut self, open: &mut Open, entries: &[Entry]) -> Result<Appended, Obstacle> {
        let length = open.file.metadata()?.len();
        let (before, mut text, first) = match self.known {
            Some(Known { last, end }) if open.is_known && end == length => (last, String::new(), None),
            _ => self.resume(&open.file)?,
        };
        let (mut last, mut lines) = (before, Vec::with_capacity(entries.len() + 1));
        for entry in first.iter().chain(entries) {
            let (line, position) = record::write(entry, last);
            text.push_str(&line);
            text.push('\n');
            lines.push(line);
            last = position;
        }
        if last.sequence > record::MAX_SEQUENCE {
            return Err(Obstacle::Numbers);
        }
        std::io::Write::write_all(&mut open.file, text.as_bytes())?;
        open.is_known = last != Position::GENESIS;
        self.known = open.is_known.then_some(Known { last, end: length + text.len() as u64 });
        if length == 0 {
            if let Some((_, old)) = file::rotated(&self.path)?.pop() {
                file::keep_readers(&open.file, &old);
            }
            file::sync_folder(&self.path)?;
        }
        Ok(Appended { lines, before, last })
    }

    fn resume(&self, file: &File) -> Result<Resumed, Obstacle> {
        let tail = tail(file)?;
        let (last, continued) = match tail.last {
            Some(last) => (last, None),
            None => self.predecessor()?,
        };
        self.check_known(Some(file), last)?;
        let end = if tail.ended { "" } else { "\n" };
        let repaired = (!tail.torn.is_empty()).then(|| {
            let torn = [&tail.torn, end.as_bytes()].concat();
            let torn = Torn { bytes: torn.len() as u64, sha256: Digest::of(&torn).to_string() };
            Entry { event: Event::Repaired, torn: Some(torn), ..super::blank() }
        });
        match (continued, repaired) {
            // Both at once: one record says both.
            (Some(continued), Some(repaired)) => Ok((last, end.into(), Some(Entry { torn: repaired.torn, ..continued }))),
            (continued, repaired) => Ok((last, end.into(), continued.or(repaired))),
        }
    }

    /// What a file without records continues: the newest of those that were rotated away, or nothing.
    fn predecessor(&self) -> Result<(Position, Option<Entry>), Obstacle> {
        let Some((_, path)) = file::rotated(&self.path)?.pop() else {
            return Ok((Position::GENESIS, None));
        };
        let name = file::name(&path);
        let broken = |reason: String| Obstacle::Predecessor { name: name.clone(), reason };
        let last = file::open_rotated(&path).and_then(|file| tail(&file)).map_err(|obstacle| broken(obstacle.to_string()))?;
        match last {
            Tail { last: Some(last), torn, .. } if torn.is_empty() => {
                Ok((last, Some(Entry { event: Event::Continued, previous: Some(name), ..super::blank() })))
            }
            _ => Err(broken("it doesn't end with a record".into())),
        }
    }

    /// Whether the record that this process knows still stands where it stood, or the file continues one in which it did. Others may have
    /// written and rotated since. `last` is where the chain ends.
    fn check_known(&self, file: Option<&File>, last: Position) -> Result<(), Obstacle> {
        let Some(known) = self.known else { return Ok(()) };
        if file.is_some_and(|file| known.stands_in(file)) {
            return Ok(());
        }
        let start = file.map(begins_after).transpose()?.flatten().unwrap_or(last);
        match start.sequence > known.last.sequence || start == known.last {
            true => Ok(()),
            false => Err(Obstacle::Lost(known.last.sequence)),
        }
    }

    fn is_full(&self, open: &Open) -> Result<bool, Obstacle> {
        let length = open.file.metadata()?.len();
        Ok(self.rotate_at.is_some_and(|limit| length >= limit))
    }

    /// Gives the file another name. Whoever comes next begins a new one, which continues it: also if this process ends here.
    fn move_away(&mut self, open: &mut Open) -> Result<PathBuf, Obstacle> {
        // What a crash left is repaired before.
        let Appended { last, .. } = self.write(open, &[])?;
        if last == Position::GENESIS {
            return Err(Obstacle::Empty);
        }
        open.file.sync_data()?;
        let to = file::rotated_name(&self.path, last.sequence);
        if to.exists() {
            return Err(Obstacle::Taken(to));
        }
        std::fs::rename(&self.path, &to).map_err(Obstacle::to(&format!("it can't be moved to {}", crate::shown::path(&to))))?;
        file::sync_folder(&self.path)?;
        Ok(to)
    }
}

impl Known {
    fn stands_in(&self, file: &File) -> bool {
        let seal = record::seal(self.last.hash) + "\n";
        let mut found = vec![0; seal.len()];
        let start = self.end.checked_sub(seal.len() as u64);
        start.is_some_and(|start| file.read_exact_at(&mut found, start).is_ok() && found == seal.as_bytes())
    }
}

/// The record that a file's first one follows: the genesis unless the file continues another one; `None`: there is no record.
fn begins_after(file: &File) -> Result<Option<Position>, Obstacle> {
    let mut beginning = vec![0; file.metadata()?.len().min(BEGINNING) as usize];
    file.read_exact_at(&mut beginning, 0).map_err(Obstacle::to("its beginning can't be read"))?;
    let first = beginning.split(|&byte| byte == b'\n').find_map(|line| record::read(line).ok());
    Ok(first.map(|record| match record.entry.event {
        Event::Continued => Position { sequence: record.position.sequence.saturating_sub(1), hash: record.previous },
        _ => Position::GENESIS,
    }))
}

/// Reads a file from its end until a record is found.
pub(super) fn tail(file: &File) -> Result<Tail, Obstacle> {
    let length = file.metadata()?.len();
    let mut look = FIRST_LOOK;
    loop {
        let start = length.saturating_sub(look);
        let mut bytes = vec![0; (length - start) as usize];
        file.read_exact_at(&mut bytes, start).map_err(Obstacle::to("its end can't be read"))?;
        if let Some(tail) = last_record(&bytes, start == 0)? {
            return Ok(tail);
        }
        if look >= MAX_TORN {
            return Err(Obstacle::NoRecord(look));
        }
        look *= 8;
    }
}

/// The last record in the end of a file, which begins with the file's beginning or in the middle of a line.
fn last_record(bytes: &[u8], whole: bool) -> Result<Option<Tail>, Obstacle> {
    let ended = bytes.is_empty() || bytes.ends_with(b"\n");
    let mut end = bytes.len() - usize::from(ended && !bytes.is_empty());
    loop {
        let start = bytes[..end].iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
        let (Some(start), line_begins) = (start.or(whole.then_some(0)), start) else { return Ok(None) };
        match record::read(&bytes[start..end]) {
            Ok(record) => {
                let torn = bytes.get(end + 1..).unwrap_or_default().to_vec();
                return Ok(Some(Tail { last: Some(record.position), torn, ended }));
            }
            Err(Flaw::Torn) => {}
            Err(flaw) => return Err(Obstacle::Changed(flaw)),
        }
        match line_begins {
            Some(_) => end = start - 1,
            None => break,
        }
    }
    match begins_as_a_log(bytes) {
        true => Ok(Some(Tail { last: None, torn: bytes.to_vec(), ended })),
        false => Err(Obstacle::NoLog),
    }
}

/// Whether a file without a whole record can be one that a crash left: somebody's other file is not to be written to.
fn begins_as_a_log(bytes: &[u8]) -> bool {
    let start = record::START.as_bytes();
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.starts_with(start) || start.starts_with(line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn chain() -> (tempfile::TempDir, Chain) {
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain::new(folder.path().join("audit.jsonl"), None);
        (folder, chain)
    }

    fn append(chain: &mut Chain) -> Result<Appended, Obstacle> {
        chain.append(&[super::super::blank()], Instant::now() + Duration::from_secs(5))
    }

    #[test]
    fn a_record_whose_files_lock_is_not_given_back_is_not_said_to_be_on_the_disk() {
        let (_folder, mut chain) = chain();
        append(&mut chain).unwrap();
        chain.unlock = |_| Err(std::io::ErrorKind::Other.into());
        let obstacle = append(&mut chain).err().expect("it was not synced").to_string();
        assert!(obstacle.starts_with("its lock can't be given back: "), "{obstacle}");
        chain.unlock = File::unlock;
        // What was written is there, and goes on.
        assert_eq!(append(&mut chain).unwrap().last.sequence, 3);
    }

    #[test]
    fn a_file_that_is_not_open_is_not_said_to_be_on_the_disk() {
        let (_folder, chain) = chain();
        assert!(matches!(chain.sync(), Err(Obstacle::Closed)));
    }
}

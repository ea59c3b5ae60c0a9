//! The log's file: records appended to one chain by many processes at once.
//!
//! The file is only ever appended to, so that it can have the attribute "append only" (`chattr +a`). Whoever appends holds its lock;
//! whoever finds that its name is another file's by then begins anew.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;

use super::record::{self, Entry, Event, Flaw, Position, Torn};
use crate::config;
use crate::digest::Digest;

/// The longest wait between two looks at a lock that somebody else has.
const MAX_PAUSE: Duration = Duration::from_millis(4);
/// How much of a file's end is read at first: mostly enough for its last record.
const FIRST_LOOK: u64 = 8 << 10;
/// The most bytes after the last record that are taken for what a crash left.
const MAX_TORN: u64 = 4 << 20;
/// A disk with less room than this is as good as full.
const MIN_ROOM: u64 = 256 << 10;
/// Digits of the number in the name of a file that was rotated away, so that names sort as numbers do.
const DIGITS: usize = 12;

/// The chain in one file, and those that it continues.
pub(super) struct Chain {
    path: PathBuf,
    rotate_at: Option<u64>,
    open: Option<Open>,
}

/// The file that is open, and where it ended when this process last wrote to it.
struct Open {
    file: File,
    end: Option<(u64, Position)>,
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

/// What was appended.
pub(super) struct Appended {
    pub lines: Vec<String>,
    pub before: Position,
    pub last: Position,
}

/// Why nothing could be appended.
pub(super) type Reason = String;

impl Chain {
    pub fn new(path: PathBuf, rotate_at: Option<u64>) -> Self {
        Self { path, rotate_at, open: None }
    }

    /// Appends these records, and returns when they are on the disk.
    pub fn append(&mut self, entries: &[Entry], deadline: Instant) -> Result<Appended, Reason> {
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
    pub fn rotate(&mut self, deadline: Instant) -> Result<(PathBuf, Appended), Reason> {
        let old = self.locked(deadline, |chain, open| chain.move_away(open))?;
        Ok((old, self.append(&[], deadline)?))
    }

    /// The last record, if there is one.
    pub fn last(&mut self, deadline: Instant) -> Result<Option<Position>, Reason> {
        self.locked(deadline, |_, open| Ok(tail(&open.file)?.last))
    }

    fn sync(&self) -> Result<(), Reason> {
        let Some(open) = &self.open else { return Ok(()) };
        open.file.sync_data().map_err(|error| format!("it can't be brought to the disk: {error}"))
    }

    /// Does something with the file while this process alone may.
    fn locked<T>(&mut self, deadline: Instant, act: impl FnOnce(&Self, &mut Open) -> Result<T, Reason>) -> Result<T, Reason> {
        let mut open = loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => Open { file: open(&self.path)?, end: None },
            };
            lock(&open.file, deadline)?;
            if is_at(&open.file, &self.path) {
                break open;
            }
        };
        let outcome = act(self, &mut open);
        let unlocked = open.file.unlock().map_err(|error| error.to_string());
        // After a failure nothing is remembered: the file is looked at anew.
        if outcome.is_ok() && unlocked.is_ok() {
            self.open = Some(open);
        }
        outcome
    }

    fn write(&self, open: &mut Open, entries: &[Entry]) -> Result<Appended, Reason> {
        let length = open.file.metadata().map_err(|error| error.to_string())?.len();
        let (before, mut text, first) = match open.end {
            Some((end, position)) if end == length => (position, String::new(), None),
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
        open.file.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        open.end = Some((length + text.len() as u64, last));
        if length == 0 {
            sync_folder(&self.path)?;
        }
        Ok(Appended { lines, before, last })
    }

    /// Where to go on: the last record, what has to be written to end its line, and the record that says what is unusual there.
    fn resume(&self, file: &File) -> Result<(Position, String, Option<Entry>), Reason> {
        let tail = tail(file)?;
        let (last, continued) = match tail.last {
            Some(last) => (last, None),
            None => self.predecessor()?,
        };
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
    fn predecessor(&self) -> Result<(Position, Option<Entry>), Reason> {
        let Some((_, path)) = rotated(&self.path).map_err(|error| error.to_string())?.pop() else {
            return Ok((Position::GENESIS, None));
        };
        let name = file_name(&path);
        let broken = |reason: String| format!("{name}, which it continues: {reason}");
        let last = File::open(&path).map_err(|error| error.to_string()).and_then(|file| tail(&file)).map_err(broken)?;
        match last {
            Tail { last: Some(last), torn, .. } if torn.is_empty() => {
                Ok((last, Some(Entry { event: Event::Continued, previous: Some(name), ..super::blank() })))
            }
            _ => Err(broken("it doesn't end with a record".into())),
        }
    }

    fn is_full(&self, open: &Open) -> Result<bool, Reason> {
        let length = open.file.metadata().map_err(|error| error.to_string())?.len();
        Ok(self.rotate_at.is_some_and(|limit| length >= limit))
    }

    /// Gives the file another name. Whoever comes next begins a new one, which continues it: also if this process ends here.
    fn move_away(&self, open: &mut Open) -> Result<PathBuf, Reason> {
        // What a crash left is repaired before.
        let Appended { last, .. } = self.write(open, &[])?;
        if last == Position::GENESIS {
            return Err("it has no record yet".into());
        }
        open.file.sync_data().map_err(|error| error.to_string())?;
        let to = self.path.with_file_name(format!("{}.{:0DIGITS$}", file_name(&self.path), last.sequence));
        if to.exists() {
            return Err(format!("{} is there already", to.display()));
        }
        std::fs::rename(&self.path, &to).map_err(|error| format!("it can't be moved to {}: {error}", to.display()))?;
        sync_folder(&self.path)?;
        Ok(to)
    }
}

/// Whether a record could be appended, as far as can be told without a try: for saying no before a service is called.
pub(super) fn ready(path: &Path) -> Result<(), Reason> {
    let folder = config::Audit::folder_of(path);
    // One look at the file, not two: it may be rotated away at any time, and then a new one is made in its folder.
    let access = match rustix::fs::access(path, Access::WRITE_OK | Access::READ_OK) {
        Err(Errno::NOENT) => rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK),
        access => access,
    };
    access.map_err(|error| error.to_string())?;
    let disk = rustix::fs::statvfs(folder).map_err(|error| error.to_string())?;
    match disk.f_bavail.saturating_mul(disk.f_frsize) >= MIN_ROOM {
        true => Ok(()),
        false => Err("the disk is full".into()),
    }
}

/// The files that were rotated away from a log, the oldest first, with their last records' numbers.
pub(super) fn rotated(path: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let name = file_name(path);
    let number = |other: &str| {
        let digits = other.strip_prefix(&name)?.strip_prefix('.')?;
        (digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(config::Audit::folder_of(path))? {
        let path = entry?.path();
        files.extend(number(&file_name(&path)).map(|number: u64| (number, path)));
    }
    files.sort();
    Ok(files)
}

/// Reads a file from its end until a record is found.
pub(super) fn tail(file: &File) -> Result<Tail, Reason> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut look = FIRST_LOOK;
    loop {
        let start = length.saturating_sub(look);
        let mut bytes = vec![0; (length - start) as usize];
        file.read_exact_at(&mut bytes, start).map_err(|error| format!("its end can't be read: {error}"))?;
        if let Some(tail) = last_record(&bytes, start == 0)? {
            return Ok(tail);
        }
        if look >= MAX_TORN {
            return Err(format!("there is no record among its last {look} bytes"));
        }
        look *= 8;
    }
}

/// The last record in the end of a file, which begins with the file's beginning or in the middle of a line.
fn last_record(bytes: &[u8], whole: bool) -> Result<Option<Tail>, Reason> {
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
            Err(flaw) => return Err(format!("its last line is no record: {flaw}")),
        }
        match line_begins {
            Some(_) => end = start - 1,
            None => break,
        }
    }
    match begins_as_a_log(bytes) {
        true => Ok(Some(Tail { last: None, torn: bytes.to_vec(), ended })),
        false => Err("it is no audit log".into()),
    }
}

/// Whether a file without a whole record can be one that a crash left: somebody's other file is not to be written to.
fn begins_as_a_log(bytes: &[u8]) -> bool {
    let start = record::START.as_bytes();
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.starts_with(start) || start.starts_with(line)
}

fn open(path: &Path) -> Result<File, Reason> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags as i32).open(path);
    let file = file.map_err(|error| match path.is_symlink() {
        true => "it is a symbolic link; name the file itself".to_owned(),
        false => error.to_string(),
    })?;
    match file.metadata() {
        Ok(data) if data.is_file() => Ok(file),
        Ok(_) => Err("it is no file".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits for the lock as long as there is time.
fn lock(file: &File, deadline: Instant) -> Result<(), Reason> {
    let mut pause = Duration::from_micros(50);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() + pause < deadline => std::thread::sleep(pause),
            Err(TryLockError::WouldBlock) => return Err("another process held its lock until the exchange's deadline".into()),
            Err(TryLockError::Error(error)) => return Err(format!("it can't be locked: {error}")),
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Whether a file still has its name: it may have been rotated away.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A new name is on the disk when its folder is.
fn sync_folder(path: &Path) -> Result<(), Reason> {
    File::open(config::Audit::folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| format!("its folder can't be brought to the disk: {error}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

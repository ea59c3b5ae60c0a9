//! What keeps a record from being written, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::record::Flaw;
use crate::Error;
use crate::error::printable;
use crate::permissions::{Exposed, user};
use crate::shown;

/// What a log is called that has no file.
pub(super) const NO_FILE: &str = "the audit log";

/// Why nothing is written, as a sentence about "it".
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// The system says no; `what` is what it says no to.
    #[error("{what}{error}")]
    System { what: String, error: io::Error },
    #[error("the disk is full")]
    Full,
    #[error("it is a symbolic link")]
    Link,
    #[error("it is no file")]
    NoFile,
    #[error("{0}")]
    Exposed(Exposed),
    #[error("it is no audit log")]
    NoLog,
    #[error("its last line is no record: {0}")]
    Changed(Flaw),
    #[error("there is no record among its last {0} bytes")]
    NoRecord(u64),
    /// A file that was rotated away can't be continued.
    #[error("{name}, which it continues: {reason}")]
    Predecessor { name: String, reason: String },
    /// The record with this number is missing.
    #[error(
        "record {0}, the last that this process knows of, is neither in it nor in what it continues: it was removed, replaced or cut off"
    )]
    Lost(u64),
    #[error("{} is there already", shown::path(.0))]
    Taken(PathBuf),
    #[error("it has no record yet")]
    Empty,
    #[error("it isn't open any more, so that it isn't known to be on the disk")]
    Closed,
    #[error("its last record has the greatest number that there is")]
    Numbers,
    /// So many records wait already.
    #[error("{0} records wait to be written, as many as may")]
    Behind(usize),
    #[error("it is being written all the time: its disk or a sink hangs")]
    Busy,
    #[error("another process held its lock until the deadline")]
    Locked,
    #[error("the record was not on the disk before the exchange's deadline")]
    Late,
    #[error("its writer has ended")]
    Ended,
    /// A sink doesn't take a record.
    #[error("{0}")]
    Sink(String),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::System { what: String::new(), error }
    }
}

impl Obstacle {
    /// What the system says no to, in words that `: ` and its reason follow.
    pub fn to(what: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what: format!("{what}: "), error }
    }

    /// The error about this file or sink.
    pub fn at(&self, place: &Path) -> Error {
        Error::Audit { place: self.name_of(place), reason: printable(&self.to_string(), 1024), hint: self.hint(place) }
    }

    /// A file is called by its path, and a sink as its maker calls it.
    fn name_of(&self, place: &Path) -> String {
        if matches!(self, Self::Sink(_)) || place == Path::new(NO_FILE) {
            return printable(&place.to_string_lossy(), 128);
        }
        shown::path(place).to_string()
    }

    fn hint(&self, place: &Path) -> String {
        const AWAY: &str = "stop what writes there, keep it under another name for whoever finds out why, and start anew";
        let name = shown::path(place);
        match self {
            Self::System { error, .. } => of_system(error),
            Self::Full => of_system(&io::ErrorKind::StorageFull.into()),
            Self::Link => "name the file itself in `[audit]`".into(),
            Self::NoFile => "name a file in `[audit]`, which need not be there yet".into(),
            Self::Exposed(exposed) => exposed.remedy(place),
            Self::NoLog => "it is left as it is; name another file in `[audit]`".into(),
            Self::Changed(_) | Self::NoRecord(_) | Self::Numbers => AWAY.into(),
            Self::Predecessor { .. } => format!("put that file back as it was; or {AWAY}"),
            Self::Lost(record) => {
                format!("put the file with record {record} back; if it is gone, find out why and start anew, by which another log begins")
            }
            Self::Taken(_) => "see what that file is, and move it away".into(),
            Self::Empty => "the next exchange makes one".into(),
            Self::Locked => format!("see which one has it, and what it waits for: fuser {name}"),
            Self::Late => "see what keeps its disk or its sinks busy, or raise `deadline-seconds`".into(),
            Self::Behind(_) | Self::Busy => "see what keeps its disk or its sinks busy".into(),
            Self::Closed => "see what is wrong with its disk".into(),
            Self::Ended => "start this program anew".into(),
            Self::Sink(_) => "see why it takes no record; those in `sinks` below `[audit]` can be taken out there".into(),
        }
    }
}

fn of_system(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room on its disk, or name a file on another one in `[audit]`".into()
        }
        io::ErrorKind::PermissionDenied => {
            format!("give user {} the right to write there, in the file and its folder, or name another file in `[audit]`", user())
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "make its folder, or name another file in `[audit]`".into(),
        io::ErrorKind::ReadOnlyFilesystem => "name a file in `[audit]` that can be written".into(),
        _ => "see what is wrong there, or name another file in `[audit]`".into(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn each_obstacle_is_told_with_what_helps_against_it() {
        let line = |obstacle: Obstacle| obstacle.at(Path::new("/log/audit.jsonl")).line();
        let system = |errno: Errno| Obstacle::from(io::Error::from(errno));
        for (obstacle, says) in [
            (Obstacle::Full, "the disk is full; no key is used without a record; make room on its disk"),
            (system(Errno::NOSPC), "make room on its disk"),
            (system(Errno::DQUOT), "make room on its disk"),
            (system(Errno::ACCESS), "give user "),
            (system(Errno::NOENT), "make its folder"),
            (system(Errno::ROFS), "name a file in `[audit]` that can be written"),
            (Obstacle::Link, "name the file itself"),
            (Obstacle::Changed(Flaw::Changed), "keep it under another name"),
            (Obstacle::Locked, "fuser /log/audit.jsonl"),
            (Obstacle::Lost(7), "put the file with record 7 back"),
            (Obstacle::Exposed(Exposed::Writable { mode: 0o646, owner: 0, group: 0 }), "chmod go-w /log/audit.jsonl"),
        ] {
            let line = line(obstacle);
            assert!(line.starts_with("/log/audit.jsonl: the audit log can't be written: ") && line.contains(says), "{line}");
            assert_eq!(line.contains("make room"), says.contains("make room"), "{line}");
        }
    }
}

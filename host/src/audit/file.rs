//! The log's files on the disk: how they are opened, locked and named.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;

use super::obstacle::Obstacle;
use crate::config;
use crate::permissions::check_unexposed;

/// The longest wait between two looks at a lock that somebody else has.
const MAX_PAUSE: Duration = Duration::from_millis(4);
/// A disk with less room than this is as good as full.
const MIN_ROOM: u64 = 256 << 10;
/// Digits of the number in the name of a file that was rotated away, so that names sort as numbers do.
const DIGITS: usize = 12;

/// Whether a file could be appended to, as far as can be told without opening it: for saying no before a service is called.
pub(super) fn ready(path: &Path) -> Result<(), Obstacle> {
    let folder = config::Audit::folder_of(path);
    // One look at the file, not two: it may be rotated away at any time, and then a new one is made in its folder.
    let access = match rustix::fs::access(path, Access::WRITE_OK | Access::READ_OK) {
        Err(Errno::NOENT) => rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK),
        access => access,
    };
    access.map_err(std::io::Error::from)?;
    let disk = rustix::fs::statvfs(folder).map_err(std::io::Error::from)?;
    match disk.f_bavail.saturating_mul(disk.f_frsize) >= MIN_ROOM {
        true => Ok(()),
        false => Err(Obstacle::Full),
    }
}

/// Opens a file to append to; if there is none, it is made with this mode.
pub(super) fn open(path: &Path, mode: u32) -> Result<File, Obstacle> {
    opened(OpenOptions::new().append(true).create(true).mode(mode), path)
}

/// Opens a file as [`open`] does, but makes none.
pub(super) fn open_existing(path: &Path) -> Result<Option<File>, Obstacle> {
    match opened(OpenOptions::new().append(true), path) {
        Err(Obstacle::System { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Opens a file that was rotated away, to read how it ends.
pub(super) fn open_rotated(path: &Path) -> Result<File, Obstacle> {
    opened(&mut OpenOptions::new(), path)
}

/// The mode that a log's file is made with: that of the one that it continues, if it will be of the same group, else its user's alone.
pub(super) fn first_mode(path: &Path) -> Result<u32, Obstacle> {
    const SETGID: u32 = 0o2000;
    let Some((_, old)) = rotated(path)?.pop() else { return Ok(0o600) };
    // One that can't be continued is told of by whoever continues it.
    let Ok(old) = open_rotated(&old) else { return Ok(0o600) };
    let (old, folder) = (old.metadata()?, config::Audit::folder_of(path).metadata()?);
    let group = if folder.mode() & SETGID != 0 { folder.gid() } else { rustix::process::getegid().as_raw() };
    Ok(if group == old.gid() { old.mode() & 0o777 } else { 0o600 })
}

/// Whoever could read a log can read the file that continues it: it gets the group and the mode of the one that was rotated away. Where this process may
/// not give it to that group, it stays this user's alone.
pub(super) fn keep_readers(file: &File, old: &Path) {
    let keep = || -> Result<(), Obstacle> {
        let (old, new) = (open_rotated(old)?.metadata()?, file.metadata()?);
        if old.gid() != new.gid() {
            fchown(file, None, Some(old.gid()))?;
        }
        let mode = old.mode() & 0o777;
        // A hardened process may change no modes.
        if mode == new.mode() & 0o777 { Ok(()) } else { Ok(file.set_permissions(PermissionsExt::from_mode(mode))?) }
    };
    if let Err(obstacle) = keep() {
        tracing::warn!(reason = %obstacle, "the audit log's new file is this user's alone");
    }
}

/// Neither follows a link nor waits for the other end of a pipe.
fn opened(options: &mut OpenOptions, path: &Path) -> Result<File, Obstacle> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| match path.symlink_metadata() {
        Ok(data) if data.is_symlink() => Obstacle::Link,
        Ok(data) if !data.is_file() => Obstacle::NoFile,
        _ => error.into(),
    })?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(Obstacle::NoFile);
    }
    check_unexposed(&data).map_err(Obstacle::Exposed)?;
    Ok(file)
}

/// Waits for the lock as long as there is time.
pub(super) fn lock(file: &File, deadline: Instant) -> Result<(), Obstacle> {
    let mut pause = Duration::from_micros(50);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() + pause < deadline => std::thread::sleep(pause),
            Err(TryLockError::WouldBlock) => return Err(Obstacle::Locked),
            Err(TryLockError::Error(error)) => return Err(Obstacle::to("it can't be locked")(error)),
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Whether a file still has its name: it may have been rotated away.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A new name is on the disk when its folder is.
pub(super) fn sync_folder(path: &Path) -> Result<(), Obstacle> {
    File::open(config::Audit::folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(Obstacle::to("its folder can't be brought to the disk"))
}

/// The name that a log has once it is rotated away, with its last record's number.
pub(super) fn rotated_name(path: &Path, number: u64) -> PathBuf {
    path.with_file_name(format!("{}.{number:0DIGITS$}", name(path)))
}

/// The files that were rotated away from a log, the oldest first, with their last records' numbers.
pub(super) fn rotated(path: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let log = name(path);
    let number = |other: &str| {
        let digits = other.strip_prefix(&log)?.strip_prefix('.')?;
        (digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(config::Audit::folder_of(path))? {
        let path = entry?.path();
        files.extend(number(&name(&path)).map(|number: u64| (number, path)));
    }
    files.sort();
    Ok(files)
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

//! The one way to open a file that decides about keys or holds a secret.
//!
//! What is checked is the file that was opened, so that nothing can be put in its place in between. Symbolic links are followed: Kubernetes' secrets
//! are some. The folders above are not looked at: who may write there could only put a file there that is refused for its owner.
//! `docs/configuration.md` has the table of files.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::Error;
use crate::permissions::{Exposed, check_secret, check_unexposed, user};
use crate::shown::{self, NoPath};

/// What a file is trusted with, and so who else may do what with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "http"), allow(dead_code))]
pub(crate) enum Trust {
    /// It decides who gets which key: nobody else may write it.
    Decides,
    /// It holds a secret that was made for this program: nobody else may write it or read it.
    Secret,
    /// It holds a secret that another program wrote, which has its own mind about modes: nobody else may write it. If others may read it, and this
    /// user could mend that, it is logged.
    Credential,
    /// Nothing: somebody looks at it, whoever may write it.
    Nothing,
}

/// Why a file is not used, as a sentence about "it".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    NoPath(#[from] NoPath),
    #[error("it is {0}, not a regular file")]
    NoFile(&'static str),
    #[error("{0}")]
    Exposed(#[from] Exposed),
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
}

impl Untrusted {
    /// What to do about it, if that isn't plain.
    pub fn remedy(&self, path: &Path) -> Option<String> {
        match self {
            Self::Exposed(exposed) => Some(exposed.remedy(path)),
            Self::NoFile(_) => Some("name the file itself".into()),
            Self::System(_) | Self::NoPath(_) | Self::TooLong(_) => None,
        }
    }

    /// Sentence and remedy.
    pub fn line(&self, path: &Path) -> String {
        self.remedy(path).map_or_else(|| self.to_string(), |remedy| format!("{self}; {remedy}"))
    }

    /// The error about a file that `what` calls by its role: `the credentials in`.
    #[cfg_attr(not(feature = "http"), allow(dead_code))]
    pub fn error(&self, what: &str, path: &Path) -> Error {
        Error::Configuration { place: format!("{what} {}", shown::path(path)), reason: self.line(path) }
    }
}

/// Reads a file that is trusted so, of at most so many bytes.
pub(crate) fn read(path: &Path, trust: Trust, limit: usize) -> Result<Zeroizing<Vec<u8>>, Untrusted> {
    let (file, metadata) = open(path, trust)?;
    // Sized beforehand, so that no copy of a secret is left behind by a buffer that grew.
    let length = metadata.len().min(limit as u64) as usize;
    let mut text = Zeroizing::new(Vec::with_capacity(length + 32));
    file.take(limit as u64 + 1).read_to_end(&mut text)?;
    if text.len() > limit { Err(Untrusted::TooLong(limit)) } else { Ok(text) }
}

/// Looks at a file that is trusted so, of at most so many bytes, before a library reads it by itself.
#[cfg_attr(not(feature = "aws"), allow(dead_code))]
pub(crate) fn check(path: &Path, trust: Trust, limit: usize) -> Result<(), Untrusted> {
    let (_, metadata) = open(path, trust)?;
    if metadata.len() > limit as u64 { Err(Untrusted::TooLong(limit)) } else { Ok(()) }
}

fn open(path: &Path, trust: Trust) -> Result<(File, Metadata), Untrusted> {
    let (file, metadata) = open_regular(path)?;
    if metadata.is_file() {
        check_permissions(path, &metadata, trust)?;
    }
    Ok((file, metadata))
}

/// Opens a file without waiting for anybody, and without a look at who may do what with it.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), Untrusted> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    // A text that is no path gives an error that says less, such as that the name is too long.
    let file = file.map_err(|error| shown::check_path(path).map_or_else(Untrusted::from, |()| error.into()))?;
    let metadata = file.metadata()?;
    if metadata.is_file() || is_null(&metadata) { Ok((file, metadata)) } else { Err(Untrusted::NoFile(kind(&metadata))) }
}

fn check_permissions(path: &Path, metadata: &Metadata, trust: Trust) -> Result<(), Exposed> {
    match trust {
        Trust::Nothing => Ok(()),
        Trust::Decides => check_unexposed(metadata),
        Trust::Secret => check_secret(metadata),
        Trust::Credential => {
            check_unexposed(metadata)?;
            if let (Err(exposed), true) = (check_secret(metadata), metadata.uid() == user()) {
                tracing::warn!(file = %shown::path(path), "{exposed}; {}", exposed.remedy(path));
            }
            Ok(())
        }
    }
}

/// `/dev/null` says what an empty file does, and nobody can change that.
fn is_null(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3)
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file_of_mode(mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    fn refused(path: &Path, trust: Trust) -> Option<String> {
        read(path, trust, 16).err().map(|error| error.line(path))
    }

    #[test]
    fn who_may_write_and_read_a_file_depends_on_what_it_is_trusted_with() {
        for (mode, decides, secret) in
            [(0o600, true, true), (0o400, true, true), (0o644, true, false), (0o646, false, false), (0o606, false, false)]
        {
            let file = file_of_mode(mode);
            let is_used = |trust| refused(file.path(), trust).is_none();
            assert_eq!(
                (is_used(Trust::Decides), is_used(Trust::Credential), is_used(Trust::Secret)),
                (decides, decides, secret),
                "{mode:o}"
            );
        }
        let line = refused(file_of_mode(0o644).path(), Trust::Secret).unwrap();
        assert!(line.starts_with("its mode is 0644, so others could read the secret in it; ") && line.contains("chmod go-rwx /"), "{line}");
    }

    #[test]
    fn a_group_may_read_a_secret_that_is_roots() {
        let own = user() != 0;
        assert_eq!(refused(file_of_mode(0o640).path(), Trust::Secret).is_some(), own, "a file of user {}", user());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_waited_for_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, says) in [(&pipe, "it is a pipe, not"), (&link, "it is a pipe, not"), (&folder.path().to_owned(), "it is a folder, not")]
        {
            assert!(refused(path, Trust::Decides).unwrap().starts_with(says), "{}", path.display());
        }
        assert_eq!(refused(Path::new("/dev/zero"), Trust::Decides).unwrap(), "it is a device, not a regular file; name the file itself");
        assert_eq!(refused(Path::new("/dev/null"), Trust::Decides), None);
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_a_text_that_is_no_path_is_described() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [b'x'; 16]).unwrap();
        assert_eq!(refused(file.path(), Trust::Secret), None);
        std::fs::write(file.path(), [b'x'; 17]).unwrap();
        assert_eq!(refused(file.path(), Trust::Secret).unwrap(), "it is longer than 16 bytes");
        let json = format!("{{\"private_key\":\"{}\"}}", "x".repeat(5000));
        assert_eq!(refused(Path::new(&json), Trust::Credential).unwrap(), "it holds JSON, not the path of a file");
    }
}

//! The section `[audit]`. What it means is in `docs/audit-log.md`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// Settings of the audit log. Without a file and without a sink there is none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Audit {
    /// The file that records are appended to.
    pub file: Option<PathBuf>,
    /// The size in MiB at which a file is rotated away; without it, only `ocicrypt-kms audit rotate` does it.
    pub rotate_mib: Option<u32>,
    /// Who else gets each record.
    pub sinks: Vec<AuditSink>,
    /// The file of the private key (Ed25519) that signs checkpoints.
    pub checkpoint_key: Option<PathBuf>,
    /// The file that checkpoints are appended to; without it, the log's name with `.checkpoints`.
    pub checkpoint_file: Option<PathBuf>,
    /// After how many records a checkpoint is made.
    pub checkpoint_every: u32,
}

/// Who else gets each record.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AuditSink {
    /// The journal of systemd.
    Journald,
    /// The syslog daemon of this machine.
    Syslog,
    /// Standard output, of `serve` alone.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: None, rotate_mib: None, sinks: Vec::new(), checkpoint_key: None, checkpoint_file: None, checkpoint_every: 1000 }
    }
}

impl Audit {
    /// The size in bytes at which a file is rotated away.
    ///
    /// # Errors
    /// If it is none.
    pub fn rotate_at(&self) -> Result<Option<u64>, Error> {
        match self.rotate_mib {
            Some(0) => Err(wrong("rotate-mib", "it is not at least 1")),
            size => Ok(size.map(|size| u64::from(size) << 20)),
        }
    }

    /// Whether it says how a log is kept: then it has to say where, too.
    #[must_use]
    pub fn wants_a_log(&self) -> bool {
        let Self { rotate_mib, checkpoint_key, checkpoint_file, checkpoint_every, .. } = self;
        rotate_mib.is_some()
            || checkpoint_key.is_some()
            || checkpoint_file.is_some()
            || *checkpoint_every != Self::default().checkpoint_every
    }

    /// The folders that the log's files are in.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.file.iter().chain(&self.checkpoint_file).map(|file| Self::folder_of(file).to_owned()).collect()
    }

    /// The folder that a file is in, also if its path is a name alone.
    pub(crate) fn folder_of(file: &Path) -> &Path {
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// The file of the key, the file of the checkpoints, and after how many records one is made.
    ///
    /// # Errors
    /// If they don't fit together.
    pub fn checkpoints(&self) -> Result<Option<(PathBuf, PathBuf, u64)>, Error> {
        if self.checkpoint_every == 0 {
            return Err(wrong("checkpoint-every", "it is not at least 1"));
        }
        match (&self.checkpoint_key, self.checkpoint_file()) {
            (None, _) => Ok(None),
            (Some(key), Some(file)) => Ok(Some((key.clone(), file, self.checkpoint_every.into()))),
            (Some(_), None) => Err(wrong("checkpoint-file", "checkpoints have no place; set it, or `file`")),
        }
    }

    /// The file of the checkpoints.
    #[must_use]
    pub fn checkpoint_file(&self) -> Option<PathBuf> {
        let beside = || {
            let mut name = self.file.clone()?.into_os_string();
            name.push(".checkpoints");
            Some(name.into())
        };
        self.checkpoint_file.clone().or_else(beside)
    }
}

fn wrong(place: &str, reason: &str) -> Error {
    Error::Configuration { place: format!("audit.{place}"), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_stand_beside_the_log() {
        let audit = Audit { file: Some("/log/audit.jsonl".into()), checkpoint_key: Some("key".into()), ..Audit::default() };
        assert_eq!(audit.checkpoints().unwrap(), Some(("key".into(), "/log/audit.jsonl.checkpoints".into(), 1000)));
        let nowhere = Audit { file: None, ..audit };
        assert!(nowhere.checkpoints().unwrap_err().to_string().starts_with("audit.checkpoint-file: "));
    }

    #[test]
    fn sizes_and_counts_of_zero_are_errors() {
        assert!(Audit { rotate_mib: Some(0), ..Audit::default() }.rotate_at().is_err());
        assert!(Audit { checkpoint_every: 0, ..Audit::default() }.checkpoints().is_err());
        assert_eq!(Audit { rotate_mib: Some(2), ..Audit::default() }.rotate_at().unwrap(), Some(2 << 20));
    }
}

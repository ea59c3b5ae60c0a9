//! What is read from files, and read anew when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::Error;

/// Files, and how a value is read from them.
pub(crate) trait Source {
    /// What is read.
    type Value;

    /// The files that tell whether it is another than before.
    fn files(&self) -> Vec<&PathBuf>;

    /// Reads the value.
    fn read(&self) -> Result<Self::Value, Error>;
}

/// A value and where it is from. Whoever has the value keeps it as it was.
pub(crate) struct Fresh<S: Source> {
    source: S,
    current: RwLock<(Arc<S::Value>, Vec<Stamp>)>,
}

/// Tells whether a file is another than before: Kubernetes replaces a link, others write or rename. The times are those of the last change of
/// anything, so that a file that was not used for its mode is read again when that is mended.
type Stamp = Option<(u64, u64, i64, i64)>;

impl<S: Source> Fresh<S> {
    pub fn load(source: S) -> Result<Self, Error> {
        // The stamps first: a file that changes while it is read is read again.
        let stamps = stamps(&source);
        let value = source.read()?;
        Ok(Self { source, current: RwLock::new((Arc::new(value), stamps)) })
    }

    /// Reads the files anew if they changed, or anyhow if `asked`, and tells whether it did. While they are wrong, the old value stays.
    pub fn refresh(&self, asked: bool) -> Result<bool, Error> {
        let stamps = stamps(&self.source);
        if !asked && self.current.read().unwrap_or_else(PoisonError::into_inner).1 == stamps {
            return Ok(false);
        }
        // The stamps also where they are wrong: they are complained of once, and read again when they change again.
        let read = self.source.read();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.1 = stamps;
        current.0 = Arc::new(read?);
        Ok(true)
    }

    pub fn current(&self) -> Arc<S::Value> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

fn stamps(source: &impl Source) -> Vec<Stamp> {
    source.files().into_iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(file).ok()?;
    Some((file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that holds a number.
    struct Number(PathBuf);

    impl Source for Number {
        type Value = u32;

        fn files(&self) -> Vec<&PathBuf> {
            vec![&self.0]
        }

        fn read(&self) -> Result<u32, Error> {
            let text = crate::text_file::read(&self.0, "the number")?;
            text.parse().map_err(|_| Error::Internal { reason: "it is none".into() })
        }
    }

    #[test]
    fn a_file_is_read_anew_when_it_changed_or_somebody_asks_and_the_old_value_stays_while_it_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let write = |text: &str| {
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), &path).unwrap();
        };
        write("1");
        let number = Fresh::load(Number(path.clone())).unwrap();
        let held = number.current();
        assert!(!number.refresh(false).unwrap() && number.refresh(true).unwrap());
        write("2");
        assert!(number.refresh(false).unwrap());
        write("three");
        assert!(number.refresh(false).is_err(), "it is complained of");
        assert!(!number.refresh(false).unwrap(), "and once");
        std::fs::remove_file(&path).unwrap();
        assert!(number.refresh(false).is_err());
        assert_eq!((*held, *number.current()), (1, 2));
        write("4");
        assert!(number.refresh(false).unwrap());
        assert_eq!(*number.current(), 4);
    }
}

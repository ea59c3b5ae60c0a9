//! Keys that were read already: for a process that makes many exchanges.
//!
//! A key's file is looked at for each exchange, and read again unless it is the same file, with the same owner and mode, and unchanged.
//! So rotating, removing or exposing a key is seen at once.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ocicrypt_kms_protocol::Operation;

use super::{Jwk, Keystore};
use crate::Error;
use crate::permissions::check_owner;

/// The most keys that are remembered.
const MAX_KEYS: usize = 64;
/// A file that changed so recently may change again without a later time, where the clock of the file system is coarse.
const SETTLED_SECONDS: i64 = 2;

/// A keystore that remembers keys.
pub(in crate::kms) struct Cache {
    keystore: Keystore,
    keys: Mutex<HashMap<String, Remembered>>,
}

#[derive(Clone)]
struct Remembered {
    stamp: Stamp,
    versions: Arc<Vec<Jwk>>,
}

/// What tells whether a file is the one that was read, and judged.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Stamp {
    file: (u64, u64),
    access: (u32, u32),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Cache {
    pub fn new(keystore: Keystore) -> Self {
        Self { keystore, keys: Mutex::default() }
    }

    /// As [`Keystore::load`].
    pub fn load(&self, name: &str, operation: Operation) -> Result<Arc<Vec<Jwk>>, Error> {
        if let Some(versions) = self.remembered(name) {
            return Ok(versions);
        }
        let file = self.keystore.read(name, operation, check_owner)?;
        let (stamp, versions) = (Stamp::of(&file.metadata), Arc::new(file.versions));
        if stamp.is_settled() {
            let mut keys = self.keys();
            if keys.len() >= MAX_KEYS {
                keys.clear();
            }
            keys.insert(name.to_owned(), Remembered { stamp, versions: versions.clone() });
        }
        Ok(versions)
    }

    /// The versions, if their file is still what it was when they were read. Those of one that isn't are forgotten.
    fn remembered(&self, name: &str) -> Option<Arc<Vec<Jwk>>> {
        let known = self.keys().get(name)?.clone();
        let now = std::fs::metadata(self.keystore.path(name)).ok();
        if now.is_some_and(|metadata| Stamp::of(&metadata) == known.stamp) {
            return Some(known.versions);
        }
        self.keys().remove(name);
        None
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            access: (metadata.uid(), metadata.mode()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
        self.changed.0.saturating_add(SETTLED_SECONDS) < now
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::super::Existing;
    use super::*;

    struct Fixture {
        _folder: tempfile::TempDir,
        cache: Cache,
    }

    /// A cache that has read a key whose file has settled.
    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Keystore::new(folder.path().to_owned()));
        cache.keystore.create("team", Existing::Refuse, &Jwk::generate_symmetric().unwrap()).unwrap();
        assert_eq!(load(&cache).unwrap().len(), 1);
        assert!(cache.keys().is_empty(), "a file that may still be changing is not remembered");
        std::thread::sleep(Duration::from_secs(SETTLED_SECONDS.cast_unsigned() + 1));
        load(&cache).unwrap();
        Fixture { _folder: folder, cache }
    }

    fn load(cache: &Cache) -> Result<Arc<Vec<Jwk>>, Error> {
        cache.load("team", Operation::Wrap)
    }

    #[test]
    fn a_key_is_read_once_while_its_file_stays_as_it_is() {
        let Fixture { cache, .. } = &fixture();
        assert!(Arc::ptr_eq(&load(cache).unwrap(), &load(cache).unwrap()));
    }

    #[test]
    fn a_rotated_key_is_seen_at_once() {
        let Fixture { cache, .. } = &fixture();
        let before = load(cache).unwrap()[0].kid.clone();
        cache.keystore.create("team", Existing::Rotate, &Jwk::generate_symmetric().unwrap()).unwrap();
        let after = load(cache).unwrap();
        assert_eq!(after.len(), 2);
        assert!(after[1].kid == before && after[0].kid != before);
    }

    #[test]
    fn a_file_that_was_written_in_place_is_seen_at_once() {
        let Fixture { cache, .. } = &fixture();
        let path = cache.keystore.path("team");
        let text = std::fs::read_to_string(&path).unwrap();
        let kid = load(cache).unwrap()[0].kid.clone().unwrap();
        std::fs::write(&path, text.replace(&kid, &"x".repeat(kid.len()))).unwrap();
        assert_eq!(load(cache).unwrap()[0].kid.as_deref(), Some("x".repeat(kid.len()).as_str()));
    }

    #[test]
    fn a_key_that_others_could_now_use_is_refused_at_once() {
        let Fixture { cache, .. } = &fixture();
        std::fs::set_permissions(cache.keystore.path("team"), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(load(cache).err().unwrap().line().contains("0644"));
    }

    #[test]
    fn a_key_that_was_removed_is_gone_at_once_and_forgotten() {
        let Fixture { cache, .. } = &fixture();
        std::fs::remove_file(cache.keystore.path("team")).unwrap();
        assert!(load(cache).err().unwrap().line().contains("no such key"));
        assert!(cache.keys().is_empty());
    }
}

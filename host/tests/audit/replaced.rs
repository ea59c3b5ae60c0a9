//! A process that wrote a record notices when the log doesn't hold it any more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocicrypt_kms::Error;
use ocicrypt_kms::audit::{Audit, Checkpoints, Entry, PrivateKey, Settings, files, record, verify};

/// What is done to the log, in words and in deed.
type Tampering = (&'static str, fn(&Log));

/// A folder with a log that a process writes to.
struct Log {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    process: Audit,
}

impl Log {
    /// One with three records, of this process and another one.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let process = Audit::new(Settings { file: Some(folder.path().join("audit.jsonl")), ..Settings::default() });
        let log = Self { folder, runtime, process };
        log.append(&log.process).unwrap();
        log.append(&log.another()).unwrap();
        log.append(&log.process).unwrap();
        log
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Another process: one that knows nothing yet.
    fn another(&self) -> Audit {
        another(&self.path())
    }

    fn append(&self, to: &Audit) -> Result<(), Error> {
        let entry = Entry { time: record::now(), ..Entry::default() };
        self.runtime.block_on(to.append(vec![entry], Instant::now() + Duration::from_secs(10)))
    }

    /// How many records there are; all of them right.
    fn records(&self) -> u64 {
        verify(&files(&self.path()).unwrap(), Vec::new(), |_| {}).unwrap().unwrap_or_else(|fault| panic!("{fault}")).records
    }
}

fn another(path: &Path) -> Audit {
    Audit::new(Settings { file: Some(path.to_owned()), ..Settings::default() })
}

/// The log's text up to the end of so many of its lines.
fn lines(log: &Log, count: usize) -> String {
    std::fs::read_to_string(log.path()).unwrap().split_inclusive('\n').take(count).collect()
}

#[test]
fn a_log_that_was_removed_replaced_or_cut_off_under_a_process_gets_no_record_of_it() {
    let tampering: [Tampering; 8] = [
        ("removed", |log| std::fs::remove_file(log.path()).unwrap()),
        ("moved away, as logrotate does it", |log| std::fs::rename(log.path(), log.beside("audit.jsonl.1")).unwrap()),
        ("emptied, as logrotate does it with copytruncate", |log| std::fs::write(log.path(), "").unwrap()),
        ("cut off in place", |log| std::fs::write(log.path(), lines(log, 2)).unwrap()),
        ("replaced by a part of it", |log| {
            std::fs::write(log.beside("new"), lines(log, 2)).unwrap();
            std::fs::rename(log.beside("new"), log.path()).unwrap();
        }),
        ("replaced by another log that is as long", |log| {
            std::fs::remove_file(log.path()).unwrap();
            let other = log.another();
            (0..3).for_each(|_| log.append(&other).unwrap());
        }),
        ("replaced by another log that is longer", |log| {
            std::fs::remove_file(log.path()).unwrap();
            let other = log.another();
            (0..9).for_each(|_| log.append(&other).unwrap());
        }),
        ("taken back to where it was rotated before", |log| {
            log.process.rotate().unwrap();
            log.append(&log.process).unwrap();
            std::fs::remove_file(log.path()).unwrap();
        }),
    ];
    for (what, tamper) in tampering {
        let log = Log::new();
        tamper(&log);
        let before = std::fs::read(log.path()).unwrap_or_default();
        for _ in 0..2 {
            let line = log.append(&log.process).unwrap_err().line();
            assert!(line.starts_with(&format!("{}: the audit log can't be written: record ", log.path().display())), "{what}: {line}");
            assert!(line.contains("the last that this process knows of") && line.contains("; put the file with record"), "{what}: {line}");
            assert_eq!(std::fs::read(log.path()).unwrap_or_default(), before, "{what}");
        }
        assert!(log.process.rotate().is_err(), "{what}");
        // A process that is started anew knows of nothing that is missing.
        log.append(&log.another()).unwrap();
    }
}

#[test]
fn no_checkpoint_is_made_of_a_log_that_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key, signed) = (folder.path().join("audit.jsonl"), folder.path().join("key.pem"), folder.path().join("signed"));
    PrivateKey::generate().unwrap().write(&key).unwrap();
    let log = Log::new();
    let checkpoints = Checkpoints { key, file: signed.clone(), every: 1000 };
    let signing = Audit::new(Settings { file: Some(path.clone()), checkpoints: Some(checkpoints), ..Settings::default() });
    log.append(&signing).unwrap();
    signing.checkpoint().unwrap();
    std::fs::remove_file(&path).unwrap();
    log.append(&another(&path)).unwrap();
    let line = signing.checkpoint().unwrap_err().line();
    assert!(line.contains("record 1, the last that this process knows of, is neither in it"), "{line}");
    drop(signing);
    assert_eq!(std::fs::read_to_string(signed).unwrap().lines().count(), 1);
}

#[test]
fn a_log_that_others_wrote_to_rotated_and_put_away_goes_on() {
    let log = Log::new();
    // Once, and the process finds it as it left it.
    log.another().rotate().unwrap();
    log.append(&log.process).unwrap();
    // Several times, with records of others, so that it knows none of the files that are there.
    for _ in 0..3 {
        log.append(&log.another()).unwrap();
        log.another().rotate().unwrap();
    }
    log.append(&log.process).unwrap();
    assert_eq!(log.records(), 3 + 2 + 3 * 2 + 1);
    // What was rotated away is shipped and removed, once the new file has its first record.
    log.append(&log.another()).unwrap();
    log.another().rotate().unwrap();
    for file in files(&log.path()).unwrap() {
        let _ = (file != log.path()).then(|| std::fs::remove_file(file).unwrap());
    }
    log.append(&log.process).unwrap();
    assert_eq!(log.records(), 2);
    // Moved away by whoever was killed before a new file was there.
    let last = std::fs::read_to_string(log.path()).unwrap().lines().count() as u64 + 13;
    std::fs::rename(log.path(), log.beside(&format!("audit.jsonl.{last:012}"))).unwrap();
    log.append(&log.process).unwrap();
    assert_eq!(log.records(), 4);
}

#[test]
fn a_log_that_is_put_back_goes_on() {
    let log = Log::new();
    let (away, records) = (log.beside("away"), log.records());
    std::fs::rename(log.path(), &away).unwrap();
    assert!(log.append(&log.process).is_err());
    std::fs::copy(&away, log.path()).unwrap();
    log.append(&log.process).unwrap();
    log.append(&log.another()).unwrap();
    log.append(&log.process).unwrap();
    // One more says that one is missing.
    assert_eq!(log.records(), records + 4);
}

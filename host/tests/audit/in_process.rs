//! The log of a process that makes many exchanges.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ocicrypt_kms::audit::{Audit, Entry, Event, Settings, Sink, Verifier, files, record, verify};
use ocicrypt_kms::key_uri::{KeyUri, Service};
use ocicrypt_kms::kms::{Cipher, KeyService, OpenKey, Services};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms::{Call, Config, Environment, Error, KeyProvider};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use proptest::prelude::*;
use zeroize::Zeroizing;

const GCP_KEY: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
/// A key that never answers.
const SILENT_KEY: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/silent";

/// A service that encrypts by doing nothing, and answers some keys never.
struct Plain;

struct PlainKey {
    answers: bool,
}

#[async_trait]
impl KeyService for Plain {
    async fn open(&self, uri: &KeyUri, _: Operation, _: Instant) -> Result<OpenKey, Error> {
        Ok(OpenKey::Cipher(Box::new(PlainKey { answers: uri.canonical() != SILENT_KEY })))
    }
}

#[async_trait]
impl Cipher for PlainKey {
    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        match self.answers {
            true => Ok(plaintext.to_vec()),
            false => std::future::pending().await,
        }
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.encrypt(ciphertext).await.map(Zeroizing::new)
    }
}

/// A sink that keeps what it is given, or refuses it.
#[derive(Default)]
struct Kept {
    lines: Mutex<Vec<String>>,
    refuses: bool,
}

impl Sink for Kept {
    fn name(&self) -> &str {
        "a test"
    }

    fn take(&self, line: &str, _: Instant) -> Result<(), String> {
        self.lines.lock().unwrap().push(line.to_owned());
        if self.refuses { Err("it is full".into()) } else { Ok(()) }
    }
}

fn provider(settings: Settings) -> KeyProvider {
    let services = Services::new().with(Service::Gcp, Arc::new(Plain));
    let config = Config { deadline_seconds: 10, ..Config::default() };
    let builder = KeyProvider::builder(config).environment(Environment::of([("HOME", "/")])).services(services);
    builder.audit(Arc::new(Audit::new(settings))).build().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

fn wrap(key: &str) -> Vec<u8> {
    keywrap(&[("kmscrypt", &[key])], OPTS_DATA)
}

fn entries(file: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let whole = verify(&files(file).unwrap(), Vec::new(), |record| entries.push(record.entry.clone())).unwrap();
    whole.unwrap_or_else(|fault| panic!("{fault}"));
    entries
}

fn to(file: &Path) -> Settings {
    Settings { file: Some(file.to_owned()), ..Settings::default() }
}

#[test]
fn exchanges_side_by_side_make_one_chain_also_while_others_write_to_it_and_rotate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let runtime = runtime();
    let (one, other) = (Arc::new(provider(to(&file))), Arc::new(provider(to(&file))));
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..100 {
            let provider = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move {
                let annotation = annotation_of(&provider.exchange(&wrap(GCP_KEY)).await.unwrap());
                let answer = provider.exchange(&keyunwrap(&[("kmscrypt", &[GCP_KEY])], &annotation)).await.unwrap();
                assert_eq!(opts_data_of(&answer), OPTS_DATA);
            });
            if index % 20 == 10 {
                // The first of them may find no record yet.
                let _ = Audit::new(to(&file)).rotate();
            }
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap();
        }
    });
    let exchanges = entries(&file).iter().filter(|entry| entry.event == Event::Exchange).count();
    assert_eq!(exchanges, 200);
}

#[test]
fn a_log_that_is_rotated_away_at_that_moment_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let (file, away) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.000000000001"));
    let audit = Audit::new(to(&file));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::write(&file, "").unwrap();
                std::fs::rename(&file, &away).unwrap();
            }
        });
        let refused = (0..50_000).find_map(|_| audit.ready().err());
        stop.store(true, Ordering::Relaxed);
        assert!(refused.is_none(), "{refused:?}");
    });
}

#[test]
fn an_exchange_that_was_given_up_is_on_record_with_the_key_it_was_about() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let provider = provider(to(&file));
    let given_up =
        runtime().block_on(async { tokio::time::timeout(Duration::from_millis(300), provider.exchange(&wrap(SILENT_KEY))).await });
    assert!(given_up.is_err());
    drop(provider);
    let told: Vec<_> = entries(&file).into_iter().map(|entry| (entry.event, entry.key, entry.outcome.unwrap())).collect();
    assert_eq!(told, [(Event::Use, Some(SILENT_KEY.into()), "cancelled".into()), (Event::Exchange, None, "cancelled".into())]);
}

#[test]
fn an_exchange_that_was_not_done_in_time_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let provider = provider(to(&file));
    let call = Call { deadline: Some(Instant::now() + Duration::from_millis(200)), ..Call::default() };
    runtime().block_on(provider.exchange_for(&wrap(SILENT_KEY), call)).unwrap_err();
    let told: Vec<_> = entries(&file).into_iter().map(|entry| (entry.event, entry.outcome.unwrap())).collect();
    assert_eq!(told, [(Event::Use, "cancelled".into()), (Event::Exchange, "unavailable".into())]);
}

#[test]
fn a_sink_gets_each_record_and_one_that_refuses_it_gives_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let kept = Arc::new(Kept::default());
    let audited = provider(Settings { sinks: vec![kept.clone()], ..to(&file) });
    runtime().block_on(audited.exchange(&wrap(GCP_KEY))).unwrap();
    assert_eq!(kept.lines.lock().unwrap().join("\n") + "\n", std::fs::read_to_string(&file).unwrap());

    let refusing = provider(Settings { sinks: vec![Arc::new(Kept { refuses: true, ..Kept::default() })], ..to(&file) });
    let error = runtime().block_on(refusing.exchange(&wrap(GCP_KEY))).unwrap_err();
    assert!(error.line().starts_with("a test: the audit log can't be written: it is full"), "{}", error.line());
}

#[test]
fn without_a_file_a_process_makes_a_chain_of_its_own() {
    let kept = Arc::new(Kept::default());
    let provider = provider(Settings { sinks: vec![kept.clone()], ..Settings::default() });
    for _ in 0..2 {
        runtime().block_on(provider.exchange(&wrap(GCP_KEY))).unwrap();
    }
    let mut verifier = Verifier::new(Vec::new());
    kept.lines.lock().unwrap().iter().for_each(|line| drop(verifier.line(line.as_bytes()).unwrap()));
    assert_eq!(verifier.finish().unwrap().records, 4);
}

#[test]
fn a_line_torn_at_any_byte_loses_no_record() {
    // In memory, where it can be: each attempt waits for the disk.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let file = folder.path().join("audit.jsonl");
    let runtime = runtime();
    let append = |outcome: &str| {
        let entry = Entry { time: record::now(), outcome: Some(outcome.into()), ..Entry::default() };
        runtime.block_on(Audit::new(to(&file)).append(vec![entry], Instant::now() + Duration::from_secs(10))).unwrap();
    };
    ["a", "b"].into_iter().for_each(append);
    let text = std::fs::read(&file).unwrap();
    let second = text.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for length in 0..text.len() {
        std::fs::write(&file, &text[..length]).unwrap();
        append("c");
        let outcomes: Vec<_> = entries(&file).into_iter().filter_map(|entry| entry.outcome).collect();
        // A record is whole when its last byte is there, with or without its line's end.
        let whole = usize::from(length >= second - 1) + usize::from(length >= text.len() - 1);
        assert_eq!(outcomes, [&["a", "b"][..whole], &["c"]].concat(), "{length}");
        assert!(std::fs::read(&file).unwrap().starts_with(&text[..length]), "{length}");
    }
}

#[test]
fn a_repair_torn_at_any_byte_is_repaired() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let file = folder.path().join("audit.jsonl");
    let runtime = runtime();
    let append = || {
        let entry = Entry { time: record::now(), ..Entry::default() };
        runtime.block_on(Audit::new(to(&file)).append(vec![entry], Instant::now() + Duration::from_secs(10))).unwrap();
    };
    append();
    append();
    let torn = std::fs::read(&file).unwrap();
    std::fs::write(&file, &torn[..torn.len() - 40]).unwrap();
    append();
    let repaired = std::fs::read(&file).unwrap();
    for length in torn.len() - 40..repaired.len() {
        std::fs::write(&file, &repaired[..length]).unwrap();
        append();
        assert!(entries(&file).iter().any(|entry| entry.event == Event::Repaired), "{length}");
    }
}

proptest! {
    #[test]
    fn any_lines_are_checked_without_a_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut verifier = Verifier::new(Vec::new());
        if lines.iter().all(|line| verifier.line(line).is_ok()) {
            let _ = verifier.finish();
        }
    }
}

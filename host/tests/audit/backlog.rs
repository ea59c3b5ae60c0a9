//! A sink that hangs: no key without a record, no more kept than may wait, and nothing lost without a word.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ocicrypt_kms::audit::{Audit, Entry, Settings, Sink, files, record, verify};
use ocicrypt_kms::key_uri::{KeyUri, Service};
use ocicrypt_kms::kms::{KeyService, OpenKey, Services};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms::{Config, Environment, Error, KeyProvider};
use ocicrypt_kms_testing::messages::wrapping;
use serde_json::Value;

const KEY: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";

/// A sink that takes nothing until it is released.
#[derive(Default)]
struct Hanging {
    released: Mutex<bool>,
    wake: Condvar,
    taken: Mutex<Vec<String>>,
}

impl Hanging {
    fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.wake.notify_all();
    }
}

impl Sink for Hanging {
    fn name(&self) -> &str {
        "a sink that hangs"
    }

    fn take(&self, line: &str, _: Instant) -> Result<(), String> {
        drop(self.wake.wait_while(self.released.lock().unwrap(), |released| !*released));
        self.taken.lock().unwrap().push(line.to_owned());
        Ok(())
    }
}

/// A log with a sink that hangs.
struct Log {
    folder: tempfile::TempDir,
    sink: Arc<Hanging>,
    audit: Arc<Audit>,
    runtime: tokio::runtime::Runtime,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sink = Arc::new(Hanging::default());
        let file = Some(folder.path().join("audit.jsonl"));
        let audit = Arc::new(Audit::new(Settings { file, sinks: vec![sink.clone()], ..Settings::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let log = Self { folder, sink, audit, runtime };
        // The writer has this one in its hands from now on.
        log.append("first", Duration::from_millis(300)).unwrap_err();
        log
    }

    fn append(&self, error: &str, wait: Duration) -> Result<(), Error> {
        let entry = Entry { time: record::now(), error: Some(error.to_owned()), ..Entry::default() };
        self.runtime.block_on(self.audit.append(vec![entry], Instant::now() + wait))
    }

    /// Appends so many records for which nobody waits. Gives the number of those that were refused at once.
    fn flood(&self, count: usize, text: &str) -> usize {
        let _context = self.runtime.enter();
        let refused = || {
            let entry = Entry { time: record::now(), error: Some(text.to_owned()), ..Entry::default() };
            let appended = pin!(self.audit.append(vec![entry], Instant::now() + Duration::from_secs(1)));
            match appended.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => false,
                Poll::Ready(outcome) => {
                    let line = outcome.unwrap_err().line();
                    assert!(
                        line.contains("records wait to be written, as many as may; no key is used without a record; see what keeps"),
                        "{line}"
                    );
                    true
                }
            }
        };
        (0..count).filter(|_| refused()).count()
    }

    /// The sink takes records again, and what waited is with it.
    fn release(&self) {
        self.sink.release();
        let until = Instant::now() + Duration::from_secs(30);
        while self.audit.ready().is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.append("last", Duration::from_secs(30)).unwrap();
    }

    /// The log's records, all of which are right.
    fn records(&self) -> Vec<Value> {
        records(&self.folder.path().join("audit.jsonl"))
    }
}

fn records(file: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    verify(&files(file).unwrap(), Vec::new(), |record| records.push(serde_json::from_str(&record.line).unwrap()))
        .unwrap()
        .unwrap_or_else(|fault| panic!("{fault}"));
    records
}

/// What a thread does within this time.
fn within<T: Send + 'static>(time: Duration, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(act())));
    done.recv_timeout(time).expect("it waits for the sink")
}

#[test]
fn no_more_records_wait_for_a_sink_that_hangs_than_may_and_the_log_says_how_many_are_missing() {
    const APPENDED: usize = 30_000;
    let log = Log::new();
    let refused = log.flood(APPENDED, "x");
    assert!((5000..APPENDED).contains(&refused), "{refused}");
    log.release();
    let records = log.records();
    let missing: Vec<_> = records.iter().filter(|record| record["event"] == "lost").map(|record| record["records"].as_u64()).collect();
    assert_eq!(missing, [Some(refused as u64)]);
    assert_eq!(records.len(), 1 + (APPENDED - refused) + 1 + 1);
    assert_eq!(log.sink.taken.lock().unwrap().len(), records.len());
    log.append("and on", Duration::from_secs(30)).unwrap();
    assert_eq!(log.records().len(), records.len() + 1, "it says so once");
}

#[test]
fn long_records_wait_in_smaller_number() {
    let log = Log::new();
    let refused = log.flood(1000, &"x".repeat(60_000));
    assert!((500..900).contains(&refused), "{refused}");
    log.release();
    assert_eq!(log.records().len(), 1 + (1000 - refused) + 1 + 1);
}

/// A service that counts how often a key is opened.
#[derive(Default)]
struct Counting(AtomicU32);

#[async_trait]
impl KeyService for Counting {
    async fn open(&self, _: &KeyUri, _: Operation, _: Instant) -> Result<OpenKey, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[test]
fn while_as_many_records_wait_as_may_exchanges_are_refused_at_once_and_no_key_is_opened() {
    let log = Log::new();
    assert!(log.flood(30_000, "x") > 0);
    let service = Arc::new(Counting::default());
    let services = Services::new().with(Service::Gcp, service.clone());
    let builder = KeyProvider::builder(Config::default()).environment(Environment::of([("HOME", "/")])).services(services);
    let provider = builder.audit(log.audit.clone()).build().unwrap();
    let began = Instant::now();
    for _ in 0..20 {
        let line = log.runtime.block_on(provider.exchange(&wrapping(&[KEY]))).unwrap_err().line();
        assert!(line.contains("the audit log can't be written: ") && line.contains("records wait to be written, as many as may"), "{line}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(service.0.load(Ordering::Relaxed), 0);
    assert!(log.audit.ready().is_err());
    log.release();
    log.audit.ready().unwrap();
}

#[test]
fn a_sink_that_hangs_makes_the_log_unhealthy_and_holds_up_nobody_who_asks() {
    let log = Log::new();
    for act in [|audit: &Audit| audit.check().is_err(), |audit: &Audit| audit.rotate().is_err(), |audit: &Audit| audit.begin().is_err()] {
        let audit = log.audit.clone();
        assert!(within(Duration::from_secs(9), move || act(&audit)));
    }
    log.release();
    log.audit.check().unwrap();
}

#[test]
fn a_sink_that_hangs_does_not_keep_a_process_from_ending() {
    let Log { audit, sink, folder, .. } = Log::new();
    within(Duration::from_secs(20), move || drop(audit));
    sink.release();
    drop(folder);
}

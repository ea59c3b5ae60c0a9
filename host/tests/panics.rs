//! A panic in what an embedding program brings along costs the exchange that it happens in, and is seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use ocicrypt_kms::audit::{Audit, Settings};
use ocicrypt_kms::key_uri::{KeyUri, Service};
use ocicrypt_kms::kms::{Cipher, KeyService, OpenKey, Services};
use ocicrypt_kms::policy::{Denial, Permit, Policy, Request};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms::{Config, Environment, Error, ErrorKind, Instances, KeyProvider};
use ocicrypt_kms_testing::log::Log;
use serde_json::Value;
use zeroize::Zeroizing;

const OPTS_DATA: &[u8] = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;
const KEY: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";

/// Where it panics, once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Decide,
    Open,
    Encrypt,
}

/// A policy and a service that panic once, holding a lock.
#[derive(Clone)]
struct Startled {
    at: At,
    done: Arc<AtomicBool>,
}

impl Startled {
    fn pass(&self, at: At) {
        assert!(self.at != at || self.done.swap(true, Ordering::Relaxed), "a secret");
    }
}

impl Policy for Startled {
    fn decide(&self, _: &Request<'_>) -> Result<Permit, Denial> {
        self.pass(At::Decide);
        Ok(Permit::default())
    }
}

#[async_trait]
impl KeyService for Startled {
    async fn open(&self, _: &KeyUri, _: Operation, _: Instant) -> Result<OpenKey, Error> {
        self.pass(At::Open);
        Ok(OpenKey::Cipher(Box::new(self.clone())))
    }
}

#[async_trait]
impl Cipher for Startled {
    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        tokio::task::yield_now().await;
        self.pass(At::Encrypt);
        Ok(plaintext.to_vec())
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        Ok(Zeroizing::new(ciphertext.to_vec()))
    }
}

/// Exchanges, by their labels.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counts {
    fn of(&self, outcome: &str) -> u64 {
        let counts = self.0.lock().unwrap();
        counts
            .iter()
            .filter(|(labels, _)| labels.contains(&format!("outcome={outcome} ")))
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum()
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "ocicrypt_kms_exchanges_total" {
            return Counter::noop();
        }
        let labels = key.labels().map(|label| format!("{}={} ", label.key(), label.value())).collect();
        Counter::from_arc(self.0.lock().unwrap().entry(labels).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn a_panic_in_an_exchange_is_recorded_counted_and_logged_and_the_next_exchange_is_as_ever() {
    for at in [At::Decide, At::Open, At::Encrypt] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let startled = Startled { at, done: Arc::default() };
        let audit = Arc::new(Audit::new(Settings { file: Some(file.clone()), ..Settings::default() }));
        // One place: it has to be free again.
        let builder = KeyProvider::builder(Config::default()).environment(Environment::of([("HOME", "/nonexistent")]));
        let builder = builder.services(Services::new().with(Service::Gcp, Arc::new(startled.clone()))).policy(Arc::new(startled));
        let provider = builder.instances(Instances::Pooled(1)).audit(audit).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (counts, log) = (Counts::default(), Log::new());
        let wrap = || metrics::with_local_recorder(&counts, || log.during(|| runtime.block_on(provider.wrap(OPTS_DATA, &[KEY]))));

        let error = wrap().unwrap_err();
        assert!(error.kind() == ErrorKind::Internal && !error.line().contains("a secret"), "{at:?}: {}", error.line());
        assert_eq!((counts.of("internal"), counts.of("cancelled"), counts.of("ok")), (1, 0, 0), "{at:?}");
        assert!(log.text().contains("ended by a panic") && !log.text().contains("a secret"), "{at:?}: {}", log.text());
        wrap().unwrap();
        assert_eq!((counts.of("internal"), counts.of("cancelled"), counts.of("ok")), (1, 0, 1), "{at:?}");

        // Dropped first: what is left to write is written then.
        drop(provider);
        let text = std::fs::read_to_string(file).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = records.iter().map(|record| ["event", "outcome"].map(|name| record[name].as_str().unwrap())).collect();
        let (used, well) = ([["use", "internal"]], [["exchange", "internal"], ["use", "ok"], ["exchange", "ok"]]);
        let expected = if at == At::Encrypt { [&used[..], &well].concat() } else { well.to_vec() };
        assert_eq!(told, expected, "{at:?}");
    }
}

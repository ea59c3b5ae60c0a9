//! What there is one of in a process belongs to the program that embeds the library.

use std::sync::atomic::{AtomicU32, Ordering};

use ocicrypt_kms::{Config, Environment, KeyProvider};
use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::alone::alone;
use ocicrypt_kms_testing::messages::{annotation_of, unwrapping, wrapping};

const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
/// What wasmtime may catch: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: u64 = 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10;

/// The signals that this process has handlers for, by bit.
fn caught() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn exchanges_install_nothing_that_a_process_has_one_of() {
    alone("process_wide::exchanges_install_nothing_that_a_process_has_one_of", exchange_in_a_process);
}

fn exchange_in_a_process() {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        report(panic);
    }));
    let before = caught();
    let gcp = FakeGcp::start();
    gcp.add_key(KEY);
    gcp.require_auth(true);
    let folder = tempfile::tempdir().unwrap();
    let credentials = Some(gcp.authorized_user_file(folder.path()));
    let environment = Environment::of([("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", gcp.endpoint())]);
    let provider = KeyProvider::builder(Config::default()).environment(environment).credentials(credentials).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let uri = format!("gcpkms://{KEY}");
    let annotation = annotation_of(&runtime.block_on(provider.exchange(&wrapping(&[&uri]))).unwrap());
    runtime.block_on(provider.exchange(&unwrapping(&[&uri], &annotation))).unwrap();

    assert_eq!(caught() & !before & !FAULTS, 0, "no handlers of signals but those of faults");
    assert!(!tracing::dispatcher::has_been_set(), "no subscriber");
    assert!(tokio_rustls::rustls::crypto::CryptoProvider::get_default().is_none(), "no TLS provider");
    assert!(metrics::set_global_recorder(metrics::NoopRecorder).is_ok(), "no recorder of metrics");
    std::panic::catch_unwind(|| panic!("the program's own")).unwrap_err();
    assert_eq!(PANICS.load(Ordering::Relaxed), 1, "the program's panic hook");
}

#[test]
fn a_process_has_one_clock_for_its_guests() {
    alone("process_wide::a_process_has_one_clock_for_its_guests", exchange_side_by_side);
}

/// How many threads of this process tick for guests.
fn clocks() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let name =
        |thread: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default();
    threads.map(name).filter(|name| name.trim() == "epoch").count()
}

fn exchange_side_by_side() {
    let barrier = std::sync::Barrier::new(8);
    let builder = || KeyProvider::builder(Config::default()).environment(Environment::of([("HOME", "/")]));
    // The first exchanges of one engine at once, and of several.
    for _ in 0..3 {
        let shared = builder().build().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let own = builder().build().unwrap();
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    barrier.wait();
                    for provider in [&shared, &own] {
                        runtime.block_on(provider.exchange(&wrapping(&["local://none"]))).unwrap_err();
                    }
                });
            }
        });
        assert_eq!(clocks(), 1);
    }
}

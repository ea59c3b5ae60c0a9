//! What the sandbox costs: a wrap and an unwrap with a local key, in a fresh instance of the component each, beside the same logic run
//! natively. Prints a line of each, with the median in microseconds; `bench/exchange` runs this and prints the ratios.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use aes_kw::{KeyInit, KwAes256};
use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
use ocicrypt_kms::protocol::{Answer, Operation, bytes};
use ocicrypt_kms::{Config, Instances, KeyProvider};
use ocicrypt_kms_component::keys::{Error, Host, Key, KeyInfo, Usage, WrappedKey};
use ocicrypt_kms_component::recipients;
use zeroize::Zeroizing;

const OPTS_DATA: &str = r#"{"symkey":"n6SMKAQtrypRRoLJyxNHHorSWnCxd3M3wnrpD6sOSMU=","digest":"sha256:fa8cd3cc1b54693d960ba043b203f3c6ee94cb858b2044e90cf934cd96f3ae89","cipheroptions":{"nonce":"dwgLT5pAwakT6tDFAsV4wQ=="}}"#;
const KEY: &str = "local://bench";
/// How long something runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// How many samples the median is of, and how long each takes.
const SAMPLES: usize = 100;
const SAMPLE: Duration = Duration::from_millis(50);

/// The component's logic with a key in this process: no sandbox, no host, no keystore.
struct Native;
struct NativeKey(KwAes256);

impl Host for Native {
    type Key = NativeKey;

    fn canonical_uri(&self, uri: &str) -> Result<String, Error> {
        Ok(uri.to_owned())
    }

    fn open(&self, _: &str, _: Usage) -> Result<NativeKey, Error> {
        Ok(NativeKey(KwAes256::new(&[7; 32].into())))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).unwrap();
    }
}

impl Key for NativeKey {
    fn info(&self) -> KeyInfo {
        KeyInfo { uri: KEY.into(), service: "local".into(), wrapping: "A256KW".into(), context: Vec::new(), attributes: Vec::new() }
    }

    fn encrypt(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        unreachable!("the key wraps")
    }

    fn decrypt(&self, _: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        unreachable!("the key wraps")
    }

    fn wrap_key(&self, cek: &[u8], _: &str) -> Result<WrappedKey, Error> {
        let mut encrypted_key = vec![0; cek.len() + 8];
        self.0.wrap_key(cek, &mut encrypted_key).unwrap();
        Ok(WrappedKey { encrypted_key, header: vec![("kid".into(), "\"v\"".into())] })
    }

    fn unwrap_key(&self, encrypted_key: &[u8], _: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut cek = Zeroizing::new(vec![0; encrypted_key.len() - 8]);
        self.0.unwrap_key(encrypted_key, &mut cek).unwrap();
        Ok(cek)
    }
}

fn keywrap() -> Vec<u8> {
    let (key, opts_data) = (bytes::encode(KEY.as_bytes()), bytes::encode(OPTS_DATA.as_bytes()));
    format!(r#"{{"op":"keywrap","keywrapparams":{{"ec":{{"Parameters":{{"kmscrypt":["{key}"]}},"DecryptConfig":{{"Parameters":{{}}}}}},"optsdata":"{opts_data}"}},"keyunwrapparams":{{"dc":null,"annotation":null}}}}"#).into_bytes()
}

/// The message that unwraps what `answer` holds.
fn keyunwrap(answer: &[u8]) -> Vec<u8> {
    let annotation = bytes::encode(&Answer::parse(Operation::Wrap, answer).unwrap().result);
    let key = bytes::encode(KEY.as_bytes());
    format!(r#"{{"op":"keyunwrap","keywrapparams":{{"ec":null,"optsdata":null}},"keyunwrapparams":{{"dc":{{"Parameters":{{"kmscrypt":["{key}"]}}}},"annotation":"{annotation}"}}}}"#).into_bytes()
}

/// The median of the samples, in seconds for one run.
fn median(mut run: impl FnMut()) -> f64 {
    let (start, mut runs) = (Instant::now(), 0_u32);
    while start.elapsed() < WARM_UP {
        run();
        runs += 1;
    }
    let runs = (f64::from(runs) * SAMPLE.as_secs_f64() / WARM_UP.as_secs_f64()).ceil().max(1.0);
    let mut sample = || {
        let start = Instant::now();
        (0..runs as u32).for_each(|_| run());
        start.elapsed().as_secs_f64() / runs
    };
    let mut samples: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    samples.sort_unstable_by(f64::total_cmp);
    samples[SAMPLES / 2 - 1].midpoint(samples[SAMPLES / 2])
}

fn main() {
    // `cargo bench` says so; what else runs this only wants to know whether it works.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let mut out = std::io::stdout();
    let mut measure = |name: &str, operation: &str, run: &mut dyn FnMut()| match measuring {
        true => writeln!(out, "{name} {operation} {:.3}", median(run) * 1e6).unwrap(),
        false => run(),
    };
    let folder = tempfile::tempdir().unwrap();
    Keystore::new(folder.path().to_owned()).create("bench", Existing::Refuse, &Jwk::generate_symmetric().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let provider = |instances| {
        let config = Config { keystore: Some(folder.path().to_owned()), ..Config::default() };
        KeyProvider::builder(config).instances(instances).build().unwrap()
    };
    let native = |message: &[u8]| recipients::exchange(&Native, "kmscrypt", &[], message).unwrap();
    let messages = |wrap: Vec<u8>, answer: &[u8]| [("wrap", wrap), ("unwrap", keyunwrap(answer))];

    for (operation, message) in messages(keywrap(), &native(&keywrap())) {
        measure("native", operation, &mut || drop(black_box(native(black_box(&message)))));
    }
    for (name, instances) in [("pooled", Instances::Pooled(16)), ("one-shot", Instances::OneShot)] {
        let provider = provider(instances);
        let run = |message: &[u8]| runtime.block_on(provider.exchange(message)).unwrap();
        for (operation, message) in messages(keywrap(), &run(&keywrap())) {
            measure(name, operation, &mut || drop(black_box(run(black_box(&message)))));
        }
    }
}

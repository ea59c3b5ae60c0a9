//! A component that tries to break the host's rules. The option `trick` says how; what the host answered to it becomes the answer of the
//! exchange, so that tests can read it; with the option `tell` set to `by error`, an error, which leaves also where no key was used.

use std::sync::Mutex;

wit_bindgen::generate!({ path: "../../../../wit", world: "key-provider", generate_all });

use exports::ocicrypt::keyprovider::provider::{Guest, PacketInfo, Settings};
use ocicrypt::keyprovider::kms::{Key, Usage, canonical_uri};
use ocicrypt::keyprovider::types::{Attempt, Error, KmsFailure};
use wasi::random::random::get_random_bytes;

struct Hostile;

/// What a guest would keep from one exchange to the next, if instances lived on.
static KEPT: Mutex<Vec<Key>> = Mutex::new(Vec::new());
static SECRET: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl Guest for Hostile {
    fn exchange(settings: Settings, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        let option = |name: &str| settings.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
        let unwrap = message.windows(11).any(|window| window == b"\"keyunwrap\"");
        let usage = if unwrap { Usage::Unwrap } else { Usage::Wrap };
        let said = trick(&option("trick"), &option("key"), usage, &message)?;
        match option("tell") == "by error" && !said.starts_with(b"!") && !said.starts_with(b"=") {
            true => Err(Error::NoMatchingKey(String::from_utf8_lossy(&said).into_owned())),
            false => Ok(answer(unwrap, &said)),
        }
    }

    fn inspect(_: Vec<u8>) -> Result<Vec<PacketInfo>, Error> {
        Key::open("local://a", Usage::Unwrap).map(|_| Vec::new())
    }
}

/// `said` as an annotation, or as opts data with a `symkey`; after a `=` as opts data, after a `!` as the answer, as it is.
fn answer(unwrap: bool, said: &[u8]) -> Vec<u8> {
    if let Some(answer) = said.strip_prefix(b"!") {
        return answer.to_vec();
    }
    let numbers = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    match unwrap {
        false => format!(r#"{{"keywrapresults":{{"annotation":[{}]}}}}"#, numbers(said)),
        true if said.first() == Some(&b'=') => format!(r#"{{"keyunwrapresults":{{"optsdata":[{}]}}}}"#, numbers(&said[1..])),
        true => {
            let text = format!("{:?}", String::from_utf8_lossy(said));
            format!(r#"{{"keyunwrapresults":{{"optsdata":[{}]}}}}"#, numbers(format!(r#"{{"symkey":{text}}}"#).as_bytes()))
        }
    }
    .into_bytes()
}

fn trick(trick: &str, key: &str, usage: Usage, message: &[u8]) -> Result<Vec<u8>, Error> {
    let other = if usage == Usage::Wrap { Usage::Unwrap } else { Usage::Wrap };
    let said = match trick {
        "echo the message" => return Ok(message.to_vec()),
        "open" => format!("{:?}", Key::open(key, usage)),
        "open for the other usage" => format!("{:?}", Key::open(key, other).err()),
        "open and use for the other usage" => {
            let key = Key::open(key, usage)?;
            format!("{:?} {:?}", key.encrypt(b"x").err(), key.decrypt(b"x").err())
        }
        "use twice" => {
            let key = Key::open(key, usage)?;
            let first = key.wrap_key(&[7; 32], "A256GCM").is_ok();
            format!("{first} {:?}", key.wrap_key(&[7; 32], "A256GCM").err())
        }
        "use the other methods" => {
            let key = Key::open(key, usage)?;
            format!("{:?} {:?}", key.encrypt(b"x").err(), key.decrypt(b"x").err())
        }
        "wrap keys of other lengths" => {
            let key = Key::open(key, usage)?;
            format!("{:?} {:?}", key.wrap_key(&[7; 16], "A128GCM").err(), key.wrap_key(&[7; 33], "A256GCM").err())
        }
        "open often" => {
            let opened: Vec<_> = (0..5000).map(|_| Key::open(key, usage)).collect();
            let count = opened.iter().filter(|key| key.is_ok()).count();
            format!("{count} {:?}", opened.last().and_then(|last| last.as_ref().err()))
        }
        "open badly, then well" => {
            (0..16).for_each(|n| drop(Key::open(&format!("local://no-such-key-{n}"), usage)));
            format!("{:?}", Key::open(key, usage).err())
        }
        "use often" => {
            let key = Key::open(key, usage)?;
            let header = r#"{"alg":"A256KW","enc":"A256GCM"}"#;
            let errors: Vec<_> = (0..200).map(|_| key.unwrap_key(&[7; 40], header).err()).collect();
            format!("{:?} {:?}", errors.first(), errors.last())
        }
        "lie about the header" => {
            let key = Key::open(key, usage)?;
            let headers =
                [r#"{"alg":"dir","enc":"A256GCM"}"#, r#"{"alg":"A256KW","enc":"A128GCM"}"#, r#"{"alg":"A256KW","alg":"A256KW"}"#, "7"];
            let errors: Vec<_> = headers.iter().map(|header| key.unwrap_key(&[7; 40], header).err()).collect();
            format!("{errors:?}")
        }
        "keep a key" => {
            let before = KEPT.lock().unwrap().len();
            let secret_before = SECRET.lock().unwrap().len();
            KEPT.lock().unwrap().push(Key::open(key, usage)?);
            SECRET.lock().unwrap().extend_from_slice(message);
            format!("kept {before} keys and {secret_before} bytes")
        }
        "use a kept key" => {
            let kept = KEPT.lock().unwrap().pop();
            KEPT.lock().unwrap().push(Key::open(key, usage)?);
            format!("{:?}", kept.map(|key| key.wrap_key(&[7; 32], "A256GCM").err()))
        }
        "plant a secret" => {
            let planted: Vec<Vec<u8>> = (0..64).map(|_| secret().repeat(1024)).collect();
            let on_stack: [[u8; 16]; 64] = [secret(); 64];
            std::hint::black_box((&planted, &on_stack));
            std::mem::forget(planted);
            format!("planted, {} in memory", times_in_memory(&secret()) >= 64 * 1024)
        }
        "look for the secret" => format!("{} in memory", times_in_memory(&secret())),
        // SAFETY: none; handles that this instance does not own are what the trick is about.
        "forge a handle" => (1..64).map(|handle| format!("{:?}", unsafe { Key::from_handle(handle) }.info().uri)).collect(),
        "leak through a key URI" => {
            let leak: String = message.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
            format!(
                "{:?} {:?}",
                Key::open(&format!("local://{leak}"), usage).err(),
                Key::open(&format!("{key}?context_leak={leak}"), usage).err()
            )
        }
        "other spellings" => {
            let uris = [
                "local://../../etc/passwd",
                "gcpkms://projects/p/../../x",
                "hashivault://transit/../sys/seal",
                "local://a\r\nX: y",
                "http://127.0.0.1/",
            ];
            refusals(&uris, usage)
        }
        "path tricks" => refusals(
            &[
                "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k/../x",
                "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k:decrypt",
                "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k%2fcryptoKeyVersions%2f1",
                "gcpkms://projects/p/locations//keyRings/r/cryptoKeys/k",
                "hashivault://transit/k/../../sys/seal",
                "hashivault://transit/k%2f..%2f..%2fsys%2fseal",
                "openbao://../sys/k",
                "hashivault://transit/.",
                "local://a/b",
                "local://a\\b",
                "local://a\0",
            ],
            usage,
        ),
        "injections" => refusals(
            &[
                "hashivault://transit/k\r\nX-Vault-Token: stolen",
                "gcpkms://projects/p\r\nHost: evil.example/locations/global/keyRings/r/cryptoKeys/k",
                "awskms://evil.example/alias/k",
                "azurekms://evil.example/k",
                "azurekms://a.vault.azure.net@evil.example/k",
                "azurekms://a.vault.azure.net:8443/k",
                "azurekms://a.vault.azure.net.evil.example/k",
                "hashivault://transit/k#fragment",
                "local://a?context_x=1&context_x=2",
                "local://a?endpoint=http://evil.example",
                "https://evil.example/",
            ],
            usage,
        ),
        "leak to a second key" => {
            let wrapped = Key::open("local://a", usage)?.wrap_key(&[7; 32], "A256GCM").is_ok();
            let second = Key::open(key, usage).and_then(|key| key.encrypt(message));
            format!("{wrapped} {:?}", second.err())
        }
        "answer twice" => return Ok(br#"!{"keywrapresults":{"annotation":"YQ=="},"keywrapresults":{"annotation":"Yg=="}}"#.to_vec()),
        "opts data twice" => return Ok(br#"={"symkey":"a","symkey":"b"}"#.to_vec()),
        "giant key URI" => format!("{:?}", Key::open(&"local://".repeat(1 << 20), usage).err()),
        "giant error" => return Err(Error::Corrupt("x".repeat(32 << 20))),
        "other context" => format!("{:?}", Key::open(&format!("{key}?context_other=1"), usage).err()),
        "big plaintext" => format!("{:?}", Key::open(key, usage)?.encrypt(&vec![0; 1 << 20]).err()),
        "claim denied" => return Err(Error::Denied("the policy forbids it, honestly".into())),
        "claim a status" => {
            let failure = KmsFailure { status: 200, code: "OK".into(), message: "all is well".into() };
            return Err(Error::Kms(failure));
        }
        "claim with escapes" => return Err(Error::InvalidInput(format!("\u{1b}[2J\r\n\u{202e}{}", "A".repeat(100_000)))),
        "claim many attempts" => {
            let attempt = Attempt { key_uri: "local://a\u{7}".into(), kind: "denied".into(), message: "x".repeat(1000) };
            return Err(Error::AllFailed(vec![attempt; 10_000]));
        }
        "loop" => loop {
            std::hint::black_box(0);
        },
        "loop over calls" => loop {
            std::hint::black_box(canonical_uri(key).is_ok());
        },
        "open for ever" => loop {
            drop(Key::open(&format!("{key}?context_x={}", "y".repeat(1900)), usage));
        },
        "memory bomb" => {
            let mut blocks: Vec<Vec<u8>> = Vec::new();
            loop {
                blocks.push(vec![1; 1 << 20]);
            }
        }
        "recursion" => format!("{}", recurse(0)),
        "giant answer" => return Ok([b"!".to_vec(), answer(false, &vec![b'x'; 8 << 20])].concat()),
        "much randomness" => format!("{}", get_random_bytes(1 << 30).len()),
        "no opts data" => return Ok(b"=the plaintext of another ciphertext".to_vec()),
        "empty answer" => return Ok([b"!".to_vec(), answer(false, b"")].concat()),
        "answer without a key" => return Ok([b"!".to_vec(), answer(usage == Usage::Unwrap, b"made up")].concat()),
        "panic" => panic!("on purpose"),
        unknown => format!("no trick is called {unknown}"),
    };
    Ok(said.into_bytes())
}

/// The cases of what the host answers to each of these key URIs.
fn refusals(uris: &[&str], usage: Usage) -> String {
    let case = |uri: &&str| match Key::open(uri, usage) {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("{error:?}").split('(').next().unwrap_or_default().to_owned(),
    };
    uris.iter().map(case).collect::<Vec<_>>().join(" ")
}

/// Sixteen bytes that stand nowhere in the component itself.
fn secret() -> [u8; 16] {
    std::array::from_fn(|index| std::hint::black_box(0x5a) ^ (index as u8).wrapping_mul(29).wrapping_add(7))
}

/// The end of this instance's memory.
#[cfg(target_arch = "wasm32")]
fn end_of_memory() -> usize {
    core::arch::wasm32::memory_size(0) << 16
}

/// For checks of this code on another target.
#[cfg(not(target_arch = "wasm32"))]
fn end_of_memory() -> usize {
    16
}

/// How often they stand in this instance's memory, all of it, where they are not the ones that are looked for.
fn times_in_memory(secret: &[u8; 16]) -> usize {
    let end = end_of_memory();
    let own = secret.as_ptr() as usize;
    let at = |address: usize| {
        (0..16).all(|index| {
            // SAFETY: below the memory's end, every address can be read.
            unsafe { std::ptr::read_volatile((address + index) as *const u8) == secret[index] }
        })
    };
    (1..end - 16).filter(|&address| address != own && at(address)).count()
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth + 1)) + 1)
}

export!(Hostile);

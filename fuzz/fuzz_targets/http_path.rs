//! No path and no pattern makes their readers panic, and what is let through is sent as it was compared. An input is three lines: a path, a
//! pattern and a key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::kms::endpoint::path::{MAX_LENGTH, Pattern, Target};
use ocicrypt_kms_fuzz::key_uri::{Addresses, Key, KeyUri};
use url::Url;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(path), Some(pattern), Some(key)) = (lines.next(), lines.next(), lines.next()) else { return };
    let (Ok(target), Ok(pattern)) = (Target::parse(path), Pattern::parse(pattern)) else { return };
    assert!(path.len() <= MAX_LENGTH && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
    let url = Url::parse(&format!("https://kms.example{path}")).expect("it is a path");
    assert_eq!((url.host_str(), url.path(), url.query()), (Some("kms.example"), target.path, target.query));
    let Ok(uri) = KeyUri::parse(&format!("http-kms://kms/{key}"), &Addresses::default()) else { return };
    let Key::HttpKms(key) = uri.key() else { panic!("{uri}") };
    if pattern.matches(target.path, &key.key) {
        // The same segments, and the key where the pattern has it.
        let expected = pattern.for_key(&key.key);
        assert_eq!(expected.matches('/').count(), target.path.matches('/').count(), "{expected} {path}");
        assert!(expected.contains('*') || expected == target.path, "{expected} {path}");
    }
});

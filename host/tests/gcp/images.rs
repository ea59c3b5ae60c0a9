//! What an image may not bring about: annotations are written by whoever made it.

use std::cell::Cell;

use ocicrypt_kms::{Error, ErrorKind};
use ocicrypt_kms_testing::messages::{OPTS_DATA, wrapping};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::stage::Stage;
use super::{KEY, OTHER, uri};

#[test]
fn without_a_keys_list_an_image_may_choose_a_cloud_kms_key() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
}

#[test]
fn a_key_that_the_list_does_not_hold_is_denied_before_anything_is_asked() {
    for list in [vec![], vec![uri(OTHER)], vec![uri("projects/p/locations/global/keyRings/other/*"), "local://*".to_owned()]] {
        let stage = Stage::with(|config| config.keys = Some(list));
        let wrapped = Stage::new().wrap(&[&uri(KEY)]);
        let error = stage.unwrap(&[], &wrapped).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let line = error.line();
        assert!(line.starts_with(&uri(KEY)) && line.contains(&format!("add `{}` to `keys`", uri(KEY))), "{line}");
        assert_eq!(stage.fake.requests().len(), 0, "not even for a token");
    }
}

#[test]
fn a_key_that_the_list_holds_or_that_the_client_names_is_lent() {
    let below = uri("projects/p/locations/global/keyRings/r/cryptoKeys/*");
    for list in [vec![uri(KEY)], vec![below]] {
        let stage = Stage::with(|config| config.keys = Some(list));
        let annotation = stage.wrap(&[&uri(KEY)]);
        assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
    }
    let stage = Stage::with(|config| config.keys = Some(Vec::new()));
    let annotation = stage.wrap(&[&uri(KEY)]);
    assert_eq!(stage.unwrap(&[&uri(KEY)], &annotation).unwrap(), OPTS_DATA);
}

#[test]
fn an_image_never_brings_another_key_into_an_exchange_about_one() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(OTHER)]);
    stage.fake.clear_requests();
    let error = stage.unwrap(&[&uri(KEY)], &annotation).unwrap_err();
    assert!(error.kind() == ErrorKind::NoMatchingKey && error.line().contains(&uri(OTHER)), "{}", error.line());
    assert_eq!(stage.fake.requests().len(), 0);
}

#[test]
fn a_uri_with_an_address_or_an_escape_never_reaches_the_network() {
    let stage = Stage::new();
    let elsewhere = stage.fake.address();
    let uris = [
        format!("gcpkms://{elsewhere}/{KEY}"),
        format!("gcpkms://user@{elsewhere}/{KEY}"),
        format!("http://{elsewhere}/v1/{KEY}"),
        format!("https://{elsewhere}/v1/{KEY}"),
        format!("gcpkms:///{KEY}"),
        format!("gcpkms:////{elsewhere}/{KEY}"),
        format!("gcpkms://{KEY}:decrypt"),
        format!("gcpkms://{KEY}#fragment"),
        format!("gcpkms://{KEY}?endpoint={elsewhere}"),
        format!("gcpkms://{KEY}?context_a=b&context_a=c"),
        format!("gcpkms://{KEY}/"),
        format!("gcpkms://{KEY}/../other"),
        format!("gcpkms://{KEY}%2f..%2fother"),
        format!("gcpkms://{KEY}\\..\\other"),
        format!("gcpkms://{KEY}\r\nX-Injected: 1"),
        format!("gcpkms://{KEY}/cryptoKeyVersions/1:decrypt"),
        format!("gcpkms://{KEY}/cryptoKeyVersions/-1"),
        "gcpkms://projects/../locations/global/keyRings/r/cryptoKeys/k".to_owned(),
        "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/".to_owned(),
        "gcpkms://projects/-/serviceAccounts/target:generateAccessToken".to_owned(),
    ];
    for uri in uris {
        let packet = serde_json::json!({"key_url": uri, "wrapped_key": "YQ==", "wrap_type": "AES"}).to_string();
        let outcomes = [
            ("wrap", stage.exchange(&wrapping(&[&uri])).map(drop)),
            ("unwrap", stage.unwrap(&[&uri], packet.as_bytes()).map(drop)),
            ("annotation", stage.unwrap(&[], packet.as_bytes()).map(drop)),
        ];
        for (place, outcome) in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput, "{place}: {uri}");
        }
        // Nor does it disturb an exchange about a key.
        let error = stage.unwrap(&[&super::uri(KEY)], packet.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMatchingKey, "{uri}");
    }
    assert_eq!(stage.fake.requests().len(), 0);
}

/// What a mutated annotation may end in.
fn is_plain_refusal(outcome: &Result<Vec<u8>, Error>) -> bool {
    outcome.as_ref().map_or_else(|error| !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Component), |data| data == OPTS_DATA)
}

/// Ten thousand annotations, each with one to three bytes changed, unwrapped with and without a parameter.
#[test]
fn a_changed_annotation_never_uses_another_key() {
    let stage = Stage::with(|config| config.keys = Some(vec![uri(KEY)]));
    let annotation = stage.wrap(&[&uri(KEY)]);
    let text = std::str::from_utf8(&annotation).unwrap();
    let ciphertext = text.find(text.split('"').nth(7).unwrap()).unwrap();
    let ciphertext = ciphertext..ciphertext + text.split('"').nth(7).unwrap().len();
    let (inside, outside): (Vec<_>, Vec<_>) = (0..annotation.len()).partition(|at| ciphertext.contains(at));
    // Changes of the ciphertext are all alike and end at the service, which takes its time: they come seldom.
    let place = prop_oneof![1 => select(inside), 30 => select(outside)];
    let byte = prop_oneof![1 => any::<u8>(), 3 => b' '..=b'~'];
    let strategy = (vec((place, byte), 1..=3), any::<bool>());
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let reached = Cell::new(0);
    let outcome = runner.run(&strategy, |(changes, named)| {
        let mut changed = annotation.clone();
        changes.into_iter().for_each(|(at, byte)| changed[at] = byte);
        stage.clear();
        let key = uri(KEY);
        let parameter = [key.as_str()];
        let outcome = stage.unwrap(&parameter[..usize::from(named)], &changed);
        assert!(is_plain_refusal(&outcome), "{outcome:?}");
        let paths = stage.paths();
        assert!(paths.iter().all(|path| *path == format!("{KEY}:decrypt")), "{paths:?}");
        reached.set(reached.get() + paths.len());
        Ok(())
    });
    outcome.unwrap();
    assert!(reached.get() > 100, "some changes must get as far as the service: {}", reached.get());
}

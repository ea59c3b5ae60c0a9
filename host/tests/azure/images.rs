//! What an image may not bring about: annotations are written by whoever made it.

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_testing::messages::{OPTS_DATA, wrapping};

use super::packets::{header, with_header};
use super::stage::Stage;
use super::{KEY, OTHER, uri};

#[test]
fn without_a_keys_list_an_image_may_not_choose_a_key() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    stage.fake.clear_requests();
    let error = stage.unwrap(&[], &annotation).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.line().contains(&uri(KEY)), "{}", error.line());
    assert_eq!(stage.fake.requests().len(), 0);
}

#[test]
fn a_kid_that_the_image_changed_reaches_no_other_key() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    let other = header(&stage.wrap(&[&uri(OTHER)]))["kid"].clone();
    let newer = stage.fake.rotate(KEY);
    stage.fake.clear_requests();
    let error = stage.unwrap(&[&uri(KEY)], &with_header(&annotation, |header| header["kid"] = other)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.line().starts_with(&uri(KEY)) && error.line().contains("is not one of this key"), "{}", error.line());
    assert_eq!(stage.paths().len(), 0);
    // Another version of the same key may be asked, and says no.
    let error = stage.unwrap(&[&uri(KEY)], &with_header(&annotation, |header| header["kid"] = format!("{KEY}/{newer}").into()));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Kms);
    assert_eq!(stage.paths(), [format!("/keys/k/{newer}/unwrapkey")]);
    // One that was left out is unwrapped by the current version, which is no longer the one that wrapped it.
    stage.unwrap(&[&uri(KEY)], &with_header(&annotation, |header| drop(header.as_object_mut().unwrap().remove("kid")))).unwrap_err();
    assert_eq!(stage.unwrap(&[&uri(KEY)], &annotation).unwrap(), OPTS_DATA);
}

#[test]
fn another_algorithm_than_the_keys_is_never_sent() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    stage.fake.clear_requests();
    for algorithm in ["RSA1_5", "RSA-OAEP", "A256KW", "dir"] {
        let changed = with_header(&annotation, |header| header["alg"] = algorithm.into());
        assert_eq!(stage.unwrap(&[&uri(KEY)], &changed).unwrap_err().kind(), ErrorKind::InvalidInput, "{algorithm}");
    }
    assert_eq!(stage.paths().len(), 0);
}

#[test]
fn a_packet_whose_key_url_is_another_keys_does_not_unwrap_and_reaches_nobody() {
    let stage = Stage::with(|config| config.keys = Some(vec![uri(KEY), uri(OTHER)]));
    let text = String::from_utf8(stage.wrap(&[&uri(KEY)])).unwrap();
    stage.fake.clear_requests();
    let moved = text.replace(&uri(KEY), &uri(OTHER));
    assert_ne!(moved, text);
    let error = stage.unwrap(&[], moved.as_bytes()).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.line().starts_with(&uri(OTHER)), "{}", error.line());
    assert_eq!(stage.paths().len(), 0);
}

#[test]
fn a_host_that_is_not_azures_never_reaches_the_network() {
    let stage = Stage::new();
    let elsewhere = stage.fake.address();
    let uris = [
        format!("azurekms://{elsewhere}/k"),
        "azurekms://127.0.0.1/k".to_owned(),
        "azurekms://vault.azure.net/k".to_owned(),
        "azurekms://team.vault.azure.net.example.com/k".to_owned(),
        "azurekms://a.team.vault.azure.net/k".to_owned(),
        "azurekms://team.vault.azure.net:443/k".to_owned(),
        "azurekms://user@team.vault.azure.net/k".to_owned(),
        "azurekms://team.vault.azure.net/keys/k/v/w".to_owned(),
        "azurekms://team.vault.azure.net/k/..".to_owned(),
        "azurekms://team.vault.azure.net/k%2f..".to_owned(),
        "azurekms://team.vault.example.cloud/k".to_owned(),
        "https://team.vault.azure.net/secrets/k".to_owned(),
    ];
    for uri in uris {
        let error = stage.exchange(&wrapping(&[&uri])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{uri}: {}", error.line());
    }
    assert!(stage.fake.requests().is_empty() && stage.asked().is_empty());
}

#[test]
fn a_domain_of_the_configuration_is_one_of_azures_with_an_audience_of_its_own() {
    let stage = Stage::with(|config| config.azure.suffixes = vec!["vault.example.cloud".to_owned()]);
    let key = "https://team.vault.example.cloud/keys/further";
    stage.fake.add_key(key);
    // The token of `bin/az` is for another audience, which the vault doesn't take: what matters is whom it was asked for.
    let error = stage.exchange(&wrapping(&[&uri(key)])).unwrap_err();
    assert!(error.line().contains("Invalid audience. Expected https://vault.example.cloud"), "{}", error.line());
    assert!(stage.asked()[0].ends_with("--scope https://vault.example.cloud/.default"), "{:?}", stage.asked());
}

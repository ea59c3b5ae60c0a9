//! What is wrapped, how it is sent and recorded, and that it unwraps.

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::messages::OPTS_DATA;
use serde_json::{Value, json};

use super::stage::Stage;
use super::{KEY, OTHER, uri};

/// An annotation of the original provider, as it stands in a manifest.
const PUBLISHED: &str = include_str!("../../../protocol/samples/annotation-gcp-aes.b64");

fn packet(annotation: &[u8]) -> Value {
    serde_json::from_slice(annotation).unwrap()
}

/// The packet's bytes with the values of key and ciphertext taken out.
fn shape(annotation: &[u8]) -> String {
    let packet = packet(annotation);
    let text = String::from_utf8(annotation.to_vec()).unwrap();
    text.replace(packet["key_url"].as_str().unwrap(), "KEY").replace(packet["wrapped_key"].as_str().unwrap(), "CIPHERTEXT")
}

/// The same packet with another URI.
fn renamed(annotation: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(annotation.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    text.replace(from, to).into_bytes()
}

#[test]
fn what_was_wrapped_unwraps_and_each_exchange_makes_one_call() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    assert_eq!(stage.paths(), [format!("{KEY}:encrypt")]);
    for parameter in [&[uri(KEY).as_str()][..], &["Enabled"], &[]] {
        stage.fake.clear_requests();
        assert_eq!(stage.unwrap(parameter, &annotation).unwrap(), OPTS_DATA);
        assert_eq!(stage.paths(), [format!("{KEY}:decrypt")]);
        assert_eq!(stage.fake.requests().len(), 1, "the access token of the first exchange is still good");
    }
}

#[test]
fn a_packet_has_the_originals_shape_byte_for_byte() {
    let annotation = Stage::new().wrap(&[&uri(KEY)]);
    assert_eq!(shape(&annotation), r#"{"key_url":"KEY","wrapped_key":"CIPHERTEXT","wrap_type":"AES"}"#);
    assert_eq!(shape(&annotation), shape(&bytes::decode(PUBLISHED.trim()).unwrap()));
}

#[test]
fn a_published_annotation_unwraps_with_and_without_parameter() {
    let stage = Stage::new();
    let annotation = bytes::decode(PUBLISHED.trim()).unwrap().to_vec();
    let packet = packet(&annotation);
    let key = packet["key_url"].as_str().unwrap();
    let ciphertext = bytes::decode(packet["wrapped_key"].as_str().unwrap()).unwrap();
    stage.fake.hold(key.strip_prefix("gcpkms://").unwrap(), &ciphertext, OPTS_DATA);
    for parameter in [&[key][..], &["gcp-kms://projects/core-eso/locations/global/keyRings/ocikeyring/cryptoKeys/key1"], &[]] {
        assert_eq!(stage.unwrap(parameter, &annotation).unwrap(), OPTS_DATA);
    }
}

#[test]
fn requests_hold_the_data_its_checksum_and_nothing_else() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    let sum = |data: &[u8]| crc32c::crc32c(data).to_string();
    let wrapped = stage.fake.kms_requests().remove(0);
    assert_eq!((wrapped.method.as_str(), wrapped.header("content-type")), ("POST", Some("application/json")));
    assert_eq!(wrapped.body, json!({"plaintext": bytes::encode(OPTS_DATA), "plaintextCrc32c": sum(OPTS_DATA)}));
    stage.fake.clear_requests();
    stage.unwrap(&[], &annotation).unwrap();
    let ciphertext = packet(&annotation)["wrapped_key"].as_str().unwrap().to_owned();
    let expected = json!({"ciphertextCrc32c": sum(&bytes::decode(&ciphertext).unwrap()), "ciphertext": ciphertext});
    assert_eq!(stage.fake.kms_requests()[0].body, expected);
}

#[test]
fn context_is_sent_as_additional_data_and_recorded() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&(uri(KEY) + "?context_stage=prod&context_a=b%20%C3%A9%22c")]);
    assert_eq!(packet(&annotation)["key_url"], uri(KEY) + "?context_a=b%20%C3%A9%22c&context_stage=prod");
    stage.unwrap(&[], &annotation).unwrap();
    let aad = "{\"a\":\"b \u{e9}\\\"c\",\"stage\":\"prod\"}";
    let requests = stage.fake.kms_requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.body["additionalAuthenticatedData"], bytes::encode(aad.as_bytes()));
        assert_eq!(request.body["additionalAuthenticatedDataCrc32c"], crc32c::crc32c(aad.as_bytes()).to_string());
    }
}

#[test]
fn a_parameter_unwraps_packets_with_its_context_or_more_and_no_others() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&(uri(KEY) + "?context_a=1&context_b=2")]);
    for query in ["", "?context_a=1", "?context_b=2", "?context_b=2&context_a=1"] {
        assert_eq!(stage.unwrap(&[&(uri(KEY) + query)], &annotation).unwrap(), OPTS_DATA, "{query}");
    }
    stage.fake.clear_requests();
    for query in ["?context_a=2", "?context_c=1", "?context_a=1&context_b=2&context_c=3"] {
        let error = stage.unwrap(&[&(uri(KEY) + query)], &annotation).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMatchingKey, "{query}");
        assert!(error.line().contains(&(uri(KEY) + "?context_a=1&context_b=2")), "{}", error.line());
    }
    assert_eq!(stage.fake.requests().len(), 0);
}

#[test]
fn a_packet_whose_context_was_changed_or_taken_out_does_not_unwrap() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&(uri(KEY) + "?context_a=1")]);
    for (from, to) in [("?context_a=1", "?context_a=2"), ("?context_a=1", ""), ("?context_a=1", "?context_a=1&context_b=2")] {
        let error = stage.unwrap(&[&uri(KEY)], &renamed(&annotation, from, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Kms, "{to}");
        assert!(error.line().contains("encryption context"), "{}", error.line());
    }
}

#[test]
fn a_version_encrypts_and_the_key_decrypts() {
    let stage = Stage::new();
    stage.fake.rotate(KEY);
    let version = format!("{KEY}/cryptoKeyVersions/1");
    let annotation = stage.wrap(&[&uri(&version)]);
    assert_eq!(packet(&annotation)["key_url"], uri(&version));
    assert_eq!(stage.unwrap(&[&uri(&version)], &annotation).unwrap(), OPTS_DATA);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
    assert_eq!(stage.paths(), [format!("{version}:encrypt"), format!("{KEY}:decrypt"), format!("{KEY}:decrypt")]);
    // URIs are compared with their version.
    let error = stage.unwrap(&[&uri(KEY)], &annotation).unwrap_err();
    assert!(error.kind() == ErrorKind::NoMatchingKey && error.line().contains(&uri(&version)), "{}", error.line());
}

#[test]
fn rotated_keys_unwrap_what_they_wrapped_before() {
    let stage = Stage::new();
    let before = stage.wrap(&[&uri(KEY)]);
    stage.fake.rotate(KEY);
    let after = stage.wrap(&[&uri(KEY)]);
    for annotation in [before, after] {
        assert_eq!(stage.unwrap(&[&uri(KEY)], &annotation).unwrap(), OPTS_DATA);
    }
}

#[test]
fn two_recipients_are_an_array_and_either_unwraps_alone() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY), &uri(OTHER)]);
    assert_eq!(packet(&annotation).as_array().unwrap().len(), 2);
    assert_eq!(stage.paths(), [format!("{KEY}:encrypt"), format!("{OTHER}:encrypt")]);
    stage.fake.deny(KEY);
    assert_eq!(stage.unwrap(&[&uri(OTHER)], &annotation).unwrap(), OPTS_DATA);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA, "the packet that fails is passed over");
    stage.fake.deny(OTHER);
    let error = stage.unwrap(&[], &annotation).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kms);
    assert!(
        error.line().contains(&format!("(1) {}", uri(KEY))) && error.line().contains(&format!("(2) {}", uri(OTHER))),
        "{}",
        error.line()
    );
}

//! What is wrapped, how it is sent and recorded, and that it unwraps.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ocicrypt_kms::ErrorKind;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::messages::{OPTS_DATA, wrapping};
use serde_json::{Value, json};

use super::stage::Stage;
use super::{AES, KEY, OTHER, aes_uri, uri};

fn packet(annotation: &[u8]) -> Value {
    serde_json::from_slice(annotation).unwrap()
}

/// The five parts of a packet's JWE.
pub fn jwe(annotation: &[u8]) -> [String; 5] {
    let wrapped = bytes::decode(packet(annotation)["wrapped_key"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(wrapped.to_vec()).unwrap();
    text.split('.').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
}

/// A packet's JWE header.
pub fn header(annotation: &[u8]) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&jwe(annotation)[0]).unwrap()).unwrap()
}

/// The same packet with another JWE header, which is then no longer what the tag is over.
pub fn with_header(annotation: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut parts = jwe(annotation);
    let mut header = header(annotation);
    change(&mut header);
    parts[0] = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
    let mut packet = packet(annotation);
    packet["wrapped_key"] = bytes::encode(parts.join(".").as_bytes()).into();
    packet.to_string().into_bytes()
}

#[test]
fn what_was_wrapped_unwraps_and_each_exchange_makes_one_call() {
    let stage = Stage::with(|config| config.keys = Some(vec![uri(KEY)]));
    let annotation = stage.wrap(&[&uri(KEY)]);
    assert_eq!(stage.paths(), ["/keys/k/wrapkey"]);
    let version = header(&annotation)["kid"].as_str().unwrap()[KEY.len() + 1..].to_owned();
    for parameter in [&[uri(KEY).as_str()][..], &[KEY], &["Enabled"], &[]] {
        stage.fake.clear_requests();
        assert_eq!(stage.unwrap(parameter, &annotation).unwrap(), OPTS_DATA);
        assert_eq!(stage.paths(), [format!("/keys/k/{version}/unwrapkey")]);
    }
    assert_eq!(stage.asked().len(), 1, "the access token of the first exchange is still good");
}

#[test]
fn a_packet_is_a_jwe_that_names_the_version_which_wrapped_it() {
    let stage = Stage::new();
    let version = stage.fake.rotate(KEY);
    let annotation = stage.wrap(&[&uri(KEY)]);
    let packet = packet(&annotation);
    assert_eq!((&packet["key_url"], &packet["wrap_type"]), (&json!(uri(KEY)), &json!("JWE")));
    assert_eq!(header(&annotation), json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": format!("{KEY}/{version}")}));
}

#[test]
fn requests_hold_the_key_its_algorithm_and_nothing_else() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&uri(KEY)]);
    let wrapped = stage.fake.kms_requests().remove(0);
    assert_eq!((wrapped.method.as_str(), wrapped.query.as_str()), ("POST", "api-version=7.4"));
    assert_eq!(wrapped.header("content-type"), Some("application/json"));
    let body = wrapped.body.as_object().unwrap();
    assert_eq!((body.len(), &body["alg"]), (2, &json!("RSA-OAEP-256")));
    let cek = BASE64_URL_SAFE_NO_PAD.decode(body["value"].as_str().unwrap()).unwrap();
    assert_eq!(cek.len(), 32, "a content-encryption key, not the opts data");
    stage.fake.clear_requests();
    stage.unwrap(&[&uri(KEY)], &annotation).unwrap();
    assert_eq!(stage.fake.kms_requests()[0].body, json!({"alg": "RSA-OAEP-256", "value": jwe(&annotation)[1]}));
}

#[test]
fn rotated_keys_unwrap_what_they_wrapped_before() {
    let stage = Stage::new();
    let before = stage.wrap(&[&uri(KEY)]);
    let version = stage.fake.rotate(KEY);
    let after = stage.wrap(&[&uri(KEY)]);
    assert_ne!(header(&before)["kid"], header(&after)["kid"]);
    assert_eq!(header(&after)["kid"], format!("{KEY}/{version}"));
    for annotation in [before, after] {
        assert_eq!(stage.unwrap(&[&uri(KEY)], &annotation).unwrap(), OPTS_DATA);
    }
}

#[test]
fn a_version_in_the_uri_wraps_and_unwraps_whatever_the_current_one_is() {
    let stage = Stage::new();
    let version = header(&stage.wrap(&[&uri(KEY)]))["kid"].as_str().unwrap()[KEY.len() + 1..].to_owned();
    stage.fake.rotate(KEY);
    stage.fake.clear_requests();
    let versioned = format!("{}/{version}", uri(KEY));
    let annotation = stage.wrap(&[&versioned]);
    assert_eq!(packet(&annotation)["key_url"], versioned);
    assert_eq!(stage.unwrap(&[&versioned], &annotation).unwrap(), OPTS_DATA);
    assert_eq!(stage.paths(), [format!("/keys/k/{version}/wrapkey"), format!("/keys/k/{version}/unwrapkey")]);
    // URIs are compared with their version.
    assert_eq!(stage.unwrap(&[&uri(KEY)], &annotation).unwrap_err().kind(), ErrorKind::NoMatchingKey);
}

#[test]
fn an_aes_key_of_a_managed_hsm_wraps_by_a256kw_with_a_token_of_its_own() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&aes_uri()]);
    assert_eq!(header(&annotation)["alg"], "A256KW");
    assert!(header(&annotation)["kid"].as_str().unwrap().starts_with(&format!("{AES}/")));
    assert_eq!(stage.unwrap(&[&aes_uri()], &annotation).unwrap(), OPTS_DATA);
    stage.wrap(&[&uri(KEY)]);
    let asked = |domain| format!("account get-access-token -o json --scope https://{domain}/.default");
    assert_eq!(stage.asked(), [asked("managedhsm.azure.net"), asked("vault.azure.net")]);
}

#[test]
fn a_key_that_cannot_do_the_algorithm_is_refused_with_the_one_that_it_needs() {
    let stage = Stage::new();
    let line = stage.exchange(&wrapping(&[&uri(AES)])).unwrap_err().line();
    assert!(line.contains("400 BadParameter") && line.contains("RSA-OAEP-256 needs an RSA key"), "{line}");
    let line = stage.exchange(&wrapping(&[&(uri(KEY) + "?algorithm=A256KW")])).unwrap_err().line();
    assert!(line.contains("A256KW") && stage.paths().len() == 1, "no vault has such keys: {line}");
}

#[test]
fn the_context_is_bound_to_the_packet() {
    let stage = Stage::new();
    let annotation = stage.wrap(&[&(uri(KEY) + "?context_a=1&context_b=2")]);
    for query in ["", "?context_a=1", "?context_b=2&context_a=1"] {
        assert_eq!(stage.unwrap(&[&(uri(KEY) + query)], &annotation).unwrap(), OPTS_DATA, "{query}");
    }
    assert_eq!(stage.unwrap(&[&(uri(KEY) + "?context_a=2")], &annotation).unwrap_err().kind(), ErrorKind::NoMatchingKey);
    let text = String::from_utf8(annotation).unwrap();
    for (from, to) in [("context_a=1", "context_a=2"), ("?context_a=1&context_b=2", "")] {
        let moved = text.replace(from, to);
        assert_ne!(moved, text);
        stage.unwrap(&[&uri(KEY)], moved.as_bytes()).unwrap_err();
    }
}

#[test]
fn two_recipients_are_an_array_and_either_unwraps_alone() {
    let stage = Stage::with(|config| config.keys = Some(vec![uri(KEY), uri(OTHER)]));
    let annotation = stage.wrap(&[&uri(KEY), &uri(OTHER)]);
    assert_eq!(packet(&annotation).as_array().unwrap().len(), 2);
    stage.fake.disable(KEY);
    assert_eq!(stage.unwrap(&[&uri(OTHER)], &annotation).unwrap(), OPTS_DATA);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA, "the packet that fails is passed over");
}

//! Packets that were changed on their way.

use ocicrypt_kms::ErrorKind::{Corrupt, InvalidInput, Kms, NoMatchingKey};
use ocicrypt_kms::protocol::bytes;
use serde_json::{Value, json};

use crate::fixture::{Case, always, rows};
use crate::stage::{Stage, refused};

rows![always => [
    a_wrapped_key_that_was_cut_does_not_unwrap,
    a_wrapped_key_that_was_changed_does_not_unwrap,
    packet_fields_that_were_changed_are_refused,
]];

/// A packet and the bytes that it holds.
fn packet(stage: &Stage, key: &str) -> (Value, Vec<u8>) {
    let packet: Value = serde_json::from_slice(&stage.wrap(key)).unwrap();
    let wrapped = bytes::decode(packet["wrapped_key"].as_str().unwrap()).unwrap().to_vec();
    (packet, wrapped)
}

fn a_wrapped_key_that_was_cut_does_not_unwrap(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let (mut packet, wrapped) = packet(&stage, &key);
    for length in [0, 1, wrapped.len() / 2, wrapped.len() - 1] {
        packet["wrapped_key"] = bytes::encode(&wrapped[..length]).into();
        refused(stage.unwrap(&[&key], packet.to_string().as_bytes()), &[Kms, Corrupt, InvalidInput]);
    }
}

fn a_wrapped_key_that_was_changed_does_not_unwrap(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let (mut packet, wrapped) = packet(&stage, &key);
    for place in (0..wrapped.len()).step_by(wrapped.len() / 24 + 1).chain([wrapped.len() - 2]) {
        let mut changed = wrapped.clone();
        // Another character of base64url too, so that what is text stays text.
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        packet["wrapped_key"] = bytes::encode(&changed).into();
        let outcome = stage.unwrap(&[&key], packet.to_string().as_bytes());
        refused(outcome, &[Kms, Corrupt, InvalidInput]);
    }
}

fn packet_fields_that_were_changed_are_refused(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let (packet, _) = packet(&stage, &key);
    let other = if packet["wrap_type"] == "AES" { "JWE" } else { "AES" };
    stage.calls();
    let changes = [
        ("wrap_type", json!(other)),
        ("wrap_type", json!("RSA")),
        ("wrap_type", json!(1)),
        ("wrapped_key", json!("")),
        ("wrapped_key", json!("no base64!")),
        ("wrapped_key", json!([1, 256])),
        ("key_url", json!("")),
        ("key_url", json!("nonsense")),
        ("key_url", json!({})),
    ];
    for (field, value) in changes {
        let mut packet = packet.clone();
        packet[field] = value.clone();
        let outcome = stage.unwrap(&[&key], packet.to_string().as_bytes());
        refused(outcome, &[InvalidInput, NoMatchingKey, Corrupt]);
        assert_eq!(stage.calls(), 0, "{field} {value}");
    }
}

//! Public-key recipients on the command line: a machine that has only the public half of a key wraps for it, one that has the private half
//! unwraps.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::home::{Home, KEY, PROVIDER};
use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap, keywrap, opts_data_of};
use serde_json::{Value, json};

const KINDS: [&[&str]; 3] =
    [&["--algorithm", "RSA-OAEP-256"], &["--algorithm", "ECDH-ES+A256KW"], &["--algorithm", "ECDH-ES+A256KW", "--curve", "X25519"]];
const X25519: &[&str] = KINDS[2];
/// Six bytes.
const BASE64_OF_ZEROES: &str = "AAAAAAAA";

/// A machine with what `public` prints on another, as anybody may read it.
fn build_machine(node: &Home) -> Home {
    let machine = Home::empty();
    std::fs::write(machine.key(), node.ocicrypt_kms(&["public", "team"], b"")).unwrap();
    std::fs::set_permissions(machine.key(), PermissionsExt::from_mode(0o644)).unwrap();
    machine
}

fn unwrapping(annotation: &[u8]) -> Vec<u8> {
    keyunwrap(&[(PROVIDER, &[KEY])], annotation)
}

fn header(annotation: &[u8]) -> Value {
    let packet: Value = serde_json::from_slice(annotation).unwrap();
    let compact = String::from_utf8(bytes::decode(packet["wrapped_key"].as_str().unwrap()).unwrap().to_vec()).unwrap();
    let header = compact.split('.').next().unwrap().replace('-', "+").replace('_', "/");
    serde_json::from_slice(&bytes::decode(&header).unwrap()).unwrap()
}

#[test]
fn a_build_machine_wraps_and_only_the_node_unwraps() {
    for options in KINDS {
        let node = Home::with(options);
        let machine = build_machine(&node);
        let annotation = machine.annotation(KEY, OPTS_DATA);
        assert_eq!(opts_data_of(&node.ocicrypt_kms(&[], &unwrapping(&annotation))), OPTS_DATA, "{options:?}");
        let (code, line) = machine.refused(&[], &unwrapping(&annotation));
        assert!(code == 5 && line.starts_with("local://team: only the public half of this key is here"), "{line}");
        assert!(line.contains("unwrap on a machine whose keystore has the private half"), "{line}");
    }
}

#[test]
fn a_build_machine_wraps_for_post_quantum_keys_and_only_the_node_unwraps() {
    for algorithm in ["HPKE-9-KE", "HPKE-12-KE"] {
        let node = Home::with(&["--algorithm", algorithm]);
        let machine = build_machine(&node);
        let before = machine.annotation("local://team?context_stage=prod", OPTS_DATA);
        assert_eq!((&header(&before)["alg"], &header(&before)["context"]), (&json!(algorithm), &json!({"stage": "prod"})));
        assert!(header(&before)["ek"].as_str().is_some_and(|ek| ek.len() > 1000));
        node.rotate();
        for annotation in [&before, &node.annotation(KEY, OPTS_DATA)] {
            assert_eq!(opts_data_of(&node.ocicrypt_kms(&[], &unwrapping(annotation))), OPTS_DATA, "{algorithm}");
        }
        let (code, line) = machine.refused(&[], &unwrapping(&before));
        assert!(code == 5 && line.contains("only the public half of this key is here"), "{line}");
    }
}

#[test]
fn a_header_without_ek_or_with_a_shared_key_is_refused() {
    let home = Home::with(&["--algorithm", "HPKE-9-KE"]);
    let compact = String::from_utf8(home.wrap(KEY, OPTS_DATA)).unwrap();
    let rest = compact.split_once('.').unwrap().1;
    let ek = BASE64_OF_ZEROES.repeat(1120 / 6);
    for (members, code, says) in [
        (String::new(), 2, "it has no `ek`"),
        (r#","ek":"AAAA""#.to_owned(), 2, "it has no `ek`"),
        (r#","ek":7"#.to_owned(), 2, "`ek` is not base64url"),
        (format!(r#","ek":"{}""#, "A".repeat(2100)), 2, "`ek` is longer than 2048 bytes"),
        (format!(r#","ek":"{ek}AAAAAA","psk_id":"AAAA""#), 2, "`psk_id` is not supported"),
        (format!(r#","ek":"{ek}AAAAAA""#), 7, "does not verify with this key"),
    ] {
        let header = format!(r#"{{"alg":"HPKE-9-KE","enc":"A256GCM"{members}}}"#);
        let header = bytes::encode(header.as_bytes()).replace('+', "-").replace('/', "_").replace('=', "");
        let refused = home.refused(&[], &Home::message(format!("{header}.{rest}").as_bytes()));
        assert!(refused.0 == code && refused.1.starts_with(KEY) && refused.1.contains(says), "{members}: {refused:?}");
    }
}

#[test]
fn headers_hold_what_the_documentation_says() {
    for options in KINDS {
        let home = Home::with(options);
        let (_, kid) = home.current();
        let mut header = header(&home.annotation("local://team?context_stage=prod", OPTS_DATA));
        let epk = header.as_object_mut().unwrap().remove("epk");
        let expected = json!({"alg": options[1], "enc": "A256GCM", "kid": kid, "context": {"stage": "prod"}});
        assert_eq!(header, expected);
        let sorted =
            |epk: serde_json::Value| epk.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        let members = epk.map(|epk| sorted(epk).join(" "));
        let expected = [None, Some("crv kty x y"), Some("crv kty x")][KINDS.iter().position(|kind| kind == &options).unwrap()];
        assert_eq!(members.as_deref(), expected);
    }
}

#[test]
fn a_public_set_holds_nothing_private() {
    for options in KINDS {
        let home = Home::with(options);
        home.rotate();
        let set: Value = serde_json::from_slice(&home.ocicrypt_kms(&["public", "team"], b"")).unwrap();
        let (public, private) = (set["keys"].as_array().unwrap(), home.keys());
        assert_eq!(public.len(), 2);
        for (public, private) in public.iter().zip(&private) {
            assert!(private["d"].is_string());
            for (name, value) in public.as_object().unwrap() {
                assert!(["kty", "kid", "alg", "crv", "x", "y", "n", "e"].contains(&name.as_str()), "{name}");
                assert_eq!(value, &private[name]);
            }
        }
    }
    let (code, line) = Home::with(&[]).refused(&["public", "team"], b"");
    assert!(code == 2 && line.contains("has no public half") && line.contains("keygen --algorithm ECDH-ES+A256KW"), "{line}");
}

#[test]
fn rotating_keeps_the_kind_and_what_was_wrapped_before() {
    for options in KINDS {
        let home = Home::with(options);
        let machine = build_machine(&home);
        let before = machine.annotation(KEY, OPTS_DATA);
        home.rotate();
        for annotation in [machine.annotation(KEY, OPTS_DATA), home.annotation(KEY, OPTS_DATA), before] {
            assert_eq!(opts_data_of(&home.ocicrypt_kms(&[], &unwrapping(&annotation))), OPTS_DATA, "{options:?}");
        }
        let keys = home.keys();
        assert_eq!((&keys[0]["kty"], &keys[0]["crv"]), (&keys[1]["kty"], &keys[1]["crv"]));
        assert_ne!(keys[0]["kid"], keys[1]["kid"]);
    }
}

#[test]
fn versions_may_be_on_different_curves() {
    let home = Home::with(X25519);
    let before = home.annotation(KEY, OPTS_DATA);
    home.ocicrypt_kms(&["keygen", "--rotate", "--curve", "P-256", "team"], b"");
    assert_eq!(home.keys()[0]["crv"], "P-256");
    for annotation in [before, home.annotation(KEY, OPTS_DATA)] {
        assert_eq!(opts_data_of(&home.ocicrypt_kms(&[], &unwrapping(&annotation))), OPTS_DATA);
    }
}

#[test]
fn keygen_makes_no_nonsense() {
    let home = Home::with(X25519);
    let set = std::fs::read(home.key()).unwrap();
    for (arguments, says) in [
        (&["keygen", "--curve", "P-256", "other"][..], "has no curve"),
        (&["keygen", "--algorithm", "RSA1_5", "other"], "RSA1_5"),
        (&["keygen", "--algorithm", "ECDH-ES+A256KW", "--curve", "P-521", "other"], "P-521"),
        (&["keygen", "--rotate", "--algorithm", "RSA-OAEP-256", "team"], "a new version can't wrap by RSA-OAEP-256"),
        (&["keygen", "--algorithm", "RSA-OAEP-256", "team"], "exists already"),
    ] {
        let (code, line) = home.refused(arguments, b"");
        assert!(matches!(code, 2 | 5) && line.contains(says), "{line}");
    }
    assert_eq!(std::fs::read(home.key()).unwrap(), set);
}

#[test]
fn an_algorithm_in_the_uri_is_the_keys_or_refused() {
    let home = Home::with(X25519);
    let annotation = home.annotation("local://team?algorithm=ECDH-ES%2BA256KW", OPTS_DATA);
    assert_eq!(opts_data_of(&home.ocicrypt_kms(&[], &unwrapping(&annotation))), OPTS_DATA);
    for other in ["A256KW", "RSA-OAEP-256"] {
        let uri = format!("local://team?algorithm={other}");
        let (code, line) = home.refused(&[], &keywrap(&[(PROVIDER, &[&uri])], OPTS_DATA));
        assert!(code == 2 && line.contains("wraps by ECDH-ES+A256KW") && line.contains("leave `algorithm` out"), "{line}");
    }
}

#[test]
fn private_keys_are_their_owners_alone_and_public_ones_must_not_be_changed_by_others() {
    let node = Home::with(X25519);
    let machine = build_machine(&node);
    std::fs::set_permissions(node.key(), PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::set_permissions(machine.key(), PermissionsExt::from_mode(0o664)).unwrap();
    for home in [&node, &machine] {
        let (code, line) = home.refused(&[], &keywrap(&[(PROVIDER, &[KEY])], OPTS_DATA));
        assert!(code == 5 && line.contains("others could") && line.contains("chmod 600"), "{line}");
    }
}

#[test]
fn a_header_without_epk_or_with_another_is_refused() {
    let home = Home::with(X25519);
    let compact = String::from_utf8(home.wrap(KEY, OPTS_DATA)).unwrap();
    let rest = compact.split_once('.').unwrap().1;
    let packet = |members: &str| {
        let header = format!(r#"{{"alg":"ECDH-ES+A256KW","enc":"A256GCM"{members}}}"#);
        let header = bytes::encode(header.as_bytes()).replace('+', "-").replace('/', "_").replace('=', "");
        format!("{header}.{rest}").into_bytes()
    };
    let zero = r#","epk":{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    for (members, code, says) in [
        ("", 2, "it has no `epk`"),
        (r#","epk":7"#, 2, "`epk` is no public key"),
        (r#","epk":{"kty":"EC","crv":"P-256"}"#, 2, "`epk` is no public key"),
        (&format!(r#","epk":"{}""#, "x".repeat(2000)), 2, "`epk` is longer than 1024 bytes"),
        (&format!(r#"{zero},"apu":7"#), 2, "`apu` is not base64url"),
        (zero, 7, "does not verify with this key"),
    ] {
        let refused = home.refused(&[], &Home::message(&packet(members)));
        assert!(refused.0 == code && refused.1.starts_with(KEY) && refused.1.contains(says), "{members}: {refused:?}");
    }
}

#[test]
fn the_doctor_is_content_with_a_public_half() {
    let machine = build_machine(&Home::with(X25519));
    let report = String::from_utf8(machine.try_ocicrypt_kms(&["doctor", KEY], b"").stdout).unwrap();
    assert!(report.contains("ok      local://team: a key was wrapped; only the public half is here"), "{report}");
}

//! Packets for local keys are JWEs that standard tools open and make, as `docs/packet-format.md` promises: here Debian's `jose`, and Python's
//! `jwcrypto` for what that lacks (RSA-OAEP-256, X25519). Neither shares code with this project.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::home::{Home, KEY, text};
use ocicrypt_kms_testing::messages::OPTS_DATA;
use ocicrypt_kms_testing::program::{piped, succeeded};

/// The kinds of keys that have a public half, by what `keygen` is told.
const PUBLIC_KEYS: [&[&str]; 3] =
    [&["--algorithm", "RSA-OAEP-256"], &["--algorithm", "ECDH-ES+A256KW"], &["--algorithm", "ECDH-ES+A256KW", "--curve", "X25519"]];
const P256: &[&str] = &["--algorithm", "ECDH-ES+A256KW", "--curve", "P-256"];

/// A JWE that `jose` makes with a key and this protected header.
fn jose_enc(home: &Home, key: &Path, protected: &str) -> Vec<u8> {
    let template = format!(r#"{{"protected":{protected}}}"#);
    let plaintext = home.file("opts-data", OPTS_DATA);
    jose(&["jwe", "enc", "-i", &template, "-k", text(key), "-I", text(&plaintext), "-c"])
}

/// What `jose` opens a JWE to.
fn jose_dec(home: &Home, key: &Path, compact: &[u8]) -> Vec<u8> {
    jose(&["jwe", "dec", "-i", text(&home.file("compact", compact)), "-k", text(key)])
}

/// Runs `jwcrypto`.
fn jwcrypto(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(ocicrypt_kms_fakes::cached("python/bin/python3"));
    succeeded(piped(command.arg(checkout::path("host/tests/jose/jwe.py")).args(arguments), input))
}

/// The public half of the key, as a JWK set of the current version alone.
fn public_set(home: &Home) -> PathBuf {
    home.file("public.jwks", &home.ocicrypt_kms(&["public", "team"], b""))
}

fn try_jose(arguments: &[&str]) -> Output {
    piped(Command::new("jose").args(arguments), b"")
}

fn jose(arguments: &[&str]) -> Vec<u8> {
    succeeded(try_jose(arguments))
}

#[test]
fn jose_opens_what_was_wrapped_with_nothing_but_the_keystores_file() {
    let home = Home::with(&[]);
    for uri in [KEY, "local://team?context_image=registry%2Eexample"] {
        assert_eq!(jose_dec(&home, &home.key(), &home.wrap(uri, OPTS_DATA)), OPTS_DATA, "{uri}");
    }
}

#[test]
fn jose_opens_what_was_wrapped_before_the_key_was_rotated() {
    let home = Home::with(&[]);
    let before = home.wrap(KEY, OPTS_DATA);
    home.rotate();
    for compact in [&before, &home.wrap(KEY, OPTS_DATA)] {
        assert_eq!(jose_dec(&home, &home.key(), compact), OPTS_DATA);
    }
    let before = home.file("before", &before);
    let (current, _) = home.current();
    assert!(!try_jose(&["jwe", "dec", "-i", text(&before), "-k", text(&current)]).status.success());
}

#[test]
fn jose_opens_no_other_key_s_packet() {
    let compact = Home::with(&[]).wrap(KEY, OPTS_DATA);
    let other = Home::with(&[]);
    let compact = other.file("compact", &compact);
    assert!(!try_jose(&["jwe", "dec", "-i", text(&compact), "-k", text(&other.key())]).status.success());
}

#[test]
fn what_jose_makes_is_unwrapped_with_and_without_the_version_in_its_header() {
    let home = Home::with(&[]);
    let (key, kid) = home.current();
    let with_kid = format!(r#"{{"alg":"A256KW","enc":"A256GCM","kid":"{kid}"}}"#);
    let made: Vec<_> = [r#"{"alg":"A256KW","enc":"A256GCM"}"#, &with_kid].map(|header| jose_enc(&home, &key, header)).into();
    for compact in &made {
        assert_eq!(home.unwrap(compact), OPTS_DATA);
    }
    home.rotate();
    for compact in &made {
        assert_eq!(home.unwrap(compact), OPTS_DATA, "an older version unwraps");
    }
}

#[test]
fn what_jose_makes_with_other_algorithms_or_another_key_is_refused() {
    let home = Home::with(&[]);
    let key = home.file("key", &jose(&["jwk", "gen", "-i", r#"{"kty":"oct","bytes":32}"#]));
    let refused = |header: &str, code: i32| {
        let output = home.try_ocicrypt_kms(&[], &Home::message(&jose_enc(&home, &key, header)));
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.stdout.is_empty() && line.contains(KEY), "{line}");
        assert_eq!(output.status.code(), Some(code), "{line}");
    };
    refused(r#"{"alg":"A256KW","enc":"A256GCM"}"#, 7);
    refused(r#"{"alg":"A256KW","enc":"A256CBC-HS512"}"#, 2);
    refused(r#"{"alg":"A256KW","enc":"A256GCM","zip":"DEF"}"#, 2);
    refused(r#"{"alg":"A256GCMKW","enc":"A256GCM"}"#, 2);
    refused(r#"{"alg":"dir","enc":"A256GCM"}"#, 2);
}

#[test]
fn jose_opens_what_was_wrapped_for_a_public_key_and_makes_what_unwraps() {
    let home = Home::with(P256);
    assert_eq!(jose_dec(&home, &home.key(), &home.wrap(KEY, OPTS_DATA)), OPTS_DATA);
    let (_, kid) = home.current();
    let public = public_set(&home);
    for members in ["", r#","apu":"QWxpY2U","apv":"Qm9i""#, &format!(r#","kid":"{kid}""#)] {
        let header = format!(r#"{{"alg":"ECDH-ES+A256KW","enc":"A256GCM"{members}}}"#);
        assert_eq!(home.unwrap(&jose_enc(&home, &public, &header)), OPTS_DATA, "{members}");
    }
}

#[test]
fn a_key_that_jose_made_wraps_and_unwraps_and_its_thumbprint_is_its_version() {
    let home = Home::empty();
    let made = jose(&["jwk", "gen", "-s", "-i", r#"{"kty":"EC","crv":"P-256"}"#]);
    std::fs::write(home.key(), &made).unwrap();
    std::fs::set_permissions(home.key(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let compact = home.wrap(KEY, OPTS_DATA);
    assert_eq!((jose_dec(&home, &home.key(), &compact), home.unwrap(&compact)), (OPTS_DATA.to_vec(), OPTS_DATA.to_vec()));
    let header = jose(&["b64", "dec", "-i", text(&home.file("header", compact.split(|&byte| byte == b'.').next().unwrap()))]);
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    let thumbprint = jose(&["jwk", "thp", "-i", text(&home.key())]);
    assert_eq!(header["kid"].as_str().unwrap(), String::from_utf8(thumbprint).unwrap().trim());
}

#[test]
fn jwcrypto_opens_what_was_wrapped_for_each_kind_of_public_key() {
    for options in PUBLIC_KEYS {
        let home = Home::with(options);
        for uri in [KEY, "local://team?context_stage=prod"] {
            assert_eq!(jwcrypto(&["dec", text(&home.key())], &home.wrap(uri, OPTS_DATA)), OPTS_DATA, "{options:?}");
        }
    }
}

#[test]
fn what_jwcrypto_makes_for_each_kind_of_public_key_is_unwrapped() {
    for options in PUBLIC_KEYS {
        let home = Home::with(options);
        let header = format!(r#"{{"alg":"{}","enc":"A256GCM"}}"#, options[1]);
        let compact = jwcrypto(&["enc", &header, text(&public_set(&home))], OPTS_DATA);
        assert_eq!(home.unwrap(&compact), OPTS_DATA, "{options:?}");
        let other = Home::with(options);
        let (code, line) = other.refused(&[], &Home::message(&compact));
        assert!(code == 7 && line.contains("does not verify with this key"), "{line}");
    }
}

#[test]
fn what_jwcrypto_makes_with_weaker_algorithms_for_the_same_key_is_refused() {
    for (options, algorithm) in [(PUBLIC_KEYS[0], "RSA-OAEP"), (P256, "ECDH-ES"), (P256, "ECDH-ES+A128KW")] {
        let home = Home::with(options);
        let header = format!(r#"{{"alg":"{algorithm}","enc":"A256GCM"}}"#);
        // The set says another algorithm, which jwcrypto heeds.
        let set = std::fs::read_to_string(public_set(&home)).unwrap().replace(&format!(r#","alg":"{}""#, options[1]), "");
        let compact = jwcrypto(&["enc", &header, text(&home.file("public.jwks", set.as_bytes()))], OPTS_DATA);
        let (code, line) = home.refused(&[], &Home::message(&compact));
        assert!(code == 2 && line.contains(&format!("`alg` is not {}", options[1])), "{line}");
    }
}

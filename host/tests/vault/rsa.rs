//! RSA keys: a JWE whose content-encryption key is encrypted by the engine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ocicrypt_kms::ErrorKind;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::bao::Bao;
use ocicrypt_kms_testing::messages::OPTS_DATA;
use ocicrypt_kms_testing::program::text_of;
use serde_json::Value;

use super::KEY;
use super::user::{User, member, packet, wrapped};

const RSA: &str = "openbao://transit/r?algorithm=RSA-OAEP-256";
const OAEP: [&str; 4] = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"];

fn with_rsa_key(bits: &str) -> (Bao, User) {
    let bao = Bao::start();
    bao.run(&["write", "transit/keys/r", &format!("type=rsa-{bits}"), "exportable=true"]);
    let user = User::root(&bao);
    (bao, user)
}

/// The parts of the packet's JWE: the protected header, and the encrypted key.
fn opened(annotation: &[u8]) -> (Value, Vec<u8>) {
    let jwe = wrapped(annotation);
    let parts: Vec<_> = jwe.split('.').map(|part| BASE64URL.decode(part).unwrap()).collect();
    (serde_json::from_slice(&parts[0]).unwrap(), parts[1].clone())
}

/// The packet with another part of the JWE.
fn with_part(annotation: &[u8], index: usize, content: &[u8]) -> Vec<u8> {
    let jwe = wrapped(annotation);
    let mut parts: Vec<_> = jwe.split('.').map(str::to_owned).collect();
    parts[index] = BASE64URL.encode(content);
    packet(RSA, "JWE", &parts.join("."))
}

/// RSA-OAEP with SHA-256 by OpenSSL.
fn openssl(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    std::fs::write(folder.join("in"), input).unwrap();
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", "-in", "in", "-out", "out"]).args(arguments).args(OAEP).current_dir(folder).stdin(Stdio::null());
    text_of(&mut command);
    std::fs::read(folder.join("out")).unwrap()
}

#[test]
fn an_rsa_key_wraps_as_jwe_which_openssl_and_bao_open_too() {
    for bits in ["2048", "3072", "4096"] {
        let (bao, user) = with_rsa_key(bits);
        let annotation = user.wrap(RSA);
        assert_eq!((member(&annotation, "key_url").as_str(), member(&annotation, "wrap_type").as_str()), (RSA, "JWE"));
        let (header, encrypted_key) = opened(&annotation);
        assert_eq!((&header["alg"], &header["enc"], &header["kid"]), (&"RSA-OAEP-256".into(), &"A256GCM".into(), &"1".into()));
        let by_bao = bao.decrypt("transit/decrypt/r", &format!("vault:v1:{}", bytes::encode(&encrypted_key)), &[]);
        let key = bao.run(&["read", "-field=keys", "-format=json", "transit/export/encryption-key/r/1"]);
        let key: Value = serde_json::from_str(&key).unwrap();
        let private = bao.write("private.pem", key["1"].as_str().unwrap());
        let by_openssl = openssl(private.parent().unwrap(), &["-decrypt", "-inkey", "private.pem"], &encrypted_key);
        assert!(by_bao.len() == 32 && by_bao == by_openssl, "{bits}");
        assert_eq!(user.unwrap(RSA, &annotation), OPTS_DATA);
        // And the other way round: the same key, encrypted by somebody else.
        let anew = openssl(private.parent().unwrap(), &["-encrypt", "-inkey", "private.pem"], &by_bao);
        assert!(anew != encrypted_key);
        assert_eq!(user.unwrap(RSA, &with_part(&annotation, 1, &anew)), OPTS_DATA);
    }
}

#[test]
fn kid_names_the_version_that_unwraps() {
    let (bao, user) = with_rsa_key("2048");
    let before = user.wrap(RSA);
    bao.run(&["write", "-f", "transit/keys/r/rotate"]);
    let after = user.wrap(RSA);
    assert_eq!(opened(&after).0["kid"], "2");
    for annotation in [&before, &after] {
        assert_eq!(user.unwrap(RSA, annotation), OPTS_DATA);
    }
    let with_kid = |kid: &str| with_part(&before, 0, format!(r#"{{ "alg":"RSA-OAEP-256","enc":"A256GCM"{kid}}}"#).as_bytes());
    let refused = |kid: &str| user.try_unwrap(RSA, &with_kid(kid)).unwrap_err();
    for kid in ["", r#","kid":"latest""#, r#","kid":"01""#, r#","kid":"1/../../keys/k""#, r#","kid":"0""#] {
        let error = refused(kid);
        assert!(error.kind() == ErrorKind::InvalidInput && error.line().contains("`kid` is not a version"), "{}", error.line());
    }
    assert!(refused(r#","kid":"9""#).line().contains("too new"));
    assert_eq!(refused(r#","kid":"2""#).kind(), ErrorKind::Kms, "another version does not decrypt it");
    assert_eq!(refused(r#","kid":"1""#).kind(), ErrorKind::Corrupt, "the header was changed");
    bao.run(&["write", "transit/keys/r/config", "min_decryption_version=2"]);
    let line = user.try_unwrap(RSA, &before).unwrap_err().line();
    assert!(line.contains("bao write transit/keys/r/config min_decryption_version=1"), "{line}");
}

#[test]
fn a_changed_encrypted_key_is_refused_at_once() {
    let (_bao, user) = with_rsa_key("2048");
    let annotation = user.wrap(RSA);
    let mut encrypted_key = opened(&annotation).1;
    encrypted_key[100] ^= 1;
    let start = Instant::now();
    let error = user.try_unwrap(RSA, &with_part(&annotation, 1, &encrypted_key)).unwrap_err();
    assert!(error.kind() == ErrorKind::Kms && error.line().contains("was not made by this key"), "{}", error.line());
    assert!(start.elapsed() < Duration::from_secs(1) && !user.log().contains("trying again"), "{:?}", start.elapsed());
}

#[test]
fn a_key_of_another_type_than_the_uri_says_is_refused() {
    for (bits, says) in
        [("2048", "add ?algorithm=RSA-OAEP-256"), ("4096", "does not encrypt with authentication; for an RSA key, add ?algo")]
    {
        let (bao, user) = with_rsa_key(bits);
        let line = user.try_wrap("openbao://transit/r").unwrap_err().line();
        assert!(line.contains(says), "{bits}: {line}");
        if bits == "4096" {
            let direct = packet("openbao://transit/r", "AES", &bao.encrypt("transit/encrypt/r", OPTS_DATA));
            let line = user.try_unwrap("openbao://transit/r", &direct).unwrap_err().line();
            assert!(line.contains(says), "{line}");
        }
        let error = user.try_wrap(&format!("{KEY}?algorithm=RSA-OAEP-256")).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.line().contains("is not an RSA key"), "{}", error.line());
        // What a symmetric key encrypted can't be passed off as what an RSA key did.
        let annotation = user.wrap(RSA);
        let symmetric = bao.encrypt("transit/encrypt/k", &[1; 32]);
        let content = bytes::decode(symmetric.rsplit(':').next().unwrap()).unwrap();
        let moved = with_part(&annotation, 1, &content);
        let line = user.try_unwrap(RSA, &moved).unwrap_err().line();
        assert!(line.contains("is not one of an RSA key"), "{line}");
    }
}

#[test]
fn an_rsa_key_binds_no_context() {
    let (_bao, user) = with_rsa_key("2048");
    let error = user.try_wrap(&format!("{RSA}&context_a=1")).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.line().contains("can't bind an encryption context"), "{}", error.line());
}

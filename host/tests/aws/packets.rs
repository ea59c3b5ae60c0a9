//! What is wrapped, how it is sent and recorded, that it unwraps, and that Amazon's own client reads and writes the same.

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::messages::OPTS_DATA;
use ocicrypt_kms_testing::moto::{Moto, REGION, blob, bytes_of, text};
use serde_json::{Value, json};

use super::stage::Stage;
use super::{id_of, uri};

const RSA: &str = "?algorithm=RSA-OAEP-256";

fn packet(annotation: &[u8]) -> Value {
    serde_json::from_slice(annotation).unwrap()
}

fn wrapped_key(annotation: &[u8]) -> Vec<u8> {
    bytes::decode(&text(&packet(annotation), "wrapped_key")).unwrap().to_vec()
}

fn annotation(key_url: &str, wrapped_key: &[u8], wrap_type: &str) -> Vec<u8> {
    json!({"key_url": key_url, "wrapped_key": bytes::encode(wrapped_key), "wrap_type": wrap_type}).to_string().into_bytes()
}

#[test]
fn what_was_wrapped_unwraps_by_arn_id_and_alias() {
    let moto = Moto::shared();
    let arn = moto.symmetric_key();
    moto.call("kms", "create_alias", json!({"AliasName": "alias/team/images", "TargetKeyId": arn}));
    let alias_arn = arn.replace(&format!("key/{}", id_of(&arn)), "alias/team/images");
    let stage = Stage::new(&moto.endpoint);
    for name in [&arn, id_of(&arn), "alias/team/images", &alias_arn] {
        let made = stage.wrap(&uri(name));
        let packet = packet(&made);
        assert_eq!((packet["key_url"].as_str(), packet["wrap_type"].as_str()), (Some(uri(name).as_str()), Some("AES")));
        assert_eq!(stage.unwrap(&uri(name), &made).unwrap(), OPTS_DATA, "{name}");
    }
}

#[test]
fn amazons_client_decrypts_what_was_wrapped_and_the_other_way_round() {
    let moto = Moto::shared();
    let arn = moto.symmetric_key();
    let stage = Stage::new(&moto.endpoint);
    for (query, context) in [("", json!({})), ("?context_stage=prod&context_a=b%20%C3%A9%22c", json!({"stage": "prod", "a": "b é\"c"}))] {
        let made = wrapped_key(&stage.wrap(&(uri(&arn) + query)));
        let arguments = json!({"KeyId": arn, "CiphertextBlob": blob(&made), "EncryptionContext": context});
        assert_eq!(bytes_of(&moto.call("kms", "decrypt", arguments)["Plaintext"]), OPTS_DATA);

        let arguments = json!({"KeyId": arn, "Plaintext": blob(OPTS_DATA), "EncryptionContext": context});
        let theirs = bytes_of(&moto.call("kms", "encrypt", arguments)["CiphertextBlob"]);
        assert_eq!(stage.unwrap(&uri(&arn), &annotation(&(uri(&arn) + query), &theirs, "AES")).unwrap(), OPTS_DATA);
    }
}

#[test]
fn a_packet_with_another_context_or_another_key_does_not_unwrap() {
    let moto = Moto::shared();
    let (arn, other) = (moto.symmetric_key(), moto.symmetric_key());
    let stage = Stage::new(&moto.endpoint);
    let made = wrapped_key(&stage.wrap(&(uri(&arn) + "?context_a=1")));
    for query in ["?context_a=2", "", "?context_a=1&context_b=2"] {
        let error = stage.unwrap(&uri(&arn), &annotation(&(uri(&arn) + query), &made, "AES")).unwrap_err();
        assert!(error.line().contains("400 InvalidCiphertextException") && error.line().contains("encryption context"), "{}", error.line());
    }
    // The ciphertext says which key made it; what is asked for decides.
    let error = stage.unwrap(&uri(&other), &annotation(&(uri(&other) + "?context_a=1"), &made, "AES")).unwrap_err();
    assert!(error.kind() == ErrorKind::Kms && error.line().starts_with(&uri(&other)), "{}", error.line());
}

#[test]
fn another_providers_packets_with_a_bare_arn_or_id_unwrap() {
    let moto = Moto::shared();
    let arn = moto.symmetric_key();
    let theirs = bytes_of(&moto.call("kms", "encrypt", json!({"KeyId": arn, "Plaintext": blob(OPTS_DATA)}))["CiphertextBlob"]);
    let stage = Stage::new(&moto.endpoint);
    for bare in [arn.as_str(), id_of(&arn)] {
        let packet = json!({"key_url": bare, "wrapped_key": bytes::encode(&theirs)}).to_string();
        assert_eq!(stage.unwrap(&uri(bare), packet.as_bytes()).unwrap(), OPTS_DATA);
        assert_eq!(stage.unwrap(bare, packet.as_bytes()).unwrap(), OPTS_DATA);
    }
}

#[test]
fn disabled_and_missing_keys_are_told_with_the_remedy() {
    let moto = Moto::shared();
    let arn = moto.symmetric_key();
    let stage = Stage::new(&moto.endpoint);
    let made = stage.wrap(&uri(&arn));
    moto.call("kms", "disable_key", json!({"KeyId": id_of(&arn)}));
    for error in [stage.try_wrap(&uri(&arn)).unwrap_err(), stage.unwrap(&uri(&arn), &made).unwrap_err()] {
        assert!(error.line().starts_with(&format!("{}: the KMS answered 400 DisabledException", uri(&arn))), "{}", error.line());
        assert!(error.line().contains(&format!("aws kms enable-key --region {REGION} --key-id {arn}")), "{}", error.line());
    }
    let error = stage.try_wrap(&uri("alias/missing")).unwrap_err();
    assert!(
        error.line().contains("400 NotFoundException") && error.line().contains(&format!("in the region {REGION}")),
        "{}",
        error.line()
    );
}

#[test]
fn an_rsa_key_makes_a_jwe_that_amazons_client_opens() {
    let moto = Moto::shared();
    let arn = moto.rsa_key();
    moto.call("kms", "create_alias", json!({"AliasName": "alias/rsa", "TargetKeyId": arn}));
    let stage = Stage::new(&moto.endpoint);
    for name in [arn.as_str(), id_of(&arn), "alias/rsa"] {
        let made = stage.wrap(&(uri(name) + RSA));
        assert_eq!(text(&packet(&made), "wrap_type"), "JWE");
        let compact = String::from_utf8(wrapped_key(&made)).unwrap();
        let header = compact.split('.').next().unwrap().replace('-', "+").replace('_', "/");
        let header: Value = serde_json::from_slice(&bytes::decode(&header).unwrap()).unwrap();
        assert_eq!(header, json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": arn}));
        let opened = moto.call("", "open_jwe", json!({"KeyId": arn, "compact": compact}));
        assert_eq!(bytes_of(&opened["plaintext"]), OPTS_DATA);
        assert_eq!(stage.unwrap(&(uri(name) + RSA), &made).unwrap(), OPTS_DATA, "{name}");
    }
}

#[test]
fn a_jwe_made_with_the_public_half_unwraps_whatever_kid_of_this_key_it_has() {
    let moto = Moto::shared();
    let (arn, other) = (moto.rsa_key(), moto.rsa_key());
    let stage = Stage::new(&moto.endpoint);
    let unwrap = |name: &str, kid: Value| {
        let mut header = json!({"alg": "RSA-OAEP-256", "enc": "A256GCM"});
        if !kid.is_null() {
            header["kid"] = kid;
        }
        let made = moto.call("", "make_jwe", json!({"KeyId": arn, "plaintext": blob(OPTS_DATA), "header": header}));
        let uri = uri(name) + RSA;
        stage.unwrap(&uri, &annotation(&uri, text(&made, "compact").as_bytes(), "JWE"))
    };
    for (name, kid) in [(&*arn, Value::Null), (&arn, json!(arn)), (id_of(&arn), json!(arn)), (id_of(&arn), json!(id_of(&arn)))] {
        assert_eq!(unwrap(name, kid).unwrap(), OPTS_DATA, "{name}");
    }
    for kid in [json!(other), json!("elsewhere"), json!("awskms:///alias/rsa")] {
        let error = unwrap(&arn, kid).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.line().contains("is for another key"), "{}", error.line());
    }
}

#[test]
fn an_alias_that_was_moved_is_told_with_the_key_that_it_stood_for() {
    let moto = Moto::shared();
    let (before, after) = (moto.rsa_key(), moto.rsa_key());
    moto.call("kms", "create_alias", json!({"AliasName": "alias/moved", "TargetKeyId": before}));
    let stage = Stage::new(&moto.endpoint);
    let uri = uri("alias/moved") + RSA;
    let made = stage.wrap(&uri);
    moto.call("kms", "update_alias", json!({"AliasName": "alias/moved", "TargetKeyId": after}));
    let error = stage.unwrap(&uri, &made).unwrap_err();
    assert!(error.line().contains("400 InvalidCiphertextException"), "{}", error.line());
    assert!(error.line().contains(&format!("the packet was made with the key {before}")), "{}", error.line());
}

#[test]
fn a_key_that_is_not_of_the_kind_that_the_uri_says_is_refused() {
    let moto = Moto::shared();
    let stage = Stage::new(&moto.endpoint);
    for key in [uri(&moto.rsa_key()), uri(&moto.symmetric_key()) + RSA] {
        let error = stage.try_wrap(&key).unwrap_err();
        assert!(error.line().contains("400 InvalidKeyUsageException") && error.line().contains(RSA), "{}", error.line());
    }
    let error = stage.try_wrap(&(uri(&moto.rsa_key()) + RSA + "&context_a=b")).unwrap_err();
    assert!(error.line().contains("can't bind an encryption context") && error.kind() == ErrorKind::InvalidInput, "{}", error.line());
}

#[test]
fn signatures_are_good_and_a_wrong_secret_is_refused() {
    let moto = Moto::start();
    let arn = moto.symmetric_key();
    moto.call("iam", "create_user", json!({"UserName": "build"}));
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*"}]});
    moto.call("iam", "put_user_policy", json!({"UserName": "build", "PolicyName": "p", "PolicyDocument": policy.to_string()}));
    let key = moto.call("iam", "create_access_key", json!({"UserName": "build"}));
    let (id, secret) = (text(&key["AccessKey"], "AccessKeyId"), text(&key["AccessKey"], "SecretAccessKey"));
    moto.call("", "check_signatures", json!({}));

    let variables = [("AWS_ENDPOINT_URL", moto.endpoint.as_str()), ("AWS_DEFAULT_REGION", REGION)];
    let stage = |id: &str, secret: &str| Stage::of(Default::default(), &variables, (id, secret));
    let build = stage(&id, &secret);
    let made = build.wrap(&(uri(&arn) + "?context_a=b%20%C3%A9"));
    for (id, secret) in [(id.as_str(), "not-the-secret"), ("AKIANOBODY", secret.as_str())] {
        let error = stage(id, secret).try_wrap(&uri(&arn)).unwrap_err();
        assert!(error.kind() == ErrorKind::Kms && error.line().contains("answered 403 "), "{}", error.line());
        assert!(!error.line().contains("not-the-secret"), "{}", error.line());
    }
    // This user may encrypt and nothing else.
    let error = build.unwrap(&uri(&arn), &made).unwrap_err();
    assert!(error.kind() == ErrorKind::Kms && error.line().contains("answered 403"), "{}", error.line());
}

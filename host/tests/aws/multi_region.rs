//! Related multi-Region keys: a packet of one opens with the one that was named, and with no other.

use std::sync::Mutex;

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Config, ErrorKind, config};
use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap};
use ocicrypt_kms_testing::moto::REGION;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use serde_json::{Value, json};

use super::stage::{SECRET, Stage};
use super::uri;

const ID: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";
const PRIMARY: &str = "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab";
const REPLICA: &str = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab";
const RSA: &str = "?algorithm=RSA-OAEP-256";

/// AWS KMS, which decrypts with whatever key is named.
fn kms() -> Scripted {
    Scripted::start(|request, _| {
        let key = request.json()["KeyId"].clone();
        let answer = json!({"KeyId": key, "Plaintext": bytes::encode(OPTS_DATA), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"});
        Reply::new(200, answer.to_string())
    })
}

fn packet(uri: &str) -> Vec<u8> {
    json!({"key_url": uri, "wrapped_key": "YWJj", "wrap_type": "AES"}).to_string().into_bytes()
}

/// The keys that were asked for since, each with the region that was signed for.
fn asked(kms: &Scripted) -> Vec<(String, String)> {
    let region = |authorization: &str| authorization.split('/').nth(2).unwrap().to_owned();
    let requests = kms.requests();
    let of = |request: &ocicrypt_kms_testing::scripted::Request| {
        (request.json()["KeyId"].as_str().unwrap().to_owned(), region(request.header("authorization").unwrap()))
    };
    requests.iter().map(of).collect()
}

fn named(keys: &[&str]) -> Config {
    Config { keys: Some(keys.iter().map(|key| uri(key)).collect()), ..Config::default() }
}

#[test]
fn a_packet_of_the_primary_opens_with_the_replica_that_the_client_names() {
    let kms = kms();
    let stage = Stage::new(&kms.address());
    assert_eq!(stage.unwrap(&uri(REPLICA), &packet(&uri(PRIMARY))).unwrap(), OPTS_DATA);
    assert_eq!(stage.unwrap(&uri(PRIMARY), &packet(&uri(REPLICA))).unwrap(), OPTS_DATA);
    assert_eq!(asked(&kms), [(REPLICA, REGION), (PRIMARY, "us-east-1")].map(|(key, region)| (key.to_owned(), region.to_owned())));
    // The context is the packet's, of which the client asks for a part.
    let context = "?context_a=1&context_b=2";
    stage.unwrap(&(uri(REPLICA) + "?context_a=1"), &packet(&(uri(PRIMARY) + context))).unwrap();
    assert_eq!(kms.requests()[2].json()["EncryptionContext"], json!({"a": "1", "b": "2"}));
    let error = stage.unwrap(&(uri(REPLICA) + "?context_a=2"), &packet(&(uri(PRIMARY) + context))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoMatchingKey, "{}", error.line());
}

#[test]
fn or_with_the_replica_that_the_configuration_names() {
    let kms = kms();
    let message = keyunwrap(&[], &packet(&uri(PRIMARY)));
    let listed = named(&[REPLICA]);
    let by_default = Config { default_recipients: vec![uri(REPLICA)], ..named(&["arn:aws:kms:eu-central-1:111122223333:key/*"]) };
    for config in [listed, by_default] {
        Stage::with(&kms.address(), config).exchange(&message).unwrap();
    }
    assert!(asked(&kms).iter().all(|(key, _)| key == REPLICA), "{:?}", asked(&kms));
}

#[test]
fn a_key_that_somebody_names_is_used_itself() {
    let kms = kms();
    Stage::with(&kms.address(), named(&[REPLICA])).unwrap(&uri(PRIMARY), &packet(&uri(PRIMARY))).unwrap();
    Stage::with(&kms.address(), named(&[REPLICA, PRIMARY])).exchange(&keyunwrap(&[], &packet(&uri(PRIMARY)))).unwrap();
    Stage::new(&kms.address()).exchange(&keyunwrap(&[("kmscrypt", &[&uri(REPLICA), &uri(PRIMARY)])], &packet(&uri(PRIMARY)))).unwrap();
    assert!(asked(&kms).iter().all(|(key, _)| key == PRIMARY) && asked(&kms).len() == 3, "{:?}", asked(&kms));
}

#[test]
fn a_key_of_another_account_partition_or_id_is_another_key() {
    let kms = kms();
    let plain = "1234abcd-12ab-34cd-56ef-1234567890ab";
    for other in [
        PRIMARY.replace("111122223333", "444455556666"),
        PRIMARY.replace("arn:aws:", "arn:aws-cn:").replace("us-east-1", "cn-north-1"),
        PRIMARY.replace("90ab", "90ac"),
        PRIMARY.replace(ID, plain),
        PRIMARY.replace(&format!("key/{ID}"), &format!("alias/{ID}")),
        ID.to_owned(),
    ] {
        let packet = packet(&uri(&other));
        let error = Stage::new(&kms.address()).unwrap(&uri(REPLICA), &packet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMatchingKey, "{other}: {}", error.line());
        let error = Stage::with(&kms.address(), named(&[REPLICA])).exchange(&keyunwrap(&[], &packet)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{other}: {}", error.line());
    }
    // A key of one region is that of no other, and neither a pattern nor an id names a replica.
    let (here, there) = (REPLICA.replace(ID, plain), PRIMARY.replace(ID, plain));
    let error = Stage::new(&kms.address()).unwrap(&uri(&here), &packet(&uri(&there))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoMatchingKey, "{}", error.line());
    let error = Stage::new(&kms.address()).unwrap(&uri(ID), &packet(&uri(PRIMARY))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoMatchingKey, "{}", error.line());
    let pattern = named(&["arn:aws:kms:eu-central-1:111122223333:key/*"]);
    let error = Stage::with(&kms.address(), pattern).exchange(&keyunwrap(&[], &packet(&uri(PRIMARY)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.line());
    assert!(kms.requests().is_empty());
}

#[test]
fn policy_and_audit_log_are_about_the_key_that_is_used() {
    let kms = kms();
    let folder = tempfile::tempdir().unwrap();
    let (file, policy) = (folder.path().join("audit.jsonl"), folder.path().join("policy.cedar"));
    let rule = |key: &str| format!("permit (principal, action, resource == Kms::Key::\"{}\");", uri(key));
    let stage = |allowed: &str| {
        std::fs::write(&policy, rule(allowed)).unwrap();
        let audit = config::Audit { file: Some(file.clone()), ..config::Audit::default() };
        Stage::with(&kms.address(), Config { policy: Some(policy.clone()), audit, ..Config::default() })
    };
    let error = stage(PRIMARY).unwrap(&uri(REPLICA), &packet(&uri(PRIMARY))).unwrap_err();
    assert!(error.kind() == ErrorKind::Denied && error.line().starts_with(&uri(REPLICA)), "{}", error.line());
    stage(REPLICA).unwrap(&uri(REPLICA), &packet(&uri(PRIMARY))).unwrap();
    let records = std::fs::read_to_string(file).unwrap();
    assert!(records.contains(&uri(REPLICA)) && !records.contains(PRIMARY), "{records}");
}

/// AWS KMS with one RSA key in two regions, which hands out what it was given.
fn rsa() -> Scripted {
    let given = Mutex::new(Value::Null);
    Scripted::start(move |request, _| {
        let body = request.json();
        let key = if request.header("authorization").unwrap().contains("/us-east-1/") { PRIMARY } else { REPLICA };
        let mut answer = json!({"KeyId": key, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"});
        let mut given = given.lock().unwrap();
        if body["Plaintext"].is_string() {
            *given = body["Plaintext"].clone();
            answer["CiphertextBlob"] = json!("YWJj");
        } else {
            answer["Plaintext"] = given.clone();
        }
        Reply::new(200, answer.to_string())
    })
}

#[test]
fn an_rsa_key_is_found_by_its_id_or_an_alias_in_the_replicas_region() {
    let kms = rsa();
    let address = kms.address();
    let stage =
        |region: &str| Stage::of(Config::default(), &[("AWS_ENDPOINT_URL_KMS", address.as_str()), ("AWS_REGION", region)], ("id", SECRET));
    for name in [ID, "alias/team"] {
        let made = stage("us-east-1").wrap(&(uri(name) + RSA));
        assert_eq!(stage(REGION).unwrap(&(uri(name) + RSA), &made).unwrap(), OPTS_DATA, "{name}");
    }
    let made = stage("us-east-1").wrap(&(uri(PRIMARY) + RSA));
    assert_eq!(stage("us-east-1").unwrap(&(uri(REPLICA) + RSA), &made).unwrap(), OPTS_DATA);
    assert_eq!(asked(&kms).last().unwrap(), &(REPLICA.to_owned(), REGION.to_owned()));
}

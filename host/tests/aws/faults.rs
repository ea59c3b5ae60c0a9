//! What can go wrong on the way to AWS KMS: what is tried again, what is refused, and how long it takes.

use std::time::{Duration, Instant};

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Config, ErrorKind, config};
use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap, keywrap};
use ocicrypt_kms_testing::moto::REGION;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use serde_json::{Value, json};

use super::stage::Stage;
use super::{ARN, uri};

const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ac";

fn encrypted(key_id: &str) -> Value {
    json!({"KeyId": key_id, "CiphertextBlob": "YWJj", "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
}

fn decrypted(key_id: &str) -> Value {
    json!({"KeyId": key_id, "Plaintext": bytes::encode(OPTS_DATA), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
}

fn ok(body: &Value) -> Reply {
    Reply::new(200, body.to_string())
}

fn refusal(status: u16, code: &str) -> Reply {
    Reply::new(status, json!({"__type": code, "message": "the message"}).to_string())
}

fn packet(uri: &str) -> Vec<u8> {
    json!({"key_url": uri, "wrapped_key": "YWJj", "wrap_type": "AES"}).to_string().into_bytes()
}

/// The line of a wrap that fails with this reply, and how many calls there were.
fn refused(key: &str, reply: Reply, kind: ErrorKind) -> (String, usize) {
    let server = Scripted::always(reply);
    let stage = Stage::with(&server.address(), Config { deadline_seconds: 2, ..Config::default() });
    let error = stage.try_wrap(&uri(key)).unwrap_err();
    assert!(error.kind() == kind && error.line().starts_with(&uri(key)), "{:?} {}", error.kind(), error.line());
    (error.line(), server.requests().len())
}

#[test]
fn requests_name_the_key_in_both_directions_and_hold_nothing_else() {
    let server = Scripted::start(|_, before| ok(&if before == 0 { encrypted(ARN) } else { decrypted(ARN) }));
    let stage = Stage::new(&server.address());
    let annotation = stage.wrap(&uri(ARN));
    stage.unwrap(&uri(ARN), &annotation).unwrap();
    let requests = server.requests();
    let body = |index: usize| requests[index].json();
    assert_eq!(body(0), json!({"KeyId": ARN, "Plaintext": bytes::encode(OPTS_DATA)}));
    assert_eq!(body(1), json!({"KeyId": ARN, "CiphertextBlob": "YWJj"}));
    for (request, target) in requests.iter().zip(["TrentService.Encrypt", "TrentService.Decrypt"]) {
        assert_eq!((request.method.as_str(), request.path.as_str(), request.header("x-amz-target")), ("POST", "/", Some(target)));
        assert_eq!(request.header("content-type"), Some("application/x-amz-json-1.1"));
        let authorization = request.header("authorization").unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=id/") && authorization.contains("/kms/aws4_request"));
    }
    assert_eq!(requests.len(), 2, "one call each");
}

#[test]
fn an_arns_region_is_signed_for_whatever_the_environment_says() {
    let arn = ARN.replace(REGION, "cn-north-1").replace("arn:aws:", "arn:aws-cn:");
    let server = Scripted::always(ok(&encrypted(&arn)));
    Stage::new(&server.address()).wrap(&uri(&arn));
    assert!(server.requests()[0].header("authorization").unwrap().contains("/cn-north-1/kms/"));
}

#[test]
fn an_answer_of_another_key_is_refused() {
    let id = OTHER.rsplit_once('/').unwrap().1;
    for (asked, answered) in [
        (ARN, OTHER.to_owned()),
        (ARN, ARN.replace(REGION, "eu-west-1")),
        (ARN, ARN.replace("111122223333", "444455556666")),
        (ARN, String::new()),
        (ARN, "nonsense \u{1b}[2J".to_owned()),
        (id, ARN.to_owned()),
        (id, OTHER.replace(REGION, "eu-west-1")),
        ("alias/team", "alias/team".to_owned()),
    ] {
        let (line, _) = refused(asked, ok(&encrypted(&answered)), ErrorKind::Corrupt);
        assert!(line.contains("can't be trusted: it is of another key") && !line.contains('\u{1b}'), "{line}");
        let server = Scripted::always(ok(&decrypted(&answered)));
        let error = Stage::new(&server.address()).unwrap(&uri(asked), &packet(&uri(asked))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.line());
    }
}

#[test]
fn an_answer_by_another_algorithm_is_refused() {
    let rsa = format!("{ARN}?algorithm=RSA-OAEP-256");
    for (key, algorithm) in [(ARN, json!("RSAES_OAEP_SHA_256")), (&rsa, json!("RSAES_OAEP_SHA_1")), (&rsa, Value::Null)] {
        let mut answer = encrypted(ARN);
        answer["EncryptionAlgorithm"] = algorithm;
        let (line, _) = refused(key, ok(&answer), ErrorKind::Corrupt);
        assert!(line.contains("by another algorithm"), "{line}");
    }
}

#[test]
fn an_alias_answers_for_the_key_of_the_packets_kid_or_not_at_all() {
    let uri = uri("alias/rsa") + "?algorithm=RSA-OAEP-256";
    let mut answers = [encrypted(ARN), decrypted(OTHER)];
    answers.iter_mut().for_each(|answer| answer["EncryptionAlgorithm"] = json!("RSAES_OAEP_SHA_256"));
    let server = Scripted::start(move |_, before| ok(&answers[before]));
    let stage = Stage::new(&server.address());
    let annotation = stage.wrap(&uri);
    let error = stage.unwrap(&uri, &annotation).unwrap_err();
    assert!(error.line().contains(&format!("its `kid` is `{ARN}`")), "{}", error.line());
    let asked = server.requests()[1].json();
    assert_eq!((&asked["KeyId"], &asked["EncryptionAlgorithm"]), (&json!("alias/rsa"), &json!("RSAES_OAEP_SHA_256")));
}

#[test]
fn a_refusal_of_something_else_than_aws_kms_is_told() {
    let (line, calls) = refused(ARN, Reply::new(403, "<html>Forbidden</html>"), ErrorKind::Kms);
    assert!(calls == 1 && line.contains("the KMS answered 403 without an error code: it gave no reason"), "{line}");
}

#[test]
fn an_answer_that_is_malformed_is_refused() {
    let lacking = json!({"KeyId": ARN}).to_string();
    for body in ["", "{", "[]", &lacking, &encrypted(ARN).to_string().replace("YWJj", "!")] {
        refused(ARN, Reply::new(200, body), ErrorKind::Corrupt);
    }
}

#[test]
fn throttling_is_tried_again_though_its_status_is_400() {
    for code in ["ThrottlingException", "com.amazonaws.kms#ThrottlingException"] {
        let server = Scripted::start(move |_, before| if before < 2 { refusal(400, code) } else { ok(&encrypted(ARN)) });
        Stage::new(&server.address()).wrap(&uri(ARN));
        assert_eq!(server.requests().len(), 3);
    }
    let (line, calls) = refused(ARN, refusal(400, "ThrottlingException"), ErrorKind::Unavailable);
    assert!(calls > 1 && line.contains("400 ThrottlingException: the message") && line.contains("quota"), "{calls} {line}");
}

#[test]
fn a_service_that_fails_is_tried_again() {
    for (status, code) in [(500, "KMSInternalException"), (500, "KeyUnavailableException"), (503, "DependencyTimeoutException")] {
        let server = Scripted::start(move |_, before| if before < 1 { refusal(status, code) } else { ok(&encrypted(ARN)) });
        Stage::new(&server.address()).wrap(&uri(ARN));
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for code in [
        "NotFoundException",
        "DisabledException",
        "KMSInvalidStateException",
        "AccessDeniedException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "ExpiredTokenException",
    ] {
        let (line, calls) = refused(ARN, refusal(400, code), ErrorKind::Kms);
        assert!(calls == 1 && line.contains(&format!("400 {code}: the message; ")), "{line}");
    }
}

#[test]
fn redirects_are_never_followed() {
    let elsewhere = Scripted::always(ok(&encrypted(ARN)));
    let (line, _) = refused(ARN, Reply::new(307, "").header("location", elsewhere.address()), ErrorKind::Unavailable);
    assert!(line.contains("never followed") && elsewhere.requests().is_empty(), "{line}");
}

#[test]
fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let (line, _) = refused(ARN, Reply::new(200, "x".repeat(600 << 10)), ErrorKind::Unavailable);
    assert!(line.contains("more than 524288 bytes"), "{line}");
}

#[test]
fn a_slow_service_is_told_within_the_deadline() {
    let start = Instant::now();
    let (line, _) = refused(ARN, ok(&encrypted(ARN)).after(Duration::from_secs(20)), ErrorKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(4) && line.contains("did not answer within"), "{:?} {line}", start.elapsed());
}

#[test]
fn what_aws_kms_would_refuse_for_its_length_is_not_sent() {
    let server = Scripted::always(ok(&encrypted(ARN)));
    let stage = Stage::new(&server.address());
    let long = format!(r#"{{"symkey":"{}"}}"#, "x".repeat(4096));
    let error = stage.exchange(&keywrap(&[("kmscrypt", &[&uri(ARN)])], long.as_bytes())).unwrap_err();
    assert!(error.line().contains("at most 4096 bytes") && error.kind() == ErrorKind::InvalidInput, "{}", error.line());
    let packet = json!({"key_url": uri(ARN), "wrapped_key": bytes::encode(&[1; 6145]), "wrap_type": "AES"}).to_string();
    let error = stage.unwrap(&uri(ARN), packet.as_bytes()).unwrap_err();
    assert!(error.line().contains("1 to 6144"), "{}", error.line());
    assert!(server.requests().is_empty());
}

#[test]
fn the_configured_address_is_used() {
    let server = Scripted::always(ok(&encrypted(ARN)));
    let aws = config::Aws { endpoint: Some(server.address()) };
    Stage::of(Config { aws, ..Config::default() }, &[], ("id", "secret")).wrap(&uri(ARN));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_key_that_only_the_image_names_needs_the_list() {
    let server = Scripted::always(ok(&decrypted(ARN)));
    let message = keyunwrap(&[], &packet(&uri(ARN)));
    let error = Stage::new(&server.address()).exchange(&message).unwrap_err();
    assert!(error.kind() == ErrorKind::Denied && server.requests().is_empty(), "{}", error.line());
    let keys = Some(vec!["awskms:///arn:aws:kms:eu-central-1:111122223333:key/*".to_owned()]);
    Stage::with(&server.address(), Config { keys, ..Config::default() }).exchange(&message).unwrap();
}

#[test]
fn the_audit_log_names_the_request_as_the_service_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let audit = config::Audit { file: Some(file.clone()), ..config::Audit::default() };
    let replies = |before: usize| if before == 0 { refusal(503, "Busy") } else { ok(&encrypted(ARN)) };
    let server = Scripted::start(move |_, before| replies(before).header("x-amzn-RequestId", format!("request-{before}")));
    Stage::with(&server.address(), Config { audit, ..Config::default() }).wrap(&uri(ARN));
    let text = std::fs::read_to_string(file).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((records[0]["event"].as_str(), records[0]["request_id"].as_str()), (Some("use"), Some("request-1")));
}

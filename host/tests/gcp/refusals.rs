//! What the user sees when Cloud KMS says no: one line that names the key and the remedy, an exit code, and nothing else.

use std::time::{Duration, Instant};

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use ocicrypt_kms_testing::messages::{annotation_of, unwrapping, wrapping};

use super::program::Program;
use super::{KEY, OTHER, uri};

#[test]
fn each_refusal_is_one_line_with_key_and_remedy() {
    type Change = fn(&FakeGcp);
    // What is changed at the service; what the line says when wrapping and when unwrapping.
    let table: &[(Change, &str, &str)] = &[
        (
            |fake| fake.deny(KEY),
            "403 PERMISSION_DENIED|grant roles/cloudkms.cryptoKeyEncrypter",
            "403 PERMISSION_DENIED|grant roles/cloudkms.cryptoKeyDecrypter",
        ),
        (
            |fake| fake.disable(KEY),
            "400 FAILED_PRECONDITION|gcloud kms keys versions enable",
            "400 FAILED_PRECONDITION|gcloud kms keys versions enable",
        ),
        (
            |fake| fake.fault(Fault::Status(401)),
            "401 UNAUTHENTICATED|gcloud auth application-default login",
            "401 UNAUTHENTICATED|gcloud auth application-default login",
        ),
        (
            |fake| fake.fault(Fault::Status(404)),
            "404 NOT_FOUND|check the project, location, key ring and key",
            "404 NOT_FOUND|check the project, location, key ring and key",
        ),
    ];
    for (change, wrapped, unwrapped) in table {
        let program = Program::with_credentials();
        let annotation = annotation_of(&program.exchange(&[], &wrapping(&[&uri(KEY)])));
        for (message, says) in [(wrapping(&[&uri(KEY)]), wrapped), (unwrapping(&[&uri(KEY)], &annotation), unwrapped)] {
            change(&program.fake);
            let (code, line) = program.refused(&[], &message);
            assert_eq!(code, 5, "{line}");
            assert!(line.starts_with(&format!("{}: the KMS answered ", uri(KEY))), "{line}");
            assert!(says.split('|').all(|part| line.contains(part)), "{says}: {line}");
        }
    }
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let program = Program::with_credentials();
    let missing = KEY.replace("cryptoKeys/k", "cryptoKeys/missing");
    let (code, line) = program.refused(&[], &wrapping(&[&uri(&missing)]));
    assert!(code == 5 && line.starts_with(&format!("{}: the KMS answered 404 NOT_FOUND: ", uri(&missing))), "{line}");
    let version = format!("{KEY}/cryptoKeyVersions/7");
    let (code, line) = program.refused(&[], &wrapping(&[&uri(&version)]));
    assert!(code == 5 && line.starts_with(&format!("{}: the KMS answered 404 NOT_FOUND: ", uri(&version))), "{line}");
}

#[test]
fn a_ciphertext_that_was_changed_or_is_another_keys_is_told_with_the_key() {
    let program = Program::with_credentials();
    let text = String::from_utf8(annotation_of(&program.exchange(&[], &wrapping(&[&uri(KEY)])))).unwrap();
    let wrapped = text.split('"').nth(7).unwrap();
    let mut ciphertext = bytes::decode(wrapped).unwrap().to_vec();
    *ciphertext.last_mut().unwrap() ^= 1;
    let changed = text.replace(wrapped, &bytes::encode(&ciphertext));
    let (code, line) = program.refused(&[], &unwrapping(&[], changed.as_bytes()));
    assert!(code == 5 && line.starts_with(&format!("{}: the KMS answered 400 INVALID_ARGUMENT: ", uri(KEY))), "{code} {line}");
    assert!(line.contains("the packet was not made by this key, or with another encryption context"), "{line}");
    let moved = text.replace(&uri(KEY), &uri(OTHER));
    let (code, line) = program.refused(&[], &unwrapping(&[], moved.as_bytes()));
    assert!(code == 5 && line.starts_with(&format!("{}: the KMS answered 400 INVALID_ARGUMENT: ", uri(OTHER))), "{code} {line}");
}

#[test]
fn what_is_no_opts_data_is_not_handed_out() {
    let program = Program::with_credentials();
    program.fake.hold(KEY, b"another use", b"a password that is kept with the same key");
    let packet = format!(r#"{{"key_url":"{}","wrapped_key":"{}","wrap_type":"AES"}}"#, uri(KEY), bytes::encode(b"another use"));
    let (code, line) = program.refused(&[], &unwrapping(&[], packet.as_bytes()));
    assert!(code == 2 && line.contains("is not the key of an image layer"), "{code} {line}");
    assert!(!line.contains("password") && !program.log().contains("password"));
}

#[test]
fn an_unreachable_service_is_told_within_the_deadline() {
    // Nothing listens there: a port of 1024 or above could be anybody's.
    let program = Program::with_credentials().set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "http://127.0.0.1:1");
    program.configure("deadline-seconds = 2");
    let start = Instant::now();
    let (code, line) = program.refused(&[], &wrapping(&[&uri(KEY)]));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(code, 6, "{line}");
    assert!(line.starts_with(&format!("{}: 127.0.0.1:1 can't be reached: ", uri(KEY))) && line.contains("check the network"), "{line}");
}

#[test]
fn a_service_that_is_too_slow_is_told_within_the_deadline() {
    let program = Program::with_credentials();
    program.configure("deadline-seconds = 1");
    program.fake.fault(Fault::Slow(Duration::from_secs(20)));
    let start = Instant::now();
    let (code, line) = program.refused(&[], &wrapping(&[&uri(KEY)]));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(code == 6 && line.starts_with(&uri(KEY)) && line.contains("did not answer within"), "{code} {line}");
}

#[test]
fn answers_without_checksums_are_used_and_logged() {
    let program = Program::with_credentials();
    program.fake.fault(Fault::NoChecksums);
    program.exchange(&[], &wrapping(&[&uri(KEY)]));
    assert!(program.log().contains("WARN") && program.log().contains("the answer has no checksums"), "{}", program.log());
}

#[test]
fn plain_http_to_loopback_never_takes_the_way_of_a_proxy() {
    let proxy = FakeGcp::start();
    // A service account signs its own tokens, so that nothing but the call itself could go to the proxy.
    let mut program = Program::new();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        program = program.set(name, proxy.endpoint());
    }
    let file = program.fake.service_account_file(program.home());
    program.exchange(&["--adc", file.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    assert_eq!((proxy.requests().len(), program.fake.kms_requests().len()), (0, 1));
}

//! Asymmetric versions: the host wraps with the public key that Cloud KMS gives out, and Cloud KMS unwraps.

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Error, ErrorKind};
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use ocicrypt_kms_testing::failure;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, wrapping};
use serde_json::{Value, json};

use super::stage::Stage;
use super::{KEY, uri};

/// A key that is asymmetric.
const RSA: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/rsa";
const SHA256: &str = "RSA_DECRYPT_OAEP_2048_SHA256";

/// A stage whose fake has version 1 of [`RSA`] with this algorithm.
fn stage(algorithm: &str) -> Stage {
    let stage = Stage::new();
    stage.fake.add_asymmetric_version(RSA, algorithm);
    stage
}

/// The resource name of a version.
fn version(number: usize) -> String {
    format!("{RSA}/cryptoKeyVersions/{number}")
}

fn rsa_uri(number: usize) -> String {
    uri(&version(number)) + "?algorithm=RSA-OAEP-256"
}

fn packet(annotation: &[u8]) -> Value {
    serde_json::from_slice(annotation).unwrap()
}

/// The parts of a packet's JWE.
fn parts(annotation: &[u8]) -> Vec<Vec<u8>> {
    let compact = bytes::decode(packet(annotation)["wrapped_key"].as_str().unwrap()).unwrap();
    let text = std::str::from_utf8(&compact).unwrap().replace('-', "+").replace('_', "/");
    text.split('.').map(|part| bytes::decode(part).unwrap().to_vec()).collect()
}

fn line(outcome: Result<Vec<u8>, Error>, kind: ErrorKind) -> String {
    failure::line(outcome, kind, &rsa_uri(1))
}

/// The outcome of a wrap that is disturbed.
fn wrapped(stage: &Stage, fault: Fault) -> Result<Vec<u8>, Error> {
    stage.fake.fault(fault);
    stage.exchange(&wrapping(&[&rsa_uri(1)]))
}

#[test]
fn what_was_wrapped_unwraps_and_each_exchange_makes_one_call() {
    for algorithm in [SHA256, "RSA_DECRYPT_OAEP_3072_SHA256", "RSA_DECRYPT_OAEP_4096_SHA256"] {
        let stage = stage(algorithm);
        let annotation = stage.wrap(&[&rsa_uri(1)]);
        assert_eq!(stage.paths(), [format!("{}/publicKey", version(1))]);
        assert_eq!(packet(&annotation)["key_url"], rsa_uri(1));
        assert_eq!(packet(&annotation)["wrap_type"], "JWE");
        assert_eq!(parts(&annotation)[0], br#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#);
        for parameter in [&[rsa_uri(1).as_str()][..], &[&uri(&version(1))], &[]] {
            stage.fake.clear_requests();
            assert_eq!(stage.unwrap(parameter, &annotation).unwrap(), OPTS_DATA, "{algorithm}");
            assert_eq!(stage.paths(), [format!("{}:asymmetricDecrypt", version(1))]);
        }
    }
}

#[test]
fn requests_hold_the_encrypted_key_its_checksum_and_nothing_else() {
    let stage = stage(SHA256);
    let annotation = stage.wrap(&[&rsa_uri(1)]);
    let wrapped = stage.fake.kms_requests().remove(0);
    assert_eq!((wrapped.method.as_str(), &wrapped.body, wrapped.header("content-type")), ("GET", &Value::Null, None));
    stage.fake.clear_requests();
    stage.unwrap(&[], &annotation).unwrap();
    let encrypted_key = &parts(&annotation)[1];
    let expected = json!({"ciphertext": bytes::encode(encrypted_key), "ciphertextCrc32c": crc32c::crc32c(encrypted_key).to_string()});
    assert_eq!(stage.fake.kms_requests()[0].body, expected);
}

#[test]
fn the_opts_data_is_never_sent_to_cloud_kms() {
    let stage = stage(SHA256);
    let annotation = stage.wrap(&[&rsa_uri(1)]);
    stage.unwrap(&[], &annotation).unwrap();
    for request in stage.fake.requests() {
        assert!(!request.body.to_string().contains(&bytes::encode(OPTS_DATA)), "{request:?}");
    }
}

#[test]
fn context_is_in_the_header_and_must_be_that_of_the_uri() {
    let stage = stage(SHA256);
    let annotation = stage.wrap(&[&(rsa_uri(1) + "&context_stage=prod")]);
    assert_eq!(parts(&annotation)[0], br#"{"alg":"RSA-OAEP-256","enc":"A256GCM","context":{"stage":"prod"}}"#);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
    stage.fake.clear_requests();
    let text = String::from_utf8(annotation).unwrap();
    for changed in ["&context_stage=test", ""] {
        let changed = text.replace("&context_stage=prod", changed);
        assert_eq!(stage.unwrap(&[], changed.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(stage.fake.requests().len(), 0, "Cloud KMS is not asked");
}

#[test]
fn a_version_with_another_algorithm_is_refused() {
    for algorithm in ["RSA_DECRYPT_OAEP_2048_SHA1", "RSA_DECRYPT_OAEP_4096_SHA512"] {
        let line = line(stage(algorithm).exchange(&wrapping(&[&rsa_uri(1)])), ErrorKind::InvalidInput);
        assert!(line.contains(&format!("this version's algorithm is {algorithm}, which is not RSA-OAEP-256")), "{line}");
        assert!(line.contains("--default-algorithm rsa-decrypt-oaep-3072-sha256 --keyring r --location global --project p"), "{line}");
    }
}

#[test]
fn each_version_unwraps_its_own_packets_alone() {
    let stage = stage(SHA256);
    stage.fake.add_asymmetric_version(RSA, SHA256);
    let annotation = stage.wrap(&[&rsa_uri(2)]);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
    let moved = String::from_utf8(annotation).unwrap().replace(&version(2), &version(1));
    let line = line(stage.unwrap(&[], moved.as_bytes()), ErrorKind::Kms);
    assert!(line.contains("400 INVALID_ARGUMENT") && line.contains("the packet was not made by this key"), "{line}");
}

#[test]
fn a_public_key_that_was_damaged_or_is_anothers_is_not_used() {
    let stage = stage(SHA256);
    let says = |fault, says: &str| {
        let line = line(wrapped(&stage, fault), ErrorKind::Corrupt);
        assert!(line.contains(says) && line.contains("try again"), "{line}");
    };
    says(Fault::WrongChecksum, "`pemCrc32c` does not hold");
    says(Fault::Name(version(2)), "it answered for another key");
    says(Fault::Name(String::new()), "it answered for another key");
    says(Fault::Name(format!("{KEY}/cryptoKeyVersions/1")), "it answered for another key");
    says(Fault::TruncatedJson, "its answer is not JSON");
    for pem in [
        "",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        // On a curve.
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEweNJy2HscCSM6AEDTDg04biOvhFh\nyyWvOHQfeF/PxMR7yWcI74CVK1P40lVf5yuEHtBFiGKLHTeKWUk5UA7KSQ==\n-----END PUBLIC KEY-----\n",
    ] {
        says(Fault::Pem(pem.into()), &format!("its `pem` is not the public key of {SHA256}"));
    }
    let longer = FakeGcp::start();
    longer.add_asymmetric_version(RSA, "RSA_DECRYPT_OAEP_3072_SHA256");
    let answer = public_key_of(&longer);
    says(Fault::Pem(answer["pem"].as_str().unwrap().into()), &format!("its `pem` is not the public key of {SHA256}"));
}

/// What a fake that asks for no token says of version 1.
fn public_key_of(fake: &FakeGcp) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("{}/v1/{}/publicKey", fake.endpoint(), version(1));
    runtime.block_on(async {
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    })
}

#[test]
fn an_unwrapped_key_that_was_damaged_is_not_used() {
    let stage = stage(SHA256);
    let annotation = stage.wrap(&[&rsa_uri(1)]);
    for (fault, says) in [
        (Fault::WrongChecksum, "`plaintextCrc32c` does not hold"),
        (Fault::CiphertextNotVerified, "lacks `verifiedCiphertextCrc32c`"),
        (Fault::TruncatedJson, "its answer is not JSON"),
    ] {
        stage.fake.fault(fault);
        let line = line(stage.unwrap(&[], &annotation), ErrorKind::Corrupt);
        assert!(line.contains(says), "{line}");
    }
}

#[test]
fn answers_without_any_checksum_are_used_and_logged() {
    let stage = stage(SHA256);
    let annotation = stage.wrap(&[&rsa_uri(1)]);
    wrapped(&stage, Fault::NoChecksums).unwrap();
    stage.fake.fault(Fault::NoChecksums);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
    assert_eq!(stage.log().matches("the answer has no checksums").count(), 2, "{}", stage.log());
}

#[test]
fn each_refusal_is_told_with_its_remedy() {
    let stage = stage(SHA256);
    let annotation = stage.wrap(&[&rsa_uri(1)]);
    stage.fake.disable_asymmetric_version(RSA, 1);
    for outcome in [stage.exchange(&wrapping(&[&rsa_uri(1)])), stage.unwrap(&[], &annotation)] {
        let line = line(outcome, ErrorKind::Kms);
        assert!(line.contains("400 FAILED_PRECONDITION") && line.contains("gcloud kms keys versions enable 1 --key rsa"), "{line}");
    }
    stage.fake.deny(RSA);
    let wrap = line(stage.exchange(&wrapping(&[&rsa_uri(1)])), ErrorKind::Kms);
    assert!(wrap.contains("403 PERMISSION_DENIED") && wrap.contains("grant roles/cloudkms.publicKeyViewer"), "{wrap}");
    let unwrap = line(stage.unwrap(&[], &annotation), ErrorKind::Kms);
    assert!(unwrap.contains("403 PERMISSION_DENIED") && unwrap.contains("grant roles/cloudkms.cryptoKeyDecrypter"), "{unwrap}");
}

#[test]
fn what_may_pass_is_tried_again() {
    let stage = stage(SHA256);
    let annotation = wrapped(&stage, Fault::Status(503)).map(|answer| annotation_of(&answer)).unwrap();
    stage.fake.fault(Fault::Reset);
    assert_eq!(stage.unwrap(&[], &annotation).unwrap(), OPTS_DATA);
    stage.fake.fault(Fault::Redirect(stage.fake.endpoint()));
    assert!(line(stage.unwrap(&[], &annotation), ErrorKind::Unavailable).contains("never followed"));
}

#[test]
fn a_version_without_algorithm_is_symmetric() {
    let stage = Stage::new();
    let version = format!("{KEY}/cryptoKeyVersions/1");
    let annotation = stage.wrap(&[&uri(&version)]);
    assert_eq!(packet(&annotation)["wrap_type"], "AES");
    assert_eq!(stage.paths(), [format!("{version}:encrypt")]);
}

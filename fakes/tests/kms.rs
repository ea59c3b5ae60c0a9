//! Google's own client library encrypts and decrypts with the fake.

mod support;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::error::rpc::StatusDetails;
use google_cloud_kms_v1::model::ProtectionLevel;
use serde_json::{Value, json};
use support::{KEY, OTHER, client, crc, decrypt, encrypt, fake, refusal};

#[tokio::test]
async fn what_googles_client_encrypts_it_decrypts() {
    let fake = fake();
    let client = client(&fake).await;

    let encrypted = encrypt(&client, KEY, b"opts data", b"context").await.expect("encrypts");
    assert_eq!(encrypted.name, format!("{KEY}/cryptoKeyVersions/1"));
    assert_eq!(encrypted.ciphertext_crc32c, Some(crc(&encrypted.ciphertext)));
    assert!(encrypted.verified_plaintext_crc32c);
    assert!(encrypted.verified_additional_authenticated_data_crc32c);
    assert_eq!(encrypted.protection_level, ProtectionLevel::Software);

    let decrypted = decrypt(&client, KEY, &encrypted.ciphertext, b"context").await.expect("decrypts");
    assert_eq!(decrypted.plaintext.as_ref(), b"opts data");
    assert_eq!(decrypted.plaintext_crc32c, Some(crc(b"opts data")));
    assert!(decrypted.used_primary);
    assert_eq!(decrypted.protection_level, ProtectionLevel::Software);
}

#[tokio::test]
async fn an_empty_plaintext_comes_back_empty_with_its_checksum() {
    let fake = fake();
    let client = client(&fake).await;
    let encrypted = encrypt(&client, KEY, b"", b"").await.expect("encrypts");
    let decrypted = decrypt(&client, KEY, &encrypted.ciphertext, b"").await.expect("decrypts");
    assert!(decrypted.plaintext.is_empty());
    assert_eq!(decrypted.plaintext_crc32c, Some(0));
}

#[tokio::test]
async fn a_checksum_that_was_not_sent_is_not_called_verified() {
    let fake = fake();
    let client = client(&fake).await;
    let encrypted = client.encrypt().set_name(KEY).set_plaintext(b"x".to_vec()).send().await.expect("encrypts");
    assert!(!encrypted.verified_plaintext_crc32c);
    assert!(!encrypted.verified_additional_authenticated_data_crc32c);
}

#[tokio::test]
async fn a_wrong_checksum_in_a_request_is_refused() {
    let fake = fake();
    let client = client(&fake).await;
    let request = client.encrypt().set_name(KEY).set_plaintext(b"x".to_vec()).set_plaintext_crc32c(1);
    let (code, message) = refusal(request.send().await);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(message, "The checksum in field plaintext_crc32c did not match the data in field plaintext.");

    let request = client.decrypt().set_name(KEY).set_ciphertext(b"x".to_vec()).set_ciphertext_crc32c(1);
    assert_eq!(refusal(request.send().await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn after_rotation_old_ciphertexts_still_decrypt_and_new_ones_use_the_new_version() {
    let fake = fake();
    let client = client(&fake).await;
    let old = encrypt(&client, KEY, b"old", b"").await.expect("encrypts");
    assert_eq!(fake.rotate(KEY), 2);

    let new = encrypt(&client, KEY, b"new", b"").await.expect("encrypts");
    assert_eq!(new.name, format!("{KEY}/cryptoKeyVersions/2"));
    let decrypted = decrypt(&client, KEY, &old.ciphertext, b"").await.expect("decrypts");
    assert_eq!(decrypted.plaintext.as_ref(), b"old");
    assert!(!decrypted.used_primary);
}

#[tokio::test]
async fn encrypt_takes_a_version_and_decrypt_does_not() {
    let fake = fake();
    fake.rotate(KEY);
    let client = client(&fake).await;
    let version = format!("{KEY}/cryptoKeyVersions/1");
    let encrypted = encrypt(&client, &version, b"x", b"").await.expect("encrypts");
    assert_eq!(encrypted.name, version);
    assert!(decrypt(&client, KEY, &encrypted.ciphertext, b"").await.is_ok());

    // Google's client does not even send this one.
    assert!(decrypt(&client, &version, &encrypted.ciphertext, b"").await.is_err());
    let (status, answer) = post(&fake.endpoint(), &format!("{version}:decrypt"), &json!({"ciphertext": "AAAA"})).await;
    assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn a_disabled_version_neither_encrypts_nor_decrypts() {
    let fake = fake();
    let client = client(&fake).await;
    let encrypted = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    fake.disable(KEY);

    let expected = format!("{KEY}/cryptoKeyVersions/1 is not enabled, current state is: DISABLED.");
    let encrypting = encrypt(&client, KEY, b"x", b"").await;
    let details = encrypting.as_ref().err().and_then(|error| error.status()).map(|status| status.details.clone());
    assert!(matches!(details.as_deref(), Some([StatusDetails::PreconditionFailure(_)])), "{details:?}");
    assert_eq!(refusal(encrypting), (Code::FailedPrecondition, expected.clone()));
    let decrypting = decrypt(&client, KEY, &encrypted.ciphertext, b"").await;
    assert_eq!(refusal(decrypting), (Code::FailedPrecondition, expected));

    fake.rotate(KEY);
    assert!(encrypt(&client, KEY, b"x", b"").await.is_ok());
    fake.disable_version(KEY, 2);
    assert!(encrypt(&client, KEY, b"x", b"").await.is_err());
}

#[tokio::test]
async fn a_caller_without_permission_is_not_told_whether_the_key_exists() {
    let fake = fake();
    let absent = "projects/p/locations/global/keyRings/r/cryptoKeys/absent";
    fake.deny(KEY);
    fake.deny(absent);
    let client = client(&fake).await;
    for name in [KEY, absent] {
        let (code, message) = refusal(encrypt(&client, name, b"x", b"").await);
        assert_eq!(code, Code::PermissionDenied);
        let expected = format!("Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource '{name}' (or it may not exist).");
        assert_eq!(message, expected);
    }
    let (_, message) = refusal(decrypt(&client, KEY, b"x", b"").await);
    assert!(message.contains("useToDecrypt"), "{message}");
}

#[tokio::test]
async fn a_key_or_version_that_does_not_exist_is_not_found() {
    let fake = fake();
    let client = client(&fake).await;
    let absent = "projects/p/locations/global/keyRings/r/cryptoKeys/absent";
    assert_eq!(refusal(encrypt(&client, absent, b"x", b"").await).0, Code::NotFound);
    assert_eq!(refusal(decrypt(&client, absent, b"x", b"").await).0, Code::NotFound);
    let absent = format!("{KEY}/cryptoKeyVersions/2");
    assert_eq!(refusal(encrypt(&client, &absent, b"x", b"").await).0, Code::NotFound);
}

#[tokio::test]
async fn only_the_same_key_and_additional_data_decrypt_an_unchanged_ciphertext() {
    let fake = fake();
    let client = client(&fake).await;
    let ciphertext = encrypt(&client, KEY, b"x", b"context").await.expect("encrypts").ciphertext;

    let (code, message) = refusal(decrypt(&client, OTHER, &ciphertext, b"context").await);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(message, "Decryption failed: verify that 'name' refers to the correct CryptoKey.");

    let mut changed = ciphertext.to_vec();
    *changed.last_mut().expect("not empty") ^= 1;
    for (ciphertext, aad) in [(&ciphertext[..], &b""[..]), (&changed, b"context"), (&ciphertext[..45], b"context"), (b"", b"")] {
        let refused = refusal(decrypt(&client, KEY, ciphertext, aad).await);
        assert_eq!(refused, (Code::InvalidArgument, "Decryption failed: the ciphertext is invalid.".to_owned()));
    }
}

#[tokio::test]
async fn up_to_64_kib_of_plaintext_and_of_additional_data_are_taken() {
    let fake = fake();
    let client = client(&fake).await;
    let most = vec![7; 64 * 1024];
    let more = vec![7; 64 * 1024 + 1];
    let encrypted = encrypt(&client, KEY, &most, &most).await.expect("encrypts");
    let decrypted = decrypt(&client, KEY, &encrypted.ciphertext, &most).await.expect("decrypts");
    assert_eq!(decrypted.plaintext.as_ref(), most);
    assert_eq!(refusal(encrypt(&client, KEY, &more, b"").await).0, Code::InvalidArgument);
    assert_eq!(refusal(encrypt(&client, KEY, b"", &more).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_held_ciphertext_decrypts_to_what_was_given_and_others_do_not() {
    let fake = fake();
    fake.hold(KEY, b"from the real service", b"opts data");
    let client = client(&fake).await;
    let decrypted = decrypt(&client, KEY, b"from the real service", b"").await.expect("decrypts");
    assert_eq!(decrypted.plaintext.as_ref(), b"opts data");
    assert!(decrypt(&client, KEY, b"from the real servicE", b"").await.is_err());
    assert!(decrypt(&client, KEY, b"from the real service", b"context").await.is_err());
    assert!(decrypt(&client, OTHER, b"from the real service", b"").await.is_err());
}

#[tokio::test]
async fn answers_are_proto3_json() {
    let fake = fake();
    let request = json!({"plaintext": BASE64_STANDARD.encode("x"), "plaintextCrc32c": crc(b"x").to_string()});
    let (status, answer) = post(&fake.endpoint(), &format!("{KEY}:encrypt"), &request).await;
    assert_eq!(status, 200);
    let mut members: Vec<_> = answer.as_object().expect("an object").keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = ["ciphertext", "ciphertextCrc32c", "name", "protectionLevel", "verifiedPlaintextCrc32c"];
    assert_eq!(members, expected, "false and empty fields are left out");
    assert!(answer["ciphertextCrc32c"].is_string(), "a 64-bit integer is a string");
    assert_eq!(answer["protectionLevel"], "SOFTWARE");
    assert!(answer["ciphertext"].as_str().expect("text").starts_with("CiQA"), "as the service's own do");

    let numbered = format!("{KEY}:encrypt?$alt=json;enum-encoding=int");
    assert_eq!(post(&fake.endpoint(), &numbered, &request).await.1["protectionLevel"], 1);
}

#[tokio::test]
async fn requests_are_proto3_json_in_any_of_its_spellings() {
    let fake = fake();
    let path = format!("{KEY}:encrypt");
    for accepted in [
        json!({"plaintext": "_w==", "plaintextCrc32c": crc(&[0xff])}),
        json!({"plaintext": "/w", "plaintext_crc32c": crc(&[0xff]).to_string()}),
        json!({"plaintext": "", "additionalAuthenticatedData": null}),
        json!({}),
    ] {
        assert_eq!(post(&fake.endpoint(), &path, &accepted).await.0, 200, "{accepted}");
    }
    for refused in [
        json!({"plaintext": "?"}),
        json!({"plaintext": [1]}),
        json!({"plaintextCRC32C": "0"}),
        json!({"plaintextCrc32c": "zero"}),
        json!({"plaintextCrc32c": -1}),
        json!([]),
    ] {
        let (status, answer) = post(&fake.endpoint(), &path, &refused).await;
        assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{refused}");
    }
}

#[tokio::test]
async fn a_path_that_no_api_has_is_answered_in_html() {
    let fake = fake();
    let client = reqwest::Client::new();
    for path in ["projects/p:encrypt", "projects/p/locations/global/keyRings/r/cryptoKeys/:encrypt"] {
        let answer = client.post(format!("{}/v1/{path}", fake.endpoint())).body("{}").send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.text().await.expect("a body").starts_with("<!DOCTYPE html>"), "{path}");
    }
    let answer = client.get(format!("{}/v1/{KEY}:encrypt", fake.endpoint())).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn requests_are_remembered() {
    let fake = fake();
    let client = client(&fake).await;
    encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    let requests = fake.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].path, format!("/v1/{KEY}:encrypt"));
    assert_eq!(requests[0].body["plaintext"], "eA==");
    assert_eq!(requests[0].header("Authorization"), None);
    assert!(requests[0].is_kms());
    fake.clear_requests();
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn it_serves_https_to_a_client_that_trusts_its_certificate() {
    use ocicrypt_kms_fakes::gcp::FakeGcp;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let fake = FakeGcp::start_tls(&made.cert.pem(), &made.signing_key.serialize_pem());
    fake.add_key(KEY);
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let trusting = reqwest::Client::builder().tls_certs_only([trusted]).build().expect("a client");
    let url = format!("{}/v1/{KEY}:encrypt", fake.endpoint());
    assert!(url.starts_with("https://127.0.0.1:"));
    let answer = trusting.post(&url).json(&json!({"plaintext": "eA=="})).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(reqwest::Client::new().post(&url).send().await.is_err(), "others don't trust it");
}

#[test]
fn it_works_without_an_async_runtime_and_stops_when_dropped() {
    let fake = fake();
    let address = fake.address();
    assert!(std::net::TcpStream::connect(address).is_ok());
    drop(fake);
    assert!(std::net::TcpStream::connect(address).is_err());
}

async fn post(endpoint: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = reqwest::Client::new().post(format!("{endpoint}/v1/{path}")).json(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

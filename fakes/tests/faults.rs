//! Each fault does what it says, once or as often as asked.

mod support;

use std::time::{Duration, Instant};

use google_cloud_gax::error::rpc::Code;
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use serde_json::{Value, json};
use support::{KEY, OTHER, client, crc, decrypt, encrypt, fake, refusal};

#[tokio::test]
async fn a_status_is_an_error_as_google_gives_it() {
    let fake = fake();
    let client = client(&fake).await;
    let codes = [
        (400, Code::InvalidArgument),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::NotFound),
        (429, Code::ResourceExhausted),
        (500, Code::Internal),
        (503, Code::Unavailable),
    ];
    for (status, code) in codes {
        fake.fault(Fault::Status(status));
        let error = encrypt(&client, KEY, b"x", b"").await.expect_err("a fault");
        assert_eq!(error.http_status_code(), Some(status));
        assert_eq!(refusal::<()>(Err(error)).0, code);
    }
    fake.fault(Fault::Status(502));
    assert_eq!(encrypt(&client, KEY, b"x", b"").await.expect_err("a fault").http_status_code(), Some(502));
}

#[tokio::test]
async fn faults_happen_in_turn_as_often_as_asked() {
    let fake = fake();
    let client = client(&fake).await;
    fake.fault(Fault::Status(503).times(2));
    fake.fault(Fault::Status(429));
    for code in [Code::Unavailable, Code::Unavailable, Code::ResourceExhausted] {
        assert_eq!(refusal(encrypt(&client, KEY, b"x", b"").await).0, code);
    }
    assert!(encrypt(&client, KEY, b"x", b"").await.is_ok());

    fake.fault(Fault::Status(500).until_cleared());
    for _ in 0..5 {
        assert_eq!(refusal(encrypt(&client, KEY, b"x", b"").await).0, Code::Internal);
    }
    fake.clear_faults();
    assert!(encrypt(&client, KEY, b"x", b"").await.is_ok());
}

#[tokio::test]
async fn faults_of_the_token_endpoints_leave_the_kms_alone() {
    let fake = fake();
    let client = client(&fake).await;
    fake.fault(Fault::Status(503).on_tokens());
    assert!(encrypt(&client, KEY, b"x", b"").await.is_ok());
    let url = format!("{}/token", fake.endpoint());
    assert_eq!(reqwest::Client::new().post(&url).send().await.expect("an answer").status(), 503);
    assert_eq!(reqwest::Client::new().post(&url).send().await.expect("an answer").status(), 400);
}

#[tokio::test]
async fn what_an_answer_says_of_its_integrity_can_be_wrong_or_missing() {
    let fake = fake();
    let client = client(&fake).await;
    let good = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");

    fake.fault(Fault::WrongChecksum.times(2));
    let answer = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    assert_ne!(answer.ciphertext_crc32c, Some(crc(&answer.ciphertext)));
    let answer = decrypt(&client, KEY, &good.ciphertext, b"").await.expect("decrypts");
    assert_ne!(answer.plaintext_crc32c, Some(crc(&answer.plaintext)));

    fake.fault(Fault::PlaintextNotVerified);
    let answer = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    assert!(!answer.verified_plaintext_crc32c && answer.verified_additional_authenticated_data_crc32c);

    fake.fault(Fault::AadNotVerified);
    let answer = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    assert!(answer.verified_plaintext_crc32c && !answer.verified_additional_authenticated_data_crc32c);

    fake.fault(Fault::NoChecksums.times(2));
    let answer = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    assert_eq!(answer.ciphertext_crc32c, None);
    assert!(!answer.verified_plaintext_crc32c && !answer.verified_additional_authenticated_data_crc32c);
    assert_eq!(decrypt(&client, KEY, &good.ciphertext, b"").await.expect("decrypts").plaintext_crc32c, None);

    let name = format!("{OTHER}/cryptoKeyVersions/1");
    fake.fault(Fault::Name(name.clone()));
    assert_eq!(encrypt(&client, KEY, b"x", b"").await.expect("encrypts").name, name);
}

#[tokio::test]
async fn an_error_answer_is_not_altered() {
    let fake = fake();
    fake.disable(KEY);
    fake.fault(Fault::NoChecksums);
    assert_eq!(refusal(encrypt(&client(&fake).await, KEY, b"x", b"").await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn an_oversized_answer_is_as_large_as_asked_and_well_formed() {
    let fake = fake();
    fake.fault(Fault::Oversized(3));
    let answer = raw(&fake).await.expect("an answer");
    assert_eq!(answer.content_length(), None);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["name"].as_str().map(str::len), Some(3 * 1024 * 1024));
}

#[tokio::test]
async fn a_slow_answer_is_right_but_late() {
    let fake = fake();
    fake.fault(Fault::Slow(Duration::from_millis(200)));
    let start = Instant::now();
    assert_eq!(raw(&fake).await.expect("an answer").status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn dropping_the_fake_does_not_wait_for_slow_answers() {
    let fake = fake();
    fake.fault(Fault::Slow(Duration::from_secs(60)));
    let url = format!("{}/v1/{KEY}:encrypt", fake.endpoint());
    let call = tokio::spawn(reqwest::Client::new().post(url).body("{}").send());
    while fake.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(fake);
    assert!(call.await.expect("no panic").is_err());
}

#[tokio::test]
async fn a_reset_breaks_off_in_the_middle_of_the_answer() {
    let fake = fake();
    fake.fault(Fault::Reset);
    let answer = raw(&fake).await.expect("the answer's head arrives");
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err());
    assert_eq!(raw(&fake).await.expect("an answer").status(), 200, "the next connection works");
}

#[tokio::test]
async fn a_hang_up_gives_no_answer_at_all() {
    let fake = fake();
    fake.fault(Fault::HangUp);
    assert!(raw(&fake).await.is_err());
    assert_eq!(raw(&fake).await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn truncated_json_arrives_whole_as_far_as_http_can_tell() {
    let fake = fake();
    fake.fault(Fault::TruncatedJson);
    let answer = raw(&fake).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let body = answer.bytes().await.expect("a body");
    assert!(serde_json::from_slice::<Value>(&body).is_err_and(|error| error.is_eof()));
}

#[tokio::test]
async fn a_redirect_names_its_target_and_keeps_the_method() {
    let fake = fake();
    let elsewhere = FakeGcp::start();
    fake.fault(Fault::Redirect(elsewhere.endpoint()));
    let answer = raw(&fake).await.expect("an answer");
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.headers()["location"], elsewhere.endpoint());
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn too_many_requests_can_say_when_to_come_back() {
    let fake = fake();
    fake.fault(Fault::RetryAfter("7"));
    let answer = raw(&fake).await.expect("an answer");
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(answer.json::<Value>().await.expect("JSON")["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(raw(&fake).await.expect("an answer").status(), 200);
}

/// An encrypt request by a client that neither retries nor follows redirects.
async fn raw(fake: &FakeGcp) -> reqwest::Result<reqwest::Response> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
    let url = format!("{}/v1/{KEY}:encrypt", fake.endpoint());
    client.build()?.post(url).json(&json!({"plaintext": "eA=="})).send().await
}

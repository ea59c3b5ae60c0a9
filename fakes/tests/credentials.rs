//! Every kind of credential, used by Google's own library, opens the fake when it asks for a token; wrong ones don't.

mod support;

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use google_cloud_auth::credentials::{
    AccessTokenCredentials, Credentials, external_account, impersonated, mds, service_account, user_account,
};
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::NeverRetry;
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use serde_json::{Value, json};
use support::{KEY, client, client_as, decrypt, encrypt, fake, refusal};
use tempfile::TempDir;

fn guarded() -> (FakeGcp, TempDir) {
    let fake = fake();
    fake.require_auth(true);
    (fake, tempfile::tempdir().expect("a directory"))
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

async fn opens(fake: &FakeGcp, credentials: Credentials) {
    let client = client_as(fake, credentials).await;
    let encrypted = encrypt(&client, KEY, b"x", b"").await.expect("encrypts");
    assert!(decrypt(&client, KEY, &encrypted.ciphertext, b"").await.is_ok());
}

async fn is_refused(fake: &FakeGcp, credentials: Credentials) {
    let client = client_as(fake, credentials).await;
    let error = encrypt(&client, KEY, b"x", b"").await.expect_err("a refusal");
    assert!(error.is_authentication() || refused_by_kms(&error), "{error:?}");
}

fn refused_by_kms(error: &google_cloud_gax::error::Error) -> bool {
    error.status().is_some_and(|status| status.code == Code::Unauthenticated)
}

fn user(file: Value) -> Credentials {
    user_account::Builder::new(file).with_retry_policy(NeverRetry).build().expect("credentials")
}

fn account(file: Value) -> Credentials {
    service_account::Builder::new(file).build().expect("credentials")
}

fn impersonating(file: Value) -> Credentials {
    impersonated::Builder::new(file).with_retry_policy(NeverRetry).build().expect("credentials")
}

fn external(file: Value) -> Credentials {
    external_account::Builder::new(file).with_retry_policy(NeverRetry).build().expect("credentials")
}

fn with(mut file: Value, member: &str, value: impl Into<Value>) -> Value {
    let pointer = format!("/{member}");
    *file.pointer_mut(&pointer).unwrap_or_else(|| panic!("the file has {member}")) = value.into();
    file
}

#[tokio::test]
async fn without_a_token_nothing_is_done() {
    let (fake, _dir) = guarded();
    let (code, _) = refusal(encrypt(&client(&fake).await, KEY, b"x", b"").await);
    assert_eq!(code, Code::Unauthenticated);
    assert_eq!(call(&fake, Some("Bearer made-up")).await, 401);
    assert_eq!(call(&fake, Some("Basic bWFkZTp1cA==")).await, 401);
    assert_eq!(call(&fake, None).await, 401);
}

#[tokio::test]
async fn an_issued_token_opens_until_it_is_revoked() {
    let (fake, _dir) = guarded();
    let header = format!("Bearer {}", fake.issue_token());
    assert_eq!(call(&fake, Some(&header)).await, 200);
    fake.revoke_tokens();
    assert_eq!(call(&fake, Some(&header)).await, 401);
}

#[tokio::test]
async fn a_service_account_signs_its_own_token() {
    let (fake, dir) = guarded();
    let file = read(&fake.service_account_file(dir.path()));
    opens(&fake, account(file.clone())).await;
    assert!(fake.requests().iter().all(|request| request.is_kms()), "no token endpoint is asked");

    let builder = || service_account::Builder::new(file.clone());
    let for_audience = |audience: &str| {
        let specifier = service_account::AccessSpecifier::from_audience(audience);
        builder().with_access_specifier(specifier).build().expect("credentials")
    };
    opens(&fake, for_audience("https://cloudkms.googleapis.com/")).await;
    is_refused(&fake, for_audience("https://storage.googleapis.com/")).await;

    let specifier = service_account::AccessSpecifier::from_scopes(["https://www.googleapis.com/auth/devstorage.read_only"]);
    let narrow = client_as(&fake, builder().with_access_specifier(specifier).build().expect("credentials")).await;
    assert_eq!(refusal(encrypt(&narrow, KEY, b"x", b"").await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn another_service_account_key_is_refused() {
    let (fake, dir) = guarded();
    let file = read(&fake.service_account_file(dir.path()));
    let stranger = tempfile::tempdir().expect("a directory");
    let other = read(&FakeGcp::start().service_account_file(stranger.path()));
    is_refused(&fake, account(with(file.clone(), "private_key", other["private_key"].clone()))).await;
    is_refused(&fake, account(with(file.clone(), "private_key_id", other["private_key_id"].clone()))).await;
    is_refused(&fake, account(with(file, "client_email", "other@fake-project.iam.gserviceaccount.com"))).await;
}

#[tokio::test]
async fn an_assertion_is_exchanged_only_for_the_right_audience_and_a_scope() {
    let (fake, dir) = guarded();
    let file = read(&fake.service_account_file(dir.path()));
    let audience = file["token_uri"].as_str().expect("text");
    // What google-cloud-auth signs has an audience or a scope; the exchange needs both.
    let (status, answer) = exchange(&fake, &signed(&file, audience, None)).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_scope")));
    let scope = "https://www.googleapis.com/auth/cloudkms";
    let (status, answer) = exchange(&fake, &signed(&file, "https://example.com/token", Some(scope))).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    let mut forged = signed(&file, audience, Some(scope));
    forged.truncate(forged.len() - 8);
    assert_eq!(exchange(&fake, &forged).await.0, 400);

    let googles = signed(&file, "https://oauth2.googleapis.com/token", Some(scope));
    assert_eq!(exchange(&fake, &googles).await.0, 200, "some clients' audience whatever the file says");
    let (status, answer) = exchange(&fake, &signed(&file, audience, Some(scope))).await;
    assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")));
    let header = format!("Bearer {}", answer["access_token"].as_str().expect("text"));
    assert_eq!(call(&fake, Some(&header)).await, 200);
}

#[tokio::test]
async fn a_user_refreshes_a_token() {
    let (fake, dir) = guarded();
    let file = read(&fake.authorized_user_file(dir.path()));
    opens(&fake, user(file.clone())).await;
    let asked = &fake.requests()[0];
    assert_eq!((asked.path.as_str(), &asked.body["grant_type"]), ("/token", &json!("refresh_token")));
    let quota = fake.kms_requests()[0].header("x-goog-user-project").map(str::to_owned);
    assert_eq!(quota.as_deref(), Some("fake-project"));

    for secret in ["client_id", "client_secret", "refresh_token"] {
        is_refused(&fake, user(with(file.clone(), secret, "wrong"))).await;
    }
}

#[tokio::test]
async fn impersonation_takes_the_source_credentials_token_for_another() {
    let (fake, dir) = guarded();
    let by_user = read(&fake.impersonated_file(dir.path()));
    opens(&fake, impersonating(by_user.clone())).await;
    let paths: Vec<_> = fake.requests().into_iter().map(|request| request.path).take(2).collect();
    assert_eq!(paths[0], "/token");
    assert!(paths[1].ends_with(":generateAccessToken"), "{paths:?}");
    opens(&fake, impersonating(read(&fake.impersonated_by_service_account_file(dir.path())))).await;

    is_refused(&fake, impersonating(with(by_user.clone(), "source_credentials/refresh_token", "wrong"))).await;
    let url = by_user["service_account_impersonation_url"].as_str().expect("text").replace("target@", "nobody@");
    is_refused(&fake, impersonating(with(by_user, "service_account_impersonation_url", url))).await;
}

#[tokio::test]
async fn a_workload_exchanges_a_token_from_a_file() {
    let (fake, dir) = guarded();
    let file = read(&fake.external_account_file_sourced(dir.path()));
    opens(&fake, external(file.clone())).await;
    assert_eq!(fake.requests()[0].path, "/v1/token");

    is_refused(&fake, external(with(file.clone(), "audience", "//iam.googleapis.com/projects/1/other"))).await;
    let kind = "urn:ietf:params:oauth:token-type:saml2";
    is_refused(&fake, external(with(file.clone(), "subject_token_type", kind))).await;
    std::fs::write(dir.path().join("subject-token"), "wrong").expect("a file");
    is_refused(&fake, external(file)).await;
}

#[tokio::test]
async fn a_workload_exchanges_a_token_from_a_url() {
    let (fake, dir) = guarded();
    let file = read(&fake.external_account_url_sourced(dir.path()));
    opens(&fake, external(file.clone())).await;
    let paths: Vec<_> = fake.requests().into_iter().map(|request| request.path).take(2).collect();
    assert_eq!(paths, ["/subject-token", "/v1/token"]);

    let mut text = with(file.clone(), "credential_source/url", format!("{}/subject-token", fake.endpoint()));
    text["credential_source"]["format"] = json!({"type": "text"});
    opens(&fake, external(text)).await;
    is_refused(&fake, external(with(file, "credential_source/headers/Authorization", "Bearer wrong"))).await;
}

#[tokio::test]
async fn a_workload_impersonates_a_service_account() {
    let (fake, dir) = guarded();
    opens(&fake, external(read(&fake.external_account_impersonated(dir.path())))).await;
    let paths: Vec<_> = fake.requests().into_iter().map(|request| request.path).take(2).collect();
    assert_eq!(paths[0], "/v1/token");
    assert!(paths[1].ends_with(":generateAccessToken"), "{paths:?}");

    // What federation gave it for that is no token for the KMS.
    let scope = fake.requests()[0].body["scope"].clone();
    assert_eq!(scope, "https://www.googleapis.com/auth/iam");
}

#[tokio::test]
async fn a_virtual_machine_asks_the_metadata_server() {
    let (fake, _dir) = guarded();
    let builder = || mds::Builder::default().with_endpoint(fake.endpoint()).with_retry_policy(NeverRetry);
    opens(&fake, builder().build().expect("credentials")).await;
    let credentials = builder().build().expect("credentials");
    assert_eq!(credentials.universe_domain().await.as_deref(), Some("googleapis.com"));

    let narrow = builder().with_scopes(["https://www.googleapis.com/auth/devstorage.read_only"]).build();
    let narrow = client_as(&fake, narrow.expect("credentials")).await;
    assert_eq!(refusal(encrypt(&narrow, KEY, b"x", b"").await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn the_metadata_server_answers_only_those_who_ask_for_it_by_name() {
    let (fake, _dir) = guarded();
    let url = format!("{}/computeMetadata/v1/instance/service-accounts/default/token", fake.endpoint());
    let client = reqwest::Client::new();
    let answer = client.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), 403);
    let answer = client.get(&url).header("Metadata-Flavor", "Google").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["metadata-flavor"], "Google");
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_an_authentication_error() {
    let (fake, dir) = guarded();
    let file = read(&fake.authorized_user_file(dir.path()));
    fake.fault(Fault::Status(503).on_tokens());
    is_refused(&fake, user(file.clone())).await;
    opens(&fake, user(file)).await;
}

#[tokio::test]
async fn the_secrets_are_those_that_the_files_and_answers_hold() {
    let (fake, dir) = guarded();
    let files = fake.all_credential_files(dir.path());
    let user = user_account::Builder::new(read(&files[1])).build_access_token_credentials();
    let user: AccessTokenCredentials = user.expect("credentials");
    let token = user.access_token().await.expect("a token").token;
    let secrets = fake.secrets();
    assert!(secrets.contains(&token));
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(secrets.iter().any(|secret| text.contains(secret)) || text.contains("subject-token"), "{path:?}");
    }
}

async fn call(fake: &FakeGcp, authorization: Option<&str>) -> u16 {
    let mut request = reqwest::Client::new().post(format!("{}/v1/{KEY}:encrypt", fake.endpoint())).json(&json!({}));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    request.send().await.expect("an answer").status().as_u16()
}

async fn exchange(fake: &FakeGcp, assertion: &str) -> (u16, Value) {
    let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    let request = reqwest::Client::new()
        .post(format!("{}/token", fake.endpoint()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// An assertion as RFC 7523 has it, signed with the file's key.
fn signed(file: &Value, audience: &str, scope: Option<&str>) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let mut claims = json!({"iss": file["client_email"], "aud": audience, "iat": now, "exp": now + 3600});
    if let Some(scope) = scope {
        claims["scope"] = scope.into();
    }
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": file["private_key_id"]});
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let pem = file["private_key"].as_str().expect("text").lines().filter(|line| !line.starts_with("-----"));
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem.collect::<String>()).expect("base64")).expect("a key");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("a signature");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

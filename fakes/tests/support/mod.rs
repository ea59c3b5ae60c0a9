//! What the tests share. Each test file is a program of its own and uses a part of it.
#![allow(dead_code, missing_docs)]

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::{DecryptResponse, EncryptResponse};
use ocicrypt_kms_fakes::gcp::FakeGcp;

pub const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
pub const OTHER: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/other";

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fake with both keys.
pub fn fake() -> FakeGcp {
    let fake = FakeGcp::start();
    fake.add_key(KEY);
    fake.add_key(OTHER);
    fake
}

/// Google's client library, with no credentials.
pub async fn client(fake: &FakeGcp) -> KeyManagementService {
    client_as(fake, anonymous::Builder::new().build()).await
}

pub async fn client_as(fake: &FakeGcp, credentials: Credentials) -> KeyManagementService {
    KeyManagementService::builder()
        .with_endpoint(fake.endpoint())
        .with_credentials(credentials)
        .with_retry_policy(NeverRetry)
        .build()
        .await
        .expect("a client")
}

pub fn crc(data: &[u8]) -> i64 {
    i64::from(crc32c::crc32c(data))
}

pub async fn encrypt(client: &KeyManagementService, name: &str, plaintext: &[u8], aad: &[u8]) -> Result<EncryptResponse> {
    client
        .encrypt()
        .set_name(name)
        .set_plaintext(plaintext.to_vec())
        .set_plaintext_crc32c(crc(plaintext))
        .set_additional_authenticated_data(aad.to_vec())
        .set_additional_authenticated_data_crc32c(crc(aad))
        .send()
        .await
}

pub async fn decrypt(client: &KeyManagementService, name: &str, ciphertext: &[u8], aad: &[u8]) -> Result<DecryptResponse> {
    client
        .decrypt()
        .set_name(name)
        .set_ciphertext(ciphertext.to_vec())
        .set_ciphertext_crc32c(crc(ciphertext))
        .set_additional_authenticated_data(aad.to_vec())
        .set_additional_authenticated_data_crc32c(crc(aad))
        .send()
        .await
}

/// The code and the message of an error that the service answered with.
pub fn refusal<T: std::fmt::Debug>(result: Result<T>) -> (Code, String) {
    let error = result.expect_err("a refusal");
    let status = error.status().unwrap_or_else(|| panic!("an error of the service: {error:?}"));
    (status.code, status.message.clone())
}

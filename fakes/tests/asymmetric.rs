//! Google's own client library reads public keys of the fake and decrypts with it, and what others encrypt with such a key is decrypted.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use google_cloud_gax::error::rpc::Code;
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionAlgorithm;
use google_cloud_kms_v1::model::{AsymmetricDecryptResponse, PublicKey};
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use support::{Result, client, crc, refusal};

const RSA: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/rsa";
const SHA256: &str = "RSA_DECRYPT_OAEP_2048_SHA256";

fn version(number: usize) -> String {
    format!("{RSA}/cryptoKeyVersions/{number}")
}

fn fake(algorithm: &str) -> FakeGcp {
    let fake = FakeGcp::start();
    assert_eq!(fake.add_asymmetric_version(RSA, algorithm), 1);
    fake
}

async fn public_key(client: &KeyManagementService, number: usize) -> Result<PublicKey> {
    client.get_public_key().set_name(version(number)).send().await
}

async fn decrypt(client: &KeyManagementService, number: usize, ciphertext: &[u8]) -> Result<AsymmetricDecryptResponse> {
    let request = client.asymmetric_decrypt().set_name(version(number)).set_ciphertext(ciphertext.to_vec());
    request.set_ciphertext_crc32c(crc(ciphertext)).send().await
}

/// What openssl makes of it.
fn openssl_encrypt(pem: &str, digest: &str, plaintext: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key.pem");
    std::fs::write(&key, pem).expect("a file");
    let mut child = Command::new("openssl")
        .args(["pkeyutl", "-encrypt", "-pubin", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt"])
        .args([&format!("rsa_oaep_md:{digest}"), "-pkeyopt", &format!("rsa_mgf1_md:{digest}"), "-inkey"])
        .arg(&key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("openssl: {error}; run `tools/setup test`"));
    child.stdin.take().expect("a pipe").write_all(plaintext).expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    output.stdout
}

#[tokio::test]
async fn googles_client_reads_the_public_key_and_decrypts_what_openssl_encrypted_with_it() {
    let table = [
        (SHA256, "sha256", CryptoKeyVersionAlgorithm::RsaDecryptOaep2048Sha256),
        ("RSA_DECRYPT_OAEP_2048_SHA1", "sha1", CryptoKeyVersionAlgorithm::RsaDecryptOaep2048Sha1),
        ("RSA_DECRYPT_OAEP_4096_SHA512", "sha512", CryptoKeyVersionAlgorithm::RsaDecryptOaep4096Sha512),
    ];
    for (algorithm, digest, value) in table {
        let fake = fake(algorithm);
        let client = client(&fake).await;
        let key = public_key(&client, 1).await.expect("a public key");
        assert_eq!((key.name, key.algorithm), (version(1), value));
        assert_eq!(key.pem_crc32c, Some(crc(key.pem.as_bytes())));
        let answer = decrypt(&client, 1, &openssl_encrypt(&key.pem, digest, b"secret")).await.expect("it decrypts");
        assert_eq!(answer.plaintext.as_ref(), b"secret");
        assert_eq!(answer.plaintext_crc32c, Some(crc(b"secret")));
        assert!(answer.verified_ciphertext_crc32c);
    }
}

#[tokio::test]
async fn a_ciphertext_that_is_not_the_versions_is_refused() {
    let fake = fake(SHA256);
    fake.add_asymmetric_version(RSA, SHA256);
    let client = client(&fake).await;
    let pem = public_key(&client, 2).await.expect("a public key").pem;
    let ciphertext = openssl_encrypt(&pem, "sha256", b"secret");
    assert!(decrypt(&client, 2, &ciphertext).await.is_ok());
    assert_eq!(refusal(decrypt(&client, 1, &ciphertext).await).0, Code::InvalidArgument);
    assert_eq!(refusal(decrypt(&client, 2, &ciphertext[1..]).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn versions_that_are_missing_disabled_or_denied_are_refused() {
    let fake = fake(SHA256);
    let client = client(&fake).await;
    assert_eq!(refusal(public_key(&client, 2).await).0, Code::NotFound);
    fake.disable_asymmetric_version(RSA, 1);
    assert_eq!(refusal(public_key(&client, 1).await).0, Code::FailedPrecondition);
    assert_eq!(refusal(decrypt(&client, 1, b"x").await).0, Code::FailedPrecondition);
    fake.deny(RSA);
    let (code, message) = refusal(public_key(&client, 1).await);
    assert!(code == Code::PermissionDenied && message.contains("cloudkms.cryptoKeyVersions.viewPublicKey"), "{message}");
    let (code, message) = refusal(decrypt(&client, 1, b"x").await);
    assert!(code == Code::PermissionDenied && message.contains("cloudkms.cryptoKeyVersions.useToDecrypt"), "{message}");
}

#[tokio::test]
async fn what_an_answer_says_of_its_integrity_can_be_wrong_or_missing() {
    let fake = fake(SHA256);
    let client = client(&fake).await;
    let pem = public_key(&client, 1).await.expect("a public key").pem;
    let ciphertext = openssl_encrypt(&pem, "sha256", b"secret");

    fake.fault(Fault::WrongChecksum.times(2));
    assert_ne!(public_key(&client, 1).await.expect("an answer").pem_crc32c, Some(crc(pem.as_bytes())));
    assert_ne!(decrypt(&client, 1, &ciphertext).await.expect("an answer").plaintext_crc32c, Some(crc(b"secret")));
    fake.fault(Fault::CiphertextNotVerified);
    assert!(!decrypt(&client, 1, &ciphertext).await.expect("an answer").verified_ciphertext_crc32c);
    fake.fault(Fault::Pem("another".into()));
    let key = public_key(&client, 1).await.expect("an answer");
    assert_eq!((key.pem.as_str(), key.pem_crc32c), ("another", Some(crc(b"another"))));
}

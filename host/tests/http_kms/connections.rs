//! Certificates, and the files that credentials are in.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_testing::certificates::{Authority, Issued};
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::stage::{Asks, RULES, Stage, secret};

const WRAPS: &str = "POST /v1/encrypt/team/k";

/// A service that takes clients of this authority alone.
fn mutual(server: &Issued, clients: &Authority) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

#[test]
fn a_client_certificate_is_a_credential() {
    let (authority, other) = (Authority::new("services"), Authority::new("others"));
    let config = mutual(&authority.server("localhost"), &authority);
    let server = Scripted::with_tls(config, |_, _| Reply::new(200, "done"));
    let url = server.address().replace("127.0.0.1", "localhost");
    let told = |client: &Issued, trusted: &Authority| {
        let folder = tempfile::tempdir().unwrap();
        let key = secret(folder.path(), "client.key", &client.key);
        let (certificate, authorities) = (folder.path().join("client.pem"), folder.path().join("ca.pem"));
        std::fs::write(&certificate, &client.certificate).unwrap();
        std::fs::write(&authorities, trusted.certificate()).unwrap();
        let files = format!("ca-file = {authorities:?}\nclient-certificate = {certificate:?}\nclient-key = {key:?}\n{RULES}");
        Stage::with(&url, |_| files).wrap(Asks::send(WRAPS)).unwrap()
    };
    let client = authority.client("host", &[]);
    let answered = told(&client, &authority);
    assert!(answered.contains("200 [] done"), "{answered}");
    assert!(server.requests()[0].headers("authorization").is_empty());
    for refused in [told(&other.client("host", &[]), &authority), told(&client, &other)] {
        assert!(refused.contains("Unavailable("), "{refused}");
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_credential_that_others_could_read_is_refused() {
    let server = Scripted::start(|_, _| Reply::new(200, "done"));
    let stage = Stage::new(&server.address());
    let token = stage.folder.path().join("token");
    // 0640 is for a file of root's: `trusted_files.rs`.
    for mode in [0o604, 0o644, 0o620] {
        std::fs::set_permissions(&token, Permissions::from_mode(mode)).unwrap();
        let told = stage.wrap(Asks::send(WRAPS)).unwrap();
        assert!(told.contains("InvalidInput(") && told.contains(&format!("{mode:04o}")) && told.contains("chmod go-"), "{told}");
    }
    assert_eq!(server.connections(), 0);
    std::fs::set_permissions(&token, Permissions::from_mode(0o400)).unwrap();
    assert!(stage.wrap(Asks::send(WRAPS)).unwrap().contains("200 [] done"));
}

#[test]
fn a_credential_that_is_none_is_refused_and_a_new_one_is_taken() {
    let server = Scripted::start(|_, _| Reply::new(200, "done"));
    let stage = Stage::new(&server.address());
    for content in ["", "\n", "two words", "a\r\nhost: evil.example", "caf\u{e9}"] {
        secret(stage.folder.path(), "token", content);
        let told = stage.wrap(Asks::send(WRAPS)).unwrap();
        assert!(told.contains("one line of printable ASCII") && !told.contains("evil"), "{told}");
    }
    assert_eq!(server.connections(), 0);
    for token in ["first", "second"] {
        secret(stage.folder.path(), "token", token);
        stage.wrap(Asks::send(WRAPS)).unwrap();
        assert_eq!(server.requests().last().unwrap().headers("authorization"), [format!("Bearer {token}")]);
    }
}

#[test]
fn nothing_is_read_before_a_request_is_made() {
    let missing = |_: &std::path::Path| {
        format!("ca-file = '/nonexistent/ca'\nclient-certificate = '/nonexistent/c'\nclient-key = '/nonexistent/k'\n{RULES}")
    };
    let stage = Stage::with("https://kms.example", missing);
    assert!(stage.wrap(Asks::default()).unwrap().contains("EndpointInfo"));
    let error = stage.wrap(Asks { report: "unavailable", ..Asks::send(WRAPS) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Component, "it is no matter of the network: {}", error.line());
    assert!(stage.records().iter().any(|record| record["error"].as_str().is_some_and(|error| error.contains("/nonexistent/k"))));
}

//! Mutual TLS: who gets in, who they are, and certificates that are replaced while the server runs.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates::{Authority, Issued};
use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::Program;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::client::{call, runtime};
use super::observing::{get, metrics_of};
use super::serving::{Serving, user, user_with};

const TEAM: &[&str] = &["local://team"];

/// A server for `localhost` on TCP, whose certificates come from `authority`, as must its clients'.
pub fn serve(user: &Program, authority: &Authority) -> Serving {
    let (certificate, key) = authority.server("localhost").write(user.home(), "server");
    let ca = user.write("ca.pem", authority.certificate());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let files = [text(&certificate), text(&key), text(&ca)];
    Serving::start(user, &["--listen", "tcp://localhost:0", "--tls-cert", &files[0], "--tls-key", &files[1], "--client-ca", &files[2]])
}

/// A connection of a client that trusts this authority, with this certificate.
async fn connect(server: &Serving, trusted: &Authority, client: Option<&Issued>) -> Result<Channel, tonic::transport::Error> {
    let port = server.addresses[0].rsplit_once(':').unwrap().1;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.certificate())).domain_name("localhost");
    let tls = match client {
        Some(client) => tls.identity(Identity::from_pem(&client.certificate, &client.key)),
        None => tls,
    };
    Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(tls)?.connect().await
}

pub async fn wrap(server: &Serving, trusted: &Authority, client: Option<&Issued>) -> Result<Vec<u8>, String> {
    let channel = connect(server, trusted, client).await.map_err(|error| format!("{error:?}"))?;
    call(&channel, "WrapKey", &wrapping(TEAM)).await.map_err(|status| status.to_string())
}

#[test]
fn a_client_is_known_by_the_names_in_its_certificate() {
    let (user, authority) = (user(), Authority::new("ca"));
    let server = serve(&user, &authority);
    let named = [
        ("spiffe://example/ns/build", authority.client("build", &["spiffe://example/ns/build"])),
        ("subject:CN=node", authority.client("node", &[])),
        // Two URIs are no SPIFFE id.
        ("subject:CN=two", authority.client("two", &["spiffe://example/a", "spiffe://example/b"])),
    ];
    for (name, client) in &named {
        runtime().block_on(wrap(&server, &authority, Some(client))).unwrap();
        server.wait_until(name, |line| line["message"] == "done" && line["caller"] == *name);
    }
}

#[test]
fn a_client_without_a_certificate_of_the_right_authority_does_not_get_in() {
    let (user, authority, other) = (user(), Authority::new("ca"), Authority::new("other"));
    let server = serve(&user, &authority);
    runtime().block_on(async {
        let error = wrap(&server, &authority, None).await.unwrap_err();
        assert!(error.contains("CertificateRequired") || error.contains("BrokenPipe") || error.contains("transport"), "{error}");
        wrap(&server, &authority, Some(&other.client("node", &[]))).await.unwrap_err();
        // A server's certificate is no client's.
        wrap(&server, &authority, Some(&authority.server("node"))).await.unwrap_err();
        wrap(&server, &authority, Some(&authority.client("node", &[]))).await.unwrap();
    });
    assert_eq!(server.logged().iter().filter(|line| line["message"] == "done").count(), 1);
    assert!(server.logged().iter().filter(|line| line["message"] == "no TLS with a client").count() >= 3);
}

#[test]
fn certificates_are_replaced_under_load_without_a_failure() {
    let (user, old, new) = (user(), Authority::new("old"), Authority::new("new"));
    let server = serve(&user, &old);
    let client = old.client("node", &[]);
    let (replaced, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    let renewed = || server.logged().iter().filter(|line| line["message"] == "new connections get the new certificates").count();
    runtime().block_on(async {
        let standing = connect(&server, &old, Some(&client)).await.unwrap();
        let load = async {
            while !replaced.load(Ordering::Relaxed) {
                call(&standing, "WrapKey", &wrapping(TEAM)).await.unwrap();
                wrap(&server, &old, Some(&client)).await.unwrap();
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        };
        let replacing = async {
            for round in 1..=3 {
                old.server("localhost").write(user.home(), "server");
                let begun = Instant::now();
                while renewed() < round {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", server.logged());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            replaced.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, replacing);
        assert!(exchanges.load(Ordering::Relaxed) > 10);

        // Another authority for server and clients: who has a connection keeps it, who comes anew must be of the new one.
        user.write("ca.pem", new.certificate());
        new.server("localhost").write(user.home(), "server");
        server.signal("HUP");
        while wrap(&server, &new, Some(&new.client("node", &[]))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(renewed() >= 2);
        let line = server.wait_for("new connections get the new certificates");
        assert!(line["subject"].as_str().unwrap().starts_with("CN=") && line["until"].is_string(), "{line}");
        wrap(&server, &new, Some(&client)).await.unwrap_err();
        call(&standing, "WrapKey", &wrapping(TEAM)).await.unwrap();
    });
}

#[test]
fn clients_that_tls_refuses_and_the_certificates_end_are_counted() {
    let (user, authority) = (user_with("[server]\nmetrics = \"127.0.0.1:0\"\n"), Authority::new("ca"));
    let server = serve(&user, &authority);
    // One connection, where tonic's client may try again.
    openssl(&server, &user, None, &[]);
    server.wait_for("no TLS with a client");
    let (_, text) = get(&metrics_of(&server), "/metrics");
    assert!(text.lines().any(|line| line == "ocicrypt_kms_tls_refusals_total 1"), "{text}");
    let end = text.lines().find_map(|line| line.strip_prefix("ocicrypt_kms_certificate_not_after_timestamp_seconds ")).expect(&text);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(end.parse::<f64>().unwrap() > now.as_secs_f64());
}

#[test]
fn files_that_do_not_fit_together_leave_the_old_ones_in_place() {
    let (user, authority) = (user(), Authority::new("ca"));
    let server = serve(&user, &authority);
    user.write("server.key", authority.server("localhost").key);
    let line = server.wait_for("the certificates stay as they were");
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("server.key: the file can't be used for TLS: it is not the key of ") && error.contains("server.crt"), "{line}");
    runtime().block_on(wrap(&server, &authority, Some(&authority.client("node", &[])))).unwrap();
}

/// openssl's client, for which `ca.pem` is the server's authority, with this certificate.
fn openssl(server: &Serving, user: &Program, client: Option<&Issued>, more: &[&str]) {
    let port = server.addresses[0].rsplit_once(':').unwrap().1;
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("localhost:{port}"), "-verify_return_error", "-CAfile"]).arg(user.home().join("ca.pem"));
    if let Some(client) = client {
        let (certificate, key) = client.write(user.home(), "client");
        command.arg("-cert").arg(certificate).arg("-key").arg(key);
    }
    let (stdout, stderr) = (Stdio::null(), Stdio::null());
    command.args(more).stdin(Stdio::null()).stdout(stdout).stderr(stderr).status().expect("run `tools/setup test`");
}

#[test]
fn the_log_says_of_clients_that_tls_refuses_what_the_documentation_lists() {
    let (user, authority, other) = (user(), Authority::new("ca"), Authority::new("other"));
    let server = serve(&user, &authority);
    let tcp = || TcpStream::connect(server.addresses[0].strip_prefix("tcp://").unwrap()).unwrap();
    let silent = tcp();
    let silent_from = silent.local_addr().unwrap().to_string();
    let is_refusal = |line: &serde_json::Value| line["message"] == "no TLS with a client";

    let good = authority.client("node", &[]);
    let strange = user.write("strange.pem", other.certificate());
    let strange = ["-CAfile", strange.to_str().unwrap()];
    let with = |client: &Issued| openssl(&server, &user, Some(client), &[]);
    let saying = |more: &[&str]| openssl(&server, &user, Some(&good), more);
    let cases: [(&str, &dyn Fn()); 14] = [
        ("peer sent no certificates", &|| openssl(&server, &user, None, &[])),
        ("invalid peer certificate: UnknownIssuer", &|| with(&other.client("node", &[]))),
        ("invalid peer certificate: BadSignature", &|| with(&Authority::new("ca").client("node", &[]))),
        ("invalid peer certificate: certificate expired", &|| with(&authority.client_until("node", 2020))),
        ("invalid peer certificate: certificate not valid yet", &|| with(&authority.client_from("node", 2999))),
        ("invalid peer certificate: certificate does not allow extended key usage", &|| with(&authority.server("node"))),
        ("received fatal alert: UnknownCA", &|| saying(&strange)),
        ("received fatal alert: BadCertificate", &|| saying(&["-verify_hostname", "another"])),
        ("peer is incompatible: SignatureAlgorithmsExtensionRequired", &|| saying(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])),
        ("peer is incompatible: NoCipherSuitesInCommon", &|| saying(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"])),
        ("peer is incompatible: NoKxGroupsInCommon", &|| saying(&["-tls1_2", "-cipher", "AES128-SHA"])),
        ("peer doesn't support any known protocol", &|| saying(&["-alpn", "http/1.1"])),
        ("received corrupt message of type InvalidContentType", &|| tcp().write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap()),
        ("tls handshake eof", &|| drop(tcp())),
    ];
    let documentation = include_str!("../../../docs/server.md");
    let assert_listed = |reason: &str, line: &serde_json::Value| {
        assert!(line["level"] == "INFO" && line["error"].as_str().unwrap().starts_with(reason), "{reason}: {line}");
        assert!(documentation.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{reason}"))), "{reason} is not listed");
    };
    let mut seen = vec![silent_from.as_str().into()];
    for (reason, connect) in cases {
        connect();
        let line = server.wait_until(reason, |line| is_refusal(line) && !seen.contains(&line["from"]));
        assert_listed(reason, &line);
        seen.push(line["from"].clone());
    }
    assert_listed("timed out", &server.wait_until("silence", |line| is_refusal(line) && line["from"] == silent_from.as_str()));
    // With a good certificate there is nothing to say.
    runtime().block_on(wrap(&server, &authority, Some(&good))).unwrap();
    assert_eq!(server.logged().iter().filter(|line| is_refusal(line)).count(), seen.len());
}

//! Mutual TLS: who gets in, who they are, and certificates that are replaced while the server runs.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates::{Authority, Issued, Name, self_signed};
use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::Program;
use tonic::transport::Channel;

use super::client::{call, over_tls, runtime};
use super::observing::{get, metrics_of};
use super::serving::{Serving, user, user_with};

const TEAM: &[&str] = &["local://team"];

/// A server for `localhost` on TCP, whose certificates come from `authority`, as must its clients'.
pub fn serve(user: &Program, authority: &Authority) -> Serving {
    serve_with(user, authority, "json")
}

fn serve_with(user: &Program, authority: &Authority, format: &str) -> Serving {
    serve_for(user, authority, &authority.certificate(), format)
}

/// The same for clients of whoever is in `client_ca`.
fn serve_for(user: &Program, authority: &Authority, client_ca: &str, format: &str) -> Serving {
    let (certificate, key) = authority.server("localhost").write(user.home(), "server");
    let ca = user.write("ca.pem", client_ca);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let files = [text(&certificate), text(&key), text(&ca)];
    let arguments = ["--listen", "tcp://localhost:0", "--tls-cert", &files[0], "--tls-key", &files[1], "--client-ca", &files[2]];
    Serving::spawn(user.command(&[&["serve", "--log-format", format], &arguments[..]].concat()))
}

/// A connection of a client that trusts this authority, with this certificate.
pub async fn connect(server: &Serving, trusted: &Authority, client: Option<&Issued>) -> Result<Channel, tonic::transport::Error> {
    over_tls(&server.addresses[0], &trusted.certificate(), client).await
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
        // One attribute, which reads as two where nothing is escaped.
        ("subject:CN=node\\, O=admins", authority.client("node, O=admins", &[])),
        ("dns:node.example", authority.client_with_dns("other", &["Node.example"])),
    ];
    for (name, client) in &named {
        runtime().block_on(wrap(&server, &authority, Some(client))).unwrap();
        server.wait_until(name, |line| line["message"] == "done" && line["caller"] == *name);
    }
}

/// As a server's own such a certificate is taken, where a file holds it: `wrong_setups/transport.rs`.
#[test]
fn a_certificate_that_vouches_for_itself_is_no_clients_although_client_ca_holds_it() {
    let (user, authority, client) = (user(), Authority::new("ca"), self_signed("node", |_| {}));
    let server = serve_for(&user, &authority, &(authority.certificate() + &client.certificate), "json");
    runtime().block_on(async {
        wrap(&server, &authority, Some(&client)).await.unwrap_err();
        wrap(&server, &authority, Some(&authority.client("node", &[]))).await.unwrap();
    });
    let line = server.wait_until("refusal", |line| line["message"] == "no TLS with a client");
    assert!(line["error"].as_str().unwrap().contains("CaUsedAsEndEntity"), "{line}");
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

        // Another authority for server and clients: who has a connection of the old one loses it, who comes anew must be of the new one.
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
        server.wait_for("a connection is closed: its certificate is not valid any more");
        call(&standing, "WrapKey", &wrapping(TEAM)).await.unwrap_err();
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
    let cases: [(&str, &dyn Fn()); 15] = [
        ("peer sent no certificates", &|| openssl(&server, &user, None, &[])),
        ("invalid peer certificate: UnknownIssuer", &|| with(&other.client("node", &[]))),
        ("invalid peer certificate: BadSignature", &|| with(&Authority::new("ca").client("node", &[]))),
        ("invalid peer certificate: certificate expired", &|| with(&authority.client_until("node", 2020))),
        ("invalid peer certificate: certificate not valid yet", &|| with(&authority.client_from("node", 2999))),
        ("invalid peer certificate: certificate does not allow extended key usage", &|| with(&authority.server("node"))),
        ("the client's certificate names nobody: ", &|| with(&authority.client("two\nlines", &[]))),
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

/// What is signed by an authority that is trusted, but names nobody exactly, gets no exchange by another name either.
#[test]
fn a_certificate_whose_names_can_not_be_taken_exactly_gets_no_exchange_and_the_log_says_why() {
    let (user, authority) = (user(), Authority::new("ca"));
    let server = serve(&user, &authority);
    let dns = |name: &str| Name::DnsName(name.try_into().unwrap());
    let uri = |name: &str| Name::URI(name.try_into().unwrap());
    let subject = |name: &str| authority.client(name, &[]);
    let named = |names: Vec<Name>| authority.client_named("node", names);
    let cases = [
        ("its subject has a character that controls or reorders text", subject("a\nb")),
        ("its subject has a character that controls or reorders text", subject("a\u{1b}[2Jb")),
        ("its subject has a character that controls or reorders text", subject("a\0b")),
        ("its subject has a character that controls or reorders text", subject("a\u{202e}b")),
        ("its subject is longer than 1024 bytes", subject(&"x".repeat(1100))),
        ("one of its DNS names is none", named(vec![dns("good.example"), dns("bad\n.example")])),
        ("one of its DNS names is none", named(vec![dns("good.example"), dns("bad\u{0}.example")])),
        ("one of its DNS names is none", named(vec![dns(&["x"; 128].join("."))])),
        ("one of its URIs is none", named(vec![uri(&format!("spiffe://example.org/{}", "x".repeat(2048)))])),
        ("its SPIFFE id is none", named(vec![uri("spiffe://Example.org/ns")])),
        ("its SPIFFE id is none", named(vec![uri("spiffe://example.org")])),
        ("it has another URI beside a SPIFFE id", named(vec![uri("spiffe://example.org/a"), uri("spiffe://example.org/b")])),
        ("it has more than 16 DNS names and URIs", named((0..17).map(|index| dns(&format!("node-{index}"))).collect())),
    ];
    for (index, (reason, client)) in cases.iter().enumerate() {
        runtime().block_on(wrap(&server, &authority, Some(client))).unwrap_err();
        let refusals = || -> Vec<_> {
            let lines = server.logged().into_iter().filter(|line| line["message"] == "no TLS with a client");
            lines.map(|line| line["error"].as_str().unwrap().to_owned()).collect()
        };
        let begun = Instant::now();
        while !refusals().iter().any(|error| error.starts_with(&format!("the client's certificate names nobody: {reason}"))) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{index}: {reason}: {:?}", refusals());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(!server.logged().iter().any(|line| line["message"] == "done"));
}

/// A line for people has fields after one another: a name can't bring some of its own.
#[test]
fn no_name_of_a_certificate_writes_into_the_text_log() {
    let (user, authority) = (user(), Authority::new("ca"));
    let forged = "x\" caller=uid:0 key=\"local://root\" \\";
    let plain = serve_with(&user, &authority, "text");
    let wrapped = |name: &str| runtime().block_on(wrap(&plain, &authority, Some(&authority.client(name, &[]))));
    wrapped(forged).unwrap();
    for name in ["x\n2026-01-01T00:00:00Z  INFO done caller=\"uid:0\"", "x\u{1b}[1A\u{1b}[2K", "x\u{202e}0:diu=rellac", "x\u{2028}done"] {
        wrapped(name).unwrap_err();
    }
    let done = plain.wait_until("done", |line| line.as_str().is_some_and(|line| line.contains(" done ")));
    let quoted = r#" caller="subject:CN=x\\\" caller=uid:0 key=\\\"local://root\\\" \\\\" key="local://team" "#;
    assert!(done.as_str().unwrap().contains(quoted), "{done}");
    for line in plain.logged() {
        let line = line.as_str().unwrap_or_default();
        assert!(line.starts_with("20") && line.chars().all(|c| !c.is_control() && c != '\u{202e}' && c != '\u{2028}'), "{line}");
        assert!(line.matches("caller=").count() <= 1 || line.contains(quoted), "{line}");
    }
}

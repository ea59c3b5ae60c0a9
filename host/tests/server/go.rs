//! Clients in Go: the library of skopeo, podman, CRI-O and containerd, containerd's own decryption, and containerd's ttrpc.

use std::process::{Command, Output};

use ocicrypt_kms_testing::certificates::{Authority, Issued};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{self, Program, piped, text_of};
use ocicrypt_kms_testing::skopeo::{Skopeo, oci};
use ocicrypt_kms_testing::{go, layout};
use serde_json::{Value, json};

use super::serving::{Serving, socket, user};
use super::tls::serve;

const TEAM: &str = "provider:kmscrypt:local://team";
const LAYER: &[u8] = b"a layer";

/// Runs the Go library as this user, whose ocicrypt.json has this entry.
fn ocicrypt(user: &Program, entry: &Value, arguments: &[&str], input: &[u8]) -> Output {
    let file = user.write("ocicrypt.json", json!({"key-providers": {"kmscrypt": entry}}).to_string());
    let mut command = Command::new(go::program("ocicrypt-client"));
    command.args(arguments);
    user.as_user(&mut command);
    piped(command.env("OCICRYPT_KEYPROVIDER_CONFIG", file), input)
}

fn assert_both_ways(user: &Program, entry: &Value) {
    let wrapped = ocicrypt(user, entry, &["wrap", TEAM], LAYER);
    assert!(wrapped.status.success(), "{}", errors(&wrapped));
    for key in [TEAM, "provider:kmscrypt"] {
        let unwrapped = ocicrypt(user, entry, &["unwrap", key], &wrapped.stdout);
        assert!(unwrapped.status.success() && unwrapped.stdout == LAYER, "{}", errors(&unwrapped));
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The library refuses to connect, or is refused.
fn assert_unavailable(user: &Program, entry: &Value, why: &str) {
    let output = ocicrypt(user, entry, &["wrap", TEAM], LAYER);
    assert!(!output.status.success(), "it should have failed");
    assert!(errors(&output).contains("code = Unavailable") && errors(&output).contains(why), "{}", errors(&output));
}

#[test]
fn the_go_library_works_by_a_unix_socket_and_by_plain_tcp() {
    let user = user();
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--listen", "tcp://127.0.0.1:0", "--insecure-tcp"]);
    for address in &server.addresses {
        assert_both_ways(&user, &json!({"grpc": address.trim_start_matches("tcp://")}));
    }
}

#[test]
fn the_go_library_starts_the_program() {
    assert_both_ways(&user(), &json!({"cmd": {"path": program::path(), "args": []}}));
}

#[test]
fn the_go_library_is_told_what_was_refused() {
    let user = user();
    user.write("config.toml", "keys = [\"local://other\"]\n");
    let _server = Serving::on_socket(&user);
    let output = ocicrypt(&user, &json!({"grpc": socket(&user).1}), &["wrap", TEAM], LAYER);
    assert!(!output.status.success());
    assert!(errors(&output).contains("code = PermissionDenied"), "{}", errors(&output));
}

/// An entry of ocicrypt.json for TLS.
fn entry(user: &Program, server: &Serving, trusted: &Authority, client: Option<&Issued>, name: &str) -> Value {
    let ca = user.write("trusted.pem", trusted.certificate());
    let port = server.addresses[0].rsplit_once(':').unwrap().1;
    let mut tls = json!({"root-ca-file": ca, "server-name": name});
    if let Some(client) = client {
        let (certificate, key) = client.write(user.home(), "client");
        tls["cert-file"] = json!(certificate);
        tls["key-file"] = json!(key);
    }
    json!({"grpc": format!("localhost:{port}"), "grpc-tls": tls})
}

#[test]
fn the_go_library_works_by_mutual_tls_and_by_nothing_less() {
    let (user, authority, other) = (user(), Authority::new("ca"), Authority::new("other"));
    let server = serve(&user, &authority);
    let client = authority.client("node", &["spiffe://example/node"]);
    assert_both_ways(&user, &entry(&user, &server, &authority, Some(&client), "localhost"));
    assert_eq!(server.wait_for("done")["caller"], "spiffe://example/node");

    // What the client says, and what the log says of it: docs/server.md has both.
    let refused = |says: &str, reason: &str, entry: Value| {
        let seen: Vec<_> = server.logged().into_iter().map(|line| line["from"].clone()).collect();
        assert_unavailable(&user, &entry, says);
        let is_new = |line: &Value| line["message"] == "no TLS with a client" && !seen.contains(&line["from"]);
        let line = server.wait_until(reason, is_new);
        assert!(line["error"].as_str().unwrap().starts_with(reason), "{reason}: {line}");
    };
    let (unknown, another) = ("certificate signed by unknown authority", "not other.example");
    let stranger = other.client("node", &[]);
    refused(unknown, "received fatal alert: BadCertificate", entry(&user, &server, &other, Some(&client), "localhost"));
    refused(another, "received fatal alert: BadCertificate", entry(&user, &server, &authority, Some(&client), "other.example"));
    refused("", "peer sent no certificates", entry(&user, &server, &authority, None, "localhost"));
    refused("", "peer sent no certificates", entry(&user, &server, &authority, Some(&stranger), "localhost"));
    let plain = json!({"grpc": server.addresses[0].trim_start_matches("tcp://")});
    refused("", "received corrupt message of type InvalidContentType", plain);
    assert_eq!(server.logged().iter().filter(|line| line["message"] == "failed").count(), 0);
}

#[test]
fn a_go_client_that_dials_for_each_call_loses_none() {
    let user = user();
    let _server = Serving::on_socket(&user);
    let output = ocicrypt(&user, &json!({"grpc": socket(&user).1}), &["loop", "--parallel", "8", "400", TEAM], b"");
    assert!(output.status.success(), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
}

#[test]
fn containerds_ttrpc_understands_ours() {
    let user = user();
    let path = user.home().join("ttrpc.sock");
    let server = Serving::start(&user, &["--listen", &format!("ttrpc+unix://{}", path.display()), "--listen", &socket(&user).1]);
    let call = |method: &str, message: &[u8]| piped(Command::new(go::program("ttrpc-client")).arg(&path).arg(method), message);
    let wrapped = call("WrapKey", &wrapping(&["local://team"]));
    assert!(wrapped.status.success(), "{}", errors(&wrapped));
    let unwrapped = call("UnWrapKey", &unwrapping(&[], &annotation_of(&wrapped.stdout)));
    assert_eq!(opts_data_of(&unwrapped.stdout), OPTS_DATA, "{}", errors(&unwrapped));
    let refused = call("WrapKey", &wrapping(&["local://missing"]));
    assert!(errors(&refused).contains("code = FailedPrecondition") && errors(&refused).contains("local://missing"), "{}", errors(&refused));
    assert!(errors(&call("NoSuchMethod", b"")).contains("Unimplemented"));
    let astray = piped(Command::new(go::program("ttrpc-client")).arg(socket(&user).0).arg("WrapKey"), &wrapping(&["local://team"]));
    assert!(errors(&astray).contains("ttrpc: closed"), "{}", errors(&astray));
    assert_eq!(server.wait_for("done")["caller"], format!("uid:{}", rustix::process::getuid().as_raw()));
}

#[test]
fn containerds_decryption_opens_what_skopeo_encrypted_by_a_server() {
    let user = user();
    let _server = Serving::on_socket(&user);
    let mut skopeo = Skopeo::new();
    skopeo.server("kmscrypt", &socket(&user).1);
    let [original, encrypted] = ["original", "encrypted"].map(|name| skopeo.path(name));
    layout::make(&original, 3);
    skopeo.encrypt(&oci(&original), &oci(&encrypted), &[TEAM]);
    let printed = |key: &str| {
        let mut command = Command::new(go::program("imgcrypt"));
        command.arg(&encrypted).arg(key);
        user.as_user(&mut command);
        text_of(command.env("OCICRYPT_KEYPROVIDER_CONFIG", skopeo.path("ocicrypt.json")))
    };
    for key in [TEAM, "provider:kmscrypt"] {
        assert_eq!(printed(key).lines().collect::<Vec<_>>(), layout::digests(&original));
    }
}

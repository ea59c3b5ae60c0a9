//! Rows "serve" of the table of wrong set-ups.
#![expect(clippy::print_stderr, reason = "what is skipped is said")]

use std::os::unix::fs::PermissionsExt;

use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::messages::{OPTS_DATA, keywrap};
use ocicrypt_kms_testing::program::Program;

use crate::server::client::{call, connect, runtime};
use crate::server::serving::{Serving, socket, user, user_with};

/// A set-up: what is wrong, how it is made (the arguments of `serve`), and what names the thing and the remedy.
struct Row {
    what: &'static str,
    make: fn(&Program) -> Vec<String>,
    says: &'static [&'static str],
}

const fn row(what: &'static str, make: fn(&Program) -> Vec<String>, says: &'static [&'static str]) -> Row {
    Row { what, make, says }
}

fn listen(user: &Program, address: &str) -> Vec<String> {
    vec!["--listen".into(), address.replace("HOME", &user.home().display().to_string())]
}

/// On a socket that is right, with these settings in the configuration.
fn with(user: &Program, settings: &str) -> Vec<String> {
    let settings = settings.replace("HOME", &user.home().display().to_string());
    user.write("config.toml", settings);
    listen(user, "unix://HOME/kms.sock")
}

/// With the files of a certificate and of another one's key.
fn with_files(user: &Program, settings: &str) -> Vec<String> {
    let authority = Authority::new("ca");
    authority.server("kms").write(user.home(), "server");
    authority.server("kms").write(user.home(), "other");
    user.write("ca.pem", authority.certificate());
    with(user, &format!("keys = ['local://*']\n[server]\n{settings}\n"))
}

/// The last line of a server that does not start; before it, it may warn.
fn refused(user: &Program, arguments: &[String]) -> String {
    let arguments: Vec<_> = ["serve"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = user.run(&arguments, b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    text.lines().last().unwrap().to_owned()
}

const ROWS: &[Row] = &[
    row(
        "a regular file at the socket's path",
        |user| {
            user.write("kms.sock", "");
            listen(user, "unix://HOME/kms.sock")
        },
        &["kms.sock can't be listened on: there is a file which is no socket; remove it, or listen elsewhere"],
    ),
    row("--listen without unix://", |user| listen(user, "HOME/kms.sock"), &["is no address to listen on: write unix:///PATH"]),
    row("TCP without TLS", |user| listen(user, "tcp://127.0.0.1:0"), &["give --tls-cert, --tls-key and --client-ca", "--insecure-tcp"]),
    row("a relative path", |user| listen(user, "unix://kms.sock"), &["the path of a Unix socket is absolute and has at most "]),
    row("a long path", |user| listen(user, &format!("unix:///{}", "x".repeat(200))), &["is absolute and has at most 107 bytes"]),
    row("no keys", |user| with(user, ""), &["add `keys = [\"local://*\"]`"]),
    row("a misspelled setting", |user| with(user, "keys = []\n[server]\nmetrcis = ''\n"), &["line 3", "metrcis", "metrics"]),
    row("a wrong type", |user| with(user, "keys = []\n[server]\nmax-exchanges = 'many'\n"), &["line 3", "expected u32"]),
    row("no such group", |user| with(user, "keys = ['local://*']\n[server]\ngroup = 'nosuch'\n"), &["there is no group `nosuch`"]),
    row(
        "a file of TLS is missing",
        |user| with_files(user, "tls-cert = 'HOME/server.pem'\ntls-key = '/nope/key'\nclient-ca = 'HOME/ca.pem'"),
        &["can't be used for TLS: "],
    ),
    row(
        "only one file of TLS",
        |user| with_files(user, "tls-key = 'HOME/server.key'"),
        &["`client-ca` belong together: give all three or none"],
    ),
    row(
        "a configuration that others can write",
        |user| {
            let arguments = with(user, "keys = ['local://*']\n");
            std::fs::set_permissions(user.home().join("config.toml"), PermissionsExt::from_mode(0o646)).unwrap();
            arguments
        },
        &["its mode is 0646, so others could change it", "chmod go-w "],
    ),
];

#[test]
fn what_is_wrong_with_a_server_is_named_with_its_remedy() {
    for Row { what, make, says } in ROWS {
        let user = user();
        let arguments = make(&user);
        let line = refused(&user, &arguments);
        assert!(says.iter().all(|says| line.contains(says)), "{what}: {line}");
    }
}

#[test]
fn a_place_that_is_taken_is_named() {
    let user = user();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let _server = Serving::on_socket(&user);
    let other = format!("unix://{}/other.sock", user.home().display());
    for (arguments, says) in [
        (vec!["--listen".to_owned(), socket(&user).1], "another process listens there; stop it, or listen elsewhere"),
        (vec!["--listen".into(), format!("tcp://{address}"), "--insecure-tcp".into()], "can't be listened on: Address already in use"),
        (vec!["--listen".into(), other, "--metrics".into(), address.clone()], "can't be listened on: Address already in use"),
    ] {
        let line = refused(&user, &arguments);
        assert!(line.contains(says), "{line}");
    }
}

#[test]
fn two_names_at_one_socket_need_two_servers() {
    let user = user_with("provider = 'one'\n");
    let config = std::fs::read_to_string(user.home().join("config.toml")).unwrap();
    user.write("config.toml", config.replace("provider = 'one'\n", ""));
    let _server = Serving::on_socket(&user);
    let both: &[(&str, &[&str])] = &[("one", &["local://team"]), ("two", &["local://team"])];
    let status = runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        call(&channel, "WrapKey", &keywrap(both, OPTS_DATA)).await.unwrap_err()
    });
    let line = status.message();
    assert!(line.contains("one, two") && line.contains("`grpc` or `ttrpc` entry needs a server and a socket of its own"), "{line}");
    assert!(line.ends_with("ocicrypt-kms serve --provider NAME --listen unix:///PATH"), "{line}");
}

/// Another row, that of Python's client, is in `server/grpc_clients.rs`.
#[test]
fn a_client_of_another_user_is_told_of_the_group() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can be another user");
        return;
    }
    let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let path = folder.path().join("kms.sock");
    let user = user();
    let _server = Serving::start(&user, &["--listen", &format!("unix://{}", path.display())]);
    let file = folder.path().join("ocicrypt.json");
    std::fs::write(&file, format!(r#"{{"key-providers":{{"kmscrypt":{{"grpc":"unix://{}"}}}}}}"#, path.display())).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let program = folder.path().join("ocicrypt-kms");
    std::fs::copy(ocicrypt_kms_testing::program::path(), &program).unwrap();
    let mut other = std::process::Command::new("setpriv");
    other.args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(program).arg("doctor").current_dir("/");
    let output = ocicrypt_kms_testing::program::run(other.env("OCICRYPT_KEYPROVIDER_CONFIG", file).env("HOME", "/nonexistent"));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(
        report.contains("this user may not connect") && report.contains("run doctor as the client's user, and see `group`"),
        "{report}"
    );
}

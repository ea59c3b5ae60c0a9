//! `ocicrypt-kms doctor` about services: the entry of ocicrypt.json that names one, and the settings of one.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates;
use ocicrypt_kms_testing::program;
use ocicrypt_kms_testing::program::Program;
use serde_json::{Value, json};

/// What doctor says, and its exit code.
fn doctor(user: &Program, arguments: &[&str]) -> (String, i32) {
    let output = user.run(&[arguments, &["doctor"]].concat(), b"");
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

/// A user whose container tools have this entry for `kmscrypt`.
fn with_entry(entry: &Value) -> Program {
    with_providers(&json!({ "kmscrypt": entry }))
}

fn with_providers(providers: &Value) -> Program {
    let mut user = Program::new();
    user.set("OCICRYPT_KEYPROVIDER_CONFIG", user.write("ocicrypt.json", json!({ "key-providers": providers }).to_string()));
    user
}

/// The one line about this.
fn line(text: &str, what: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| line.get(8..).is_some_and(|line| line.starts_with(&format!("{what}: ")))).collect();
    assert_eq!(lines.len(), 1, "{what}: {text}");
    lines[0].to_owned()
}

#[test]
fn a_service_that_listens_is_one_by_grpc_and_by_ttrpc() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.sock");
    let _unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (path, port) = (path.display(), tcp.local_addr().unwrap().port());
    for (way, address) in [
        ("grpc", format!("unix://{path}")),
        ("grpc", format!("unix:{path}")),
        ("grpc", format!("127.0.0.1:{port}")),
        ("grpc", format!("localhost:{port}")),
        ("grpc", format!("dns:///localhost:{port}")),
        ("grpc", format!("http://127.0.0.1:{port}")),
        ("grpc", format!("tcp://127.0.0.1:{port}")),
        ("ttrpc", format!("unix://{path}")),
    ] {
        let (text, code) = doctor(&with_entry(&json!({ way: address })), &[]);
        let line = line(&text, "ocicrypt.json");
        let without = if address.contains("unix:") { "" } else { ", and clients use no TLS" };
        let says = format!("`kmscrypt` is the service at {address} by {way}; somebody listens there{without}; clients find it as ");
        assert!(line.starts_with("ok      ") && line.contains(&says) && code == 0, "{text}");
    }
}

#[test]
fn a_member_that_no_client_knows_is_a_problem_that_names_those_they_know() {
    let (text, code) = doctor(&with_entry(&json!({"grpc": "unix:///nowhere/kms.sock", "grpc_tls": {}})), &[]);
    let line = line(&text, "entry in ocicrypt.json");
    assert!(line.starts_with("PROBLEM ") && line.contains("`grpc_tls`") && line.contains("grpc, grpc-tls, ttrpc") && code == 1, "{text}");
}

#[test]
fn what_belongs_to_a_service_is_no_problem_of_its_clients() {
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("kms.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let user = with_entry(&json!({ "grpc": format!("unix://{}", path.display()) }));
    assert!(user.run(&["keygen", "team"], b"").status.success());
    let key = user.home().join("keys/team.jwks");
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    user.write("audit.jsonl", "no log");
    let config = user.write("config.toml", "[audit]\nfile = 'audit.jsonl'\n").display().to_string();
    let (text, code) = doctor(&user, &["--config", &config]);
    assert!(line(&text, "local keystore").starts_with("note    ") && !text.contains("audit log: ") && code == 0, "{text}");
    let output = user.run(&["--config", &config, "doctor", "local://team"], b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(line(&text, "local keystore").starts_with("PROBLEM ") && line(&text, "audit log").starts_with("PROBLEM "), "{text}");
}

#[test]
fn a_service_that_does_not_listen_is_a_problem_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.sock");
    let left = folder.path().join("left.sock");
    drop(UnixListener::bind(&left).unwrap());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (gone, left) = (gone.display(), left.display());
    for (way, address, listen) in [
        ("grpc", format!("unix://{gone}"), format!("--listen unix://{gone}`")),
        ("grpc", format!("unix://{left}"), format!("--listen unix://{left}`")),
        ("ttrpc", format!("unix://{gone}"), format!("--listen ttrpc+unix://{gone}`")),
        ("grpc", closed.to_string(), "`ocicrypt-kms serve` there".into()),
    ] {
        let (text, code) = doctor(&with_entry(&json!({ way: address })), &[]);
        let line = line(&text, "ocicrypt.json");
        let says = format!("`kmscrypt` is the service at {address} by {way}, and nobody listens there: ");
        assert!(line.starts_with("PROBLEM ") && line.contains(&says) && line.contains(&listen) && code == 1, "{text}");
    }
}

#[test]
fn a_service_that_takes_no_connection_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _runtime = runtime.enter();
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _full = socket.listen(0).unwrap();
    let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let begin = Instant::now();
    let (text, code) = doctor(&with_entry(&json!({"grpc": format!("unix://{}", path.display())})), &[]);
    let line = line(&text, "ocicrypt.json");
    assert!(line.starts_with("PROBLEM ") && line.contains("no answer within 2 seconds") && code == 1, "{text}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn an_address_that_can_not_be_judged_is_not_tried() {
    for (way, address) in [
        ("grpc", "unix-abstract:kms"),
        ("grpc", "unix:kms.sock"),
        ("grpc", "dns://9.9.9.9/kms.example:1"),
        ("grpc", "kms.example"),
        ("grpc", "https://kms.example:1"),
        ("ttrpc", "vsock://2:1024"),
        ("ttrpc", "unix://@kms"),
        ("ttrpc", "127.0.0.1:1"),
    ] {
        let (text, code) = doctor(&with_entry(&json!({ way: address })), &[]);
        let line = line(&text, "ocicrypt.json");
        let says = format!("`kmscrypt` is the service at {address} by {way}; not tried");
        assert!(line.starts_with("note    ") && line.contains(&says) && code == 0, "{text}");
    }
}

#[test]
fn what_clients_start_comes_before_what_they_connect_to() {
    let (text, _) = doctor(&with_entry(&json!({"cmd": {"path": program::path()}, "grpc": "unix:///nonexistent/kms.sock"})), &[]);
    assert!(line(&text, "ocicrypt.json").contains(&format!("`kmscrypt` is {}, version ", program::path())), "{text}");
    let (text, _) = doctor(&with_entry(&json!({"cmd": {"args": []}, "grpc": "unix:///nonexistent/kms.sock"})), &[]);
    assert!(line(&text, "ocicrypt.json").contains("`cmd` of the entry `kmscrypt` has no `path`"), "{text}");
    let (text, _) = doctor(&with_entry(&json!({"gprc": "unix:///nonexistent/kms.sock"})), &[]);
    assert!(line(&text, "ocicrypt.json").contains("the entry `kmscrypt` has none of `cmd`, `grpc` and `ttrpc`"), "{text}");
}

#[test]
fn a_message_about_a_missing_entry_tells_which_there_are_and_how_to_choose() {
    let mut user = with_providers(&json!({"other": {"cmd": {"path": program::path()}}, "third\u{1b}[2J": {}}));
    let (text, code) = doctor(&user, &[]);
    let problem = line(&text, "ocicrypt.json");
    assert!(problem.starts_with("PROBLEM ") && problem.contains("has no entry for the provider `kmscrypt`") && code == 1, "{text}");
    assert!(problem.contains("`other`, `third [2J`") && problem.contains("--provider NAME"), "{text}");
    assert_eq!(doctor(&user, &["--provider", "other"]).1, 0);
    user.write("ocicrypt.json", r#"{"key-providers": {}}"#);
    let (text, _) = doctor(&user, &[]);
    assert!(line(&text, "ocicrypt.json").contains("has no entry for the provider `kmscrypt`, nor for another"), "{text}");
    let many: serde_json::Map<_, _> = (0..1000).map(|number| (format!("{number:0100}"), json!({}))).collect();
    user = with_providers(&many.into());
    let (text, _) = doctor(&user, &[]);
    let problem = line(&text, "ocicrypt.json");
    assert!(problem.contains(" and 992 more; ") && problem.contains("--provider NAME") && problem.len() < 2100, "{text}");
}

#[test]
fn a_file_that_is_too_long_or_hostile_is_one_bounded_line() {
    let mut user = with_entry(&json!({"grpc": format!("unix:///\u{1b}[2J\n\u{202e}{}", "x".repeat(100_000))}));
    let (text, _) = doctor(&user, &[]);
    assert!(text.len() < 8192 && !text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(line(&text, "ocicrypt.json").contains("correct the address"), "{text}");
    user.write("ocicrypt.json", "[".repeat(2 << 20));
    assert!(line(&doctor(&user, &[]).0, "ocicrypt.json").contains("is longer than 1048576 bytes"));
    user.write("ocicrypt.json", "[".repeat(100_000));
    assert!(line(&doctor(&user, &[]).0, "ocicrypt.json").contains("is not JSON (line 1)"));
    for odd in ["[]", "3", r#"{"key-providers": []}"#, r#"{"key-providers": {"kmscrypt": 1}}"#] {
        user.write("ocicrypt.json", odd);
        assert!(line(&doctor(&user, &[]).0, "ocicrypt.json").starts_with("PROBLEM "), "{odd}");
    }
    user.set("OCICRYPT_KEYPROVIDER_CONFIG", "/dev/zero");
    assert!(line(&doctor(&user, &[]).0, "ocicrypt.json").contains("is longer than 1048576 bytes"));
}

/// What doctor says of these members of `grpc-tls`.
fn tls(members: &Value) -> String {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let (text, code) = doctor(&with_entry(&json!({"grpc": service.local_addr().unwrap().to_string(), "grpc-tls": members})), &[]);
    let line = line(&text, "grpc-tls");
    assert_eq!(code, i32::from(line.starts_with("PROBLEM ")), "{text}");
    line
}

#[test]
fn files_of_a_clients_tls_have_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pem");
    std::fs::write(&path, "").unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let good = json!({"root-ca-file": path, "cert-file": path, "key-file": path, "server-name": "kms", "insecure-skip-verify": false});
    assert!(tls(&good).starts_with("ok      grpc-tls: its files can be read; a client decides whether it takes what is in them; "));
    assert!(tls(&json!({})).starts_with("ok      grpc-tls: it names no files"));
    for member in ["root-ca-file", "cert-file", "key-file"] {
        for (file, says) in [
            ("/nonexistent/x", "No such file"),
            (folder.path().to_str().unwrap(), "it is no file"),
            (pipe.to_str().unwrap(), "it is no file"),
        ] {
            let mut members = good.clone();
            members[member] = file.into();
            let line = tls(&members);
            assert!(line.starts_with(&format!("PROBLEM grpc-tls: `{member}` {file}: ")) && line.contains(says), "{line}");
        }
    }
}

#[test]
fn members_of_grpc_tls_are_those_that_clients_know() {
    let known = "root-ca-file, cert-file, key-file, server-name, insecure-skip-verify";
    for wrong in ["key-flie", "root-ca", "servername", "insecure_skip_verify"] {
        let line = tls(&json!({ wrong: "x" }));
        assert_eq!(line, format!("PROBLEM grpc-tls: `{wrong}` is none of its members, so that clients pass over it; they are {known}"));
    }
    // Clients in Go don't mind the case.
    assert!(tls(&json!({"Server-Name": "kms"})).starts_with("ok      "));
    for wrong in [json!({"server-name": 1}), json!({"insecure-skip-verify": "true"}), json!({"key-file": ["x"]}), json!("on")] {
        let line = tls(&wrong);
        assert!(line.starts_with("PROBLEM grpc-tls: ") && line.contains("so that clients refuse the whole of ocicrypt.json"), "{line}");
    }
    let line = tls(&json!({"cert-file": "/dev/null"}));
    assert!(line.contains("`cert-file` and `key-file` belong together: clients show no certificate with one alone"), "{line}");
    let many: serde_json::Map<_, _> = (0..1000).map(|number| (format!("\u{1b}{number}"), json!(1))).collect();
    let line = tls(&many.into());
    assert!(line.len() < 2100 && !line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn a_machine_that_only_serves_needs_no_ocicrypt_json() {
    for config in ["[server]\n", "[server]\nmetrics = '127.0.0.1:1'\n", "server.log-level = 'warn'\n"] {
        let user = Program::new();
        let file = user.write("config.toml", config).display().to_string();
        let (text, code) = doctor(&user, &["--config", &file]);
        let line = line(&text, "ocicrypt.json");
        assert!(line.starts_with("note    ") && line.contains("OCICRYPT_KEYPROVIDER_CONFIG is not set") && code == 0, "{config}: {text}");
    }
    let mut user = Program::new();
    assert!(line(&doctor(&user, &[]).0, "ocicrypt.json").starts_with("PROBLEM "));
    // A file that was named and isn't there is one that somebody misses.
    user.set("OCICRYPT_KEYPROVIDER_CONFIG", "/nonexistent/ocicrypt.json");
    let file = user.write("config.toml", "[server]\n").display().to_string();
    assert!(line(&doctor(&user, &["--config", &file]).0, "ocicrypt.json").starts_with("PROBLEM "));
}

#[test]
fn what_a_server_would_refuse_of_its_settings_is_a_problem() {
    let user = Program::new();
    let authority = certificates::Authority::new("ca");
    let (certificate, key) = authority.server("kms").write(user.home(), "server");
    let (_, other) = authority.server("kms").write(user.home(), "other");
    let ca = user.write("ca.pem", authority.certificate());
    let [certificate, key, other, ca] = [certificate, key, other, ca].map(|path| path.display().to_string());
    let server = |settings: &str| {
        let file = user.write("config.toml", format!("keys = ['local://*']\n[server]\n{settings}\n")).display().to_string();
        let (text, code) = doctor(&user, &["--config", &file]);
        let line = line(&text, "server");
        assert_eq!(code, i32::from(line.starts_with("PROBLEM ")), "{text}");
        let unusable = line.strip_prefix("PROBLEM server: ");
        if let Some(reason) = unusable {
            let (code, said) = program::refusal(&user.run(&["--config", &file, "serve"], b""));
            assert!(code == 2 && said == reason, "as `serve` says it: {said}");
        }
        line
    };
    let files =
        |certificate: &str, key: &str, ca: &str| server(&format!("tls-cert = '{certificate}'\ntls-key = '{key}'\nclient-ca = '{ca}'"));
    assert_eq!(server(""), "ok      server: the settings below `[server]` can be used; they name no files of TLS");
    assert_eq!(files(&certificate, &key, &ca), "ok      server: the settings below `[server]` can be used; the files of TLS fit together");
    assert!(files(&certificate, "/nonexistent/k", &ca).starts_with("PROBLEM server: /nonexistent/k: the file can't be used for TLS: "));
    assert!(files("/nonexistent/c", &key, &ca).starts_with("PROBLEM server: /nonexistent/c: "));
    assert!(files(&certificate, &key, "/dev/null").starts_with("PROBLEM server: /dev/null: "));
    assert!(files(&certificate, &other, &ca).starts_with(&format!("PROBLEM server: {other}: ")));
    assert!(server("tls-key = '/nonexistent/k'").contains("give all three or none"));
    assert!(server("max-exchanges = 0").starts_with("PROBLEM server: server.max-exchanges: "));
    assert!(server("listen = ['unix:/run/kms.sock']").starts_with("PROBLEM server: server.listen: "));
}

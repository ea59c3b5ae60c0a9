//! Rows "ocicrypt.json" of the table of wrong set-ups, as `doctor` finds them, and as an exchange does.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::messages::{OPTS_DATA, keywrap};
use ocicrypt_kms_testing::program::{self, Program, refusal};
use serde_json::{Value, json};

/// The lines of doctor's report about ocicrypt.json and its entry, and its exit code.
fn doctor(user: &Program) -> (String, i32) {
    let output = user.run(&["doctor"], b"");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("ocicrypt.json: ") || line.contains(" grpc-tls: ")).collect();
    (lines.join("\n"), output.status.code().unwrap())
}

/// A user whose ocicrypt.json holds this text.
fn with_text(text: &str) -> Program {
    let mut user = Program::new();
    user.set("OCICRYPT_KEYPROVIDER_CONFIG", user.write("ocicrypt.json", text));
    user.set("PATH", std::env::var_os("PATH").unwrap());
    user
}

fn with_entry(entry: &Value) -> Program {
    with_text(&json!({"key-providers": {"kmscrypt": entry}}).to_string())
}

fn starting(path: &str, args: &Value) -> Program {
    with_entry(&json!({"cmd": {"path": path, "args": args}}))
}

fn own() -> &'static str {
    program::path()
}

#[test]
fn what_is_wrong_with_ocicrypt_json_is_a_problem_with_what_to_write() {
    let this_one = "this one is \"path\": \"/";
    let refused = "so that clients refuse the whole of ocicrypt.json";
    let rows: &[(&str, Program, &[&str])] = &[
        ("wrong path in cmd", starting("/nonexistent/ocicrypt-kms", &json!([])), &["no program that can be started", this_one]),
        ("no path in cmd", with_entry(&json!({"cmd": {"args": []}})), &["`cmd` of the entry `kmscrypt` has no `path`; write \"path\": "]),
        ("not in PATH", starting("ocicrypt-kms-nope", &json!([])), &["which is in no folder of PATH", "install /"]),
        ("/bin/cat", starting("/bin/cat", &json!([])), &["is /bin/cat: it is another program", "name this one: \"path\": \"/"]),
        ("/bin/true", starting("/bin/true", &json!([])), &["it is another program"]),
        (
            "args as text",
            starting(own(), &json!("--config x")),
            &["`args` in `cmd` of the entry `kmscrypt` is no list", "[\"--config\",\"x\"]", refused],
        ),
        ("args of numbers", starting(own(), &json!(["--config", 1])), &["is no list of strings", refused]),
        (
            "cmd as text",
            with_entry(&json!({"cmd": "ocicrypt-kms"})),
            &["`cmd` of the entry `kmscrypt` is no object; write {\"path\"", refused],
        ),
        ("path as list", with_entry(&json!({"cmd": {"path": ["x"]}})), &["`path` in `cmd` of the entry `kmscrypt` is no string", refused]),
        (
            "grpc as object",
            with_entry(&json!({"grpc": {"address": "x"}})),
            &["`grpc` of the entry `kmscrypt` is no string; write \"unix:///", refused],
        ),
        ("an entry as text", with_entry(&json!("ocicrypt-kms")), &["the entry `kmscrypt` is no object", refused]),
        (
            "another entry's args",
            with_text(&json!({"key-providers": {"kmscrypt": {"cmd": {"path": own()}}, "x": {"cmd": {"args": "y"}}}}).to_string()),
            &["`args` in `cmd` of the entry `x` is no list", refused],
        ),
        ("providers as list", with_text(r#"{"key-providers": []}"#), &["`key-providers` is no object", refused]),
        (
            "a member of cmd",
            with_entry(&json!({"cmd": {"path": own(), "arguments": []}})),
            &["`arguments` is none of the members of `cmd`", "path, args"],
        ),
        ("invalid JSON", with_text("{\n"), &["it is not JSON (line 2)", "python3 -m json.tool < /"]),
        (
            "a misspelled option",
            starting(own(), &json!(["--confg", "x"])),
            &["unexpected argument", "ocicrypt-kms --help", "try it as clients do: echo '{}' | /"],
        ),
        ("a missing configuration", starting(own(), &json!(["--config", "/nope.toml"])), &["/nope.toml", "No such file"]),
        (
            "another name in args",
            starting(own(), &json!(["--provider", "other"])),
            &["call it `other`", "write \"--provider\", \"kmscrypt\""],
        ),
        ("another name in args, with =", starting(own(), &json!(["--provider=other"])), &["write \"--provider\", \"kmscrypt\""]),
        (
            "an entry of another name",
            with_text(&json!({"key-providers": {"kms": {"cmd": {"path": own()}}}}).to_string()),
            &["has no entry for the provider `kmscrypt`; its entries: `kms`", "ocicrypt-kms --provider NAME doctor"],
        ),
        (
            "grpc without unix://",
            with_entry(&json!({"grpc": "/run/kms.sock"})),
            &["take that for a host's name", "\"grpc\": \"unix:///run/kms.sock\""],
        ),
        ("grpc, relative", with_entry(&json!({"grpc": "kms.sock"})), &["\"grpc\": \"unix:///", "/kms.sock\""]),
        ("ttrpc without unix://", with_entry(&json!({"ttrpc": "/run/t.sock"})), &["\"ttrpc\": \"unix:///run/t.sock\""]),
        (
            "nobody listens",
            with_entry(&json!({"grpc": "unix:///nope/kms.sock"})),
            &["nobody listens there", "`ocicrypt-kms serve --config FILE --listen "],
        ),
        ("variable unset", Program::new(), &["is not set", "export OCICRYPT_KEYPROVIDER_CONFIG=~/ocicrypt.json"]),
    ];
    for (what, user, says) in rows {
        let (text, code) = doctor(user);
        assert!(text.contains("PROBLEM ") && code == 1, "{what}: {text}");
        assert!(says.iter().all(|says| text.contains(says)), "{what}: {text}");
    }
}

/// The table has it: an exchange says it, too.
#[test]
fn an_exchange_without_a_key_says_how_to_name_one() {
    let (_, line) = refusal(&Program::new().run(&[], &keywrap(&[("kmscrypt", &[])], OPTS_DATA)));
    assert!(line.contains("name one with --encryption-key provider:kmscrypt:KEY_URI, or set `default-recipients`"), "{line}");
}

#[test]
fn what_is_right_is_asked_for_its_version_and_an_answer_and_the_name_to_use_is_said() {
    for user in
        [starting(own(), &json!([])), starting(own(), &json!(["--provider", "kmscrypt"])), with_entry(&json!({"CMD": {"Path": own()}}))]
    {
        let (text, code) = doctor(&user);
        assert!(text.starts_with("ok ") && text.contains(", version ") && text.contains(", which answers; ") && code == 0, "{text}");
        assert!(
            text.contains("--encryption-key provider:kmscrypt:KEY_URI and --decryption-key provider:kmscrypt, and by no other name"),
            "{text}"
        );
    }
}

#[test]
fn a_client_that_is_too_old_for_tls_is_named() {
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (text, _) = doctor(&with_entry(&json!({"grpc": service.local_addr().unwrap().to_string(), "grpc-tls": {}})));
    assert!(text.contains("skopeo before 1.23") && text.contains("pass over `grpc-tls`") && text.contains("skopeo --version"), "{text}");
}

/// Whatever the program is, asking it ends.
#[test]
fn a_program_that_hangs_or_never_stops_talking_is_given_up() {
    let user = with_entry(&json!({"cmd": {"path": "./program"}}));
    for (script, says) in [
        ("exec sleep 1000", "it does not end within 5 seconds when it is asked for its --version"),
        ("exec yes", "it is another program"),
        ("sleep 1000 & sleep 1000", "it does not end within 5 seconds"),
        (
            "[ \"$1\" = --version ] && echo ocicrypt-kms 1 && exit; exec sleep 1000",
            "it does not end within 5 seconds when it is given a message",
        ),
        ("[ \"$1\" = --version ] && echo ocicrypt-kms 1 && exit; exec cat", "it answers messages so: something else than it should"),
    ] {
        let program = user.write("program", format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        let begun = Instant::now();
        let (text, _) = doctor(&user);
        assert!(text.contains(says), "{script}: {text}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{script}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_service_that_listens_is_named_with_the_name_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let (text, code) = doctor(&with_entry(&json!({"grpc": format!("unix://{}", path.display())})));
    assert!(text.starts_with("ok ") && text.contains("provider:kmscrypt:KEY_URI") && code == 0, "{text}");
}

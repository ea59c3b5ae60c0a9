//! What is on record.

use ocicrypt_kms::Digest;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap, keywrap};
use ocicrypt_kms_testing::program;

use super::stage::{KEY, Stage, member, wrapping};

#[test]
fn each_use_and_each_exchange_is_on_record_with_the_annotation_it_was_about() {
    let stage = Stage::new();
    let annotation = stage.wrap();
    stage.unwraps(&annotation);
    let records = stage.records();
    let told: Vec<_> = records.iter().map(|record| ["event", "operation", "outcome"].map(|name| member(record, name))).collect();
    assert_eq!(told, [["use", "wrap", "ok"], ["exchange", "wrap", "ok"], ["use", "unwrap", "ok"], ["exchange", "unwrap", "ok"]]);
    let digest = Digest::of(&annotation).to_string();
    for record in &records {
        assert_eq!((member(record, "annotation"), member(record, "provider")), (digest.as_str(), "kmscrypt"));
        assert_eq!(record["caller"]["uid"], rustix::process::getuid().as_raw());
        assert!(record["microseconds"].is_u64() && member(record, "component").len() == 64);
    }
    assert_eq!((member(&records[2], "key"), member(&records[2], "origin"), member(&records[2], "decision")), (KEY, "parameter", "allow"));
    assert_eq!(records[0]["exchange"], records[1]["exchange"]);
    assert_ne!(records[1]["exchange"], records[2]["exchange"]);
}

#[test]
fn a_key_that_was_refused_is_on_record_with_the_reason() {
    let stage = Stage::with("keys = []", "");
    let annotation = stage.wrap();
    let (code, _) = program::refusal(&stage.user.run(&[], &keyunwrap(&[], &annotation)));
    assert_eq!(code, 4);
    let record = &stage.records()[2];
    assert_eq!(
        ["event", "outcome", "decision", "origin", "key"].map(|name| member(record, name)),
        ["open", "denied", "deny", "annotation", KEY]
    );
    assert!(member(record, "error").contains(KEY), "{record}");
    assert_eq!(member(&stage.records()[3], "outcome"), "denied");
}

#[test]
fn a_message_that_cannot_be_read_is_on_record() {
    let stage = Stage::new();
    program::refusal(&stage.user.run(&[], b"\x1b[2J"));
    let records = stage.records();
    assert_eq!((records.len(), member(&records[0], "event"), member(&records[0], "outcome")), (1, "exchange", "invalid-input"));
}

#[test]
fn a_missing_key_is_on_record() {
    let stage = Stage::new();
    program::refusal(&stage.user.run(&[], &keywrap(&[("kmscrypt", &["local://missing"])], OPTS_DATA)));
    let records = stage.records();
    assert_eq!(["event", "outcome", "decision"].map(|name| member(&records[0], name)), ["open", "kms", "allow"]);
}

#[test]
fn each_recipient_of_a_wrap_is_on_record_with_the_same_annotation() {
    let stage = Stage::new();
    assert!(stage.user.run(&["keygen", "other"], b"").status.success());
    program::answer(stage.user.run(&[], &keywrap(&[("kmscrypt", &[KEY, "local://other"])], OPTS_DATA)));
    let records = stage.records();
    assert_eq!(records.iter().map(|record| member(record, "key")).collect::<Vec<_>>(), [KEY, "local://other", ""]);
    assert!(records.iter().all(|record| record["annotation"] == records[0]["annotation"] && !record["annotation"].is_null()));
}

#[test]
fn no_log_holds_a_secret() {
    let stage = Stage::new();
    let annotation = stage.wrap();
    stage.unwraps(&annotation);
    let opts_data = std::str::from_utf8(OPTS_DATA).unwrap();
    let set = std::fs::read_to_string(stage.user.home().join("keys/team.jwks")).unwrap();
    let set: serde_json::Value = serde_json::from_str(&set).unwrap();
    let text = stage.text();
    for secret in [opts_data.split('"').nth(3).unwrap(), opts_data, &bytes::encode(OPTS_DATA), set["keys"][0]["k"].as_str().unwrap()] {
        assert!(!secret.is_empty() && !text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn without_a_log_nothing_is_written() {
    let stage = Stage::new();
    stage.user.write("config.toml", "");
    stage.wrap();
    assert!(!stage.path().exists());
    let (code, line) = program::refusal(&stage.audit(&["verify"]));
    assert!(code == 2 && line.contains("no audit log is configured"), "{line}");
}

#[test]
fn who_reads_the_wrong_configuration_is_told_which_it_was() {
    let mut stage = Stage::new();
    let file = stage.user.write("other.toml", "").display().to_string();
    for arguments in [&["verify"][..], &["show"], &["rotate"], &["checkpoint"]] {
        let (code, line) = program::refusal(&stage.user.run(&[&["--config", &file, "audit"], arguments].concat(), b""));
        assert!(code == 2 && line.starts_with(&format!("audit.file: no audit log is configured: {file} was read; ")), "{line}");
        assert!(line.contains("with --config FILE"), "{line}");
        assert_eq!(line.contains("or name the log"), ["verify", "show"].contains(&arguments[0]), "{line}");
    }
    if !std::path::Path::new("/etc/ocicrypt-kms/config.toml").exists() {
        stage.user.set("OCICRYPT_KMS_CONFIG", "");
        stage.user.set("XDG_CONFIG_HOME", "/nonexistent");
        let (code, line) = program::refusal(&stage.audit(&["verify"]));
        assert!(code == 2 && line.contains("no configuration file was found; ") && line.contains("with --config FILE"), "{line}");
    }
}

#[test]
fn the_log_belongs_to_its_user_alone() {
    let stage = Stage::new();
    stage.wrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(stage.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn records_are_shown_by_what_they_are_about() {
    let stage = Stage::new();
    let annotation = stage.wrap();
    stage.unwraps(&annotation);
    program::refusal(&stage.user.run(&[], b"{}"));
    let count = |arguments: &[&str]| stage.printed(&[&["show"], arguments].concat()).lines().count();
    assert_eq!(count(&[]), 5);
    assert_eq!(count(&["--operation", "unwrap"]), 2);
    assert_eq!(count(&["--key", "local://*", "--outcome", "ok"]), 2);
    assert_eq!(count(&["--annotation", &format!("sha256:{}", Digest::of(&annotation))]), 4);
    assert_eq!((count(&["--caller", "process"]), count(&["--caller", "uid:0"])), (5, 0));
    assert_eq!((count(&["--since", "2020-01-01T00:00:00Z"]), count(&["--until", "2020-01-01T00:00:00Z"])), (5, 0));
    assert_eq!(stage.printed(&["show", "--json"]), stage.text());
}

#[test]
fn standard_error_gets_each_record_and_standard_output_none() {
    let stage = Stage::with("", "sinks = [\"stderr\"]");
    let output = stage.user.run(&[], &wrapping());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), stage.text());
    let stage = Stage::with("", "sinks = [\"stdout\"]");
    let (code, line) = program::refusal(&stage.user.run(&[], &wrapping()));
    assert!(code == 2 && line.contains("only `serve`"), "{line}");
}

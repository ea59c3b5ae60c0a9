//! Rows "local, audit" of the table of wrong set-ups.
#![expect(clippy::print_stderr, reason = "what is skipped is said")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::messages::{unwrapping, wrapping};
use ocicrypt_kms_testing::program::{Program, answer, piped, refusal, succeeded};

const TEAM: &[&str] = &["local://team"];

/// What is wrong, how it is made, and what names the thing and the remedy.
type Row = (&'static str, fn(&mut Program), &'static [&'static str]);

fn user() -> Program {
    let user = Program::new();
    succeeded(user.run(&["keygen", "team"], b""));
    user
}

fn file(user: &Program) -> PathBuf {
    user.home().join("keys/team.jwks")
}

fn wrap(user: &Program) -> String {
    refusal(&user.run(&[], &wrapping(TEAM))).1
}

fn set_mode(path: impl AsRef<std::path::Path>, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_is_wrong_with_a_local_key_is_named_with_its_remedy() {
    let rows: &[Row] = &[
        (
            "no such key",
            |user| std::fs::remove_file(file(user)).unwrap(),
            &["create it with `ocicrypt-kms keygen team`, or name its folder in OCICRYPT_KMS_KEYSTORE"],
        ),
        (
            "another folder",
            |user| user.set("OCICRYPT_KMS_KEYSTORE", "/nope"),
            &["the keystore /nope", "name its folder in OCICRYPT_KMS_KEYSTORE"],
        ),
        ("mode 0640", |user| set_mode(file(user), 0o640), &["its mode is 0640", "chmod 600 /"]),
        (
            "text that is no JSON",
            |user| drop(user.write("keys/team.jwks", "key")),
            &["restore the file from a backup, or put a JWK or a JWK set there"],
        ),
        (
            "PEM",
            |user| drop(user.write("keys/team.jwks", "-----BEGIN PRIVATE KEY-----\n")),
            &["it is PEM: make a JWK of it", "python3 -c "],
        ),
    ];
    for (what, make, says) in rows {
        let mut user = user();
        make(&mut user);
        let line = wrap(&user);
        assert!(says.iter().all(|says| line.contains(says)), "{what}: {line}");
    }
    let mut user = user();
    user.set("OCICRYPT_KMS_KEYSTORE", "");
    user.set("HOME", "");
    assert!(wrap(&user).contains("set OCICRYPT_KMS_KEYSTORE, or `keystore` in the configuration"));
}

#[test]
fn a_key_of_another_user_is_named_with_a_command() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a file away");
        return;
    }
    let user = user();
    std::os::unix::fs::chown(file(&user), Some(12345), None).unwrap();
    let line = wrap(&user);
    assert!(line.contains("it belongs to user 12345") && line.contains("make it yours: chown 0 /"), "{line}");
}

/// A JWK by itself, as other tools write one, is a set of one; rotating makes a set of it.
#[test]
fn a_key_that_is_no_set_is_read() {
    let user = user();
    let set: serde_json::Value = serde_json::from_slice(&std::fs::read(file(&user)).unwrap()).unwrap();
    let wrapped = ocicrypt_kms_testing::messages::annotation_of(&answer(user.run(&[], &wrapping(TEAM))));
    user.write("keys/team.jwks", set["keys"][0].to_string());
    answer(user.run(&[], &unwrapping(TEAM, &wrapped)));
    succeeded(user.run(&["keygen", "--rotate", "team"], b""));
    answer(user.run(&[], &unwrapping(TEAM, &wrapped)));
    let rotated: serde_json::Value = serde_json::from_slice(&std::fs::read(file(&user)).unwrap()).unwrap();
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 2);
}

/// The very command that the message has, for keys of each kind, and for the public half of one.
#[test]
fn the_command_for_pem_makes_a_key_of_it() {
    for arguments in [
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        &["-algorithm", "X25519"],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ] {
        let user = user();
        let pem = succeeded(piped(Command::new("openssl").arg("genpkey").args(arguments), b""));
        let convert = |pem: &[u8]| {
            user.write("keys/team.jwks", pem);
            let line = wrap(&user);
            let command = line.split_once("jwcrypto: ").expect(&line).1;
            let path = format!("{}:{}", cached("python/bin").display(), std::env::var("PATH").unwrap());
            succeeded(piped(Command::new("sh").args(["-c", command]).env("PATH", path), b""));
        };
        convert(&pem);
        let wrapped = ocicrypt_kms_testing::messages::annotation_of(&answer(user.run(&[], &wrapping(TEAM))));
        answer(user.run(&[], &unwrapping(TEAM, &wrapped)));
        convert(&succeeded(piped(Command::new("openssl").args(["pkey", "-pubout"]), &pem)));
        answer(user.run(&[], &wrapping(TEAM)));
    }
}

#[test]
fn keygen_says_why_it_can_not_write() {
    let mut user = Program::new();
    user.write("file", "");
    user.set("OCICRYPT_KMS_KEYSTORE", user.home().join("file/keys"));
    let (_, line) = refusal(&user.run(&["keygen", "team"], b""));
    assert!(line.contains("Not a directory") && line.contains("check the folder's permissions"), "{line}");
    user.set("OCICRYPT_KMS_KEYSTORE", "/proc/sys/keys");
    let (_, line) = refusal(&user.run(&["keygen", "team"], b""));
    assert!(line.contains("/proc/sys/keys/team.jwks") && line.contains("check the folder's permissions"), "{line}");
}

/// Where the disk is full, and where the log was moved away, are in `audit/failures.rs` and `audit/replaced.rs`.
#[test]
fn what_is_wrong_with_an_audit_log_is_named_with_its_remedy() {
    for (log, says) in [("/nope/audit.jsonl", "/nope"), ("HOME/folder", "folder"), ("/proc/sys/audit.jsonl", "/proc/sys")] {
        let user = user();
        std::fs::create_dir(user.home().join("folder")).unwrap();
        let log = log.replace("HOME", &user.home().display().to_string());
        let config = user.write("config.toml", format!("[audit]\nfile = '{log}'\n")).display().to_string();
        let (_, line) = refusal(&user.run(&["--config", &config], &wrapping(TEAM)));
        assert!(line.contains(says) && line.contains("; "), "{log}: {line}");
    }
    let user = user();
    let (_, line) = refusal(&user.run(&["--debugLog", "/nope/debug.log"], &wrapping(TEAM)));
    assert!(line.contains("/nope/debug.log") && line.contains("No such file"), "{line}");
}

//! A policy in `serve`: callers by what the kernel and certificates say, and a policy that is replaced while the server runs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::messages::{annotation_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{Program, refusal};
use tonic::Code;

use super::client::{call, connect, runtime};
use super::serving::{Serving, socket, user};
use super::tls;

const TEAM: &[&str] = &["local://team"];
const ALL: &str = "permit (principal, action, resource);";

/// A user whose server has this policy.
fn user_of(policy: &str) -> Program {
    let user = user();
    write(&user, policy);
    user.write("config.toml", "policy = \"policy.cedar\"\n");
    user
}

/// Replaces the policy as those do who replace files under load.
fn write(user: &Program, policy: &str) {
    let new = user.write("policy.new", policy);
    std::fs::rename(new, user.home().join("policy.cedar")).unwrap();
}

fn try_wrap(socket: &Path) -> Result<Vec<u8>, tonic::Status> {
    runtime().block_on(async {
        let channel = connect(socket).await.unwrap();
        call(&channel, "WrapKey", &wrapping(TEAM)).await
    })
}

#[test]
fn a_user_of_the_machine_is_known_by_uid_and_group() {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let rule = |operation: &str, user: String| format!("permit (principal in {user}, action == Kms::Action::\"{operation}\", resource);");
    let user = user_of(&(rule("wrap", format!("Kms::User::\"{uid}\"")) + &rule("unwrap", format!("Kms::Group::\"{}\"", gid + 1))));
    let _server = Serving::on_socket(&user);
    let annotation = annotation_of(&try_wrap(&socket(&user).0).unwrap());
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let status = call(&channel, "UnWrapKey", &unwrapping(TEAM, &annotation)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains(&format!("no rule of the policy permits it to Kms::User::\"{uid}\"")), "{status}");
    });
}

#[test]
fn clients_by_tls_are_known_by_each_name_of_their_certificate() {
    let permit = |name: &str| format!("permit (principal in {name}, action, resource);\n");
    let rules = [
        "Kms::Spiffe::\"spiffe://example/ns/build\"",
        "Kms::Domain::\"production.example\"",
        "Kms::Subject::\"CN=known\"",
        // As openssl prints it; a backslash is doubled in a text of Cedar.
        r#"Kms::Subject::"CN=one\\, O=admins""#,
    ];
    let (user, authority) = (user_of(&rules.map(permit).concat()), Authority::new("ca"));
    let server = tls::serve(&user, &authority);
    let wrap = |client| runtime().block_on(tls::wrap(&server, &authority, Some(&client)));
    for client in [
        authority.client("build", &["spiffe://example/ns/build"]),
        authority.client("known", &["spiffe://example/other"]),
        authority.client("one, O=admins", &[]),
        authority.client_with_dns("node", &["other.example", "Node-1.Production.Example"]),
    ] {
        wrap(client).unwrap();
    }
    for client in [
        authority.client("build", &["spiffe://example/ns/build/2"]),
        authority.client("spiffe://example/ns/build", &[]),
        authority.client("one\\, O=admins", &[]),
        authority.client_with_dns("node", &["production.example", "node-1.production.example.org"]),
    ] {
        let status = wrap(client).unwrap_err();
        assert!(status.contains("no rule of the policy permits it"), "{status}");
    }
    // With two URIs it is no SPIFFE id, and nobody else either.
    wrap(authority.client("known", &["spiffe://example/ns/build", "spiffe://example/ns/build"])).unwrap_err();
    let line = server.wait_for("no TLS with a client");
    assert!(line["error"].as_str().unwrap().contains("it has another URI beside a SPIFFE id"), "{line}");
}

#[test]
fn a_new_policy_holds_for_the_next_exchange_and_a_broken_one_not_at_all() {
    let user = user_of(ALL);
    let server = Serving::on_socket(&user);
    let socket = socket(&user).0;
    try_wrap(&socket).unwrap();

    write(&user, "permit (principal, action, resource)\nwhen { resource.nme == \"team\" };");
    let line = server.wait_for("the policy stays as it was");
    assert!(line["error"].as_str().unwrap().starts_with("policy.cedar:2:8: "), "{line}");
    try_wrap(&socket).unwrap();

    std::fs::remove_file(user.home().join("policy.cedar")).unwrap();
    server.wait_until("missing", |line| line["error"].as_str().is_some_and(|error| error.contains("can't be read")));
    try_wrap(&socket).unwrap();

    let closed = "@id(\"closed\") forbid (principal, action, resource);";
    write(&user, closed);
    server.signal("HUP");
    server.wait_for("new exchanges get the new policy");
    let digests: Vec<_> = server.logged().iter().filter_map(|line| Some(line["sha256"].as_str()?.to_owned())).collect();
    let [old, new] = [ALL, closed].map(|policy| ocicrypt_kms::Digest::of(policy.as_bytes()).to_string());
    assert!(digests.first() == Some(&old) && digests.last() == Some(&new), "{digests:?}");
    let status = try_wrap(&socket).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("it is forbidden by the policy's rule `closed`"), "{status}");
}

#[test]
fn a_policy_that_others_could_change_is_not_used_until_that_is_mended() {
    let user = user_of(ALL);
    let chmod =
        |mode| std::fs::set_permissions(user.home().join("policy.cedar"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    chmod(0o646);
    let (code, line) = refusal(&user.run(&["serve", "--listen", &socket(&user).1], b""));
    assert!(code == 2 && line.starts_with("policy.cedar: the policy is not used: its mode is 0646, so others could change it"), "{line}");
    chmod(0o644);
    let server = Serving::on_socket(&user);
    chmod(0o646);
    let line = server.wait_for("the policy stays as it was");
    assert!(line["error"].as_str().unwrap().contains("chmod go-w policy.cedar"), "{line}");
    try_wrap(&socket(&user).0).unwrap();
    chmod(0o644);
    server.wait_for("new exchanges get the new policy");
}

#[test]
fn a_policy_is_replaced_under_load_without_a_failure() {
    let user = user_of(ALL);
    let server = Serving::on_socket(&user);
    let (done, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    let logged = |message: &str| server.logged().iter().filter(|line| line["message"] == message).count();
    let decided = || logged("new exchanges get the new policy") + logged("the policy stays as it was");
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let load = async {
            while !done.load(Ordering::Relaxed) {
                call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        };
        let replacing = async {
            for round in 0..8 {
                // Each other one is broken.
                write(&user, &format!("{ALL}{}", ["", "permit"][round % 2]));
                let (before, answered) = (decided(), exchanges.load(Ordering::Relaxed));
                server.signal("HUP");
                let begun = Instant::now();
                while decided() == before || exchanges.load(Ordering::Relaxed) < answered + 3 {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", server.logged());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            done.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, replacing);
    });
    let exchanges = exchanges.into_inner();
    assert!(exchanges > 10, "{exchanges}");
    assert!(logged("new exchanges get the new policy") >= 3 && logged("the policy stays as it was") >= 3, "{:?}", server.logged());
}

#[test]
fn without_a_policy_or_a_list_of_keys_no_server_starts() {
    let user = user();
    user.write("config.toml", "");
    let (code, line) = refusal(&user.run(&["serve", "--listen", &socket(&user).1], b""));
    assert!(code == 2 && line.contains("or `policy = \"FILE\"`, to the configuration"), "{line}");
}

#[test]
fn a_broken_policy_starts_no_server() {
    let user = user_of("permit (principal, action);");
    let (code, line) = refusal(&user.run(&["serve", "--listen", &socket(&user).1], b""));
    assert!(code == 2 && line.starts_with("policy.cedar:1:"), "{line}");
}

#[test]
fn the_key_of_the_command_line_needs_a_rule_too() {
    let user = user_of("permit (principal, action, resource == Kms::Key::\"local://other\");");
    let _server = Serving::start(&user, &["--listen", &socket(&user).1, "--kmsURI", "local://team"]);
    assert_eq!(try_wrap(&socket(&user).0).unwrap_err().code(), Code::PermissionDenied);
}

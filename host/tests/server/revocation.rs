//! Clients that are not let in any more: an authority that is gone, lists of revoked certificates, certificates and lists that expire. Nobody has to
//! connect anew for that.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates::{Authority, Issued};
use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::{Program, refusal};
use tonic::transport::Channel;

use super::client::{call, runtime};
use super::observing::{get, metrics_of};
use super::serving::{Serving, user};
use super::tls::{connect, serve, wrap};

const TEAM: &[&str] = &["local://team"];
const CLOSED: &str = "a connection is closed: its certificate is not valid any more";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A user whose server reads `crl.pem`, with this in it, and has these further settings.
fn user_of(list: &str, settings: &str) -> Program {
    let user = user();
    replace(&user, list);
    let path = user.home().join("crl.pem");
    user.write("config.toml", format!("keys = [\"local://*\"]\n[server]\nclient-crl = \"{}\"\n{settings}", path.display()));
    user
}

/// Replaces the list as those do who replace files under load.
fn replace(user: &Program, list: &str) {
    let new = user.write("crl.new", list);
    std::fs::rename(new, user.home().join("crl.pem")).unwrap();
}

async fn ask(channel: &Channel) -> Result<(), tonic::Status> {
    tokio::time::timeout(Duration::from_secs(20), call(channel, "WrapKey", &wrapping(TEAM))).await.expect("an answer").map(drop)
}

/// Waits until the server has closed a connection of this caller.
fn closed(server: &Serving, caller: &str) -> String {
    let line = server.wait_until(caller, |line| line["message"] == CLOSED && line["caller"] == caller);
    line["error"].as_str().unwrap().to_owned()
}

fn count_closed(server: &Serving) -> usize {
    server.logged().iter().filter(|line| line["message"] == CLOSED).count()
}

/// How often the files were read anew with success.
fn count_read(server: &Serving) -> usize {
    server.logged().iter().filter(|line| line["message"] == "new connections get the new certificates").count()
}

/// What the log says of a client that isn't let in.
fn refused(server: &Serving, authority: &Authority, client: &Issued) -> String {
    let is_refusal = |line: &serde_json::Value| line["message"] == "no TLS with a client";
    let before = server.logged().iter().filter(|line| is_refusal(line)).count();
    runtime().block_on(wrap(server, authority, Some(client))).unwrap_err();
    let begun = Instant::now();
    loop {
        if let Some(line) = server.logged().iter().filter(|line| is_refusal(line)).nth(before) {
            return line["error"].as_str().unwrap().to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", server.logged());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_of_an_authority_that_is_gone_is_closed_and_others_are_not() {
    let (user, gone, stays) = (user(), Authority::new("gone"), Authority::new("stays"));
    let server = serve(&user, &stays);
    user.write("ca.pem", gone.certificate() + &stays.certificate());
    server.signal("HUP");
    server.wait_for("new connections get the new certificates");
    runtime().block_on(async {
        let of_gone = connect(&server, &stays, Some(&gone.client("gone", &[]))).await.unwrap();
        let of_stays = connect(&server, &stays, Some(&stays.client("stays", &[]))).await.unwrap();
        ask(&of_gone).await.unwrap();
        ask(&of_stays).await.unwrap();
        user.write("ca.pem", stays.certificate());
        assert_eq!(closed(&server, "subject:CN=gone"), "invalid peer certificate: UnknownIssuer");
        ask(&of_gone).await.unwrap_err();
        ask(&of_stays).await.unwrap();
    });
    assert_eq!(count_closed(&server), 1);
}

#[test]
fn a_list_that_is_read_anew_closes_the_connections_of_those_whom_it_revokes() {
    let authority = Authority::new("ca");
    let user = user_of(&authority.revoking(&[], DAY), "metrics = \"127.0.0.1:0\"\n");
    let server = serve(&user, &authority);
    let end = || {
        let (_, text) = get(&metrics_of(&server), "/metrics");
        text.lines()
            .find_map(|line| line.strip_prefix("ocicrypt_kms_crl_next_update_timestamp_seconds ")?.parse::<f64>().ok())
            .expect(&text)
    };
    let first_end = end();
    let [bad, good] = ["bad", "good"].map(|name| authority.client(name, &[]));
    runtime().block_on(async {
        let of_bad = connect(&server, &authority, Some(&bad)).await.unwrap();
        let of_good = connect(&server, &authority, Some(&good)).await.unwrap();
        ask(&of_bad).await.unwrap();
        replace(&user, &authority.revoking(&[bad.serial], 2 * DAY));
        assert_eq!(closed(&server, "subject:CN=bad"), "invalid peer certificate: Revoked");
        ask(&of_bad).await.unwrap_err();
        ask(&of_good).await.unwrap();
    });
    assert_eq!(refused(&server, &authority, &bad), "invalid peer certificate: Revoked");
    assert_eq!(count_closed(&server), 1);
    assert!(end() > first_end + 80_000.0);
}

#[test]
fn an_authority_below_another_one_is_revoked_with_all_whom_it_has_issued() {
    let root = Authority::new("root");
    let below = root.below("below");
    let lists = |revoked: &[u64]| root.revoking(revoked, DAY) + &below.revoking(&[], DAY);
    let user = user_of(&lists(&[]), "");
    let server = serve(&user, &root);
    let [client, of_root] = [below.client("below-it", &[]), root.client("of-root", &[])];
    runtime().block_on(async {
        let channel = connect(&server, &root, Some(&client)).await.unwrap();
        ask(&channel).await.unwrap();
        replace(&user, &lists(&[below.serial]));
        assert_eq!(closed(&server, "subject:CN=below-it"), "invalid peer certificate: Revoked");
        wrap(&server, &root, Some(&of_root)).await.unwrap();
    });
    assert_eq!(refused(&server, &root, &client), "invalid peer certificate: Revoked");
    // Its own list is needed, too.
    let user = user_of(&root.revoking(&[], DAY), "");
    let server = serve(&user, &root);
    assert_eq!(refused(&server, &root, &client), "invalid peer certificate: UnknownRevocationStatus");
}

#[test]
fn an_expired_list_one_of_another_issuer_and_a_forged_one_let_nobody_in_unless_the_configuration_says_so() {
    let (authority, other, forger) = (Authority::new("ca"), Authority::new("other"), Authority::new("ca"));
    let [bad, good] = ["bad", "good"].map(|name| authority.client(name, &[]));
    let cases = [
        (authority.expired_list(&[bad.serial]), "invalid peer certificate: certificate revocation list expired", true),
        (other.revoking(&[bad.serial], DAY), "invalid peer certificate: UnknownRevocationStatus", true),
        (forger.revoking(&[], DAY), "invalid certificate revocation list: BadSignature", false),
    ];
    for (list, reason, is_optional) in cases {
        let (user, lenient_user) = (user_of(&list, ""), user_of(&list, "client-crl-required = false\n"));
        let strict = serve(&user, &authority);
        let error = refused(&strict, &authority, &good);
        assert!(error.starts_with(reason), "{error}");
        let lenient = serve(&lenient_user, &authority);
        if is_optional {
            runtime().block_on(wrap(&lenient, &authority, Some(&good))).unwrap();
        } else {
            assert!(refused(&lenient, &authority, &good).starts_with(reason));
        }
    }
    // What an expired list revokes stays revoked.
    let user = user_of(&authority.expired_list(&[bad.serial]), "client-crl-required = false\n");
    let lenient = serve(&user, &authority);
    assert_eq!(refused(&lenient, &authority, &bad), "invalid peer certificate: Revoked");
}

#[test]
fn a_list_that_is_missing_or_none_starts_no_server_and_leaves_a_running_one_with_the_list_before() {
    let authority = Authority::new("ca");
    let (bad, good) = (authority.client("bad", &[]), authority.client("good", &[]));
    let user = user_of(&authority.revoking(&[bad.serial], DAY), "");
    let server = serve(&user, &authority);
    let files = ["server.crt", "server.key", "ca.pem"].map(|name| user.home().join(name).display().to_string());
    let arguments = ["serve", "--listen", "tcp://localhost:0", "--tls-cert", &files[0], "--tls-key", &files[1], "--client-ca", &files[2]];
    let certificate = authority.certificate();
    let garbage = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (list, reason) in [
        (None, "crl.pem: the file can't be used for TLS: "),
        (Some(""), "there is no list of revoked certificates in it"),
        (Some(certificate.as_str()), "there is no list of revoked certificates in it"),
        (Some(garbage), "crl.pem: the file can't be used for TLS: "),
    ] {
        match list {
            Some(list) => replace(&user, list),
            None => std::fs::remove_file(user.home().join("crl.pem")).unwrap(),
        }
        let line = server.wait_until(reason, |line| {
            line["message"] == "the certificates stay as they were" && line["error"].as_str().is_some_and(|error| error.contains(reason))
        });
        assert_eq!(line["level"], "ERROR");
        let (code, line) = refusal(&user.run(&arguments, b""));
        assert!(code == 2 && line.contains(reason), "{line}");
        assert_eq!(refused(&server, &authority, &bad), "invalid peer certificate: Revoked");
        runtime().block_on(wrap(&server, &authority, Some(&good))).unwrap();
    }
    assert_eq!((count_closed(&server), count_read(&server)), (0, 0));
}

#[test]
fn a_list_without_the_files_of_tls_is_refused() {
    let user = user_of("", "");
    let (code, line) = refusal(&user.run(&["serve"], b""));
    assert!(code == 2 && line.starts_with("server.client-crl: it is for TLS"), "{line}");
}

#[test]
fn a_connection_ends_with_the_certificate_that_its_client_has_shown() {
    let (user, authority) = (user(), Authority::new("ca"));
    let server = serve(&user, &authority);
    runtime().block_on(async {
        let short = authority.client_lasting("short", Duration::from_secs(4));
        let of_short = connect(&server, &authority, Some(&short)).await.unwrap();
        let of_long = connect(&server, &authority, Some(&authority.client_lasting("long", DAY))).await.unwrap();
        ask(&of_short).await.unwrap();
        ask(&of_long).await.unwrap();
        assert!(closed(&server, "subject:CN=short").starts_with("invalid peer certificate: certificate expired"));
        ask(&of_short).await.unwrap_err();
        ask(&of_long).await.unwrap();
    });
    assert_eq!((count_closed(&server), count_read(&server)), (1, 0));
}

#[test]
fn a_connection_ends_with_the_list_by_which_its_certificate_was_good() {
    let authority = Authority::new("ca");
    let list = authority.revoking(&[], Duration::from_secs(4));
    let (strict, lenient) = (user_of(&list, ""), user_of(&list, "client-crl-required = false\n"));
    let servers = [&strict, &lenient].map(|user| serve(user, &authority));
    let client = authority.client("node", &[]);
    runtime().block_on(async {
        let [strict, lenient] = servers.each_ref().map(|server| connect(server, &authority, Some(&client)));
        let (strict, lenient) = (strict.await.unwrap(), lenient.await.unwrap());
        ask(&strict).await.unwrap();
        let error = closed(&servers[0], "subject:CN=node");
        assert!(error.starts_with("invalid peer certificate: certificate revocation list expired"), "{error}");
        ask(&strict).await.unwrap_err();
        ask(&lenient).await.unwrap();
    });
    assert_eq!(count_closed(&servers[1]), 0);
}

#[test]
fn lists_are_replaced_under_load_without_a_failure() {
    let authority = Authority::new("ca");
    let user = user_of(&authority.revoking(&[], DAY), "");
    let server = serve(&user, &authority);
    let client = authority.client("node", &[]);
    let (done, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    runtime().block_on(async {
        let standing = connect(&server, &authority, Some(&client)).await.unwrap();
        let load = async {
            while !done.load(Ordering::Relaxed) {
                ask(&standing).await.unwrap();
                wrap(&server, &authority, Some(&client)).await.unwrap();
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        };
        let replacing = async {
            for round in 1..=4 {
                replace(&user, &authority.revoking(&[1_000_000 + round], DAY));
                server.signal("HUP");
                let (begun, before) = (Instant::now(), exchanges.load(Ordering::Relaxed));
                while count_read(&server) < usize::try_from(round).unwrap() || exchanges.load(Ordering::Relaxed) < before + 3 {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", server.logged());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            done.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, replacing);
    });
    assert_eq!(count_closed(&server), 0);
}

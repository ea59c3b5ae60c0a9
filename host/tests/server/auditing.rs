//! The audit log of a server.

use std::time::{Duration, Instant};

use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap, keywrap};
use ocicrypt_kms_testing::program::answer;

use super::client::{both_ways, call, connect, runtime};
use super::observing::{get, metrics_of};
use super::serving::{Serving, socket, user_with};

const NAME: &str = "grpc-keyprovider";
const KEY: &[&str] = &["local://team"];

#[test]
fn a_server_under_load_keeps_one_chain_over_files_and_signs_its_end() {
    let user = user_with("[audit]\nfile = \"audit.jsonl\"\ncheckpoint-key = \"audit.pem\"\n");
    answer(user.run(&["audit", "keygen", "audit.pem"], b""));
    let mut server = Serving::on_socket(&user);
    let rotate = || answer(user.run(&["audit", "rotate"], b""));
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let unwrap = |annotation: &[u8]| keyunwrap(&[(NAME, KEY)], annotation);
        both_ways(&channel, &keywrap(&[(NAME, KEY)], OPTS_DATA), unwrap, OPTS_DATA).await.unwrap();
        let mut clients = tokio::task::JoinSet::new();
        for round in 0..3 {
            for _ in 0..20 {
                let channel = channel.clone();
                clients.spawn(async move {
                    let unwrap = |annotation: &[u8]| keyunwrap(&[(NAME, KEY)], annotation);
                    both_ways(&channel, &keywrap(&[(NAME, KEY)], OPTS_DATA), unwrap, OPTS_DATA).await.unwrap();
                });
            }
            if round > 0 {
                rotate();
            }
        }
        while let Some(outcome) = clients.join_next().await {
            outcome.unwrap();
        }
    });
    server.signal("TERM");
    assert!(server.ended().success());
    let text = String::from_utf8(answer(user.run(&["audit", "verify"], b""))).unwrap();
    // Four records for each client, and one at the beginning of each further file.
    assert!(text.contains(" 246 records, 1 to 246;") && text.contains("it agrees with 1 checkpoint\n"), "{text}");
    let shown = String::from_utf8(answer(user.run(&["audit", "show", "--outcome", "ok", "--operation", "unwrap"], b""))).unwrap();
    assert_eq!(shown.lines().filter(|line| line.contains(" uid:") && line.contains(" use ")).count(), 61);
}

#[test]
fn a_server_that_can_write_no_record_is_not_healthy_and_says_why_in_its_log_only() {
    let user = user_with("[audit]\nfile = \"audit.jsonl\"\n");
    let log = user.home().join("audit.jsonl");
    assert!(user.run(&[], &keywrap(&[(NAME, KEY)], OPTS_DATA)).status.success());
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--metrics", "127.0.0.1:0"]);
    let metrics = metrics_of(&server);
    assert_eq!(get(&metrics, "/healthz"), (200, "ok\n".into()));
    // It knows the log from its start on, not from its first record.
    std::fs::rename(&log, user.home().join("elsewhere")).unwrap();
    // Nobody looks for each who asks: the look takes the lock that each record needs.
    assert_eq!(get(&metrics, "/healthz").0, 200);
    let health = |expected: u16| {
        let begun = Instant::now();
        loop {
            let (status, text) = get(&metrics, "/healthz");
            if status == expected {
                return text;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{status} {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!(health(503), "the audit log can't be written\n");
    assert!(server.wait_for("not healthy")["error"].as_str().unwrap().contains("is neither in it"));
    std::fs::rename(user.home().join("elsewhere"), &log).unwrap();
    assert_eq!(health(200), "ok\n");
}

#[test]
fn a_server_that_can_write_no_record_does_not_start() {
    let user = user_with("[audit]\nfile = \"audit.jsonl\"\n");
    user.write("audit.jsonl", "something else\n");
    let output = user.run(&["serve", "--listen", &socket(&user).1], b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && !text.contains("listening") && text.contains("it is no audit log"),
        "{:?} {text}",
        output.status.code()
    );
}

#[test]
fn a_server_whose_log_was_removed_gives_no_key_until_it_is_started_anew() {
    let user = user_with("[audit]\nfile = \"audit.jsonl\"\ncheckpoint-key = \"audit.pem\"\n");
    answer(user.run(&["audit", "keygen", "audit.pem"], b""));
    let wrap = || {
        runtime().block_on(async {
            let channel = connect(&socket(&user).0).await.unwrap();
            call(&channel, "WrapKey", &keywrap(&[(NAME, KEY)], OPTS_DATA)).await
        })
    };
    let mut server = Serving::on_socket(&user);
    wrap().unwrap();
    std::fs::remove_file(user.home().join("audit.jsonl")).unwrap();
    for _ in 0..2 {
        let status = wrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        let says = "audit.jsonl: the audit log can't be written: record 2, the last that this process knows of, is neither in it";
        assert!(status.message().starts_with(says), "{status}");
    }
    server.signal("TERM");
    assert!(server.ended().success());
    let mut server = Serving::on_socket(&user);
    wrap().unwrap();
    server.signal("TERM");
    assert!(server.ended().success());
    // The first log's end was signed, so that it is missed.
    let output = user.run(&["audit", "verify"], b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(7) && text.contains("it is another record than the one that was signed for"), "{text}");
}

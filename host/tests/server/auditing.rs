//! The audit log of a server.

use crate::client::{both_ways, call, connect, runtime};
use crate::messages::{OPTS_DATA, keyunwrap, keywrap};
use crate::program::answer;
use crate::serving::{Serving, socket, user_with};

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

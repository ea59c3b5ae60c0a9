//! What can go wrong on the way, each thing once: what is tried again, what is refused, and how long it takes.

use std::time::{Duration, Instant};

use ocicrypt_kms::{Error, ErrorKind};
use ocicrypt_kms_testing::failure;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};

use super::KEY;
use super::packets::obliging;
use super::replies;
use super::user::{User, packet};

/// A server that answers the first requests so, and then as it should.
fn at_first(times: usize, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Scripted {
    let well = obliging();
    Scripted::start(move |request, before| if before < times { reply() } else { well(request, before) })
}

/// A server that always answers so.
fn always(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |_, _| reply())
}

/// The line of a failure of this kind, which names the key.
fn line(outcome: Result<Vec<u8>, Error>, kind: ErrorKind) -> String {
    failure::line(outcome, kind, KEY)
}

#[test]
fn what_may_pass_is_tried_again() {
    for status in [412, 429, 500, 502, 503] {
        let server = at_first(1, move || replies::error(status, "not now"));
        User::of_scripted(&server, "").wrap(KEY);
        assert_eq!(server.take_paths().len(), 2, "{status}");
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    let rsa = "1 error occurred:\n\t* failed to RSA encrypt the plaintext: crypto/rsa: message too long for RSA key size\n\n";
    for (status, text) in [(400, "no"), (403, "no"), (404, "no"), (405, "no"), (500, rsa)] {
        let server = always(move || replies::error(status, text));
        let line = line(User::of_scripted(&server, "").try_wrap(KEY), ErrorKind::Kms);
        assert!(line.contains(&format!("the KMS answered {status} ")), "{line}");
        assert_eq!(server.take_paths().len(), 1, "{status}");
    }
}

#[test]
fn a_server_that_stays_busy_is_told_with_its_words_within_the_deadline() {
    let server = always(|| replies::error(503, "Vault is sealed").header("retry-after", "60"));
    let start = Instant::now();
    let line = line(User::of_scripted(&server, "deadline-seconds = 2").try_wrap(KEY), ErrorKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(line.contains("the KMS answered 503 Vault is sealed"), "{line}");
    let server = always(|| Reply::new(429, ""));
    let line = super::faults::line(User::of_scripted(&server, "deadline-seconds = 1").try_wrap(KEY), ErrorKind::Unavailable);
    assert!(line.contains("429 Too Many Requests"), "{line}");
}

#[test]
fn a_server_that_is_too_slow_is_told_within_the_deadline() {
    let server = always(|| Reply::new(200, "{}").after(Duration::from_secs(5)));
    let start = Instant::now();
    let line = line(User::of_scripted(&server, "deadline-seconds = 1").try_wrap(KEY), ErrorKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(2) && line.contains("did not answer within"), "{line}");
}

#[test]
fn an_answer_that_is_too_long_is_not_used() {
    let server = always(|| replies::data("ciphertext", &"A".repeat(1 << 20)));
    let line = line(User::of_scripted(&server, "").try_wrap(KEY), ErrorKind::Unavailable);
    assert!(line.contains("answered more than 524288 bytes"), "{line}");
}

#[test]
fn redirects_are_never_followed() {
    // As a standby answers that doesn't forward requests.
    let elsewhere = Scripted::start(obliging());
    let target = format!("{}/v1/transit/encrypt/k", elsewhere.address());
    let server = always(move || Reply::new(307, "").header("location", &target));
    let line = line(User::of_scripted(&server, "").try_wrap(KEY), ErrorKind::Unavailable);
    assert!(line.contains("which is never followed"), "{line}");
    assert!(elsewhere.take_paths().is_empty());
}

#[test]
fn answers_that_are_none_are_refused() {
    let zeros = "A".repeat(600);
    let bodies = ["", "null", "[]", "{\"data\":{\"ciphertext\":", "{}", "{\"data\":[]}", "{\"data\":{\"ciphertext\":7,\"plaintext\":7}}"];
    for body in bodies {
        let server = always(move || Reply::new(200, body));
        let user = User::of_scripted(&server, "");
        for outcome in [user.try_wrap(KEY), user.try_unwrap(KEY, &packet(KEY, "AES", &format!("vault:v1:{zeros}")))] {
            assert!(line(outcome, ErrorKind::Corrupt).contains("Vault's answer can't be used: it "), "{body}");
        }
    }
    for text in ["AAAA", "vault:v1", "vault:v0:AAAA", "vault:v1:*", "\u{1b}[2J"] {
        let server = always(move || replies::data("ciphertext", text));
        let line = line(User::of_scripted(&server, "").try_wrap(KEY), ErrorKind::Corrupt);
        assert!(line.contains("is not of the form `vault:vN:…`"), "{line}");
    }
}

#[test]
fn a_server_that_leaves_the_context_out_is_refused() {
    let ignored = r#"{"data":{"ciphertext":"vault:v1:AAAA","plaintext":"AAAA"},"warnings":["Endpoint ignored these unrecognized parameters: [associated_data]"]}"#;
    let server = always(move || Reply::new(200, ignored));
    let user = User::of_scripted(&server, "");
    let uri = format!("{KEY}?context_a=1");
    for outcome in [user.try_wrap(&uri), user.try_unwrap(&uri, &packet(&uri, "AES", "vault:v1:AAAA"))] {
        assert!(line(outcome, ErrorKind::InvalidInput).contains("does not know associated data"));
    }
}

#[test]
fn a_servers_words_are_shown_as_one_line() {
    let server = always(|| replies::error(400, "no\r\n\u{1b}[2J\u{202e}so"));
    let line = line(User::of_scripted(&server, "").try_wrap(KEY), ErrorKind::Kms);
    assert!(line.contains("400 Bad Request: no; ") && !line.chars().any(char::is_control) && !line.contains('\u{202e}'), "{line}");
}

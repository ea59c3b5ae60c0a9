//! What a service answers is bounded, never repeated to others, and no redirect leads elsewhere.

use std::time::{Duration, Instant};

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};

use super::stage::{Asks, KEY, Stage, TOKEN};

const WRAPS: &str = "POST /v1/encrypt/team/k";

/// What a component is told, and how often the service was asked.
fn told(settings: &str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> (String, usize, serde_json::Value) {
    let server = Scripted::start(move |_, _| reply());
    let stage = Stage::new(&server.address()).and(settings);
    let told = stage.wrap(Asks::send(WRAPS)).unwrap();
    (told, server.requests().len(), stage.record())
}

#[test]
fn a_redirect_is_never_followed() {
    for status in [301, 302, 303, 307, 308, 304] {
        let elsewhere = Scripted::start(|_, _| Reply::new(200, "elsewhere"));
        let location = format!("{}/v1/encrypt/team/k", elsewhere.address());
        let (told, asked, record) = told("", move || Reply::new(status, "").header("location", &location));
        assert!(told.contains("Unavailable(") && told.contains("answered with a redirect"), "{told}");
        assert_eq!((asked, elsewhere.connections(), &record["status"], &record["outcome"]), (1, 0, &status.into(), &"unavailable".into()));
    }
}

#[test]
fn an_answer_that_is_too_long_is_refused() {
    for announced in [true, false] {
        let reply = move || Reply::new(200, vec![b'a'; 1025]);
        let (told, ..) = told("max-body-kib = 1\n", move || if announced { reply() } else { reply().of_unknown_length() });
        assert!(told.contains("answered more than 1024 bytes") && told.len() < 1000, "{told}");
    }
    let (told, ..) = told("max-body-kib = 1\n", || Reply::new(201, vec![b'a'; 1024]).of_unknown_length());
    assert!(told.contains(&format!("201 [] {}", "a".repeat(1024))), "{told}");
}

#[test]
fn a_slow_answer_is_left_at_the_timeout_and_at_the_deadline() {
    let slow = || Reply::new(200, "").after(Duration::from_secs(8));
    let start = Instant::now();
    let (told, asked, record) = told("timeout-seconds = 1\n", slow);
    assert!(told.contains("did not answer within 1.0 seconds") && asked == 1, "{told}");
    assert_eq!((&record["outcome"], &record["request"]), (&"unavailable".into(), &WRAPS.into()));
    let server = Scripted::start(move |_, _| slow());
    let error = Stage::new(&server.address()).before("deadline-seconds = 1").wrap(Asks { report: "unavailable", ..Asks::send(WRAPS) });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}

#[test]
fn nothing_is_repeated_and_a_busy_service_is_unavailable() {
    for status in [429, 500, 503] {
        let (told, asked, record) = told("", move || Reply::new(status, "later"));
        assert!(told.contains("Unavailable(") && told.contains(&format!("answered {status} ")) && asked == 1, "{told}");
        assert_eq!((&record["status"], &record["outcome"]), (&status.into(), &"unavailable".into()));
    }
    for status in [400, 404, 409] {
        let (told, asked, record) = told("", move || Reply::new(status, "the opts data was x"));
        assert!(told.contains(&format!("status: {status}")) && !told.contains("opts data was") && asked == 1, "{told}");
        assert!(!record.to_string().contains("opts data was"), "{record}");
    }
}

#[test]
fn an_answer_that_repeats_the_credential_is_not_handed_on() {
    let body = Reply::new(200, format!("authorization: Bearer {TOKEN}, you said"));
    let header = Reply::new(200, "").header("etag", format!("\"{TOKEN}\""));
    for reply in [body, header] {
        let (told, _, record) = told("", move || reply.clone());
        assert!(told.contains("Corrupt(") && told.contains("repeats the credential") && !told.contains(TOKEN), "{told}");
        assert_eq!(record["outcome"], "corrupt");
    }
}

#[test]
fn a_service_that_is_not_there_is_unavailable() {
    let stage = Stage::new("http://127.0.0.1:1");
    let error = stage.unwrap(&[KEY], Asks { report: "unavailable", ..Asks::send("POST /v1/decrypt/team/k") }).unwrap_err();
    assert!(error.line().starts_with("http-kms://kms/team/k: 127.0.0.1:1 can't be reached"), "{}", error.line());
    assert!(stage.record()["status"].is_null());
}

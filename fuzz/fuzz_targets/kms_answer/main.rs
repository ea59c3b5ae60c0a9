//! No answer of a KMS makes its reader panic, and no number in it is added to a clock that can't hold the sum. What is accepted is of the key asked for and no longer than the answer, and an error is one
//! line that names the key.

#![no_main]

mod aws;
mod azure;
mod gcp;
mod vault;

use std::time::Instant;

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::Error;
use ocicrypt_kms_fuzz::error::MAX_LINE;
use ocicrypt_kms_fuzz::key_uri::{Addresses, KeyUri};
use ocicrypt_kms_fuzz::kms::answer::{Answer, MAX_WAIT, retry_after};
use zeroize::Zeroizing;

const STATUSES: [u16; 10] = [200, 400, 401, 403, 404, 409, 412, 429, 500, 503];

/// What came of an answer: its key, and the bytes that were accepted or why none were.
struct Outcome {
    uri: &'static KeyUri,
    result: Result<Vec<u8>, Error>,
}

// Three digits choose the service, what it was asked and the status; the body follows.
fuzz_target!(|input: &[u8]| {
    let [service, asked, status, body @ ..] = input else { return };
    let [service, asked, status] = [service, asked, status].map(|digit| usize::from(digit.wrapping_sub(b'0')));
    let status = StatusCode::from_u16(STATUSES[status % STATUSES.len()]).expect("a status");
    check_wait(body);
    let answer = Answer { status, challenge: None, location: None, body: Zeroizing::new(body.to_vec()) };
    let outcome = match service % 4 {
        0 => gcp::read(asked, &answer),
        1 => aws::read(asked, &answer),
        2 => azure::read(asked, answer),
        _ => vault::read(asked, &answer),
    };
    match outcome.result {
        Ok(bytes) => assert!(status.is_success() && bytes.len() <= body.len()),
        Err(error) => check_line(&error, outcome.uri),
    }
});

/// A header is as hostile as a body: the first line is read as a `Retry-After`, too.
fn check_wait(body: &[u8]) {
    let line = body.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some(wait) = retry_after(line) else { return };
    assert!(wait <= MAX_WAIT && line.iter().all(u8::is_ascii_digit), "{wait:?}");
    assert!(Instant::now().checked_add(wait).is_some(), "{wait:?}");
}

fn check_line(error: &Error, uri: &KeyUri) {
    let line = error.line();
    assert!(line.len() <= MAX_LINE && !line.chars().any(char::is_control), "{line:?}");
    assert!(line.starts_with(&format!("{uri}: ")), "{line}");
}

fn parse(uri: &str) -> KeyUri {
    KeyUri::parse(uri, &Addresses::default()).expect("a key URI")
}

//! What can go wrong on the way to Cloud KMS, each thing once: what is tried again, what is refused, and how long it takes.

use std::time::Duration;

use ocicrypt_kms::{Error, ErrorKind};
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use ocicrypt_kms_testing::failure;
use ocicrypt_kms_testing::messages::{OPTS_DATA, unwrapping, wrapping};

use super::stage::Stage;
use super::{KEY, OTHER, uri};

/// The line of a failure of this kind, which names the key.
fn line(outcome: Result<Vec<u8>, Error>, kind: ErrorKind) -> String {
    failure::line(outcome, kind, &uri(KEY))
}

#[test]
fn answers_that_were_damaged_are_refused() {
    let stage = Stage::new();
    let [wrapped, unwrapped] = stage.outcomes("", 1, |fake| fake.fault(Fault::WrongChecksum));
    for (outcome, field) in [(wrapped, "`ciphertextCrc32c`"), (unwrapped, "`plaintextCrc32c`")] {
        let line = line(outcome, ErrorKind::Corrupt);
        assert!(line.contains(field) && line.contains("try again") && !line.contains("another key"), "{line}");
    }
    let [wrapped, unwrapped] = stage.outcomes("", 1, |fake| fake.fault(Fault::TruncatedJson));
    for outcome in [wrapped, unwrapped] {
        assert!(line(outcome, ErrorKind::Corrupt).contains("its answer is not JSON"));
    }
}

#[test]
fn a_request_whose_checksum_was_not_verified_is_refused() {
    let stage = Stage::new();
    let [wrapped, unwrapped] = stage.outcomes("", 1, |fake| fake.fault(Fault::PlaintextNotVerified));
    assert!(line(wrapped, ErrorKind::Corrupt).contains("lacks `verifiedPlaintextCrc32c`"));
    assert_eq!(unwrapped.unwrap(), OPTS_DATA, "an unwrap has no such field");
    let [wrapped, unwrapped] = stage.outcomes("?context_a=b", 1, |fake| fake.fault(Fault::AadNotVerified));
    assert!(line(wrapped, ErrorKind::Corrupt).contains("lacks `verifiedAdditionalAuthenticatedDataCrc32c`"));
    assert_eq!(unwrapped.unwrap(), OPTS_DATA);
}

#[test]
fn answers_without_any_checksum_are_used_and_logged() {
    let stage = Stage::new();
    let [wrapped, unwrapped] = stage.outcomes("?context_a=b", 1, |fake| fake.fault(Fault::NoChecksums));
    assert_eq!(stage.unwrap(&[], &wrapped.unwrap()).unwrap(), OPTS_DATA);
    assert_eq!(unwrapped.unwrap(), OPTS_DATA);
    assert_eq!(stage.log().matches("the answer has no checksums").count(), 2, "{}", stage.log());
}

#[test]
fn an_answer_for_another_key_is_refused() {
    let stage = Stage::new();
    let names = [
        format!("{OTHER}/cryptoKeyVersions/1"),
        KEY.replace("projects/p/", "projects/q/") + "/cryptoKeyVersions/1",
        String::new(),
        "nonsense \u{1b}[2J".to_owned(),
    ];
    for name in names {
        stage.fake.fault(Fault::Name(name.clone()));
        let line = line(stage.exchange(&wrapping(&[&uri(KEY)])), ErrorKind::Corrupt);
        assert!(line.contains("it answered for another key") && !line.contains('\u{1b}'), "{line}");
    }
    // A version that was asked for must be the one that answers.
    let version = format!("{KEY}/cryptoKeyVersions/1");
    stage.fake.fault(Fault::Name(format!("{KEY}/cryptoKeyVersions/2")));
    assert_eq!(stage.exchange(&wrapping(&[&uri(&version)])).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let stage = Stage::new();
    for outcome in stage.outcomes("", 1, |fake| fake.fault(Fault::Oversized(64))) {
        assert!(line(outcome, ErrorKind::Unavailable).contains("answered more than 524288 bytes"));
    }
}

#[test]
fn an_answer_that_is_a_little_late_is_used() {
    let stage = Stage::new();
    for outcome in stage.outcomes("", 1, |fake| fake.fault(Fault::Slow(Duration::from_millis(300)))) {
        outcome.unwrap();
    }
}

#[test]
fn the_deadline_of_the_configuration_holds() {
    let stage = Stage::with(|config| config.deadline_seconds = 1);
    let annotation = stage.wrap(&[&uri(KEY)]);
    for message in [wrapping(&[&uri(KEY)]), unwrapping(&[&uri(KEY)], &annotation)] {
        stage.fake.fault(Fault::Slow(Duration::from_secs(60)));
        let (outcome, time) = stage.timed(&message);
        assert!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&time), "{time:?}");
        assert!(line(outcome, ErrorKind::Unavailable).contains("did not answer within"));
    }
}

#[test]
fn the_deadline_holds_for_a_service_that_never_stops_failing() {
    let stage = Stage::with(|config| config.deadline_seconds = 2);
    stage.wrap(&[&uri(KEY)]);
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Reset, Fault::HangUp] {
        stage.clear();
        stage.fake.fault(fault.clone().until_cleared());
        let (outcome, time) = stage.timed(&wrapping(&[&uri(KEY)]));
        stage.fake.clear_faults();
        assert!(time < Duration::from_secs(3), "{fault:?}: {time:?}");
        line(outcome, ErrorKind::Unavailable);
        assert!((2..=12).contains(&stage.paths().len()), "{fault:?}: {}", stage.paths().len());
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    let stage = Stage::new();
    let once = [Fault::Status(500), Fault::Status(502), Fault::Status(429), Fault::Reset, Fault::HangUp].map(|fault| (fault, 1));
    for (fault, times) in once.into_iter().chain([(Fault::Status(503), 2)]) {
        for outcome in stage.outcomes("", times as usize + 1, |fake| fake.fault(fault.clone().times(times))) {
            outcome.unwrap();
        }
    }
    assert!(stage.log().contains("trying again"), "{}", stage.log());
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    let stage = Stage::new();
    for status in [400, 401, 403, 404, 409] {
        for outcome in stage.outcomes("", 1, |fake| fake.fault(Fault::Status(status))) {
            assert!(line(outcome, ErrorKind::Kms).contains(&format!("the KMS answered {status} ")));
        }
    }
}

#[test]
fn a_service_that_is_busy_is_asked_again_when_it_says() {
    let stage = Stage::new();
    stage.wrap(&[&uri(KEY)]);
    stage.fake.fault(Fault::RetryAfter("1"));
    let (outcome, time) = stage.timed(&wrapping(&[&uri(KEY)]));
    outcome.unwrap();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&time), "{time:?}");
}

#[test]
fn a_service_that_will_be_busy_beyond_the_deadline_is_not_waited_for() {
    let stage = Stage::with(|config| config.deadline_seconds = 5);
    stage.wrap(&[&uri(KEY)]);
    stage.clear();
    stage.fake.fault(Fault::RetryAfter("60"));
    let (outcome, time) = stage.timed(&wrapping(&[&uri(KEY)]));
    assert!(time < Duration::from_secs(2), "{time:?}");
    let line = line(outcome, ErrorKind::Unavailable);
    assert!(line.contains("429 RESOURCE_EXHAUSTED") && line.contains("Quota exceeded"), "{line}");
    assert_eq!(stage.paths().len(), 1);
}

#[test]
fn redirects_are_never_followed() {
    let stage = Stage::new();
    let elsewhere = FakeGcp::start();
    elsewhere.add_key(KEY);
    for outcome in stage.outcomes("", 1, |fake| fake.fault(Fault::Redirect(format!("{}/v1/{KEY}:encrypt", elsewhere.endpoint())))) {
        assert!(line(outcome, ErrorKind::Unavailable).contains("which is never followed"));
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn a_token_service_that_is_slow_or_gone_is_told_within_the_deadline() {
    for fault in [Fault::Slow(Duration::from_secs(60)), Fault::HangUp, Fault::Status(503)] {
        let stage = Stage::with(|config| config.deadline_seconds = 1);
        stage.fake.fault(fault.clone().until_cleared().on_tokens());
        let (outcome, time) = stage.timed(&wrapping(&[&uri(KEY)]));
        assert!(time < Duration::from_secs(2), "{fault:?}: {time:?}");
        assert!(line(outcome, ErrorKind::Unavailable).contains("Google access token"), "{fault:?}");
        assert_eq!(stage.paths().len(), 0, "{fault:?}");
    }
}

#[test]
fn a_token_service_that_fails_once_is_asked_again() {
    for fault in [Fault::Status(503), Fault::HangUp] {
        let stage = Stage::new();
        stage.fake.fault(fault.on_tokens());
        stage.wrap(&[&uri(KEY)]);
    }
}

//! What can go wrong on the way to a service.

use std::time::Duration;

use ocicrypt_kms::ErrorKind::{Corrupt, Unavailable};
use ocicrypt_kms_fakes::{Disturbance, Proxy};

use crate::fixture::{Case, over_http, rows};
use crate::stage::{Stage, refused};

rows![over_http => [
    what_may_pass_is_tried_again,
    a_service_that_stays_busy_is_told_within_the_deadline,
    a_wait_without_end_is_not_begun,
    a_wait_that_is_no_number_of_seconds_is_not_heeded,
    a_length_that_is_a_lie_is_a_broken_connection,
    a_service_that_is_too_slow_is_told_within_the_deadline,
    an_answer_that_is_too_long_is_not_read_to_its_end,
    an_answer_that_was_cut_is_refused,
    a_redirect_is_never_followed,
]];

fn what_may_pass_is_tried_again(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    for fault in [Disturbance::Status(429), Disturbance::Status(503), Disturbance::HangUp, Disturbance::BrokenOff] {
        for (outcome, _) in stage.disturbed(&key, |proxy| proxy.disturb(fault.clone(), 1)) {
            outcome.unwrap_or_else(|failure| panic!("{fault:?}: {}", failure.line));
        }
        assert_eq!(stage.calls(), 2, "{fault:?}");
    }
}

fn a_service_that_stays_busy_is_told_within_the_deadline(case: &Case<'_>) {
    let (stage, key) = (Stage::with_deadline(case, 2), case.create_key());
    for fault in [Disturbance::Status(429), Disturbance::Status(500), Disturbance::HangUp] {
        for (outcome, time) in stage.disturbed(&key, |proxy| proxy.disturb(fault.clone(), 100)) {
            let line = refused(outcome, &[Unavailable]);
            assert!(line.starts_with(&key) && time < Duration::from_secs(3), "{time:?} {line}");
        }
        stage.calls();
    }
}

fn a_wait_without_end_is_not_begun(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    for wait in ["18446744073709551615", "18446744073709551616", "99999999999999999999999999999999"] {
        for (outcome, time) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::RetryAfter(wait), 100)) {
            let line = refused(outcome, &[Unavailable]);
            assert!(line.starts_with(&key) && time < Duration::from_secs(5), "{wait}: {time:?} {line}");
        }
        assert_eq!(stage.calls(), 1, "{wait}");
    }
    stage.wrap(&key);
}

fn a_wait_that_is_no_number_of_seconds_is_not_heeded(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    for wait in ["-1", "1e400", "NaN", "", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for (outcome, _) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::RetryAfter(wait), 1)) {
            outcome.unwrap_or_else(|failure| panic!("{wait}: {}", failure.line));
        }
        assert_eq!(stage.calls(), 2, "{wait}");
    }
}

fn a_length_that_is_a_lie_is_a_broken_connection(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    // The last that HTTP libraries take for a length, and the next, which they don't.
    for length in [1 << 20, u64::MAX - 2, u64::MAX] {
        for (outcome, _) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::Length(length), 1)) {
            outcome.unwrap_or_else(|failure| panic!("{length}: {}", failure.line));
        }
        assert_eq!(stage.calls(), 2, "{length}");
    }
}

fn a_service_that_is_too_slow_is_told_within_the_deadline(case: &Case<'_>) {
    let (stage, key) = (Stage::with_deadline(case, 1), case.create_key());
    for (outcome, time) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::Slow(Duration::from_secs(60)), 100)) {
        let line = refused(outcome, &[Unavailable]);
        assert!(line.starts_with(&key) && time < Duration::from_secs(2), "{time:?} {line}");
    }
}

fn an_answer_that_is_too_long_is_not_read_to_its_end(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    for (outcome, _) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::Oversized(64), 1)) {
        let line = refused(outcome, &[Unavailable]);
        assert!(line.contains("answered more than 524288 bytes"), "{line}");
    }
}

fn an_answer_that_was_cut_is_refused(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    for (outcome, _) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::Truncated, 1)) {
        refused(outcome, &[Corrupt]);
    }
}

fn a_redirect_is_never_followed(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let upstream = case.upstream().unwrap();
    let elsewhere = Proxy::start(&upstream.url, upstream.root.as_deref());
    for (outcome, _) in stage.disturbed(&key, |proxy| proxy.disturb(Disturbance::Redirect(elsewhere.address()), 1)) {
        let line = refused(outcome, &[Unavailable]);
        assert!(line.contains("which is never followed"), "{line}");
    }
    assert_eq!(elsewhere.take_calls(), 0);
}

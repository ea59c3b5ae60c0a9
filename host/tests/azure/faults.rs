//! What can go wrong on the way to a vault, each thing once: what is tried again, what is refused, and how long it takes.

use std::time::Duration;

use ocicrypt_kms::{Error, ErrorKind};
use ocicrypt_kms_fakes::azure::{FakeAzure, Fault};
use ocicrypt_kms_testing::failure;
use ocicrypt_kms_testing::messages::{unwrapping, wrapping};

use super::packets::header;
use super::stage::Stage;
use super::{KEY, OTHER, uri};

/// The line of a failure of this kind, which names the key.
fn line(outcome: Result<Vec<u8>, Error>, kind: ErrorKind) -> String {
    failure::line(outcome, kind, &uri(KEY))
}

#[test]
fn answers_that_are_not_whole_are_refused() {
    let stage = Stage::new();
    for (fault, says) in [
        (Fault::TruncatedJson, "it is not JSON"),
        (Fault::Without("value"), "it holds no `value`"),
        (Fault::Without("kid"), "it is of another key, ``"),
    ] {
        for outcome in stage.outcomes(1, |fake| fake.fault(fault.clone())) {
            assert!(line(outcome, ErrorKind::Corrupt).contains(says), "{fault:?}");
        }
    }
}

#[test]
fn an_answer_for_another_key_is_refused() {
    let stage = Stage::new();
    let version = header(&stage.wrap(&[&uri(KEY)]))["kid"].as_str().unwrap()[KEY.len() + 1..].to_owned();
    let kids = [
        format!("{OTHER}/{version}"),
        format!("https://team.vault.azure.net/keys/k2/{version}"),
        format!("https://team.vault.azure.net/secrets/k/{version}"),
        KEY.to_owned(),
        "nonsense \u{1b}[2J".to_owned(),
    ];
    for kid in kids {
        for outcome in stage.outcomes(1, |fake| fake.fault(Fault::Kid(kid.clone()))) {
            let line = line(outcome, ErrorKind::Corrupt);
            assert!(line.contains("it is of another key") && !line.contains('\u{1b}'), "{line}");
        }
    }
    // A version that was asked for must be the one that answers. A wrap asked for none.
    let [wrapped, unwrapped] = stage.outcomes(1, |fake| fake.fault(Fault::Kid(format!("{KEY}/{}", "0".repeat(32)))));
    wrapped.unwrap();
    assert!(line(unwrapped, ErrorKind::Corrupt).contains("it is of another key"));
}

#[test]
fn a_content_key_that_was_damaged_on_its_way_does_not_open_the_packet() {
    let stage = Stage::new();
    let [_, unwrapped] = stage.outcomes(1, |fake| fake.fault(Fault::Flipped));
    assert!(line(unwrapped, ErrorKind::Corrupt).contains("the packet was changed"));
}

#[test]
fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let stage = Stage::new();
    for outcome in stage.outcomes(1, |fake| fake.fault(Fault::Oversized(64))) {
        assert!(line(outcome, ErrorKind::Unavailable).contains("answered more than 524288 bytes"));
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
fn what_may_pass_is_tried_again() {
    let stage = Stage::new();
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Status(429), Fault::HangUp] {
        for outcome in stage.outcomes(2, |fake| fake.fault(fault.clone())) {
            outcome.unwrap();
        }
    }
    assert!(stage.log().contains("trying again"), "{}", stage.log());
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    let stage = Stage::new();
    for status in [400, 401, 403, 404, 409] {
        for outcome in stage.outcomes(1, |fake| fake.fault(Fault::Status(status))) {
            assert!(line(outcome, ErrorKind::Kms).contains(&format!("the KMS answered {status} ")));
        }
    }
}

#[test]
fn a_vault_that_will_be_busy_beyond_the_deadline_is_not_waited_for() {
    let stage = Stage::with(|config| config.deadline_seconds = 5);
    stage.wrap(&[&uri(KEY)]);
    stage.fake.fault(Fault::RetryAfter("60"));
    let (outcome, time) = stage.timed(&wrapping(&[&uri(KEY)]));
    assert!(time < Duration::from_secs(2), "{time:?}");
    let line = line(outcome, ErrorKind::Unavailable);
    assert!(line.contains("429 Throttled: Request was not processed because too many requests"), "{line}");
}

#[test]
fn redirects_are_never_followed() {
    let stage = Stage::new();
    let elsewhere = FakeAzure::start();
    for outcome in stage.outcomes(1, |fake| fake.fault(Fault::Redirect(format!("{}/keys/k/wrapkey", elsewhere.endpoint())))) {
        assert!(line(outcome, ErrorKind::Unavailable).contains("which is never followed"));
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn a_challenge_for_another_service_is_refused_and_no_token_is_asked_for_in_its_name() {
    let stage = Stage::new();
    for resource in ["https://vault.azure.net.example.com", "https://management.azure.com", "https://other.vault.azure.net"] {
        let challenge = format!("Bearer authorization=\"https://login.example.com/{resource}\", resource=\"{resource}\"");
        for outcome in stage.outcomes(1, |fake| fake.fault(Fault::Challenge(challenge.clone()))) {
            let line = line(outcome, ErrorKind::Kms);
            let says = format!("it wants a token for `{resource}`, which is not the domain of team.vault.azure.net");
            assert!(line.contains(&says) && line.contains("check `[azure] endpoint`"), "{line}");
        }
    }
    assert!(stage.asked().iter().all(|asked| asked.ends_with("--scope https://vault.azure.net/.default")), "{:?}", stage.asked());
}

//! What a service does with its keys.

use ocicrypt_kms::ErrorKind::{Corrupt, InvalidInput, Kms};
use ocicrypt_kms_testing::messages::OPTS_DATA;
use serde_json::Value;

use crate::fixture::{Case, always, rows};
use crate::stage::{Stage, refused};

rows![
    always => [
        what_was_wrapped_unwraps,
        a_wrap_and_an_unwrap_are_one_call_each,
        two_keys_are_two_packets_and_either_unwraps_alone,
        another_key_does_not_unwrap,
        a_key_that_is_not_there_is_named,
        a_uri_that_leads_elsewhere_is_refused_before_any_call,
    ],
    |fixture| fixture.can_disable() => [a_disabled_key_is_named_with_a_remedy],
    |fixture| fixture.can_deny() => [a_caller_without_permission_is_told_which_key_and_what_to_do],
    |fixture| fixture.binds_context() => [a_context_is_bound],
    |fixture| !fixture.binds_context() => [a_key_that_can_not_bind_a_context_refuses_one],
];

fn what_was_wrapped_unwraps(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let annotation = stage.wrap(&key);
    let packet: Value = serde_json::from_slice(&annotation).unwrap();
    assert_eq!(packet["key_url"], key);
    assert_eq!(stage.unwrap(&[&key], &annotation).unwrap(), OPTS_DATA);
}

fn a_wrap_and_an_unwrap_are_one_call_each(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let expected = usize::from(case.upstream().is_some());
    let annotation = stage.wrap(&key);
    assert_eq!(stage.calls(), expected);
    stage.unwrap(&[&key], &annotation).unwrap();
    assert_eq!(stage.calls(), expected);
}

fn two_keys_are_two_packets_and_either_unwraps_alone(case: &Case<'_>) {
    let (stage, one, other) = (Stage::new(case), case.create_key(), case.create_key());
    let annotation = stage.try_wrap(&[&one, &other]).unwrap();
    for key in [&one, &other] {
        assert_eq!(stage.unwrap(&[key], &annotation).unwrap(), OPTS_DATA);
    }
}

fn another_key_does_not_unwrap(case: &Case<'_>) {
    let (stage, one, other) = (Stage::new(case), case.create_key(), case.create_key());
    let mut packet: Value = serde_json::from_slice(&stage.wrap(&one)).unwrap();
    packet["key_url"] = other.clone().into();
    let line = refused(stage.unwrap(&[&other], packet.to_string().as_bytes()), &[Kms, Corrupt, InvalidInput]);
    assert!(line.contains(&other), "{line}");
}

fn a_key_that_is_not_there_is_named(case: &Case<'_>) {
    let (stage, missing) = (Stage::new(case), case.missing_key());
    let line = refused(stage.try_wrap(&[&missing]), &[Kms]);
    assert!(line.starts_with(&missing), "{line}");
}

fn a_disabled_key_is_named_with_a_remedy(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let annotation = stage.wrap(&key);
    case.disable(&key);
    for outcome in [stage.try_wrap(&[&key]), stage.unwrap(&[&key], &annotation)] {
        let line = refused(outcome, &[Kms]);
        assert!(line.starts_with(&key), "{line}");
    }
}

fn a_caller_without_permission_is_told_which_key_and_what_to_do(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let annotation = stage.wrap(&key);
    case.deny(&key);
    for outcome in [stage.try_wrap(&[&key]), stage.unwrap(&[&key], &annotation)] {
        let line = refused(outcome, &[Kms]);
        assert!(line.starts_with(&key), "{line}");
    }
}

fn a_uri_that_leads_elsewhere_is_refused_before_any_call(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let mut packet: Value = serde_json::from_slice(&stage.wrap(&key)).unwrap();
    stage.calls();
    for uri in case.elsewhere() {
        refused(stage.try_wrap(&[uri]), &[InvalidInput]);
        packet["key_url"] = (*uri).into();
        assert!(stage.unwrap(&[&key], packet.to_string().as_bytes()).is_err(), "{uri}");
    }
    assert_eq!(stage.calls(), 0);
}

fn a_context_is_bound(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let with = |entries: &str| format!("{key}{}{entries}", if key.contains('?') { '&' } else { '?' });
    let annotation = stage.wrap(&with("context_a=1"));
    let mut packet: Value = serde_json::from_slice(&annotation).unwrap();
    for parameter in [key.clone(), with("context_a=1")] {
        assert_eq!(stage.unwrap(&[&parameter], &annotation).unwrap(), OPTS_DATA);
    }
    for changed in [key.clone(), with("context_a=2"), with("context_b=1"), with("context_a=1&context_b=2")] {
        packet["key_url"] = changed.clone().into();
        refused(stage.unwrap(&[&key], packet.to_string().as_bytes()), &[Kms, Corrupt, InvalidInput]);
    }
    // And one that had none gets none.
    let mut packet: Value = serde_json::from_slice(&stage.wrap(&key)).unwrap();
    packet["key_url"] = with("context_a=1").into();
    refused(stage.unwrap(&[&key], packet.to_string().as_bytes()), &[Kms, Corrupt, InvalidInput]);
}

fn a_key_that_can_not_bind_a_context_refuses_one(case: &Case<'_>) {
    let (stage, key) = (Stage::new(case), case.create_key());
    let uri = format!("{key}{}context_a=1", if key.contains('?') { '&' } else { '?' });
    let line = refused(stage.try_wrap(&[&uri]), &[InvalidInput, Kms]);
    assert!(line.contains("context"), "{line}");
}

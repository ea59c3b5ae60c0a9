//! Exchanges with a host that writes down what it is asked for.

use ocicrypt_kms_protocol::bytes;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::keys::KmsFailure;
use crate::keys::fake::{FakeHost, FakeKey};

const GCP: &str = "gcpkms://projects/p/k";
const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/k";
const OPTS_DATA: &[u8] = br#"{"symkey":"a"}"#;
const NAME: &str = "kmscrypt";

/// A host with one key of each kind.
fn host() -> FakeHost {
    FakeHost::default()
        .with(GCP, FakeKey::kms())
        .with(&format!("awskms:///{ARN}"), FakeKey::kms())
        .with("local://a", FakeKey::key_wrap("A256KW"))
        .with("local://b", FakeKey::key_wrap("A256KW"))
}

fn unavailable() -> Error {
    Error::Unavailable("no answer".into())
}

fn message(operation: Operation, parameters: &[&str], payload: &[u8]) -> Vec<u8> {
    let values: Vec<_> = parameters.iter().map(|value| format!("\"{}\"", bytes::encode(value.as_bytes()))).collect();
    let (op, params, config, member) = match operation {
        Operation::Wrap => ("keywrap", "keywrapparams", "ec", "optsdata"),
        Operation::Unwrap => ("keyunwrap", "keyunwrapparams", "dc", "annotation"),
    };
    let (values, payload) = (values.join(","), bytes::encode(payload));
    format!(r#"{{"op":"{op}","{params}":{{"{config}":{{"Parameters":{{"{NAME}":[{values}]}}}},"{member}":"{payload}"}}}}"#).into_bytes()
}

fn answered(host: &FakeHost, operation: Operation, parameters: &[&str], defaults: &[&str], payload: &[u8]) -> Result<Vec<u8>, Error> {
    let defaults: Vec<_> = defaults.iter().map(|&uri| uri.to_owned()).collect();
    let answer = exchange(host, NAME, &defaults, &message(operation, parameters, payload))?;
    Ok(Answer::parse(operation, &answer).expect("answers are well-formed").result.to_vec())
}

fn wrapped(host: &FakeHost, recipients: &[&str]) -> Result<Vec<Packet>, Error> {
    let annotation = answered(host, Operation::Wrap, recipients, &[], OPTS_DATA)?;
    Ok(annotation::parse(&annotation).expect("annotations are well-formed"))
}

fn unwrapped(host: &FakeHost, parameters: &[&str], packets: &[Packet]) -> Result<Vec<u8>, Error> {
    answered(host, Operation::Unwrap, parameters, &[], &annotation::write(packets))
}

/// Packets that a host with all keys made, one for each URI.
fn packets(uris: &[&str]) -> Vec<Packet> {
    let host = host();
    uris.iter().flat_map(|uri| wrapped(&host, &[uri]).unwrap()).collect()
}

/// The URIs of the packets.
fn uris(packets: &[Packet]) -> Vec<&str> {
    packets.iter().map(|packet| packet.key_url.as_str()).collect()
}

fn invalid_reason<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::InvalidInput(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_recipient_gives_one_packet_and_takes_one_use_of_one_key() {
    let host = host();
    let annotation = answered(&host, Operation::Wrap, &[GCP], &[], OPTS_DATA).unwrap();
    assert!(annotation.starts_with(br#"{"key_url":"gcpkms://"#), "one packet is an object");
    assert_eq!(host.log(), [format!("open wrap {GCP}"), format!("encrypt {GCP}")]);
    assert_eq!(unwrapped(&host, &[], &annotation::parse(&annotation).unwrap()).unwrap(), OPTS_DATA);
}

#[test]
fn several_recipients_give_their_packets_in_order_and_all_keys_open_before_one_is_used() {
    let host = host();
    let packets = wrapped(&host, &["local://b", GCP, "local://a?context_x=1"]).unwrap();
    assert_eq!(uris(&packets), ["local://b", GCP, "local://a?context_x=1"]);
    let types: Vec<_> = packets.iter().map(|packet| packet.wrap_type.clone()).collect();
    assert_eq!(types, [WrapType::Jwe, WrapType::Kms, WrapType::Jwe]);
    let expected = [
        "open wrap local://b",
        "open wrap gcpkms://projects/p/k",
        "open wrap local://a?context_x=1",
        "wrap-key for A256GCM local://b",
        "encrypt gcpkms://projects/p/k",
        "wrap-key for A256GCM local://a?context_x=1",
    ];
    assert_eq!(host.log(), expected);
    for packet in packets {
        assert_eq!(unwrapped(&host, &[], std::slice::from_ref(&packet)).unwrap(), OPTS_DATA, "{}", packet.key_url);
    }
}

#[test]
fn no_key_is_used_if_one_of_them_does_not_open() {
    let host = host().with("local://b", FakeKey::key_wrap("A256KW").failing_to_open(unavailable()));
    assert!(matches!(wrapped(&host, &[GCP, "local://b", "local://a"]), Err(Error::Unavailable(_))));
    assert_eq!(host.log(), [format!("open wrap {GCP}"), "open wrap local://b".into()]);
}

#[test]
fn nothing_is_answered_if_one_of_the_keys_can_not_be_used() {
    let host = host().with("local://b", FakeKey::key_wrap("A256KW").failing(unavailable()));
    assert!(matches!(wrapped(&host, &[GCP, "local://b"]), Err(Error::Unavailable(_))));
}

#[test]
fn no_key_opens_if_one_of_the_recipients_is_no_key_uri() {
    for bad in ["nonsense", "gcpkm://projects/p/k", "local://a?contxt_x=1"] {
        let host = host();
        assert!(invalid_reason(wrapped(&host, &[GCP, bad])).contains(bad), "the error names it");
        assert!(host.log().is_empty(), "{bad}");
    }
}

#[test]
fn a_recipient_that_is_named_twice_gets_one_packet() {
    let host = host();
    let packets = wrapped(&host, &[GCP, "local://a", "gcp-kms://projects/p/k", "local://a"]).unwrap();
    assert_eq!(uris(&packets), [GCP, "local://a"]);
    let packets = wrapped(&host, &["local://a?context_y=2&context_x=1", "local://a?context_x=1&context_y=2", "local://a"]).unwrap();
    assert_eq!(uris(&packets), ["local://a?context_x=1&context_y=2", "local://a"]);
}

#[test]
fn defaults_are_taken_only_if_no_recipient_is_named() {
    let wrap = |parameters: &[&str], defaults: &[&str]| answered(&host(), Operation::Wrap, parameters, defaults, OPTS_DATA);
    let annotation = wrap(&["Enabled", ""], &["gcp-kms://projects/p/k", "local://a"]).unwrap();
    assert_eq!(uris(&annotation::parse(&annotation).unwrap()), [GCP, "local://a"]);
    let annotation = wrap(&["Enabled", "local://b"], &[GCP]).unwrap();
    assert_eq!(uris(&annotation::parse(&annotation).unwrap()), ["local://b"]);
    assert_eq!(invalid_reason(wrap(&[], &[])), "no key to wrap with was named");
    let other = message(Operation::Wrap, &["local://a"], OPTS_DATA);
    let outcome = exchange(&host(), "other", &[], &other).map(drop);
    assert_eq!(invalid_reason(outcome), "no key to wrap with was named", "another provider's parameter is not ours");
}

#[test]
fn more_than_sixteen_recipients_are_refused_before_a_key_opens() {
    let names: Vec<_> = (0..=MAX_PACKETS).map(|number| format!("local://k{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let host = names.iter().fold(FakeHost::default(), |host, name| host.with(name, FakeKey::kms()));
    assert_eq!(invalid_reason(wrapped(&host, &names)), "more than 16 keys to wrap with were named");
    assert!(host.log().is_empty());
    assert_eq!(uris(&wrapped(&host, &names[1..]).unwrap()), names[1..]);
    let twice = [&names[1..], &names[1..]].concat();
    assert_eq!(uris(&wrapped(&host, &twice).unwrap()), names[1..], "those named twice count once");
}

#[test]
fn opts_data_that_are_no_bytes_are_refused_before_a_key_opens() {
    let host = host();
    let text = br#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"kmscrypt":["bG9jYWw6Ly9h"]}},"optsdata":"*"}}"#;
    assert!(invalid_reason(exchange(&host, NAME, &[], text).map(drop)).contains("`optsdata`"));
    assert!(host.log().is_empty());
}

#[test]
fn the_originals_packet_is_made_and_unwrapped_byte_for_byte() {
    let annotation = bytes::decode(include_str!("../../../protocol/samples/annotation-gcp-aes.b64").trim()).unwrap();
    let packet = annotation::parse(&annotation).unwrap().remove(0);
    let host = FakeHost::default().with(&packet.key_url, FakeKey::kms().knowing(packet.wrapped_key.as_slice(), OPTS_DATA));
    let made = answered(&host, Operation::Wrap, &[&packet.key_url], &[], OPTS_DATA).unwrap();
    assert_eq!(made, annotation.as_slice());
    for parameters in [vec![], vec![packet.key_url.as_str()]] {
        assert_eq!(answered(&host, Operation::Unwrap, &parameters, &[], &annotation).unwrap(), OPTS_DATA);
    }
}

#[test]
fn a_parameter_chooses_its_packet_and_no_other_opens() {
    let host = host();
    let packets = packets(&[GCP, "local://a", "local://b"]);
    assert_eq!(unwrapped(&host, &["local://b"], &packets).unwrap(), OPTS_DATA);
    assert_eq!(host.opened(), ["local://b"]);
    unwrapped(&host, &["local://b", "gcp-kms://projects/p/k"], &packets).unwrap();
    assert_eq!(host.opened()[1..], [GCP], "the order is the annotation's, and the first success answers");
}

#[test]
fn a_packet_may_say_more_in_its_query_than_the_parameter_and_its_own_uri_opens() {
    let packets = packets(&["local://a?context_x=1&context_y=2"]);
    for parameter in ["local://a", "local://a?context_x=1", "local://a?context_y=2", "local://a?context_y=2&context_x=1"] {
        let host = host();
        assert_eq!(unwrapped(&host, &[parameter], &packets).unwrap(), OPTS_DATA, "{parameter}");
        assert_eq!(host.opened(), ["local://a?context_x=1&context_y=2"]);
    }
    for parameter in ["local://a?context_x=2", "local://a?context_x=1&context_z=3", "local://a?context_x=", "local://b?context_x=1"] {
        let host = host();
        assert!(matches!(unwrapped(&host, &[parameter], &packets), Err(Error::NoMatchingKey(_))), "{parameter}");
        assert!(host.log().is_empty());
    }
}

#[test]
fn a_parameter_never_matches_by_a_part_of_a_name_or_value() {
    let key = FakeKey::key_wrap("A256KW");
    let host = host().with("local://ab", key);
    let packets = wrapped(&host, &["local://ab?context_x=12"]).unwrap();
    for parameter in ["local://a", "local://ab?context_x=1", "local://b?context_x=12"] {
        assert!(matches!(unwrapped(&host, &[parameter], &packets), Err(Error::NoMatchingKey(_))), "{parameter}");
    }
}

#[test]
fn if_no_packet_matches_the_error_names_the_keys_that_there_are_packets_for() {
    let host = host();
    match unwrapped(&host, &["local://b"], &packets(&[GCP, "local://a?context_x=1"])) {
        Err(Error::NoMatchingKey(reason)) => assert_eq!(reason, format!("the annotation is for {GCP}, local://a?context_x=1")),
        other => panic!("{other:?}"),
    }
    assert!(host.log().is_empty());
}

#[test]
fn without_parameters_packets_are_tried_in_order_until_one_answers() {
    let host = host().with("local://a", FakeKey::key_wrap("A256KW").failing(unavailable()));
    let packets = packets(&["local://a", GCP, "local://b"]);
    for parameters in [&[][..], &["Enabled"]] {
        assert_eq!(unwrapped(&host, parameters, &packets).unwrap(), OPTS_DATA);
    }
    assert_eq!(host.opened(), ["local://a", GCP, "local://a", GCP]);
}

#[test]
fn a_single_failure_is_reported_as_itself() {
    let failure = KmsFailure { status: 403, code: "PERMISSION_DENIED".into(), message: "no".into() };
    let key = || FakeKey::kms();
    for key in [key().failing_to_open(Error::Kms(failure.clone())), key().failing(Error::Kms(failure))] {
        let host = host().with(GCP, key);
        for (parameters, packets) in [(vec![], packets(&[GCP])), (vec![GCP], packets(&["local://a", GCP]))] {
            match unwrapped(&host, &parameters, &packets) {
                Err(Error::Kms(failure)) => assert_eq!((failure.status, failure.code.as_str()), (403, "PERMISSION_DENIED")),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn several_failures_are_reported_each_with_its_reason() {
    let failure = KmsFailure { status: 403, code: "PERMISSION_DENIED".into(), message: "no".into() };
    let host = FakeHost::default()
        .with(GCP, FakeKey::kms().failing(Error::Kms(failure)))
        .with("local://a", FakeKey::key_wrap("A256KW").failing_to_open(unavailable()));
    let mut packets = packets(&[GCP, "local://a", "local://b", "local://a"]);
    packets[3].key_url = "nonsense://x".into();
    let Err(Error::AllFailed(attempts)) = unwrapped(&host, &[], &packets) else { panic!("all of them fail") };
    let attempts: Vec<_> = attempts.iter().map(|tried| (tried.key_uri.as_str(), tried.kind.as_str(), tried.message.as_str())).collect();
    let expected = [
        (GCP, "kms", "403 PERMISSION_DENIED: no"),
        ("local://a", "unavailable", "no answer"),
        ("local://b", "denied", "local://b is not lent"),
        ("nonsense://x", "invalid-input", r#""nonsense://x" is no key URI"#),
    ];
    assert_eq!(attempts, expected);
}

#[test]
fn a_packet_with_a_malformed_uri_does_not_hide_the_good_ones() {
    let mut packets = packets(&["local://a", "local://b"]);
    packets[0].key_url = "nonsense://x".into();
    let host = host();
    assert_eq!(unwrapped(&host, &[], &packets).unwrap(), OPTS_DATA);
    assert_eq!(unwrapped(&host, &["local://b"], &packets).unwrap(), OPTS_DATA);
    assert_eq!(host.opened(), ["local://b", "local://b"]);
    assert!(matches!(unwrapped(&host, &["local://a"], &packets), Err(Error::NoMatchingKey(_))));
    assert!(invalid_reason(unwrapped(&host, &[], &packets[..1])).contains("nonsense"));
}

#[test]
fn a_packet_of_an_unknown_type_opens_no_key_and_does_not_hide_the_good_ones() {
    let mut packets = packets(&["local://a", "local://b"]);
    packets[0].wrap_type = WrapType::Unknown("COSE".into());
    let host = host();
    assert_eq!(unwrapped(&host, &[], &packets).unwrap(), OPTS_DATA);
    assert_eq!(host.opened(), ["local://b"]);
    assert!(invalid_reason(unwrapped(&host, &["local://a"], &packets)).contains("neither `AES` nor `JWE`"));
    assert_eq!(host.opened(), ["local://b"]);
}

#[test]
fn a_parameter_that_is_no_key_uri_is_an_error_before_a_key_opens() {
    let host = host();
    assert!(invalid_reason(unwrapped(&host, &["local://a", "nonsense"], &packets(&["local://a"]))).contains("nonsense"));
    assert!(host.log().is_empty());
}

#[test]
fn a_packet_of_another_type_than_its_key_makes_is_refused_and_the_key_not_used() {
    for (uri, wrap_type, implied) in [("local://a", WrapType::Kms, "JWE"), (GCP, WrapType::Jwe, "AES")] {
        let mut packets = packets(&[uri]);
        let is = wrap_type.as_str().to_owned();
        packets[0].wrap_type = wrap_type;
        let host = host();
        let reason = invalid_reason(unwrapped(&host, &[uri], &packets));
        assert_eq!(reason, format!("the packet's `wrap_type` is {is}, but its key makes packets of type {implied}"));
        assert_eq!(host.log(), [format!("open unwrap {uri}")]);
    }
}

#[test]
fn another_providers_packet_with_a_bare_arn_and_no_type_unwraps() {
    let ciphertext = bytes::encode(&packets(&[ARN])[0].wrapped_key);
    let annotation = format!(r#"{{"key_url":"{ARN}","wrapped_key":"{ciphertext}"}}"#);
    for parameters in [&[][..], &[ARN], &["awskms:///arn:aws:kms:eu-west-1:111122223333:key/k"]] {
        assert_eq!(answered(&host(), Operation::Unwrap, parameters, &[], annotation.as_bytes()).unwrap(), OPTS_DATA);
    }
}

#[test]
fn defaults_are_not_for_unwrapping() {
    let host = host();
    answered(&host, Operation::Unwrap, &[], &["local://b"], &annotation::write(&packets(&["local://a"]))).unwrap();
    assert_eq!(host.opened(), ["local://a"]);
}

/// A URI from a set that is small enough for parameters and packets to meet.
fn any_uri() -> impl Strategy<Value = &'static str> {
    let known =
        [GCP, "gcp-kms://projects/p/k", ARN, "local://a", "local://b", "local://a?context_x=1", "local://a?context_x=1&context_y=2"];
    let unknown = ["local://unknown", "nonsense", "nonsense://x", "", "Enabled", "local://a?", "local://a?context_x=1&context_x=1"];
    prop_oneof![4 => select(known.to_vec()), 1 => select(unknown.to_vec())]
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let made = packets(&[GCP, ARN, "local://a", "local://b", "local://a?context_x=1"]);
    let changed = (select(made.clone()), any_uri(), any::<bool>()).prop_map(|(packet, uri, jwe)| Packet {
        key_url: uri.into(),
        wrap_type: if jwe { WrapType::Jwe } else { WrapType::Kms },
        ..packet
    });
    prop_oneof![3 => select(made), 1 => changed]
}

/// Whether one of `named` allows `uri` to be opened, judged on the entries themselves rather than on text.
fn allowed(host: &FakeHost, named: &[&str], uri: &str, operation: Operation) -> bool {
    let split = |uri: &str| {
        let uri = host.canonical_uri(uri).ok()?;
        let (key, query) = uri.split_once('?').unwrap_or((&uri, ""));
        Some((key.to_owned(), query.split('&').filter(|entry| !entry.is_empty()).map(str::to_owned).collect::<Vec<_>>()))
    };
    let Some((key, entries)) = split(uri) else { return false };
    named.iter().filter_map(|uri| split(uri)).any(|(named, asked)| match operation {
        Operation::Wrap => named == key && asked == entries,
        Operation::Unwrap => named == key && asked.iter().all(|entry| entries.contains(entry)),
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    select(vec![Operation::Wrap, Operation::Unwrap])
}

proptest! {
    #[test]
    fn no_key_opens_that_was_not_named_and_none_for_the_other_operation(
        operation in any_operation(),
        parameters in prop::collection::vec(any_uri(), 1..4),
        packets in prop::collection::vec(any_packet(), 1..5),
    ) {
        let host = host();
        let payload = if operation == Operation::Wrap { OPTS_DATA.to_vec() } else { annotation::write(&packets) };
        let outcome = answered(&host, operation, &parameters, &[], &payload);
        let named: Vec<_> = parameters.into_iter().filter(|uri| !["", "Enabled"].contains(uri)).collect();
        if !named.is_empty() {
            for uri in host.opened() {
                prop_assert!(allowed(&host, &named, &uri, operation), "{uri} opened for {named:?}");
            }
        }
        let other = if operation == Operation::Wrap { "open unwrap" } else { "open wrap" };
        prop_assert!(!host.log().iter().any(|step| step.starts_with(other)));
        if let (Operation::Unwrap, Ok(opts_data)) = (operation, outcome) {
            prop_assert_eq!(opts_data, OPTS_DATA);
        }
    }

    #[test]
    fn what_was_wrapped_unwraps_with_each_of_its_recipients(
        recipients in prop::collection::vec(select(vec![GCP, ARN, "local://a", "local://b?context_x=1"]), 1..9),
        opts_data: Vec<u8>,
        chosen: Index,
    ) {
        let host = host();
        let annotation = answered(&host, Operation::Wrap, &recipients, &[], &opts_data).unwrap();
        for parameters in [&[][..], &[*chosen.get(&recipients)]] {
            prop_assert_eq!(&answered(&host, Operation::Unwrap, parameters, &[], &annotation).unwrap(), &opts_data);
        }
    }

    #[test]
    fn no_bytes_make_an_exchange_panic(
        bytes: Vec<u8>,
        operation in any_operation(),
        parameters in prop::collection::vec(any_uri(), 0..3),
        packets in prop::collection::vec(any_packet(), 1..3),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let payload = annotation::write(&packets);
        let mut changed_payload = payload.clone();
        let mut changed = message(operation, &parameters, &payload);
        for (at, byte) in changes {
            *at.get_mut(&mut changed_payload) = byte;
            *at.get_mut(&mut changed) = byte;
        }
        for text in [bytes, changed, message(operation, &parameters, &changed_payload)] {
            let host = host();
            let _ = exchange(&host, NAME, &["local://b".into()], &text);
            prop_assert!(host.opened().len() <= MAX_PACKETS);
        }
    }
}

//! No bytes make the component panic or open a key that it may not: the fake host panics where one is misused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_component::keys::Host;
use ocicrypt_kms_component::keys::fake::{FakeHost, FakeKey};
use ocicrypt_kms_component::recipients::exchange;
use ocicrypt_kms_protocol::{Answer, MAX_PACKETS, Message, Operation, bytes};

const NAME: &str = "kmscrypt";
const DEFAULT: &str = "local://default";

fuzz_target!(|input: &[u8]| {
    check(input);
    // The same bytes as an annotation: a fuzzer doesn't find base64 by itself.
    for values in ["", r#""bG9jYWw6Ly9h""#] {
        let annotation = bytes::encode(input);
        check(
            format!(
                r#"{{"op":"keyunwrap","keyunwrapparams":{{"dc":{{"Parameters":{{"{NAME}":[{values}]}}}},"annotation":"{annotation}"}}}}"#
            )
            .as_bytes(),
        );
    }
});

fn check(text: &[u8]) {
    let host = FakeHost::default()
        .with("gcpkms://projects/p/k", FakeKey::kms())
        .with("awskms:///arn:aws:kms:eu-west-1:111122223333:key/k", FakeKey::kms())
        .with("local://a", FakeKey::key_wrap("A256KW"))
        .with("local://b", FakeKey::key_wrap("A256KW").with_header("kid", "\"1\""))
        .with(DEFAULT, FakeKey::kms());
    let outcome = exchange(&host, NAME, &[DEFAULT.to_owned()], text);
    let Ok(message) = Message::parse(text) else {
        assert!(outcome.is_err() && host.log().is_empty());
        return;
    };
    let operation = message.operation();
    if let Ok(answer) = outcome {
        Answer::parse(operation, &answer).expect("answers are well-formed");
    }
    let mut named = message.values(NAME).unwrap_or_default();
    if named.is_empty() && operation == Operation::Wrap {
        named.push(DEFAULT.to_owned());
    }
    check_opened(&host, operation, &named);
}

fn check_opened(host: &FakeHost, operation: Operation, named: &[String]) {
    let opened = host.opened();
    assert!(opened.len() <= MAX_PACKETS);
    let others = if operation == Operation::Wrap { "open unwrap " } else { "open wrap " };
    assert!(!host.log().iter().any(|step| step.starts_with(others)), "{:?}", host.log());
    if !named.is_empty() {
        let key = |uri: &str| host.canonical_uri(uri).map(|uri| uri.split('?').next().unwrap_or_default().to_owned()).ok();
        for uri in opened {
            assert!(key(&uri).is_some() && named.iter().any(|named| key(named) == key(&uri)), "{uri} for {named:?}");
        }
    }
}

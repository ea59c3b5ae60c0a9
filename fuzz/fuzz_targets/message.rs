//! No bytes make the reader of messages panic, and what a guest is given says the same as the client's message, of its own provider.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_protocol::{Message, Operation};

const REPLACEMENT: &str = "local://k?context_a=\"";

fuzz_target!(|text: &[u8]| {
    let Ok(message) = Message::parse(text) else { return };
    for parameter in message.parameters().chain([message.parameter("kmscrypt")]) {
        let provider = parameter.provider();
        match message.for_provider(&parameter, None) {
            Ok(anew) => check_same(&message, provider, &anew),
            Err(error) => assert_eq!(message.values(provider), Err(error)),
        }
        if let Ok(anew) = message.for_provider(&parameter, Some(REPLACEMENT)) {
            let replaced = Message::parse(&anew).expect("what was written anew reads");
            assert_eq!(replaced.values(provider).as_deref(), Ok([REPLACEMENT.to_owned()].as_slice()));
        }
    }
});

fn check_same(message: &Message<'_>, provider: &str, anew: &[u8]) {
    let again = Message::parse(anew).expect("what was written anew reads");
    assert_eq!(again.operation(), message.operation());
    assert_eq!(again.spelling(), message.spelling());
    assert_eq!(again.values(provider), message.values(provider));
    match message.operation() {
        Operation::Wrap => assert_eq!(again.opts_data(), message.opts_data()),
        Operation::Unwrap => assert_eq!(again.annotation(), message.annotation()),
    }
    assert!(again.parameters().all(|parameter| parameter.provider() == provider), "nothing of other providers is left");
    assert_eq!(again.for_provider(&again.parameter(provider), None).as_deref().map(Vec::as_slice), Ok(anew));
}

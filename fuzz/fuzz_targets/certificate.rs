//! No certificate makes the reader of its names panic, and what it says of one is a line without control characters. An input is a certificate in DER,
//! or the length of a subject in one byte, a subject and alternative names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::caller::{Caller, Identity};
use ocicrypt_kms_fuzz::error::printable;
use ocicrypt_kms_fuzz::server::{identity, named};

fuzz_target!(|bytes: &[u8]| {
    check(identity(bytes));
    let Some((&length, rest)) = bytes.split_first() else { return };
    if let Some((subject, names)) = rest.split_at_checked(length.into()) {
        check(named(subject, names));
        // A subject is the same whatever stands beside it.
        if let (Some(alone), Some(identity)) = (named(subject, b"\x30\0"), named(subject, names)) {
            assert_eq!(alone.subject, identity.subject);
        }
    }
});

fn check(identity: Option<Identity>) {
    let Some(identity) = identity else { return };
    assert!(identity.subject.len() <= 1024 && identity.dns.len() <= 16, "{identity:?}");
    assert!(identity.dns.iter().all(|name| name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_graphic())), "{identity:?}");
    assert!(identity.spiffe.iter().all(|id| id.len() <= 2048 && id.bytes().all(|byte| byte.is_ascii_graphic())), "{identity:?}");
    for text in [&identity.subject, &Caller::Certificate(Box::new(identity.clone())).to_string()] {
        let text = format!("-{text}-");
        assert_eq!(printable(&text, text.len()), text);
    }
}

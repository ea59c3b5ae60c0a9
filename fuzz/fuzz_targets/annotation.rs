//! No bytes make the readers of annotations and JWEs panic, and an annotation that is read and written says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_component::annotation::{WrapType, parse, write};
use ocicrypt_kms_component::jwe;
use ocicrypt_kms_protocol::MAX_PACKETS;

fuzz_target!(|bytes: &[u8]| {
    describe(bytes);
    let Ok(packets) = parse(bytes) else { return };
    assert!((1..=MAX_PACKETS).contains(&packets.len()));
    for packet in &packets {
        if packet.wrap_type == WrapType::Jwe {
            describe(&packet.wrapped_key);
        }
    }
    let written = write(&packets);
    assert_eq!(parse(&written).expect("what was written reads"), packets);
    assert_eq!(written.starts_with(b"["), packets.len() > 1);
});

fn describe(compact: &[u8]) {
    let Ok(members) = jwe::describe(compact) else { return };
    assert!(members.iter().all(|(name, _)| ["alg", "enc", "kid"].contains(&name.as_str())) && members.len() <= 3, "{members:?}");
}

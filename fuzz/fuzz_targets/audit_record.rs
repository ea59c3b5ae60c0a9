//! No line makes the reader of audit records panic; what is read is what stands there, and no byte of it can be changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::audit::record::{Flaw, read};
use ocicrypt_kms_fuzz::digest::Digest;

/// What stands between the text that is hashed and its hash.
const HASH: &str = ",\"hash\":\"";

fuzz_target!(|text: &[u8]| {
    let outcome = read(text);
    if let Ok(record) = &outcome {
        assert_eq!(record.line.as_bytes(), text);
    }
    // Random bytes have no hash that fits: the same text is tried again with one.
    let text = text.windows(HASH.len()).rposition(|window| window == HASH.as_bytes()).map_or(text, |end| &text[..end]);
    let mut line = text.to_vec();
    line.extend_from_slice(format!("{HASH}{}\"}}", Digest::of(text)).as_bytes());
    match read(&line) {
        Ok(record) => {
            assert_eq!(record.position.hash, Digest::of(text));
            let changed = text.len() / 2;
            line[changed] ^= 1;
            assert!(read(&line).is_err());
        }
        Err(flaw) => assert!(matches!(flaw, Flaw::Malformed(_)), "{flaw}"),
    }
});

//! Vectors of the RFCs, tables of refused JWEs, and properties that hold for all of them.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::keys::fake::{FakeHost, FakeKey, LentKey};
use crate::keys::{KmsFailure, Usage};

const RFC7516_A1: &str = include_str!("../../samples/rfc7516-a1.jwe");
const RFC7520_5_2: &str = include_str!("../../samples/rfc7520-5.2.jwe");
const RFC7520_5_8: &str = include_str!("../../samples/rfc7520-5.8.jwe");
/// What both JWEs of RFC 7520 hold (its figure 72, with two en dashes).
const FRODO: &str = "You can trust us to stick with you through thick and thin–to the bitter end. And you can trust us to keep any secret of \
    yours–closer than you keep it yourself. But you cannot trust us to let you face trouble alone, and go off without a word. We are \
    your friends, Frodo.";

const KEY: &str = "local://k";
const ALG_ENC: &str = r#"{"alg":"A256KW","enc":"A256GCM"}"#;
const CEK: [u8; CEK_LENGTH] = [7; CEK_LENGTH];
const IV: [u8; IV_LENGTH] = [9; IV_LENGTH];

fn base64url(text: &str) -> Vec<u8> {
    BASE64URL.decode(text).unwrap()
}

fn parts(compact: &str) -> Vec<&str> {
    compact.trim_end().split('.').collect()
}

fn host() -> FakeHost {
    FakeHost::default().with(KEY, FakeKey::key_wrap("A256KW"))
}

/// Borrows the key that `uri` names.
fn lent(host: &FakeHost, uri: &str, usage: Usage) -> (LentKey, KeyInfo) {
    let key = host.open(uri, usage).unwrap();
    let info = key.info();
    (key, info)
}

fn encrypt_with(host: &FakeHost, uri: &str, plaintext: &[u8]) -> Result<String, Error> {
    let (key, info) = lent(host, uri, Usage::Wrap);
    encrypt(host, &key, &info, plaintext)
}

fn decrypt_with(host: &FakeHost, uri: &str, compact: &[u8]) -> Result<Vec<u8>, Error> {
    let (key, info) = lent(host, uri, Usage::Unwrap);
    decrypt(&key, &info, compact).map(|plaintext| plaintext.to_vec())
}

/// A JWE for [`KEY`] with this protected header, valid in all else.
fn sealed(header: &str, plaintext: &[u8]) -> String {
    let header = BASE64URL.encode(header);
    let sealed = cipher(&CEK).encrypt(nonce(&IV), Payload { msg: plaintext, aad: header.as_bytes() }).unwrap();
    let (ciphertext, tag) = sealed.split_at(plaintext.len());
    let encrypted_key = [b"local://k\0".as_slice(), &CEK].concat();
    let [encrypted_key, iv, ciphertext, tag] = [encrypted_key.as_slice(), &IV, ciphertext, tag].map(|part| BASE64URL.encode(part));
    format!("{header}.{encrypted_key}.{iv}.{ciphertext}.{tag}")
}

fn malformed_reason(compact: &str) -> String {
    let host = host();
    match decrypt_with(&host, KEY, compact.as_bytes()) {
        Err(Error::InvalidInput(reason)) => {
            assert_eq!(host.log(), [format!("open unwrap {KEY}")], "the key is not used for what is malformed");
            reason
        }
        other => panic!("{compact}: {other:?}"),
    }
}

fn corrupt_reason(outcome: Result<Vec<u8>, Error>) -> String {
    match outcome {
        Err(Error::Corrupt(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_rfc_7516_appendix_a_1_is_made_exactly_and_opened() {
    let cek = [
        177, 161, 244, 128, 84, 143, 225, 115, 63, 180, 3, 255, 107, 154, 212, 246, 138, 7, 110, 91, 112, 46, 34, 105, 47, 130, 203, 46,
        122, 234, 64, 252,
    ];
    let plaintext = b"The true sign of intelligence is not knowledge but imagination.";
    let encrypted_key = base64url(parts(RFC7516_A1)[1]);
    let iv = [227, 197, 117, 252, 2, 219, 233, 68, 180, 225, 77, 219];
    let key = FakeKey::key_wrap("RSA-OAEP").knowing(encrypted_key, cek);
    let host = FakeHost::default().with(KEY, key).with_random([cek.as_slice(), &iv].concat());
    assert_eq!(encrypt_with(&host, KEY, plaintext).unwrap(), RFC7516_A1.trim_end());
    assert_eq!(decrypt_with(&host, KEY, RFC7516_A1.trim_end().as_bytes()).unwrap(), plaintext);
}

#[test]
fn the_example_of_rfc_7520_section_5_2_is_opened_and_its_kid_reaches_the_host() {
    let encrypted_key = base64url(parts(RFC7520_5_2)[1]);
    let cek = base64url("mYMfsggkTAm0TbvtlFh2hyoXnbEzJQjMxmgLN3d8xXA");
    let host = FakeHost::default().with(KEY, FakeKey::key_wrap("RSA-OAEP").knowing(encrypted_key, cek));
    assert_eq!(decrypt_with(&host, KEY, RFC7520_5_2.trim_end().as_bytes()).unwrap(), FRODO.as_bytes());
    let header = r#"{"alg":"RSA-OAEP","kid":"samwise.gamgee@hobbiton.example","enc":"A256GCM"}"#;
    assert_eq!(host.log()[1], format!("unwrap-key by {header} {KEY}"));
}

#[test]
fn the_example_of_rfc_7520_section_5_8_is_refused_for_its_content_encryption() {
    let host = FakeHost::default().with(KEY, FakeKey::key_wrap("A128KW"));
    let error = decrypt_with(&host, KEY, RFC7520_5_8.trim_end().as_bytes()).unwrap_err();
    assert!(matches!(&error, Error::InvalidInput(reason) if reason.ends_with("`enc` is not A256GCM")), "{error:?}");
}

#[test]
fn what_the_host_wants_protected_is_in_the_header_and_comes_back_to_it() {
    let key = FakeKey::key_wrap("ECDH-ES+A256KW").with_header("kid", r#""3\u00e9""#).with_header("epk", r#"{"kty":"EC"}"#);
    let host = FakeHost::default().with(KEY, key);
    let compact = encrypt_with(&host, KEY, b"opts").unwrap();
    let header = r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"3\u00e9","epk":{"kty":"EC"}}"#;
    assert_eq!(base64url(parts(&compact)[0]), header.as_bytes());
    assert_eq!(decrypt_with(&host, KEY, compact.as_bytes()).unwrap(), b"opts");
    assert_eq!(host.log()[3], format!("unwrap-key by {header} {KEY}"));
    let described = [("alg", "ECDH-ES+A256KW"), ("enc", "A256GCM"), ("kid", "3é")];
    assert_eq!(describe(compact.as_bytes()).unwrap(), described.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn each_jwe_has_its_own_key_and_iv() {
    let host = host();
    let [first, second] = [(), ()].map(|()| encrypt_with(&host, KEY, b"opts").unwrap());
    for (part, what) in [(1, "encrypted key"), (2, "IV"), (3, "ciphertext"), (4, "tag")] {
        assert_ne!(parts(&first)[part], parts(&second)[part], "{what}");
    }
}

#[test]
fn a_jwe_opens_only_with_the_context_that_it_was_made_with() {
    let host = host();
    let compact = encrypt_with(&host, "local://k?context_b=2&context_a=1", b"opts").unwrap();
    assert_eq!(base64url(parts(&compact)[0]), br#"{"alg":"A256KW","enc":"A256GCM","context":{"a":"1","b":"2"}}"#);
    assert_eq!(decrypt_with(&host, "local://k?context_a=1&context_b=2", compact.as_bytes()).unwrap(), b"opts");
    for other in ["", "?context_a=1", "?context_a=1&context_b=3", "?context_a=1&context_b=2&context_c=3", "?context_a=2&context_b=1"] {
        let reason = corrupt_reason(decrypt_with(&host, &format!("local://k{other}"), compact.as_bytes()));
        assert_eq!(reason, "the packet's context is not that of the key URI", "{other}");
    }
    let without = encrypt_with(&host, KEY, b"opts").unwrap();
    corrupt_reason(decrypt_with(&host, "local://k?context_a=1", without.as_bytes()));
}

#[test]
fn a_context_that_is_no_map_of_texts_matches_none() {
    for context in ["1", "[]", r#""a""#, r#"{"a":1}"#, r#"{"a":"1","b":null}"#] {
        let compact = sealed(&format!(r#"{{"alg":"A256KW","enc":"A256GCM","context":{context}}}"#), b"opts");
        for uri in [KEY, "local://k?context_a=1"] {
            corrupt_reason(decrypt_with(&host(), uri, compact.as_bytes()));
        }
    }
}

#[test]
fn headers_that_this_key_did_not_make_are_refused_before_it_is_used() {
    let alg = "`alg` is not A256KW, which this key wraps by";
    let enc = "`enc` is not A256GCM";
    let cases = [
        (r#"{"alg":"A128KW","enc":"A256GCM"}"#, alg),
        (r#"{"alg":"a256kw","enc":"A256GCM"}"#, alg),
        (r#"{"alg":"RSA1_5","enc":"A256GCM"}"#, alg),
        (r#"{"alg":"dir","enc":"A256GCM"}"#, alg),
        (r#"{"alg":["A256KW"],"enc":"A256GCM"}"#, alg),
        (r#"{"alg":null,"enc":"A256GCM"}"#, alg),
        (r#"{"enc":"A256GCM"}"#, alg),
        (r#"{"alg":"A256KW","enc":"A128GCM"}"#, enc),
        (r#"{"alg":"A256KW","enc":"A128CBC-HS256"}"#, enc),
        (r#"{"alg":"A256KW","enc":"A256GCM "}"#, enc),
        (r#"{"alg":"A256KW"}"#, enc),
        (r#"{"alg":"A256KW","enc":"A256GCM","crit":["context"]}"#, "`crit` is not supported"),
        (r#"{"alg":"A256KW","enc":"A256GCM","crit":null}"#, "`crit` is not supported"),
        (r#"{"alg":"A256KW","enc":"A256GCM","\u0063rit":[]}"#, "`crit` is not supported"),
        (r#"{"alg":"A256KW","enc":"A256GCM","zip":"DEF"}"#, "`zip` is not supported"),
        (r#"{"alg":"A256KW","enc":"A256GCM","kid":"1","kid":"2"}"#, r#"has the member "kid" twice"#),
        (r#"{"alg":"RSA1_5","enc":"A256GCM","\u0061lg":"A256KW"}"#, r#"has the member "alg" twice"#),
        (r#"{"alg":"A256KW","enc":"A256GCM","context":{"a":"1","a":"1"}}"#, r#"has the member "a" twice"#),
        ("", "the header is not JSON (line 1, column 0)"),
        ("null", "the header is not a JSON object"),
        (r#"[{"alg":"A256KW","enc":"A256GCM"}]"#, "the header is not a JSON object"),
        (r#"{"alg":"A256KW","enc":"A256GCM"}{}"#, "the header is not JSON (line 1, column 33)"),
    ];
    assert_eq!(decrypt_with(&host(), KEY, sealed(ALG_ENC, b"opts").as_bytes()).unwrap(), b"opts", "all else in them is valid");
    for (header, expected) in cases {
        let reason = malformed_reason(&sealed(header, b"opts"));
        assert!(reason.ends_with(expected), "{header}: {reason}");
    }
}

#[test]
fn keys_that_a_header_brings_along_are_not_looked_at() {
    let members = r#""jwk":7,"jku":"http://127.0.0.1/","x5u":[],"x5c":null,"typ":"JOSE","cty":{}"#;
    let compact = sealed(&format!(r#"{{ {members}, "enc" : "A256GCM", "alg" : "A256KW" }}"#), b"opts");
    assert_eq!(decrypt_with(&host(), KEY, compact.as_bytes()).unwrap(), b"opts");
}

#[test]
fn text_that_is_no_compact_serialisation_is_refused_before_the_key_is_used() {
    let valid = sealed(ALG_ENC, b"opts");
    let [header, encrypted_key, iv, ciphertext, tag]: [&str; 5] = parts(&valid).try_into().unwrap();
    let with = |parts: [&str; 5]| parts.join(".");
    let (long, short) = (BASE64URL.encode([0; 16]), BASE64URL.encode([0; 8]));
    let cases = [
        (String::new(), "five parts"),
        ([header, encrypted_key, iv, ciphertext].join("."), "five parts"),
        (format!("{valid}."), "five parts"),
        (format!(".{valid}"), "five parts"),
        (format!("{valid}\n"), "not base64url"),
        (format!(" {valid}"), "not base64url"),
        (with([header, encrypted_key, iv, &format!("{ciphertext} "), tag]), "not base64url"),
        (with([header, encrypted_key, iv, &format!("{ciphertext}=="), tag]), "not base64url"),
        (with([header, encrypted_key, iv, ciphertext, &format!("{tag}==")]), "not base64url"),
        (with([header, encrypted_key, iv, "+/+/", tag]), "not base64url"),
        // The last character has bits that belong to no byte: there is one spelling of each part.
        (with([header, encrypted_key, iv, "AB", tag]), "not base64url"),
        (with([header, encrypted_key, iv, "A", tag]), "not base64url"),
        (with([header, encrypted_key, &long, ciphertext, tag]), "wrong length"),
        (with([header, encrypted_key, &short, ciphertext, tag]), "wrong length"),
        (with([header, encrypted_key, "", ciphertext, tag]), "wrong length"),
        (with([header, encrypted_key, iv, ciphertext, &BASE64URL.encode(&base64url(tag)[..12])]), "wrong length"),
        (with([header, encrypted_key, iv, ciphertext, &BASE64URL.encode([base64url(tag), vec![0]].concat())]), "wrong length"),
        (with([header, encrypted_key, iv, ciphertext, ""]), "wrong length"),
        (with([&BASE64URL.encode([b'{', 0xff, b'}']), encrypted_key, iv, ciphertext, tag]), "the header is not text"),
        (format!(r#"{{"protected":"{header}"}}"#), "five parts"),
    ];
    for (compact, expected) in cases {
        let reason = malformed_reason(&compact);
        assert!(reason.ends_with(expected), "{compact}: {reason}");
    }
    let error = decrypt_with(&host(), KEY, &[0xff; 9]).unwrap_err();
    assert!(matches!(&error, Error::InvalidInput(reason) if reason.ends_with("it is not text")), "{error:?}");
}

#[test]
fn a_flipped_bit_anywhere_is_an_error() {
    let valid = sealed(ALG_ENC, br#"{"symkey":"a"}"#);
    let parts = parts(&valid);
    for (part, text) in parts.iter().enumerate() {
        let bytes = base64url(text);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = BASE64URL.encode(flipped);
            let mut parts = parts.clone();
            parts[part] = &flipped;
            assert!(decrypt_with(&host(), KEY, parts.join(".").as_bytes()).is_err(), "part {part}, bit {bit}");
        }
    }
}

#[test]
fn a_wrong_key_and_a_wrong_tag_give_the_same_error() {
    let host = host().with("local://other", FakeKey::key_wrap("A256KW"));
    let compact = encrypt_with(&host, KEY, b"opts").unwrap();
    let wrong_key = corrupt_reason(decrypt_with(&host, "local://other", compact.as_bytes()));
    let reason_with = |part: usize, bytes: &[u8]| {
        let (mut parts, text) = (parts(&compact), BASE64URL.encode(bytes));
        parts[part] = &text;
        corrupt_reason(decrypt_with(&host, KEY, parts.join(".").as_bytes()))
    };
    assert_eq!(reason_with(4, &[0; TAG_LENGTH]), wrong_key);
    for length in [0, 16, 31, 33] {
        let encrypted_key = [b"local://k\0".as_slice(), &vec![7; length]].concat();
        assert_eq!(reason_with(1, &encrypted_key), wrong_key, "a key of {length} bytes");
    }
}

#[test]
fn an_error_of_the_host_is_passed_on() {
    let failure = KmsFailure { status: 403, code: "PERMISSION_DENIED".into(), message: "no".into() };
    let host = FakeHost::default().with(KEY, FakeKey::key_wrap("A256KW").failing(Error::Kms(failure)));
    let valid = sealed(ALG_ENC, b"opts");
    assert!(matches!(encrypt_with(&host, KEY, b"opts"), Err(Error::Kms(failure)) if failure.status == 403));
    assert!(matches!(decrypt_with(&host, KEY, valid.as_bytes()), Err(Error::Kms(failure)) if failure.status == 403));
}

/// One change to a text, at a place that is chosen by an index.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    Swap(Index, Index),
}

impl Mutation {
    fn any() -> impl Strategy<Value = Self> {
        // Mostly characters of base64url: others are refused at once.
        let byte = || prop_oneof![8 => prop::sample::select(b"ABCDwxyz0189-_.".to_vec()), 1 => any::<u8>()];
        prop_oneof![
            (any::<Index>(), byte()).prop_map(|(at, byte)| Self::Replace(at, byte)),
            (any::<Index>(), byte()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            any::<Index>().prop_map(Self::Remove),
            any::<Index>().prop_map(Self::Truncate),
            (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Self::Swap(one, other)),
        ]
    }

    fn apply(&self, text: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        match self {
            Self::Replace(at, byte) => *at.get_mut(text) = *byte,
            Self::Insert(at, byte) => text.insert(at.index(text.len() + 1), *byte),
            Self::Remove(at) => drop(text.remove(at.index(text.len()))),
            Self::Truncate(at) => text.truncate(at.index(text.len())),
            Self::Swap(one, other) => {
                let length = text.len();
                text.swap(one.index(length), other.index(length));
            }
        }
    }
}

proptest! {
    #[test]
    fn what_was_encrypted_is_decrypted(plaintext: Vec<u8>, context in "(\\?context_[a-z]{1,8}=[a-z0-9%]{0,8})?") {
        let (host, uri) = (host(), format!("{KEY}{context}"));
        let compact = encrypt_with(&host, &uri, &plaintext).unwrap();
        prop_assert_eq!(decrypt_with(&host, &uri, compact.as_bytes()).unwrap(), plaintext);
    }

    #[test]
    fn a_jwe_that_was_changed_never_decrypts(plaintext: Vec<u8>, mutations in prop::collection::vec(Mutation::any(), 1..4)) {
        let host = host();
        let compact = encrypt_with(&host, KEY, &plaintext).unwrap().into_bytes();
        let mut changed = compact.clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut changed));
        prop_assume!(changed != compact);
        prop_assert!(decrypt_with(&host, KEY, &changed).is_err());
    }

    #[test]
    fn no_bytes_make_decrypting_or_describing_panic(bytes: Vec<u8>, text in "[A-Za-z0-9_.{}:\" =-]{0,99}") {
        for compact in [bytes.as_slice(), text.as_bytes()] {
            prop_assert!(decrypt_with(&host(), KEY, compact).is_err());
            let _ = describe(compact);
        }
    }
}

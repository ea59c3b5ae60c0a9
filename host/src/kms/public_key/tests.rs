//! Vectors of the RFCs, keys that must not pass, and that everything else gives an error.

use std::sync::LazyLock;

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, agree};
use ocicrypt_kms_protocol::json::Value;
use proptest::prelude::*;

use super::*;
use crate::key_uri::Algorithm;
use crate::kms::Header;
use crate::kms::keystore::{Curve, CurveKey, Material, RsaKey, write_ephemeral};

const CEK: [u8; 32] = [7; 32];

/// RFC 7518 appendix C: the sender's key of one use and the recipient's key.
const ALICE: &str = r#"{"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps","d":"0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo"}"#;
const BOB: &str = r#"{"kty":"EC","crv":"P-256","x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ","y":"e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck","d":"VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw"}"#;
/// RFC 8037 appendix A.6: the recipient's key, and the sender's.
const BOB_X25519: &str =
    r#"{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08","d":"XasIfmJKikt54X-Lg4AO5m87sSkmGLb9HC-LJ_-I4Os"}"#;
const ALICE_X25519: &str =
    r#"{"kty":"OKP","crv":"X25519","x":"hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo","d":"dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo"}"#;

static RSA: LazyLock<RsaKey> = LazyLock::new(|| match generate(Algorithm::RsaOaep256, Curve::P256).unwrap().key {
    Material::Rsa(key) => key,
    _ => unreachable!(),
});

fn jwk(text: &str) -> Jwk {
    Jwk::parse(Value::parse(text.as_bytes()).unwrap()).unwrap()
}

fn on_curve(text: &str) -> CurveKey {
    match jwk(text).key {
        Material::Curve(key) => key,
        _ => panic!("{text}"),
    }
}

fn public_half(key: &CurveKey) -> CurveKey {
    CurveKey { curve: key.curve, public: key.public.clone(), private: None }
}

fn base64url(text: &str) -> Vec<u8> {
    BASE64URL.decode(text).unwrap()
}

/// The secret that the first key's private half and the second's public half agree on.
fn secret(mine: &CurveKey, other: &CurveKey) -> Vec<u8> {
    let private = PrivateKey::from_private_key(agreement::algorithm(mine.curve), &**mine.private.as_ref().unwrap()).unwrap();
    let public = UnparsedPublicKey::new(agreement::algorithm(other.curve), &other.public);
    agree(&private, public, (), |secret| Ok(secret.to_vec())).unwrap()
}

fn header(epk: impl Into<Option<String>>) -> Header {
    Header { epk: epk.into(), ..Header::default() }
}

#[test]
fn the_example_of_rfc_7518_appendix_c_is_derived() {
    let (alice, bob) = (on_curve(ALICE), on_curve(BOB));
    let z = [
        158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128, 106, 72, 246, 218, 167,
        121, 140, 254, 144, 196,
    ];
    assert_eq!((secret(&alice, &bob), secret(&bob, &alice)), (z.to_vec(), z.to_vec()));
    let mut key = [0; 16];
    agreement::derive(&z, b"A128GCM", b"Alice", b"Bob", &mut key).unwrap();
    assert_eq!(BASE64URL.encode(key), "VqqN6vgjbSBcIijNcacQGg");
}

#[test]
fn the_agreement_of_rfc_8037_appendix_a_6_holds() {
    let (alice, bob) = (on_curve(ALICE_X25519), on_curve(BOB_X25519));
    let z = "Sl2dW6TOLeFyjjv0gDUPJeB-IclH0Z4zdvCbPB4WF0I";
    assert_eq!((secret(&alice, &bob), secret(&bob, &alice)), (base64url(z), base64url(z)));
}

#[test]
fn the_thumbprint_of_rfc_7638_section_3_1_is_computed() {
    let key = jwk(concat!(
        r#"{"kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"#,
        r#"ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha"#,
        r#"jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#
    ));
    assert_eq!(thumbprint(&key).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    assert_eq!(thumbprint(&Jwk::generate_symmetric().unwrap()), None, "a hash of a secret tells too much");
}

#[test]
fn new_keys_wrap_unwrap_and_survive_being_written() {
    for curve in [Curve::P256, Curve::X25519] {
        let made = generate(Algorithm::EcdhEsA256Kw, curve).unwrap();
        assert_eq!(made.kid, thumbprint(&made));
        let key = on_curve(std::str::from_utf8(&made.write()).unwrap());
        let [first, second] = [(), ()].map(|()| agreement::wrap(&public_half(&key), &CEK).unwrap());
        assert!(first.encrypted_key != second.encrypted_key && first.epk != second.epk, "the sender's key has one use");
        assert_eq!(agreement::unwrap(&key, &first.encrypted_key, &header(first.epk)).unwrap().as_slice(), CEK);
    }
    let written = Jwk { kid: None, key: Material::Rsa(RsaKey { n: RSA.n.clone(), e: RSA.e.clone(), private: None }) }.write();
    let Material::Rsa(public) = jwk(std::str::from_utf8(&written).unwrap()).key else { panic!() };
    assert_eq!(public.n.len(), 384);
    assert_eq!(rsa::unwrap(&RSA, &rsa::wrap(&public, &CEK).unwrap()).unwrap().as_slice(), CEK);
}

#[test]
fn a_public_half_unwraps_nothing() {
    for key in [BOB, BOB_X25519] {
        let key = public_half(&on_curve(key));
        let wrapped = agreement::wrap(&key, &CEK).unwrap();
        assert_eq!(agreement::unwrap(&key, &wrapped.encrypted_key, &header(wrapped.epk)).unwrap_err(), Failure::PublicOnly);
    }
    let public = RsaKey { n: RSA.n.clone(), e: RSA.e.clone(), private: None };
    assert_eq!(rsa::unwrap(&public, &rsa::wrap(&public, &CEK).unwrap()).unwrap_err(), Failure::PublicOnly);
}

#[test]
fn what_the_header_says_of_the_parties_is_part_of_the_key() {
    let bob = on_curve(BOB);
    let wrapped = agreement::wrap(&bob, &CEK).unwrap();
    let unwrap = |apu: &[u8], apv: &[u8]| {
        let header = Header { epk: Some(wrapped.epk.clone()), apu: apu.to_vec(), apv: apv.to_vec(), ..Header::default() };
        agreement::unwrap(&bob, &wrapped.encrypted_key, &header)
    };
    assert_eq!(unwrap(b"", b"").unwrap().as_slice(), CEK);
    for (apu, apv) in [(&b"Alice"[..], &b""[..]), (b"", b"Bob"), (b"\0", b"")] {
        assert_eq!(unwrap(apu, apv).unwrap_err(), Failure::Mismatch);
    }
}

/// Points of small order (RFC 7748 section 6.1 has them give the all-zero secret): the u-coordinates 0 and 1, and one of order 8.
fn of_small_order() -> Vec<Vec<u8>> {
    let mut one = vec![0; 32];
    one[0] = 1;
    vec![vec![0; 32], one, base64url("4Ot6fDtBuK4WVuP68Z_EatoJjeucMrH9hmIFFl9JuAA")]
}

fn off_curve() -> Vec<u8> {
    let mut point = on_curve(BOB).public;
    *point.last_mut().unwrap() ^= 1;
    point
}

#[test]
fn a_public_key_that_is_no_safe_point_of_its_curve_wraps_nothing() {
    let points = of_small_order().into_iter().map(|point| (Curve::X25519, point)).chain([(Curve::P256, off_curve())]);
    for (curve, public) in points {
        let key = CurveKey { curve, public, private: None };
        assert!(matches!(agreement::wrap(&key, &CEK), Err(Failure::Key(reason)) if reason.contains("not a point")));
    }
}

#[test]
fn an_epk_that_is_no_safe_point_of_its_curve_unwraps_nothing() {
    let wrapped = agreement::wrap(&on_curve(BOB), &CEK).unwrap().encrypted_key;
    let unwrap = |key: &str, curve, point: &[u8]| agreement::unwrap(&on_curve(key), &wrapped, &header(write_ephemeral(curve, point)));
    for point in of_small_order() {
        assert_eq!(unwrap(BOB_X25519, Curve::X25519, &point).unwrap_err(), Failure::Mismatch);
    }
    assert_eq!(unwrap(BOB, Curve::P256, &off_curve()).unwrap_err(), Failure::Mismatch);
}

#[test]
fn an_epk_that_is_missing_or_of_another_kind_is_told() {
    let bob = on_curve(BOB);
    let wrapped = agreement::wrap(&bob, &CEK).unwrap().encrypted_key;
    let reason = |epk: Option<&str>| match agreement::unwrap(&bob, &wrapped, &header(epk.map(str::to_owned))) {
        Err(Failure::Header(reason)) => reason,
        other => panic!("{epk:?}: {other:?}"),
    };
    assert_eq!(reason(None), "it has no `epk`");
    let public = r#"{"kty":"EC","crv":"P-256","x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ"}"#;
    for epk in ["", "{}", "[]", "null", "7", public, ALICE, ALICE_X25519, r#"{"kty":"oct","k":"AAAA"}"#, r#"{"kty":"EC","kty":"EC"}"#] {
        assert_eq!(reason(Some(epk)), "its `epk` is no public key of the key's curve", "{epk}");
    }
}

#[test]
fn halves_that_do_not_belong_together_are_refused() {
    for (public, private) in [(BOB, ALICE), (BOB_X25519, ALICE_X25519)] {
        let wrapped = agreement::wrap(&on_curve(public), &CEK).unwrap();
        let key = CurveKey { private: on_curve(private).private, ..on_curve(public) };
        let failure = agreement::unwrap(&key, &wrapped.encrypted_key, &header(wrapped.epk)).unwrap_err();
        assert!(matches!(failure, Failure::Key(reason) if reason.contains("belong together")), "{failure:?}");
    }
    let other = generate(Algorithm::RsaOaep256, Curve::P256).unwrap();
    let Material::Rsa(other) = other.key else { panic!() };
    let key = RsaKey { n: RSA.n.clone(), e: RSA.e.clone(), private: other.private };
    assert!(matches!(rsa::unwrap(&key, &[0; 384]).unwrap_err(), Failure::Key(_)));
}

#[test]
fn rsa_keys_outside_the_bounds_are_refused() {
    let modulus = |bytes: usize| {
        let mut n = vec![0xff; bytes];
        n[bytes / 2] = 0x5a;
        n
    };
    let wrap = |n: Vec<u8>, e: &[u8]| rsa::wrap(&RsaKey { n, e: e.to_vec(), private: None }, &CEK);
    assert!(wrap(modulus(256), &[1, 0, 1]).is_ok(), "all else in the following is valid");
    for (bytes, e) in [
        (128, &[1, 0, 1][..]),
        (255, &[1, 0, 1]),
        (1025, &[1, 0, 1]),
        (256, &[]),
        (256, &[0]),
        (256, &[1]),
        (256, &[2]),
        (256, &[1, 0, 0]),
        (256, &[1, 0, 0, 0, 0, 1]),
    ] {
        assert!(matches!(wrap(modulus(bytes), e), Err(Failure::Key(_))), "{bytes} {e:?}");
    }
    let mut even = modulus(256);
    *even.last_mut().unwrap() = 0xfe;
    assert!(wrap(even, &[1, 0, 1]).is_err(), "an even modulus");
}

#[test]
fn a_flipped_bit_of_an_encrypted_key_is_a_mismatch() {
    let bob = on_curve(BOB_X25519);
    let wrapped = agreement::wrap(&bob, &CEK).unwrap();
    for bit in 0..wrapped.encrypted_key.len() * 8 {
        let mut flipped = wrapped.encrypted_key.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(agreement::unwrap(&bob, &flipped, &header(wrapped.epk.clone())).unwrap_err(), Failure::Mismatch);
    }
    let encrypted = rsa::wrap(&RSA, &CEK).unwrap();
    for byte in [0, 1, 100, 383] {
        let mut flipped = encrypted.clone();
        flipped[byte] ^= 1;
        assert_eq!(rsa::unwrap(&RSA, &flipped).unwrap_err(), Failure::Mismatch);
    }
}

proptest! {
    #[test]
    fn no_bytes_and_no_header_make_unwrapping_panic(bytes: Vec<u8>, epk in "[{}\":,a-zA-Z0-9_-]{0,200}", point: [u8; 32], apu: Vec<u8>) {
        for key in [BOB, BOB_X25519] {
            let key = on_curve(key);
            let epks = [epk.clone(), write_ephemeral(Curve::X25519, &point), write_ephemeral(Curve::P256, &[&[4][..], &point, &point].concat())];
            for epk in epks {
                let header = Header { epk: Some(epk), apu: apu.clone(), ..Header::default() };
                prop_assert!(agreement::unwrap(&key, &bytes, &header).is_err());
            }
        }
        prop_assert_eq!(rsa::unwrap(&RSA, &bytes).unwrap_err(), Failure::Mismatch);
    }
}

//! What reads as a key, what doesn't, and that nothing of a key is ever quoted.

use proptest::prelude::*;

use super::*;

const P256: &str =
    r#""kty":"EC","crv":"P-256","x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ","y":"e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck""#;

fn parse(text: &str) -> Result<Jwk, String> {
    Jwk::parse(Value::parse(text.as_bytes()).map_err(|error| error.to_string())?)
}

fn with(members: &str) -> Result<Jwk, String> {
    parse(&format!("{{{P256}{members}}}"))
}

#[test]
fn how_a_key_wraps_follows_from_its_type() {
    let table = [
        (r#"{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#, Algorithm::A256Kw, None, true),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, Algorithm::RsaOaep256, None, false),
        (
            r#"{"kty":"RSA","n":"AQAB","e":"Aw","d":"AQ","p":"AQ","q":"AQ","dp":"AQ","dq":"AQ","qi":"AQ"}"#,
            Algorithm::RsaOaep256,
            None,
            true,
        ),
        (&format!("{{{P256}}}"), Algorithm::EcdhEsA256Kw, Some(Curve::P256), false),
        (
            r#"{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08","d":"XasIfmJKikt54X-Lg4AO5m87sSkmGLb9HC-LJ_-I4Os"}"#,
            Algorithm::EcdhEsA256Kw,
            Some(Curve::X25519),
            true,
        ),
    ];
    let hpke = [
        (r#"{"kty":"AKP","alg":"HPKE-9-KE","pub":"AQAB"}"#, Algorithm::Hpke9Ke, None, false),
        (r#"{"kty":"AKP","alg":"HPKE-12-KE","pub":"AQAB","priv":"AQAB"}"#, Algorithm::Hpke12Ke, None, true),
    ];
    for (text, algorithm, curve, secret) in table.into_iter().chain(hpke) {
        let key = parse(text).unwrap();
        assert_eq!((key.algorithm(), key.curve(), key.is_secret()), (algorithm, curve, secret), "{text}");
        assert_eq!(key.write_public("v").is_some(), algorithm != Algorithm::A256Kw, "{text}");
    }
}

#[test]
fn what_a_key_is_for_may_be_said_and_must_be_right() {
    for members in [
        r#","alg":"ECDH-ES+A256KW""#,
        r#","use":"enc""#,
        r#","key_ops":["deriveKey"]"#,
        r#","key_ops":["wrapKey","unwrapKey"]"#,
        r#","key_ops":[]"#,
        r#","alg":null,"use":null,"ext":true,"kid":"1""#,
    ] {
        assert!(with(members).is_ok(), "{members}");
    }
    for (members, says) in [
        (r#","alg":"ES256""#, "another algorithm than ECDH-ES+A256KW"),
        (r#","alg":"ECDH-ES""#, "another algorithm"),
        (r#","alg":7"#, "another algorithm"),
        (r#","use":"sig""#, "`use` is not `enc`"),
        (r#","key_ops":["sign"]"#, "`key_ops`"),
        (r#","key_ops":["deriveKey","sign"]"#, "`key_ops`"),
        (r#","key_ops":"deriveKey""#, "`key_ops`"),
    ] {
        assert!(with(members).err().unwrap().contains(says), "{members}");
    }
}

#[test]
fn what_is_no_whole_key_is_refused() {
    for (text, says) in [
        (r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#, "another curve"),
        (r#"{"kty":"EC","crv":"X25519","x":"AA","y":"AA"}"#, "another curve"),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#, "another curve"),
        (r#"{"kty":"OKP","crv":"X25519"}"#, "has no `x`"),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#, "`x` that is not of 32 bytes"),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA=="}"#, "`x` that is not base64url"),
        (r#"{"kty":"RSA","n":"AQAB"}"#, "has no `e`"),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQ"}"#, "has no `p`"),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB","oth":[]}"#, "more than two primes"),
        (r#"{"kty":"AKP","pub":"AQAB"}"#, "another algorithm than HPKE-9-KE"),
        (r#"{"kty":"AKP","alg":"ML-DSA-65","pub":"AQAB"}"#, "another algorithm than HPKE-9-KE"),
        (r#"{"kty":"AKP","alg":"HPKE-9-KE"}"#, "has no `pub`"),
        (r#"{"kty":"PBM"}"#, "no type that wraps keys"),
        ("{}", "no type that wraps keys"),
        (r#"{"kty":"EC","kty":"oct"}"#, "twice"),
        ("7", "not a JSON object"),
    ] {
        assert!(parse(text).err().unwrap().contains(says), "{text}: {:?}", parse(text).err());
    }
}

#[test]
fn a_public_half_holds_nothing_of_the_private_one() {
    let d = r#","d":"VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw""#;
    let public = with(d).unwrap().write_public("a\"b").unwrap();
    assert!(!public.contains("VEmD") && !public.contains(r#""d""#), "{public}");
    assert_eq!(parse(&public).unwrap().kid.as_deref(), Some("a\"b"));
    assert!(!parse(&public).unwrap().is_secret());
}

#[test]
fn an_ephemeral_key_is_written_as_rfc_7518_has_it() {
    let public = parse_ephemeral(Curve::P256, &format!("{{{P256}}}")).unwrap();
    assert_eq!(write_ephemeral(Curve::P256, &public), format!("{{{P256}}}"));
    assert_eq!(parse_ephemeral(Curve::X25519, &format!("{{{P256}}}")), None);
}

/// A value of a member: of the right form or of none.
fn value() -> impl Strategy<Value = String> {
    let right = prop_oneof![
        prop::sample::select(vec!["oct", "RSA", "EC", "OKP", "AKP", "HPKE-9-KE", "P-256", "X25519", "enc", "A256KW", "AQAB"])
            .prop_map(str::to_owned),
        any::<[u8; 32]>().prop_map(|bytes| BASE64URL.encode(bytes)),
    ];
    prop_oneof![6 => right.prop_map(|text| format!("\"{text}\"")), 1 => prop::sample::select(vec!["7", "null", "[]", "[\"wrapKey\"]", "{}", "\"\""]).prop_map(str::to_owned)]
}

proptest! {
    #[test]
    fn no_members_make_the_reader_panic_and_what_reads_is_written_alike(
        members in prop::collection::btree_map(
            prop::sample::select(vec!["kty", "crv", "x", "y", "d", "n", "e", "p", "q", "dp", "dq", "qi", "k", "pub", "priv", "kid", "alg", "use", "key_ops"]),
            value(),
            0..19,
        )
    ) {
        let text: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        match parse(&format!("{{{}}}", text.join(","))) {
            Ok(key) => {
                let written = String::from_utf8(key.write().to_vec()).unwrap();
                let again = parse(&written).unwrap();
                prop_assert!(written.as_bytes() == again.write().as_slice());
                prop_assert_eq!((key.kid, key.key.kty()), (again.kid, again.key.kty()));
            }
            Err(error) => {
                let quoted = members.values().any(|value| value.len() > 40 && error.contains(value.trim_matches('"')));
                prop_assert!(!quoted, "{}", error);
            }
        }
    }

    #[test]
    fn numbers_of_any_length_come_back_as_they_were(n: Vec<u8>, e: Vec<u8>, private in any::<Option<[Vec<u8>; 6]>>(), kid: Option<String>) {
        let private = private.map(|[d, p, q, dp, dq, qi]| RsaPrivate { d: d.into(), p: p.into(), q: q.into(), dp: dp.into(), dq: dq.into(), qi: qi.into() });
        let key = Jwk { kid: kid.clone(), key: Material::Rsa(RsaKey { n: n.clone(), e: e.clone(), private }) };
        let read = parse(std::str::from_utf8(&key.write()).unwrap()).unwrap();
        let Material::Rsa(read_key) = &read.key else { panic!() };
        prop_assert_eq!((&read.kid, &read_key.n, &read_key.e), (&kid, &n, &e));
        prop_assert!(read.write() == key.write());
    }
}

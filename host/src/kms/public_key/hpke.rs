//! HPKE (RFC 9180) as JOSE key encryption with post-quantum keys: `HPKE-9-KE` by X-Wing, which is ML-KEM-768 and X25519 together, and
//! `HPKE-12-KE` by ML-KEM-768 alone; SHAKE256 and AES-256-GCM.
//!
//! **Experimental.** The algorithms are those of draft-ietf-jose-hpke-pq-pqt-00, used as draft-ietf-jose-hpke-encrypt section 6 says. Earlier
//! drafts gave other meanings to the same names, and later ones may again. The libraries are crates `hpke`, `ml-kem` and `x-wing`, which nobody
//! has audited.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hpke::aead::AesGcm256;
use hpke::kdf::KdfShake256;
use hpke::kem::{MlKem768, XWing};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use zeroize::Zeroizing;

use super::Failure;
use crate::key_uri::Algorithm;
use crate::kms::Header;
use crate::kms::keystore::HpkeKey;

/// The `Recipient_structure` for the one content encryption that there is (draft-ietf-jose-hpke-encrypt section 6.1).
const INFO: &[u8] = b"JOSE-HPKE rcpt\xffA256GCM\xff";
const NO_PUBLIC_KEY: Failure = Failure::Key("its public key is none of its algorithm");
const NO_PRIVATE_KEY: Failure = Failure::Key("its private key is none of its algorithm");

/// A wrapped key and the encapsulated secret, as JSON: the header member `ek`.
pub struct Wrapped {
    /// The JWE Encrypted Key.
    pub encrypted_key: Vec<u8>,
    /// The JSON text of `ek`.
    pub ek: String,
}

/// Wraps for a public key.
///
/// # Errors
/// If the key can't be used.
pub fn wrap(key: &HpkeKey, cek: &[u8]) -> Result<Wrapped, Failure> {
    match key.algorithm {
        Algorithm::Hpke9Ke => seal::<XWing>(&key.public, cek),
        Algorithm::Hpke12Ke => seal::<MlKem768>(&key.public, cek),
        _ => Err(NO_PUBLIC_KEY),
    }
}

/// Unwraps what [`wrap`] answered; the header has its `ek`.
///
/// # Errors
/// If the key has no private half or can't be used, if the header's `ek` has not its length, or if what it is given isn't for it.
pub fn unwrap(key: &HpkeKey, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match key.algorithm {
        Algorithm::Hpke9Ke => open::<XWing>(key, encrypted_key, &header.ek),
        Algorithm::Hpke12Ke => open::<MlKem768>(key, encrypted_key, &header.ek),
        _ => Err(NO_PRIVATE_KEY),
    }
}

pub(super) fn generate(algorithm: Algorithm) -> HpkeKey {
    let (private, public) = match algorithm {
        Algorithm::Hpke9Ke => pair::<XWing>(),
        _ => pair::<MlKem768>(),
    };
    HpkeKey { algorithm, public, private: Some(private) }
}

fn pair<K: Kem>() -> (Zeroizing<Vec<u8>>, Vec<u8>) {
    let (private, public) = K::gen_keypair();
    (Zeroizing::new(private.to_bytes().to_vec()), public.to_bytes().to_vec())
}

fn seal<K: Kem>(public: &[u8], cek: &[u8]) -> Result<Wrapped, Failure> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| NO_PUBLIC_KEY)?;
    let sealed = single_shot_seal::<AesGcm256, KdfShake256, K>(&OpModeS::Base, &public, INFO, cek, b"");
    let (ek, encrypted_key) = sealed.map_err(|_| NO_PUBLIC_KEY)?;
    Ok(Wrapped { encrypted_key, ek: format!("\"{}\"", BASE64URL.encode(ek.to_bytes())) })
}

fn open<K: Kem>(key: &HpkeKey, encrypted_key: &[u8], ek: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let private = K::PrivateKey::from_bytes(key.private.as_ref().ok_or(Failure::PublicOnly)?).map_err(|_| NO_PRIVATE_KEY)?;
    if K::sk_to_pk(&private).to_bytes().as_slice() != key.public {
        return Err(Failure::Key("its public and its private key don't belong together"));
    }
    let ek = K::EncappedKey::from_bytes(ek).map_err(|_| Failure::Header("it has no `ek` of the key's algorithm"))?;
    let opened = single_shot_open::<AesGcm256, KdfShake256, K>(&OpModeR::Base, &private, &ek, INFO, encrypted_key, b"");
    opened.map(Zeroizing::new).map_err(|_| Failure::Mismatch)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::*;
    use crate::kms::keystore::{Curve, Jwk, Material};
    use crate::kms::public_key::{self, thumbprint};

    const CEK: [u8; 32] = [7; 32];
    /// The keys of draft-ietf-jose-hpke-pq-pqt-00 appendix A: `priv` and `kid`.
    const DRAFT: [(Algorithm, &str, &str); 2] = [
        (Algorithm::Hpke9Ke, "q_aDEMZpRAjbiqHwO23vKcgImYieSqUsCK7wWZEsq8Y", "I8THo1KoAq9OG96cJTyk2WF8abZqb3kKKHgdfajHUb8"),
        (
            Algorithm::Hpke12Ke,
            "r5W6TvhlPnuzH-g2OggdYADlRWW7ccGhUd2MADCdAFxZ1oCX1YANTcjXvEVSjYQ6cLYhHgkYPmCqLJkv9JuGlQ",
            "ogbSkvF4f3pRb1dWsBe1HpdXtfiRwZsYrhaxzxlWv_Q",
        ),
    ];

    fn key(algorithm: Algorithm) -> HpkeKey {
        match public_key::generate(algorithm, Curve::P256).unwrap().key {
            Material::Hpke(key) => key,
            _ => unreachable!(),
        }
    }

    fn header(wrapped: &Wrapped) -> Header {
        Header { ek: BASE64URL.decode(wrapped.ek.trim_matches('"')).unwrap(), ..Header::default() }
    }

    fn public_of<K: Kem>(private: &[u8]) -> Vec<u8> {
        K::sk_to_pk(&K::PrivateKey::from_bytes(private).unwrap()).to_bytes().to_vec()
    }

    fn public_from(algorithm: Algorithm, private: &[u8]) -> Vec<u8> {
        if algorithm == Algorithm::Hpke9Ke { public_of::<XWing>(private) } else { public_of::<MlKem768>(private) }
    }

    #[test]
    fn the_seeds_of_the_draft_give_the_public_keys_whose_thumbprints_it_has() {
        for (algorithm, private, kid) in DRAFT {
            let private = BASE64URL.decode(private).unwrap();
            let public = public_from(algorithm, &private);
            let jwk = Jwk { kid: None, key: Material::Hpke(HpkeKey { algorithm, public, private: None }) };
            assert_eq!(thumbprint(&jwk).as_deref(), Some(kid));
        }
    }

    /// The examples in compact serialisation of the same appendix, for the keys above in their order.
    const EXAMPLES: [&str; 2] = [include_str!("samples/HPKE-9-KE.jwe"), include_str!("samples/HPKE-12-KE.jwe")];
    /// What both hold: the text of RFC 7520 section 5.
    const FELLOWSHIP: &str = "You can trust us to stick with you through thick and thin\u{2013}to the bitter end. And you can trust us to keep \
        any secret of yours\u{2013}closer than you keep it yourself. But you cannot trust us to let you face trouble alone, and go off without \
        a word. We are your friends, Frodo.";

    /// What a JWE with A256GCM holds.
    fn open_content(cek: &[u8], header: &str, iv: &str, ciphertext: &str, tag: &str) -> Vec<u8> {
        let [iv, ciphertext, tag] = [iv, ciphertext, tag].map(|part| BASE64URL.decode(part).unwrap());
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, cek).unwrap());
        let mut sealed = [ciphertext, tag].concat();
        key.open_in_place(Nonce::try_assume_unique_for_key(&iv).unwrap(), Aad::from(header), &mut sealed).unwrap().to_vec()
    }

    #[test]
    fn the_examples_of_the_draft_unwrap() {
        for ((algorithm, private, kid), jwe) in DRAFT.into_iter().zip(EXAMPLES) {
            let [protected, encrypted_key, iv, ciphertext, tag] = jwe.split('.').collect::<Vec<_>>().try_into().unwrap();
            let header: serde_json::Value = serde_json::from_slice(&BASE64URL.decode(protected).unwrap()).unwrap();
            assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some(algorithm.as_str()), Some(kid)));
            let header = Header { ek: BASE64URL.decode(header["ek"].as_str().unwrap()).unwrap(), ..Header::default() };
            let private = BASE64URL.decode(private).unwrap();
            let key = HpkeKey { algorithm, public: public_from(algorithm, &private), private: Some(private.into()) };
            let cek = unwrap(&key, &BASE64URL.decode(encrypted_key).unwrap(), &header).unwrap();
            assert_eq!(open_content(&cek, protected, iv, ciphertext, tag), FELLOWSHIP.as_bytes());
        }
    }

    #[test]
    fn what_was_wrapped_unwraps_with_the_private_half_alone() {
        for (algorithm, ..) in DRAFT {
            let key = key(algorithm);
            let public = HpkeKey { algorithm, public: key.public.clone(), private: None };
            let wrapped = wrap(&public, &CEK).unwrap();
            assert_eq!(unwrap(&key, &wrapped.encrypted_key, &header(&wrapped)).unwrap().as_slice(), CEK);
            assert_eq!(unwrap(&public, &wrapped.encrypted_key, &header(&wrapped)).unwrap_err(), Failure::PublicOnly);
        }
    }

    #[test]
    fn what_was_changed_or_is_anothers_is_a_mismatch() {
        for (algorithm, ..) in DRAFT {
            let (key, other) = (key(algorithm), key(algorithm));
            let wrapped = wrap(&key, &CEK).unwrap();
            assert_eq!(unwrap(&other, &wrapped.encrypted_key, &header(&wrapped)).unwrap_err(), Failure::Mismatch);
            let mut changed = header(&wrapped);
            changed.ek[0] ^= 1;
            assert_eq!(unwrap(&key, &wrapped.encrypted_key, &changed).unwrap_err(), Failure::Mismatch);
            for length in [0, 1, 15, 16, 47] {
                assert_eq!(unwrap(&key, &wrapped.encrypted_key[..length], &header(&wrapped)).unwrap_err(), Failure::Mismatch);
            }
        }
    }

    #[test]
    fn keys_and_headers_of_a_wrong_form_are_told() {
        for (algorithm, ..) in DRAFT {
            let key = key(algorithm);
            for length in [0, 32, key.public.len() - 1] {
                let public = HpkeKey { algorithm, public: key.public[..length].to_vec(), private: None };
                assert_eq!(wrap(&public, &CEK).err(), Some(NO_PUBLIC_KEY));
            }
            // Coefficients that are not below the modulus (FIPS 203 section 7.2).
            let public = HpkeKey { algorithm, public: vec![0xff; key.public.len()], private: None };
            assert_eq!(wrap(&public, &CEK).err(), Some(NO_PUBLIC_KEY));
            let failure = unwrap(&key, &[0; 48], &Header::default()).unwrap_err();
            assert_eq!(failure, Failure::Header("it has no `ek` of the key's algorithm"));
            let mixed = HpkeKey { algorithm, public: self::key(algorithm).public, private: key.private };
            assert!(matches!(unwrap(&mixed, &[0; 48], &Header::default()).unwrap_err(), Failure::Key(_)));
        }
    }
}

//! RSAES-OAEP with SHA-256 and MGF1 with SHA-256 (RFC 8017 section 7.1, `RSA-OAEP-256` in RFC 7518 section 4.3), no label.
//!
//! AWS-LC takes moduli of 2048 to 8192 bits and odd exponents of at most 33 bits, checks that the numbers of a private key belong
//! together, and takes the same time whether the padding is right or not.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeyPair, KeyPairComponents, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey, PublicKeyComponents,
};
use zeroize::Zeroizing;

use super::Failure;
use crate::kms::keystore::{RsaKey, RsaPrivate};

const UNUSABLE: Failure = Failure::Key("its RSA key is not one of 2048 to 8192 bits whose numbers belong together");

/// Wraps for a key of the keystore.
///
/// # Errors
/// If the key can't be used.
pub fn wrap(key: &RsaKey, cek: &[u8]) -> Result<Vec<u8>, Failure> {
    wrap_for(public(key)?, cek)
}

/// Wraps for any public key.
///
/// # Errors
/// If the key can't be used.
pub fn wrap_for(key: PublicEncryptingKey, cek: &[u8]) -> Result<Vec<u8>, Failure> {
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| UNUSABLE)?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let length = key.encrypt(&OAEP_SHA256_MGF1SHA256, cek, &mut encrypted, None).map_err(|_| UNUSABLE)?.len();
    encrypted.truncate(length);
    Ok(encrypted)
}

/// Unwraps what [`wrap`] answered.
///
/// # Errors
/// If the key has no private half or can't be used, or if what it is given isn't for it.
pub fn unwrap(key: &RsaKey, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let key = private(key, key.private.as_ref().ok_or(Failure::PublicOnly)?)?;
    let mut cek = Zeroizing::new(vec![0; key.min_output_size()]);
    let length = key.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut cek, None).map_err(|_| Failure::Mismatch)?.len();
    cek.truncate(length);
    Ok(cek)
}

fn public(key: &RsaKey) -> Result<PublicEncryptingKey, Failure> {
    // By way of DER, whose reader judges the exponent, too.
    let der = PublicKeyComponents { n: &key.n, e: &key.e }.as_der().map_err(|_| UNUSABLE)?;
    PublicEncryptingKey::from_der(der.as_ref()).map_err(|_| UNUSABLE)
}

fn private(key: &RsaKey, private: &RsaPrivate) -> Result<OaepPrivateDecryptingKey, Failure> {
    let pair = KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n: key.n.as_slice(), e: key.e.as_slice() },
        d: private.d.as_slice(),
        p: private.p.as_slice(),
        q: private.q.as_slice(),
        dP: private.dp.as_slice(),
        dQ: private.dq.as_slice(),
        qInv: private.qi.as_slice(),
    });
    let der = pair.map_err(|_| UNUSABLE)?.as_der().map_err(|_| UNUSABLE)?;
    let key = PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(|_| UNUSABLE)?;
    OaepPrivateDecryptingKey::new(key).map_err(|_| UNUSABLE)
}

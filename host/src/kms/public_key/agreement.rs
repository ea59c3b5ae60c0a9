//! Elliptic-curve Diffie-Hellman with a key of one use, whose result wraps by A256KW: `ECDH-ES+A256KW` (RFC 7518 section 4.6) on P-256
//! and on X25519 (RFC 8037 section 3.2).
//!
//! AWS-LC refuses points that are not on the curve, and an X25519 secret that is all zero (RFC 7748 section 6.1).

use aws_lc_rs::agreement::{Algorithm, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use zeroize::Zeroizing;

use super::Failure;
use crate::kms::Header;
use crate::kms::keystore::{Curve, CurveKey, parse_ephemeral, write_ephemeral};

/// What the key derivation binds the key to: the JWA name, since the derived key wraps (RFC 7518 section 4.6.2).
const ALGORITHM_ID: &[u8] = b"ECDH-ES+A256KW";
const KEK_LENGTH: usize = 32;
/// What A256KW adds to a key (RFC 3394 section 2.2.1).
const OVERHEAD: usize = 8;

const OFF_CURVE: Failure = Failure::Key("its public key is not a point of its curve");

/// A wrapped key and the public half of the key of one use, as JSON: the header member `epk`.
pub struct Wrapped {
    /// The JWE Encrypted Key.
    pub encrypted_key: Vec<u8>,
    /// The JSON text of `epk`.
    pub epk: String,
}

/// Wraps for a public key.
///
/// # Errors
/// If the key can't be used.
pub fn wrap(key: &CurveKey, cek: &[u8]) -> Result<Wrapped, Failure> {
    let random = |_| Failure::Key("no key of one use could be made for it");
    let ephemeral = PrivateKey::generate(algorithm(key.curve)).map_err(random)?;
    let epk = ephemeral.compute_public_key().map_err(random)?;
    let kek = kek(&ephemeral, key.curve, &key.public, &[], &[]).ok_or(OFF_CURVE)?;
    let mut encrypted_key = vec![0; cek.len() + OVERHEAD];
    let length = kek.wrap(cek, &mut encrypted_key).map_err(|_| Failure::Key("it wraps no keys of this length"))?.len();
    encrypted_key.truncate(length);
    Ok(Wrapped { encrypted_key, epk: write_ephemeral(key.curve, epk.as_ref()) })
}

/// Unwraps what [`wrap`] answered; the header has its `epk`, and may have `apu` and `apv` (RFC 7518 section 4.6.1).
///
/// # Errors
/// If the key has no private half or can't be used, if the header's `epk` is none of its curve, or if what it is given isn't for it.
pub fn unwrap(key: &CurveKey, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let private = private(key)?;
    let epk = header.epk.as_deref().ok_or(Failure::Header("it has no `epk`"))?;
    let epk = parse_ephemeral(key.curve, epk).ok_or(Failure::Header("its `epk` is no public key of the key's curve"))?;
    // No such point can have wrapped anything: as good as any other change to the packet.
    let kek = kek(&private, key.curve, &epk, &header.apu, &header.apv).ok_or(Failure::Mismatch)?;
    let mut cek = Zeroizing::new(vec![0; encrypted_key.len()]);
    let length = kek.unwrap(encrypted_key, &mut cek).map_err(|_| Failure::Mismatch)?.len();
    cek.truncate(length);
    Ok(cek)
}

/// The private half, after checking that it belongs to the public one.
fn private(key: &CurveKey) -> Result<PrivateKey, Failure> {
    let unusable = |_| Failure::Key("its private key is none of its curve");
    let bytes = key.private.as_ref().ok_or(Failure::PublicOnly)?;
    let private = PrivateKey::from_private_key(algorithm(key.curve), &**bytes).map_err(unusable)?;
    let public = private.compute_public_key().map_err(|_| Failure::Key("its private key is none of its curve"))?;
    match public.as_ref() == key.public {
        true => Ok(private),
        false => Err(Failure::Key("its public and its private key don't belong together")),
    }
}

pub(super) fn algorithm(curve: Curve) -> &'static Algorithm {
    match curve {
        Curve::P256 => &ECDH_P256,
        Curve::X25519 => &X25519,
    }
}

/// The key-encryption key that a private key and somebody else's public key agree on. `None` if that is no point of the curve.
fn kek(private: &PrivateKey, curve: Curve, public: &[u8], apu: &[u8], apv: &[u8]) -> Option<AesKek> {
    let mut kek = Zeroizing::new([0; KEK_LENGTH]);
    agree(private, UnparsedPublicKey::new(algorithm(curve), public), (), |secret| derive(secret, ALGORITHM_ID, apu, apv, &mut *kek))
        .ok()?;
    AesKek::new(&AES_256, &*kek).ok()
}

/// The Concat KDF of RFC 7518 section 4.6.2, which is the one-step key derivation of NIST SP 800-56C with SHA-256.
pub(super) fn derive(secret: &[u8], algorithm_id: &[u8], apu: &[u8], apv: &[u8], key: &mut [u8]) -> Result<(), ()> {
    let length = |part: &[u8]| u32::try_from(part.len()).map(u32::to_be_bytes).map_err(|_| ());
    let bits = u32::try_from(key.len() * 8).map_err(|_| ())?.to_be_bytes();
    let mut info = Vec::new();
    for part in [algorithm_id, apu, apv] {
        info.extend_from_slice(&length(part)?);
        info.extend_from_slice(part);
    }
    info.extend_from_slice(&bits);
    let sha256 = get_sskdf_digest_algorithm(SskdfDigestAlgorithmId::Sha256).ok_or(())?;
    sskdf_digest(sha256, secret, &info, key).map_err(|_| ())
}

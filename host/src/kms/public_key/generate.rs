//! New keys for the keystore.

use aws_lc_rs::agreement::PrivateKey;
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyBin};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use zeroize::Zeroizing;

use super::{agreement, thumbprint};
use crate::Error;
use crate::key_uri::Algorithm;
use crate::kms::keystore::{Curve, CurveKey, Jwk, Material, RsaKey, RsaPrivate};

/// As strong as P-256 and X25519 (NIST SP 800-57 part 1, table 2).
const RSA_SIZE: KeySize = KeySize::Rsa3072;
const DER_INTEGER: u8 = 0x02;
const DER_OCTET_STRING: u8 = 0x04;
const DER_SEQUENCE: u8 = 0x30;

/// Makes a key that wraps by `algorithm`, with its thumbprint as `kid`; a symmetric one has a random `kid`. `curve` is that of an
/// `ECDH-ES+A256KW` key, and counts for nothing elsewhere.
///
/// # Errors
/// If the system gives no random numbers, or this build makes no such keys.
pub fn generate(algorithm: Algorithm, curve: Curve) -> Result<Jwk, Error> {
    let failed = |_| Error::Internal { reason: "no key could be made".into() };
    let key = match algorithm {
        Algorithm::A256Kw => return Jwk::generate_symmetric(),
        Algorithm::RsaOaep256 => Material::Rsa(rsa().map_err(failed)?),
        Algorithm::EcdhEsA256Kw => Material::Curve(on_curve(curve).map_err(failed)?),
        #[cfg(feature = "post-quantum")]
        Algorithm::Hpke9Ke | Algorithm::Hpke12Ke => Material::Hpke(super::hpke::generate(algorithm)),
        #[cfg(not(feature = "post-quantum"))]
        Algorithm::Hpke9Ke | Algorithm::Hpke12Ke => {
            let reason = format!("this build makes no keys that wrap by {algorithm}");
            return Err(Error::InvalidInput { reason, hint: "build it with the feature `post-quantum`".into() });
        }
    };
    let jwk = Jwk { kid: None, key };
    Ok(Jwk { kid: thumbprint(&jwk), ..jwk })
}

fn on_curve(curve: Curve) -> Result<CurveKey, Unspecified> {
    let key = PrivateKey::generate(agreement::algorithm(curve))?;
    let public = key.compute_public_key()?.as_ref().to_vec();
    let mut private = Zeroizing::new([0; 32]);
    match curve {
        Curve::P256 => private.copy_from_slice(AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&key)?.as_ref()),
        Curve::X25519 => private.copy_from_slice(AsBigEndian::<Curve25519SeedBin<'_>>::as_be_bytes(&key)?.as_ref()),
    }
    Ok(CurveKey { curve, public, private: Some(private) })
}

fn rsa() -> Result<RsaKey, Unspecified> {
    let pkcs8 = PrivateDecryptingKey::generate(RSA_SIZE)?.as_der()?;
    read_pkcs8(pkcs8.as_ref()).ok_or(Unspecified)
}

/// The numbers of an RSA key in PKCS#8 (RFC 5958 section 2, RFC 8017 appendix A.1.2), as AWS-LC writes it.
fn read_pkcs8(der: &[u8]) -> Option<RsaKey> {
    let mut info = Der(der).element(DER_SEQUENCE)?;
    info.element(DER_INTEGER)?;
    info.element(DER_SEQUENCE)?;
    let mut key = info.element(DER_OCTET_STRING)?.element(DER_SEQUENCE)?;
    let _version = key.element(DER_INTEGER)?;
    let (n, e) = (key.number()?.to_vec(), key.number()?.to_vec());
    let mut private = || key.number().map(|number| Zeroizing::new(number.to_vec()));
    let private = RsaPrivate { d: private()?, p: private()?, q: private()?, dp: private()?, dq: private()?, qi: private()? };
    Some(RsaKey { n, e, private: Some(private) })
}

/// What is left to read of a DER text.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which has this tag.
    fn element(&mut self, tag: u8) -> Option<Der<'a>> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (length.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(Der(content))
    }

    /// A number that isn't negative, without the zero that keeps its sign.
    fn number(&mut self) -> Option<&'a [u8]> {
        let Der(bytes) = self.element(DER_INTEGER)?;
        Some(bytes.strip_prefix(&[0]).unwrap_or(bytes))
    }
}

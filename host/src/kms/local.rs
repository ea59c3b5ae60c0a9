//! `local://NAME`: keys of the [keystore](super::keystore). How one wraps follows from what it is: a symmetric key by A256KW (RFC 7518
//! section 4.4, RFC 3394), others as `public_key` says. Without a key's private half it wraps and does no more.

use std::sync::Arc;
use std::time::Instant;

use aes_kw::{KeyInit as _, KwAes256};
use async_trait::async_trait;
use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::quote;
use zeroize::Zeroizing;

#[cfg(feature = "asymmetric")]
use super::keystore::PUBLIC_ONLY;
use super::keystore::{Cache, Jwk, Keystore, Material};
#[cfg(feature = "post-quantum")]
use super::public_key::hpke;
#[cfg(feature = "asymmetric")]
use super::public_key::{Failure, agreement, rsa};
use super::{Header, KeyService, KeyWrap, OpenKey, WrappedKey};
use crate::Error;
use crate::key_uri::{Algorithm, Key, KeyUri};

/// What A256KW adds to a key: one block of integrity.
const OVERHEAD: usize = aes_kw::IV_LEN;

/// The keystore as a service.
pub struct Local {
    keystore: Result<Cache, Error>,
}

impl Local {
    /// Keys of `keystore`. If it isn't known where that is, opening a key says so.
    #[must_use]
    pub fn new(keystore: Result<Keystore, Error>) -> Self {
        Self { keystore: keystore.map(Cache::new) }
    }
}

#[async_trait]
impl KeyService for Local {
    async fn open(&self, uri: &KeyUri, operation: Operation, _: Instant) -> Result<OpenKey, Error> {
        let Key::Local(key) = uri.key() else { unreachable!("{uri} was given to the local keystore") };
        let versions = self.keystore.as_ref().map_err(Clone::clone)?.load(&key.name, operation)?;
        let algorithm = versions[0].algorithm();
        if uri.algorithm().is_some_and(|asked| asked != algorithm) {
            let reason = format!("{uri}: the keystore's key wraps by {algorithm}, not by what the URI says");
            return Err(Error::InvalidInput { reason, hint: "leave `algorithm` out of the URI".into() });
        }
        if let Some(feature) = missing_feature(algorithm) {
            let reason = format!("{uri}: this build has no support for keys that wrap by {algorithm}");
            return Err(Error::InvalidInput { reason, hint: format!("build it with the feature `{feature}`") });
        }
        Ok(OpenKey::KeyWrap(Box::new(LocalKey {
            uri: uri.canonical().to_owned(),
            #[cfg(feature = "asymmetric")]
            name: key.name.clone(),
            algorithm,
            versions,
        })))
    }
}

/// The cargo feature that a key of this kind would need.
fn missing_feature(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::A256Kw => None,
        Algorithm::RsaOaep256 | Algorithm::EcdhEsA256Kw => cfg!(not(feature = "asymmetric")).then_some("asymmetric"),
        Algorithm::Hpke9Ke | Algorithm::Hpke12Ke => cfg!(not(feature = "post-quantum")).then_some("post-quantum"),
    }
}

struct LocalKey {
    uri: String,
    #[cfg(feature = "asymmetric")]
    name: String,
    algorithm: Algorithm,
    /// The current one first; at least one, and all wrap by `algorithm`.
    versions: Arc<Vec<Jwk>>,
}

#[async_trait]
impl KeyWrap for LocalKey {
    fn algorithm(&self) -> &'static str {
        self.algorithm.as_str()
    }

    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
        let current = &self.versions[0];
        let (encrypted_key, member) = match &current.key {
            Material::Symmetric(key) => (wrap_symmetric(key, cek).ok_or_else(|| self.corrupt())?, None),
            #[cfg(feature = "asymmetric")]
            Material::Rsa(key) => (rsa::wrap(key, cek).map_err(|failure| self.failed(failure))?, None),
            #[cfg(feature = "asymmetric")]
            Material::Curve(key) => {
                let wrapped = agreement::wrap(key, cek).map_err(|failure| self.failed(failure))?;
                (wrapped.encrypted_key, Some(("epk".to_owned(), wrapped.epk)))
            }
            #[cfg(feature = "post-quantum")]
            Material::Hpke(key) => {
                let wrapped = hpke::wrap(key, cek).map_err(|failure| self.failed(failure))?;
                (wrapped.encrypted_key, Some(("ek".to_owned(), wrapped.ek)))
            }
            // They were refused when they were opened.
            #[cfg(not(all(feature = "asymmetric", feature = "post-quantum")))]
            _ => return Err(self.corrupt()),
        };
        let kid = current.version().map(|kid| ("kid".to_owned(), quote(&kid)));
        Ok(WrappedKey { encrypted_key, header: kid.into_iter().chain(member).collect() })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        // `kid` selects among the versions of this key; it comes with the image and can do no more.
        let selected = |candidate: &&Jwk| header.kid.is_none() || header.kid.as_deref() == candidate.version().as_deref();
        let mut candidates = self.versions.iter().filter(selected).peekable();
        if candidates.peek().is_none() {
            return Err(self.no_version(header.kid.as_deref().unwrap_or_default()));
        }
        let mut error = None;
        for candidate in candidates {
            match self.unwrap_with(candidate, encrypted_key, header) {
                Ok(cek) => return Ok(cek),
                // What one version says of the packet is true of all, except that they may be on different curves or have no private half.
                Err(failed) => error = error.or(Some(failed)),
            }
        }
        Err(error.unwrap_or_else(|| self.corrupt()))
    }
}

fn key_wrap(key: &[u8; 32]) -> KwAes256 {
    KwAes256::new(key.into())
}

fn wrap_symmetric(key: &[u8; 32], cek: &[u8]) -> Option<Vec<u8>> {
    let mut encrypted_key = vec![0; cek.len() + OVERHEAD];
    key_wrap(key).wrap_key(cek, &mut encrypted_key).ok()?;
    Some(encrypted_key)
}

fn unwrap_symmetric(key: &[u8; 32], encrypted_key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut cek = Zeroizing::new(vec![0; encrypted_key.len().checked_sub(OVERHEAD)?]);
    key_wrap(key).unwrap_key(encrypted_key, &mut cek).ok()?;
    Some(cek)
}

impl LocalKey {
    #[cfg_attr(not(feature = "asymmetric"), allow(unused_variables))]
    fn unwrap_with(&self, version: &Jwk, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &version.key {
            Material::Symmetric(key) => unwrap_symmetric(key, encrypted_key).ok_or_else(|| self.corrupt()),
            #[cfg(feature = "asymmetric")]
            Material::Rsa(key) => rsa::unwrap(key, encrypted_key).map_err(|failure| self.failed(failure)),
            #[cfg(feature = "asymmetric")]
            Material::Curve(key) => agreement::unwrap(key, encrypted_key, header).map_err(|failure| self.failed(failure)),
            #[cfg(feature = "post-quantum")]
            Material::Hpke(key) => hpke::unwrap(key, encrypted_key, header).map_err(|failure| self.failed(failure)),
            #[cfg(not(all(feature = "asymmetric", feature = "post-quantum")))]
            _ => Err(self.corrupt()),
        }
    }

    fn corrupt(&self) -> Error {
        Error::Corrupt { key: self.uri.clone(), reason: "the packet does not verify with this key".into() }
    }

    fn no_version(&self, kid: &str) -> Error {
        let message = format!("the keystore has no version `{kid}` of this key");
        let hint = "the packet was made with another key of this name, or an older version was removed; restore it from a backup";
        self.refused("VERSION_NOT_FOUND", message, hint.into())
    }

    #[cfg(feature = "asymmetric")]
    fn failed(&self, failure: Failure) -> Error {
        let name = &self.name;
        match failure {
            Failure::Mismatch => self.corrupt(),
            Failure::Key(reason) => {
                self.refused("KEY_UNUSABLE", format!("the key can't be used: {reason}"), format!("correct {name}.jwks in the keystore"))
            }
            Failure::Header(reason) => Error::InvalidInput {
                reason: format!("{}: the JWE's header can't be used: {reason}", self.uri),
                hint: "check the annotation, or wrap the image anew".into(),
            },
            Failure::PublicOnly => {
                let message = "only the public half of this key is here: it wraps and can't unwrap".to_owned();
                let hint = format!("unwrap on a machine whose keystore has the private half in {name}.jwks");
                self.refused(PUBLIC_ONLY, message, hint)
            }
        }
    }

    fn refused(&self, code: &str, message: String, hint: String) -> Error {
        Error::Kms { key: self.uri.clone(), status: 0, code: code.to_owned(), message, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn key(versions: Vec<Jwk>) -> LocalKey {
        LocalKey {
            uri: "local://k".into(),
            #[cfg(feature = "asymmetric")]
            name: "k".into(),
            algorithm: versions[0].algorithm(),
            versions: Arc::new(versions),
        }
    }

    fn version(kid: &str, key: [u8; 32]) -> Jwk {
        Jwk { kid: Some(kid.into()), key: Material::Symmetric(Zeroizing::new(key)) }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn the_vector_of_rfc_3394_section_4_6_wraps_and_unwraps() {
        let kek = hex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
        let data = hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
        let wrapped = hex("28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21");
        let key = key(vec![version("v", kek.try_into().unwrap())]);
        let got = block_on(key.wrap(&data)).unwrap();
        assert_eq!(got, WrappedKey { encrypted_key: wrapped.clone(), header: vec![("kid".into(), "\"v\"".into())] });
        assert_eq!(block_on(key.unwrap(&wrapped, &Header::default())).unwrap().to_vec(), data);
    }

    #[test]
    fn kid_selects_among_the_versions_and_no_further() {
        let old = key(vec![version("old", [1; 32])]);
        let wrapped = block_on(old.wrap(&[7; 32])).unwrap().encrypted_key;
        let rotated = key(vec![version("new", [2; 32]), version("old", [1; 32])]);
        let unwrap = |kid: Option<&str>| block_on(rotated.unwrap(&wrapped, &Header { kid: kid.map(str::to_owned), ..Header::default() }));
        assert_eq!(unwrap(Some("old")).unwrap().to_vec(), [7; 32]);
        assert_eq!(unwrap(None).unwrap().to_vec(), [7; 32]);
        assert!(matches!(unwrap(Some("new")).unwrap_err(), Error::Corrupt { .. }));
        assert!(unwrap(Some("gone")).unwrap_err().line().contains("no version `gone`"));
    }

    #[test]
    fn wrapped_keys_of_any_length_and_content_give_an_error_and_no_panic() {
        let key = key(vec![version("v", [1; 32])]);
        for length in (0..64).chain([1 << 16]) {
            let error = block_on(key.unwrap(&vec![0x5a; length], &Header::default())).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{length}");
        }
    }
}

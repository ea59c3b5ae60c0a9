//! `local://NAME`: keys of the [keystore](super::keystore), wrapping by A256KW (RFC 7518 section 4.4, RFC 3394).

use std::time::Instant;

use aes_kw::{KeyInit as _, KwAes256};
use async_trait::async_trait;
use ocicrypt_kms_protocol::Operation;
use zeroize::Zeroizing;

use super::keystore::{Keystore, SymmetricKey};
use super::{Header, KeyService, KeyWrap, OpenKey, WrappedKey};
use crate::Error;
use crate::key_uri::{Algorithm, Key, KeyUri};

/// What A256KW adds to a key: one block of integrity.
const OVERHEAD: usize = aes_kw::IV_LEN;

/// The keystore as a service.
pub struct Local {
    keystore: Result<Keystore, Error>,
}

impl Local {
    /// Keys of `keystore`. If it isn't known where that is, opening a key says so.
    #[must_use]
    pub fn new(keystore: Result<Keystore, Error>) -> Self {
        Self { keystore }
    }
}

#[async_trait]
impl KeyService for Local {
    async fn open(&self, uri: &KeyUri, operation: Operation, _: Instant) -> Result<OpenKey, Error> {
        let Key::Local(key) = uri.key() else { unreachable!("{uri} was given to the local keystore") };
        if uri.algorithm().is_some_and(|algorithm| algorithm != Algorithm::A256Kw) {
            let reason = format!("{uri}: the keystore's key wraps by A256KW, not by what the URI says");
            return Err(Error::InvalidInput { reason, hint: "leave `algorithm` out of the URI".into() });
        }
        let versions = self.keystore.as_ref().map_err(Clone::clone)?.load(&key.name, operation)?;
        Ok(OpenKey::KeyWrap(Box::new(LocalKey { uri: uri.canonical().to_owned(), versions })))
    }
}

struct LocalKey {
    uri: String,
    versions: Vec<SymmetricKey>,
}

#[async_trait]
impl KeyWrap for LocalKey {
    fn algorithm(&self) -> &'static str {
        "A256KW"
    }

    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
        let current = &self.versions[0];
        let mut encrypted_key = vec![0; cek.len() + OVERHEAD];
        key_wrap(current).wrap_key(cek, &mut encrypted_key).map_err(|_| self.corrupt())?;
        let kid = current.kid.iter().map(|kid| ("kid".to_owned(), serde_json::Value::from(kid.as_str()).to_string()));
        Ok(WrappedKey { encrypted_key, header: kid.collect() })
    }

    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
        // `kid` selects among the versions of this key; it comes with the image and can do no more.
        let selected = |version: &&SymmetricKey| header.kid.is_none() || header.kid == version.kid;
        let mut candidates = self.versions.iter().filter(selected).peekable();
        if candidates.peek().is_none() {
            return Err(self.no_version(header.kid.as_deref().unwrap_or_default()));
        }
        candidates.find_map(|version| unwrap_with(version, encrypted_key)).ok_or_else(|| self.corrupt())
    }
}

fn key_wrap(version: &SymmetricKey) -> KwAes256 {
    KwAes256::new((&*version.key).into())
}

fn unwrap_with(version: &SymmetricKey, encrypted_key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut cek = Zeroizing::new(vec![0; encrypted_key.len().checked_sub(OVERHEAD)?]);
    key_wrap(version).unwrap_key(encrypted_key, &mut cek).ok()?;
    Some(cek)
}

impl LocalKey {
    fn corrupt(&self) -> Error {
        Error::Corrupt { key: self.uri.clone(), reason: "the packet does not verify with this key".into() }
    }

    fn no_version(&self, kid: &str) -> Error {
        let message = format!("the keystore has no version `{kid}` of this key");
        let hint = "the packet was made with another key of this name, or an older version was removed; restore it from a backup";
        Error::Kms { key: self.uri.clone(), status: 0, code: "VERSION_NOT_FOUND".into(), message, hint: hint.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn key(versions: Vec<SymmetricKey>) -> LocalKey {
        LocalKey { uri: "local://k".into(), versions }
    }

    fn version(kid: &str, key: [u8; 32]) -> SymmetricKey {
        SymmetricKey { kid: Some(kid.into()), key: Zeroizing::new(key) }
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
        let unwrap = |kid: Option<&str>| block_on(rotated.unwrap(&wrapped, &Header { kid: kid.map(str::to_owned) }));
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

//! What the host lends, as traits, so that everything above runs natively in tests.

#[cfg(any(test, feature = "fake"))]
pub mod fake;

use zeroize::Zeroizing;

pub use crate::bindings::ocicrypt::keyprovider::kms::{KeyInfo, Usage, WrappedKey};
pub use crate::bindings::ocicrypt::keyprovider::types::{Attempt, Error, KmsFailure};

/// The host, as a guest sees it.
pub trait Host {
    /// A key that the host lent.
    type Key: Key;

    /// The canonical form of a key URI.
    ///
    /// # Errors
    /// If it is no key URI.
    fn canonical_uri(&self, uri: &str) -> Result<String, Error>;

    /// Borrows a key for one use.
    ///
    /// # Errors
    /// If the host's policy or budget says no, or there is no such key.
    fn open(&self, uri: &str, usage: Usage) -> Result<Self::Key, Error>;

    /// Fills `bytes` with random numbers fit for keys.
    fn fill_random(&self, bytes: &mut [u8]);
}

/// A lent key. Each method's errors are the host's.
#[allow(clippy::missing_errors_doc)]
pub trait Key {
    /// What may be known of it.
    fn info(&self) -> KeyInfo;
    /// Encrypts with a key whose `wrapping` is `kms`.
    fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error>;
    /// Decrypts what `encrypt` answered.
    fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error>;
    /// Wraps a content-encryption key for `enc`.
    fn wrap_key(&self, cek: &[u8], enc: &str) -> Result<WrappedKey, Error>;
    /// Unwraps a content-encryption key; `header` is the decoded protected header.
    fn unwrap_key(&self, encrypted_key: &[u8], header: &str) -> Result<Zeroizing<Vec<u8>>, Error>;
}

/// The world's imports.
pub struct Lent;

impl Host for Lent {
    type Key = crate::bindings::ocicrypt::keyprovider::kms::Key;

    fn canonical_uri(&self, uri: &str) -> Result<String, Error> {
        crate::bindings::ocicrypt::keyprovider::kms::canonical_uri(uri)
    }

    fn open(&self, uri: &str, usage: Usage) -> Result<Self::Key, Error> {
        Self::Key::open(uri, usage)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let random = Zeroizing::new(crate::bindings::wasi::random::random::get_random_bytes(bytes.len() as u64));
        bytes.copy_from_slice(&random);
    }
}

impl Key for crate::bindings::ocicrypt::keyprovider::kms::Key {
    fn info(&self) -> KeyInfo {
        self.info()
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.encrypt(plaintext)
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.decrypt(ciphertext).map(Zeroizing::new)
    }

    fn wrap_key(&self, cek: &[u8], enc: &str) -> Result<WrappedKey, Error> {
        self.wrap_key(cek, enc)
    }

    fn unwrap_key(&self, encrypted_key: &[u8], header: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.unwrap_key(encrypted_key, header).map(Zeroizing::new)
    }
}

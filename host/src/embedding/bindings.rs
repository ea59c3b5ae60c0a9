//! What a guest can call: WIT on one side, [`Lending`] on the other. No decision is made here.

use ocicrypt_kms_protocol::Operation;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource};

use super::{KmsCtxView, KmsView};
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::KeyUri;
use crate::kms::request_id::noting;
use crate::lending::{Lending, LentKey};
use crate::{Error, ErrorKind};

/// The most bytes of one answer to `get-random-bytes`.
pub(crate) const MAX_RANDOM: u64 = 4096;

#[allow(missing_docs)]
pub(super) mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "key-provider",
        imports: {
            "ocicrypt:keyprovider/kms.[static]key.open": async | trappable,
            "ocicrypt:keyprovider/kms.[method]key.encrypt": async | trappable,
            "ocicrypt:keyprovider/kms.[method]key.decrypt": async | trappable,
            "ocicrypt:keyprovider/kms.[method]key.wrap-key": async | trappable,
            "ocicrypt:keyprovider/kms.[method]key.unwrap-key": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: { "ocicrypt:keyprovider/kms.key": crate::lending::LentKey },
    });
}

pub(super) use generated::ocicrypt::keyprovider::kms::Usage;
use generated::ocicrypt::keyprovider::kms::{self, KeyInfo, WrappedKey};
use generated::ocicrypt::keyprovider::types;
use generated::wasi::random::random;

pub use generated::exports::ocicrypt::keyprovider::provider::{Guest as Provider, PacketInfo, Settings};
pub use generated::ocicrypt::keyprovider::types::{Attempt, Error as GuestError, KmsFailure};
pub use generated::{KeyProvider as Guest, KeyProviderPre as GuestPre};

/// Links a guest to the keys of the exchange that its store holds: the interfaces `types` and `kms` of `ocicrypt:keyprovider`.
///
/// # Errors
/// If something of the same name is linked already.
pub fn add_to_linker<T: KmsView + 'static>(linker: &mut Linker<T>) -> Result<()> {
    types::add_to_linker::<T, Kms>(linker, T::kms)?;
    kms::add_to_linker::<T, Kms>(linker, T::kms)
}

/// Links a guest to the system's random numbers, at most 4096 bytes at a time: `wasi:random/random`, for hosts that link no WASI.
///
/// # Errors
/// If something of the same name is linked already.
pub fn add_random_to_linker<T: Send + 'static>(linker: &mut Linker<T>) -> Result<()> {
    random::add_to_linker::<T, Random>(linker, |_| Random)
}

pub(super) struct Kms;

impl HasData for Kms {
    type Data<'a> = KmsCtxView<'a>;
}

struct Random;

impl HasData for Random {
    type Data<'a> = Self;
}

impl KmsCtxView<'_> {
    /// The exchange's lending and the key that a call is about.
    fn lent(&mut self, key: &Resource<LentKey>) -> Result<(&mut Lending, &mut LentKey)> {
        let lending = self.ctx.0.as_mut().ok_or_else(|| wasmtime::Error::msg("no key was lent"))?;
        Ok((lending, self.table.get_mut(key)?))
    }
}

impl types::Host for KmsCtxView<'_> {}

impl kms::Host for KmsCtxView<'_> {
    fn canonical_uri(&mut self, uri: String) -> Result<Result<String, GuestError>> {
        Ok(match &self.ctx.0 {
            Some(lending) => lending.canonical_uri(&uri).map_err(told),
            None => Err(nothing_lent()),
        })
    }
}

impl kms::HostKey for KmsCtxView<'_> {
    async fn open(&mut self, uri: String, usage: Usage) -> Result<Result<Resource<LentKey>, GuestError>> {
        let Some(lending) = &mut self.ctx.0 else { return Ok(Err(nothing_lent())) };
        Ok(match lending.open(&uri, operation(usage)).await {
            Ok(key) => Ok(self.table.push(key)?),
            Err(error) => Err(told(error)),
        })
    }

    fn info(&mut self, key: Resource<LentKey>) -> Result<KeyInfo> {
        let key = self.table.get(&key)?;
        Ok(info(key.uri(), key.wrapping()))
    }

    async fn encrypt(&mut self, key: Resource<LentKey>, plaintext: Vec<u8>) -> Result<Result<Vec<u8>, GuestError>> {
        let plaintext = zeroize::Zeroizing::new(plaintext);
        let (lending, key) = self.lent(&key)?;
        Ok(noting(lending.encrypt(key, &plaintext)).await.map_err(told))
    }

    async fn decrypt(&mut self, key: Resource<LentKey>, ciphertext: Vec<u8>) -> Result<Result<Vec<u8>, GuestError>> {
        let (lending, key) = self.lent(&key)?;
        Ok(noting(lending.decrypt(key, &ciphertext)).await.map(|mut plaintext| std::mem::take(&mut *plaintext)).map_err(told))
    }

    async fn wrap_key(&mut self, key: Resource<LentKey>, cek: Vec<u8>, enc: String) -> Result<Result<WrappedKey, GuestError>> {
        let cek = zeroize::Zeroizing::new(cek);
        let (lending, key) = self.lent(&key)?;
        let wrapped = noting(lending.wrap_key(key, &cek, &enc)).await;
        Ok(wrapped.map(|wrapped| WrappedKey { encrypted_key: wrapped.encrypted_key, header: wrapped.header }).map_err(told))
    }

    async fn unwrap_key(&mut self, key: Resource<LentKey>, encrypted_key: Vec<u8>, header: String) -> Result<Result<Vec<u8>, GuestError>> {
        let (lending, key) = self.lent(&key)?;
        let cek = noting(lending.unwrap_key(key, &encrypted_key, &header)).await;
        Ok(cek.map(|mut cek| std::mem::take(&mut *cek)).map_err(told))
    }

    fn drop(&mut self, key: Resource<LentKey>) -> Result<()> {
        self.table.delete(key)?;
        Ok(())
    }
}

impl random::Host for Random {
    fn get_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > MAX_RANDOM {
            return Err(wasmtime::Error::msg(format!("it asked for more than {MAX_RANDOM} random bytes at once")));
        }
        let mut bytes = vec![0; length as usize];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        Ok(bytes)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        getrandom::u64().map_err(|error| wasmtime::Error::msg(error.to_string()))
    }
}

pub(super) fn operation(usage: Usage) -> Operation {
    match usage {
        Usage::Wrap => Operation::Wrap,
        Usage::Unwrap => Operation::Unwrap,
    }
}

fn info(uri: &KeyUri, wrapping: &str) -> KeyInfo {
    KeyInfo {
        uri: uri.canonical().to_owned(),
        service: uri.service().as_str().to_owned(),
        wrapping: wrapping.to_owned(),
        context: uri.context().iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        attributes: Vec::new(),
    }
}

/// A failure as a guest is told of it.
pub(super) fn told(error: Error) -> GuestError {
    let text = printable(&error.to_string(), MAX_OUTSIDE_TEXT);
    match (error.told_kind(), error) {
        (_, Error::Kms { status, code, message, .. }) => GuestError::Kms(KmsFailure { status, code, message }),
        (ErrorKind::InvalidInput, _) => GuestError::InvalidInput(text),
        (ErrorKind::NoMatchingKey, _) => GuestError::NoMatchingKey(text),
        (ErrorKind::Denied, _) => GuestError::Denied(text),
        (ErrorKind::Corrupt, _) => GuestError::Corrupt(text),
        _ => GuestError::Unavailable(text),
    }
}

pub(super) fn nothing_lent() -> GuestError {
    GuestError::Denied("no key is lent for listing packets".into())
}

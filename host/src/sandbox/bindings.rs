//! What a guest can call: WIT on one side, [`Lending`] on the other. No decision is made here.

use ocicrypt_kms_protocol::Operation;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use super::limits::{Limits, Used};
use super::{MAX_RANDOM, MAX_RESOURCES};
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::KeyUri;
use crate::lending::{Lending, LentKey};
use crate::{Error, ErrorKind};

#[allow(missing_docs)]
mod generated {
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

use generated::ocicrypt::keyprovider::kms::{self, KeyInfo, Usage, WrappedKey};
use generated::ocicrypt::keyprovider::types::{self, Error as GuestError, KmsFailure};
use generated::wasi::random::random;
pub(super) use generated::{KeyProviderPre, exports, ocicrypt};

/// What the store of one exchange holds.
pub(super) struct State {
    /// Without it (when a guest only lists packets) no key can be opened.
    pub lending: Option<Lending>,
    pub used: Used,
    /// Lent keys, and what WASI hands out.
    pub resources: ResourceTable,
    #[cfg(feature = "compile")]
    pub wasi: Option<Box<wasmtime_wasi::WasiCtx>>,
}

impl State {
    pub fn new(lending: Option<Lending>, limits: Limits) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_RESOURCES);
        Self {
            lending,
            used: Used::none_of(limits),
            resources,
            #[cfg(feature = "compile")]
            wasi: None,
        }
    }

    /// The exchange's lending and the key that a call is about.
    fn lent(&mut self, key: &Resource<LentKey>) -> Result<(&mut Lending, &mut LentKey)> {
        let lending = self.lending.as_mut().ok_or_else(|| wasmtime::Error::msg("no key was lent"))?;
        Ok((lending, self.resources.get_mut(key)?))
    }
}

/// Links a guest to the host.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    types::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    kms::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    random::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}

impl kms::Host for State {
    fn canonical_uri(&mut self, uri: String) -> Result<Result<String, GuestError>> {
        Ok(match &self.lending {
            Some(lending) => lending.canonical_uri(&uri).map_err(told),
            None => Err(nothing_lent()),
        })
    }
}

impl kms::HostKey for State {
    async fn open(&mut self, uri: String, usage: Usage) -> Result<Result<Resource<LentKey>, GuestError>> {
        let operation = match usage {
            Usage::Wrap => Operation::Wrap,
            Usage::Unwrap => Operation::Unwrap,
        };
        let Some(lending) = &mut self.lending else { return Ok(Err(nothing_lent())) };
        Ok(match lending.open(&uri, operation).await {
            Ok(key) => Ok(self.resources.push(key)?),
            Err(error) => Err(told(error)),
        })
    }

    fn info(&mut self, key: Resource<LentKey>) -> Result<KeyInfo> {
        let key = self.resources.get(&key)?;
        Ok(info(key.uri(), key.wrapping()))
    }

    async fn encrypt(&mut self, key: Resource<LentKey>, plaintext: Vec<u8>) -> Result<Result<Vec<u8>, GuestError>> {
        let plaintext = zeroize::Zeroizing::new(plaintext);
        let (lending, key) = self.lent(&key)?;
        Ok(lending.encrypt(key, &plaintext).await.map_err(told))
    }

    async fn decrypt(&mut self, key: Resource<LentKey>, ciphertext: Vec<u8>) -> Result<Result<Vec<u8>, GuestError>> {
        let (lending, key) = self.lent(&key)?;
        Ok(lending.decrypt(key, &ciphertext).await.map(|mut plaintext| std::mem::take(&mut *plaintext)).map_err(told))
    }

    async fn wrap_key(&mut self, key: Resource<LentKey>, cek: Vec<u8>, enc: String) -> Result<Result<WrappedKey, GuestError>> {
        let cek = zeroize::Zeroizing::new(cek);
        let (lending, key) = self.lent(&key)?;
        let wrapped = lending.wrap_key(key, &cek, &enc).await;
        Ok(wrapped.map(|wrapped| WrappedKey { encrypted_key: wrapped.encrypted_key, header: wrapped.header }).map_err(told))
    }

    async fn unwrap_key(&mut self, key: Resource<LentKey>, encrypted_key: Vec<u8>, header: String) -> Result<Result<Vec<u8>, GuestError>> {
        let (lending, key) = self.lent(&key)?;
        let cek = lending.unwrap_key(key, &encrypted_key, &header).await;
        Ok(cek.map(|mut cek| std::mem::take(&mut *cek)).map_err(told))
    }

    fn drop(&mut self, key: Resource<LentKey>) -> Result<()> {
        self.resources.delete(key)?;
        Ok(())
    }
}

impl random::Host for State {
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

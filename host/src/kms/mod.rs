//! The services that hold keys: one trait, one file per service.
//!
//! A service is given a [`KeyUri`] that policy has allowed, and opens the key it names for one exchange. What a key can do is in
//! its type: a [`Cipher`] makes the service's own authenticated ciphertext of the opts data, a [`KeyWrap`] wraps the
//! content-encryption key of a JWE. A program adds a service of its own by [`Builder::service`](crate::Builder::service).

#[cfg(any(feature = "aws", feature = "azure"))]
mod absurd;
#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
#[cfg(any(feature = "gcp", feature = "vault"))]
mod context;
#[cfg(feature = "http-kms")]
pub mod endpoint;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "http")]
pub mod http;
pub mod keystore;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "asymmetric")]
pub mod public_key;
pub(crate) mod request_id;
#[cfg(feature = "vault")]
pub mod vault;
#[cfg(feature = "http")]
#[cfg_attr(not(feature = "vault"), allow(dead_code))]
pub(crate) mod way;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms_protocol::Operation;
use zeroize::Zeroizing;

use crate::Error;
use crate::key_uri::{KeyUri, OtherService, Service};

/// The most bytes that a [`Cipher`] encrypts: the limit of Cloud KMS and Vault; AWS KMS stops at 4096.
pub const MAX_PLAINTEXT: usize = 64 << 10;
/// The most bytes of a wrapped key that are sent to a service.
pub const MAX_CIPHERTEXT: usize = 128 << 10;

/// A key that encrypts and decrypts inside its service (`wrapping` is `kms`).
///
/// A URI's [encryption context](KeyUri::context) is authenticated by the cipher or by nobody: for a [`KeyWrap`] the component does it, for a
/// `Cipher` nobody else checks it. So a URI with context is refused unless the cipher says that it [binds it](Cipher::binds_context).
///
/// A service of one's own that encrypts by itself, under a scheme of its own:
///
/// ```
/// # #[cfg(feature = "local")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use async_trait::async_trait;
/// use ocicrypt_kms::key_uri::{Key, KeyUri, OtherService, Service};
/// use ocicrypt_kms::kms::{Cipher, KeyService, OpenKey};
/// use ocicrypt_kms::protocol::Operation;
/// use ocicrypt_kms::{Config, Environment, Error, KeyProvider};
/// use zeroize::Zeroizing;
///
/// # /// Stands for what a real service does.
/// # mod hsm {
/// #     use std::collections::BTreeMap;
/// #     use std::sync::Mutex;
/// #     type Stored = (String, BTreeMap<String, String>, Vec<u8>);
/// #     static STORED: Mutex<Vec<Stored>> = Mutex::new(Vec::new());
/// #     pub async fn encrypt(key: &str, data: &BTreeMap<String, String>, plaintext: &[u8]) -> Result<Vec<u8>, String> {
/// #         let mut stored = STORED.lock().unwrap();
/// #         stored.push((key.into(), data.clone(), plaintext.into()));
/// #         Ok(vec![stored.len() as u8 - 1])
/// #     }
/// #     pub async fn decrypt(key: &str, data: &BTreeMap<String, String>, ciphertext: &[u8]) -> Result<Vec<u8>, String> {
/// #         let stored = STORED.lock().unwrap();
/// #         let found = ciphertext.first().and_then(|index| stored.get(usize::from(*index)));
/// #         let found = found.filter(|(name, context, _)| name == key && context == data);
/// #         found.map(|(_, _, plaintext)| plaintext.clone()).ok_or_else(|| "it does not verify".into())
/// #     }
/// # }
/// /// Keys such as `my-hsm://slot-1/team`.
/// struct Hsm;
///
/// #[async_trait]
/// impl KeyService for Hsm {
///     async fn open(&self, uri: &KeyUri, _: Operation, _: Instant) -> Result<OpenKey, Error> {
///         let Key::Other(key) = uri.key() else { unreachable!("only keys of its own scheme are opened here") };
///         Ok(OpenKey::Cipher(Box::new(HsmKey { name: key.segments.join("/"), uri: uri.clone() })))
///     }
/// }
///
/// struct HsmKey {
///     name: String,
///     uri: KeyUri,
/// }
///
/// impl HsmKey {
///     /// Additional authenticated data: what was encrypted with one context decrypts with no other.
///     fn context(&self) -> &BTreeMap<String, String> {
///         self.uri.context()
///     }
/// }
///
/// #[async_trait]
/// impl Cipher for HsmKey {
///     fn binds_context(&self) -> bool {
///         true
///     }
///
///     async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
///         let unavailable = |reason| Error::Unavailable { key: self.uri.to_string(), reason };
///         hsm::encrypt(&self.name, self.context(), plaintext).await.map_err(unavailable)
///     }
///
///     async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
///         let corrupt = |reason| Error::Corrupt { key: self.uri.to_string(), reason };
///         hsm::decrypt(&self.name, self.context(), ciphertext).await.map(Zeroizing::new).map_err(corrupt)
///     }
/// }
///
/// let service = Service::Other(OtherService::new("my-hsm")?);
/// let builder = KeyProvider::builder(Config::default()).environment(Environment::empty());
/// let provider = builder.service(service, Arc::new(Hsm)).build()?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let opts_data = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;
/// let key = "my-hsm://slot-1/team?context_stage=production";
/// let annotation = provider.wrap(opts_data, &[key]).await?;
/// assert_eq!(provider.unwrap(&annotation, &[key]).await?.as_slice(), opts_data);
/// # let other = String::from_utf8(annotation)?.replace("production", "test");
/// # provider.unwrap(other.as_bytes(), &["my-hsm://slot-1/team"]).await.unwrap_err();
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "local"))]
/// # fn main() {}
/// ```
#[async_trait]
pub trait Cipher: Send + Sync {
    /// Whether it authenticates the encryption context of the URI that it was opened for, as additional data of each ciphertext. If not, no
    /// URI that has one opens.
    fn binds_context(&self) -> bool {
        false
    }
    /// Encrypts opts data.
    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error>;
    /// Decrypts what [`Cipher::encrypt`] answered.
    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error>;
}

/// A content-encryption key, wrapped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrappedKey {
    /// The JWE Encrypted Key.
    pub encrypted_key: Vec<u8>,
    /// JOSE header members to protect besides `alg` and `enc`: name and JSON text.
    pub header: Vec<(String, String)>,
}

/// What a JWE's protected header says to the key that should unwrap it. Its `alg` is already known to be the key's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// The version of the key.
    pub kid: Option<String>,
    /// The JSON text of the sender's public key of one use (RFC 7518 section 4.6.1.1); only for a key that wraps by `ECDH-ES+A256KW`.
    pub epk: Option<String>,
    /// Information about the sender (RFC 7518 section 4.6.1.2), decoded; as above, and empty if there is none.
    pub apu: Vec<u8>,
    /// Information about the recipient (RFC 7518 section 4.6.1.3), likewise.
    pub apv: Vec<u8>,
    /// The encapsulated secret (`ek`), decoded; only for a key that wraps by HPKE, and empty if there is none.
    pub ek: Vec<u8>,
}

/// A key that wraps content-encryption keys (`wrapping` is a JWA name).
#[async_trait]
pub trait KeyWrap: Send + Sync {
    /// The JWA name of how it wraps (RFC 7518 section 4.1): the `alg` of JWEs.
    fn algorithm(&self) -> &'static str;
    /// Wraps a content-encryption key.
    async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error>;
    /// Unwraps a content-encryption key.
    async fn unwrap(&self, encrypted_key: &[u8], header: &Header) -> Result<Zeroizing<Vec<u8>>, Error>;
}

/// A key, opened for one exchange.
pub enum OpenKey {
    /// Encrypts and decrypts.
    Cipher(Box<dyn Cipher>),
    /// Wraps content-encryption keys.
    KeyWrap(Box<dyn KeyWrap>),
}

impl OpenKey {
    /// What `wrapping` says of it in WIT.
    #[must_use]
    pub fn wrapping(&self) -> &'static str {
        match self {
            Self::Cipher(_) => "kms",
            Self::KeyWrap(key) => key.algorithm(),
        }
    }
}

/// One key management product, or another place where keys are.
///
/// [`Builder::service`](crate::Builder::service) adds one, or puts it in the place of one that is built in. So a program that keeps keys
/// elsewhere than in files brings a keystore of its own:
///
/// ```
/// # #[cfg(feature = "local")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::collections::HashMap;
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use aes_kw::{KeyInit, KwAes256};
/// use async_trait::async_trait;
/// use ocicrypt_kms::key_uri::{Key, KeyUri, Service};
/// use ocicrypt_kms::kms::{Header, KeyService, KeyWrap, OpenKey, WrappedKey};
/// use ocicrypt_kms::protocol::Operation;
/// use ocicrypt_kms::{Config, Error, KeyProvider};
/// use zeroize::Zeroizing;
///
/// /// Keys by name.
/// struct Keys(HashMap<String, Arc<KwAes256>>);
///
/// #[async_trait]
/// impl KeyService for Keys {
///     async fn open(&self, uri: &KeyUri, _: Operation, _: Instant) -> Result<OpenKey, Error> {
///         let key = if let Key::Local(key) = uri.key() { self.0.get(&key.name) } else { None };
///         let key = key.cloned().ok_or_else(|| Error::Kms {
///             key: uri.to_string(),
///             status: 0,
///             code: String::new(),
///             message: "there is no such key".into(),
///             hint: "ask for one".into(),
///         })?;
///         Ok(OpenKey::KeyWrap(Box::new(OneKey { uri: uri.to_string(), key })))
///     }
/// }
///
/// struct OneKey {
///     uri: String,
///     key: Arc<KwAes256>,
/// }
///
/// impl OneKey {
///     fn failed(&self) -> Error {
///         Error::Corrupt { key: self.uri.clone(), reason: "the packet does not verify with this key".into() }
///     }
/// }
///
/// #[async_trait]
/// impl KeyWrap for OneKey {
///     fn algorithm(&self) -> &'static str {
///         "A256KW"
///     }
///
///     async fn wrap(&self, cek: &[u8]) -> Result<WrappedKey, Error> {
///         let mut encrypted_key = vec![0; cek.len() + 8];
///         self.key.wrap_key(cek, &mut encrypted_key).map_err(|_| self.failed())?;
///         Ok(WrappedKey { encrypted_key, header: Vec::new() })
///     }
///
///     async fn unwrap(&self, encrypted_key: &[u8], _: &Header) -> Result<Zeroizing<Vec<u8>>, Error> {
///         let mut cek = Zeroizing::new(vec![0; encrypted_key.len().saturating_sub(8)]);
///         self.key.unwrap_key(encrypted_key, &mut cek).map_err(|_| self.failed())?;
///         Ok(cek)
///     }
/// }
///
/// let keys = Keys([("team".into(), Arc::new(KwAes256::new(&[7; 32].into())))].into());
/// let provider = KeyProvider::builder(Config::default()).service(Service::Local, Arc::new(keys)).build()?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let opts_data = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;
/// let annotation = provider.wrap(opts_data, &["local://team"]).await?;
/// assert_eq!(provider.unwrap(&annotation, &["local://team"]).await?.as_slice(), opts_data);
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "local"))]
/// # fn main() {}
/// ```
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Opens a key of this service. Nothing that needs the network happens before a key's first use, and nothing after `deadline`.
    ///
    /// A [`Cipher`] authenticates `uri.context()`, or says that it doesn't; for a [`KeyWrap`] the component does it.
    ///
    /// # Errors
    /// If the service can't hold such a key, or needs something that isn't there (a file, a setting).
    async fn open(&self, uri: &KeyUri, operation: Operation, deadline: Instant) -> Result<OpenKey, Error>;
}

/// A key whose encryption context is bound: by its cipher, or by the component.
fn bound(uri: &KeyUri, key: OpenKey) -> Result<OpenKey, Error> {
    match &key {
        OpenKey::Cipher(cipher) if !uri.context().is_empty() && !cipher.binds_context() => Err(Error::InvalidInput {
            reason: format!("{uri}: keys of the service `{}` don't bind an encryption context", uri.service()),
            hint: "leave context_… out of the URI, or name a key of a service that does".into(),
        }),
        _ => Ok(key),
    }
}

/// The services of a host.
#[derive(Clone, Default)]
pub struct Services(HashMap<Service, Arc<dyn KeyService>>);

impl Services {
    /// No service at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service, or replaces it.
    #[must_use]
    pub fn with(mut self, service: Service, implementation: Arc<dyn KeyService>) -> Self {
        self.0.insert(service, implementation);
        self
    }

    /// The services that aren't built in.
    pub(crate) fn others(&self) -> impl Iterator<Item = OtherService> {
        self.0.keys().filter_map(|service| if let Service::Other(other) = service { Some(*other) } else { None })
    }

    /// Opens a key with its service.
    ///
    /// # Errors
    /// Those of the service, or that it isn't there, or that nobody would bind the URI's encryption context.
    pub async fn open(&self, uri: &KeyUri, operation: Operation, deadline: Instant) -> Result<OpenKey, Error> {
        match self.0.get(&uri.service()) {
            Some(service) => bound(uri, service.open(uri, operation, deadline).await?),
            None if uri.service() == Service::HttpKms => Err(Error::InvalidInput {
                reason: format!("{uri}: this component does not know how to use keys behind an endpoint"),
                hint: "run one that does, for the service behind this endpoint: --component FILE; see docs/components.md".into(),
            }),
            None => Err(Error::InvalidInput {
                reason: format!("{uri}: this build has no support for keys of the service `{}`", uri.service()),
                hint: format!("services built in: {}", self.names()),
            }),
        }
    }

    fn names(&self) -> String {
        let mut names: Vec<_> = self.0.keys().map(|service| service.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

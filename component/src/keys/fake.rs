//! A host of scripted keys, for tests and fuzzing. Nothing here is secure: ciphertexts are the plaintext behind a label.
//!
//! It writes down what was asked of it ([`FakeHost::log`]), and panics where a component breaks the contract in a way that a real host
//! would punish: a second use of a key, or a use that it wasn't lent for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::{Error, Host, Key, KeyInfo, Usage, WrappedKey};

/// What a real host answers to a ciphertext that isn't this key's. The component says the same of a tag that doesn't verify.
pub const DOES_NOT_VERIFY: &str = "the packet does not verify with this key";

/// A host with scripted keys.
#[derive(Clone, Debug, Default)]
pub struct FakeHost {
    keys: BTreeMap<String, FakeKey>,
    random: Option<Vec<u8>>,
    filled: Cell<u8>,
    log: Rc<RefCell<Vec<String>>>,
}

/// What a key of a [`FakeHost`] does.
#[derive(Clone, Debug)]
pub struct FakeKey {
    wrapping: &'static str,
    header: Vec<(String, String)>,
    known: Vec<(Vec<u8>, Vec<u8>)>,
    fails_open: Option<Error>,
    fails_use: Option<Error>,
}

/// A key that a [`FakeHost`] lent.
#[derive(Debug)]
pub struct LentKey {
    key: FakeKey,
    info: KeyInfo,
    label: Vec<u8>,
    usage: Usage,
    spent: Cell<bool>,
    log: Rc<RefCell<Vec<String>>>,
}

impl FakeHost {
    /// Adds the key that is named by `uri`, which has no query.
    #[must_use]
    pub fn with(mut self, uri: &str, key: FakeKey) -> Self {
        self.keys.insert(uri.to_owned(), key);
        self
    }

    /// Scripts the random numbers; without it, each fill gives other bytes.
    #[must_use]
    pub fn with_random(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.random = Some(bytes.into());
        self
    }

    /// What was asked of the host so far: `open wrap URI`, `encrypt URI`, … in order.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// The URIs that were to be opened, as they were given.
    #[must_use]
    pub fn opened(&self) -> Vec<String> {
        let uri = |step: &String| step.strip_prefix("open ")?.split_once(' ').map(|(_, uri)| uri.to_owned());
        self.log.borrow().iter().filter_map(uri).collect()
    }
}

impl FakeKey {
    /// A key of a service that makes its own ciphertext.
    #[must_use]
    pub fn kms() -> Self {
        Self::new("kms")
    }

    /// A key that wraps content-encryption keys by `algorithm`, a JWA name.
    #[must_use]
    pub fn key_wrap(algorithm: &'static str) -> Self {
        Self::new(algorithm)
    }

    fn new(wrapping: &'static str) -> Self {
        Self { wrapping, header: Vec::new(), known: Vec::new(), fails_open: None, fails_use: None }
    }

    /// Has a member protected in JWE headers: name and JSON text.
    #[must_use]
    pub fn with_header(mut self, name: &str, json: &str) -> Self {
        self.header.push((name.to_owned(), json.to_owned()));
        self
    }

    /// Scripts one ciphertext: that of these opts data, or of this content-encryption key.
    #[must_use]
    pub fn knowing(mut self, ciphertext: impl Into<Vec<u8>>, plaintext: impl Into<Vec<u8>>) -> Self {
        self.known.push((ciphertext.into(), plaintext.into()));
        self
    }

    /// Can't be opened.
    #[must_use]
    pub fn failing_to_open(mut self, error: Error) -> Self {
        self.fails_open = Some(error);
        self
    }

    /// Opens, but can't be used.
    #[must_use]
    pub fn failing(mut self, error: Error) -> Self {
        self.fails_use = Some(error);
        self
    }
}

impl Host for FakeHost {
    type Key = LentKey;

    /// A few of the real parser's rules: other spellings of a scheme, bare ARNs, and an order for query entries.
    fn canonical_uri(&self, uri: &str) -> Result<String, Error> {
        let malformed = || Error::InvalidInput(format!("{uri:?} is no key URI"));
        if uri.starts_with("arn:") {
            return Ok(format!("awskms:///{uri}"));
        }
        let (scheme, rest) = uri.split_once("://").ok_or_else(malformed)?;
        let scheme = if scheme == "gcp-kms" { "gcpkms" } else { scheme };
        if !["gcpkms", "awskms", "local"].contains(&scheme) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed());
        }
        let Some((path, query)) = rest.split_once('?') else { return Ok(format!("{scheme}://{rest}")) };
        let mut entries: Vec<_> = query.split('&').collect();
        entries.sort_unstable();
        match entries.iter().all(|entry| entry.starts_with("context_") && entry.contains('=')) {
            true => Ok(format!("{scheme}://{path}?{}", entries.join("&"))),
            false => Err(malformed()),
        }
    }

    fn open(&self, uri: &str, usage: Usage) -> Result<LentKey, Error> {
        let operation = if usage == Usage::Wrap { "wrap" } else { "unwrap" };
        self.log.borrow_mut().push(format!("open {operation} {uri}"));
        let uri = self.canonical_uri(uri)?;
        let (name, query) = uri.split_once('?').unwrap_or((&uri, ""));
        let missing = || Error::Denied(format!("{name} is not lent"));
        let key = self.keys.get(name).ok_or_else(missing)?.clone();
        if let Some(error) = &key.fails_open {
            return Err(error.clone());
        }
        let entry = |entry: &str| entry.strip_prefix("context_")?.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let info = KeyInfo {
            uri: uri.clone(),
            service: uri.split(':').next().unwrap_or_default().to_owned(),
            wrapping: key.wrapping.to_owned(),
            context: query.split('&').filter_map(entry).collect(),
            attributes: Vec::new(),
        };
        // A service binds the context to its ciphertext; for a JWE, that is left to the component.
        let label = if key.wrapping == "kms" { format!("{uri}\0") } else { format!("{name}\0") };
        Ok(LentKey { key, info, label: label.into_bytes(), usage, spent: Cell::new(false), log: self.log.clone() })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        match &self.random {
            Some(random) => bytes.copy_from_slice(random),
            None => {
                self.filled.set(self.filled.get().wrapping_add(1));
                bytes.fill(self.filled.get());
            }
        }
    }
}

impl LentKey {
    fn begin(&self, step: &str, usage: Usage) -> Result<(), Error> {
        self.log.borrow_mut().push(format!("{step} {}", self.info.uri));
        assert!(self.usage == usage, "{} was lent for something else than {step}", self.info.uri);
        assert!(!self.spent.get(), "{} is used for the second time", self.info.uri);
        assert_eq!(self.key.wrapping == "kms", matches!(step, "encrypt" | "decrypt"), "{step} is not for this key");
        match &self.key.fails_use {
            Some(error) => Err(error.clone()),
            None => {
                self.spent.set(true);
                Ok(())
            }
        }
    }

    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let known = self.key.known.iter().find(|(_, known)| known == plaintext);
        known.map_or_else(|| [self.label.as_slice(), plaintext].concat(), |(ciphertext, _)| ciphertext.clone())
    }

    fn unseal(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let known = self.key.known.iter().find(|(known, _)| known == ciphertext).map(|(_, plaintext)| plaintext.as_slice());
        let plaintext = known.or_else(|| ciphertext.strip_prefix(self.label.as_slice()));
        plaintext.map(|plaintext| Zeroizing::new(plaintext.to_vec())).ok_or_else(|| Error::Corrupt(DOES_NOT_VERIFY.into()))
    }
}

impl Key for LentKey {
    fn info(&self) -> KeyInfo {
        self.info.clone()
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        self.begin("encrypt", Usage::Wrap).map(|()| self.seal(plaintext))
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.begin("decrypt", Usage::Unwrap).and_then(|()| self.unseal(ciphertext))
    }

    fn wrap_key(&self, cek: &[u8], enc: &str) -> Result<WrappedKey, Error> {
        self.begin(&format!("wrap-key for {enc}"), Usage::Wrap)?;
        Ok(WrappedKey { encrypted_key: self.seal(cek), header: self.key.header.clone() })
    }

    fn unwrap_key(&self, encrypted_key: &[u8], header: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.begin(&format!("unwrap-key by {header}"), Usage::Unwrap).and_then(|()| self.unseal(encrypted_key))
    }
}

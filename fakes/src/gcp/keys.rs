//! The keys: versions, their states, and the ciphertexts they make.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// Every ciphertext starts with this: field 1 of a message, 36 bytes long. Real ones do too, hence `CiQ…` in base64.
const HEADER: [u8; 2] = [0x0a, 0x24];
const ID_LEN: usize = 0x24;

#[derive(Default)]
pub(super) struct Keys {
    keys: HashMap<String, CryptoKey>,
    denied: HashSet<String>,
}

/// A symmetric key. Its last version is the primary.
pub(super) struct CryptoKey {
    versions: Vec<Version>,
    /// Ciphertexts whose key is not here, and what they decrypt to.
    held: HashMap<Vec<u8>, Vec<u8>>,
}

pub(super) struct Version {
    /// Names the version inside its ciphertexts.
    id: [u8; ID_LEN],
    key: RandomizedNonceKey,
    pub(super) enabled: bool,
}

/// What a ciphertext turned out to be.
pub(super) enum Opened<'a> {
    /// One that the test supplied.
    Held(&'a [u8]),
    /// Made by this version (numbered from 1), which may be disabled.
    By(usize, &'a Version),
    /// Made by a key that is not this one.
    OtherKey,
    /// Not made by the service at all.
    Garbage,
}

impl Keys {
    pub(super) fn add(&mut self, name: &str) {
        let parts: Vec<_> = name.split('/').collect();
        let shape = ["projects", "locations", "keyRings", "cryptoKeys"];
        let named = parts.len() == 8 && parts.chunks(2).zip(shape).all(|(pair, kind)| pair[0] == kind);
        assert!(named, "not the resource name of a Cloud KMS key: {name}");
        self.keys.entry(name.to_owned()).or_insert_with(|| CryptoKey { versions: vec![Version::generate()], held: HashMap::new() });
    }

    pub(super) fn get(&self, name: &str) -> Option<&CryptoKey> {
        self.keys.get(name)
    }

    /// The key, which the test must have added.
    pub(super) fn existing(&mut self, name: &str) -> &mut CryptoKey {
        self.keys.get_mut(name).unwrap_or_else(|| panic!("no such key was added: {name}"))
    }

    pub(super) fn deny(&mut self, name: &str) {
        self.denied.insert(name.to_owned());
    }

    pub(super) fn is_denied(&self, name: &str) -> bool {
        self.denied.contains(name)
    }

    pub(super) fn hold(&mut self, name: &str, ciphertext: &[u8], plaintext: &[u8]) {
        self.add(name);
        self.existing(name).held.insert(ciphertext.to_vec(), plaintext.to_vec());
    }
}

impl CryptoKey {
    pub(super) fn rotate(&mut self) -> usize {
        self.versions.push(Version::generate());
        self.versions.len()
    }

    pub(super) fn disable_primary(&mut self) {
        self.disable(self.primary());
    }

    pub(super) fn disable(&mut self, version: usize) {
        let index = version.checked_sub(1).expect("versions are numbered from 1");
        self.versions.get_mut(index).expect("the key has this version").enabled = false;
    }

    /// The primary version's number.
    pub(super) fn primary(&self) -> usize {
        self.versions.len()
    }

    pub(super) fn version(&self, number: usize) -> Option<&Version> {
        self.versions.get(number.checked_sub(1)?)
    }

    pub(super) fn recognise(&self, ciphertext: &[u8], aad: &[u8]) -> Opened<'_> {
        if let (Some(plaintext), []) = (self.held.get(ciphertext), aad) {
            return Opened::Held(plaintext);
        }
        let Some(id) = ciphertext.strip_prefix(&HEADER).and_then(|rest| rest.get(..ID_LEN)) else {
            return Opened::Garbage;
        };
        match self.versions.iter().position(|version| version.id == id) {
            Some(index) => Opened::By(index + 1, &self.versions[index]),
            None => Opened::OtherKey,
        }
    }
}

impl Version {
    fn generate() -> Self {
        let mut id = [0; ID_LEN];
        random(&mut id[1..]);
        let mut key = [0; 32];
        random(&mut key);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).expect("32 bytes are a key");
        Self { id, key, enabled: true }
    }

    /// The header, the version's id, the nonce, the encrypted plaintext and its tag.
    pub(super) fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        let mut sealed = plaintext.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(aad), &mut sealed).expect("a small plaintext");
        [&HEADER[..], &self.id, nonce.as_ref(), &sealed].concat()
    }

    /// The plaintext, if the ciphertext is whole and was made with the same additional data.
    pub(super) fn open(&self, ciphertext: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ciphertext.get(HEADER.len() + ID_LEN..)?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plaintext = self.key.open_in_place(nonce, Aad::from(aad), &mut sealed).ok()?;
        Some(plaintext.to_vec())
    }
}

pub(super) fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system has random bytes");
}

//! Which component is run: the built-in one, or another whose digest somebody has promised.
//!
//! A component can publish the keys that it wraps (SECURITY.md), so that one from a file runs only if whoever set this up named its digest, or if
//! the policy was written for it. The digest is compared before anything of the file is parsed.

mod info;

use std::io::Read;
use std::path::Path;

pub use self::info::{Import, Info, NotReadable};
use crate::config::{self, Environment};
use crate::digest::Digest;
use crate::error::Error;
use crate::policy::Policy;
use crate::sandbox::{Instances, Sandbox};
use crate::{shown, trusted_file};

/// The most bytes of a component. Python with its standard library is 18 MB.
pub const MAX_COMPONENT: u64 = 64 << 20;

/// A component that was chosen: its bytes, its digest, and what it is called in errors.
struct Chosen {
    name: String,
    bytes: Vec<u8>,
    digest: Digest,
}

/// Who decides about a component, and how it is run.
pub(crate) struct Choice<'a> {
    /// A component as bytes; else the configured file, else the built-in one.
    pub bytes: Option<Vec<u8>>,
    /// What the configuration says; its digest counts for `bytes`, too.
    pub settings: &'a config::Component,
    /// May promise a digest.
    pub policy: &'a dyn Policy,
    /// How instances get their memory.
    pub instances: Instances,
    /// Where the user's folders are.
    pub environment: &'a Environment,
}

impl Choice<'_> {
    /// The sandbox of the component that was chosen.
    pub fn sandbox(mut self) -> Result<Sandbox, Error> {
        match self.chosen()? {
            Some(chosen) if chosen.digest != Sandbox::built_in_digest() => self.compiled(&chosen),
            _ => Sandbox::built_in(self.instances),
        }
    }

    /// The digest of the component that was chosen.
    pub fn digest(mut self) -> Result<Digest, Error> {
        Ok(self.chosen()?.map_or_else(Sandbox::built_in_digest, |chosen| chosen.digest))
    }

    /// The component that was chosen, if somebody has promised it; `None` is the built-in one.
    fn chosen(&mut self) -> Result<Option<Chosen>, Error> {
        let chosen = match (self.bytes.take(), &self.settings.file) {
            (Some(bytes), _) => Chosen::new("the component".into(), bytes),
            (None, Some(file)) => Chosen::new(shown::path(file).to_string(), read(file)?),
            (None, None) => return self.check_built_in().map(|()| None),
        };
        chosen.check(self.settings.sha256, self.policy)?;
        Ok(Some(chosen))
    }

    /// A digest without a file is one that the built-in component has to have.
    fn check_built_in(&self) -> Result<(), Error> {
        let digest = Sandbox::built_in_digest();
        match self.settings.sha256 {
            Some(expected) if expected != digest => Err(mismatch("the built-in component", digest, expected)),
            _ => Ok(()),
        }
    }

    #[cfg(feature = "compile")]
    fn compiled(&self, chosen: &Chosen) -> Result<Sandbox, Error> {
        use crate::sandbox::{CodeCache, Limits};
        let limits = Limits::of(self.settings).map_err(|reason| wrong("[component]", reason))?;
        let cache = if self.settings.cache { CodeCache::of_user(self.environment) } else { None };
        Sandbox::compile_within(&chosen.bytes, chosen.digest, self.instances, limits, cache.as_ref())
    }

    #[cfg(not(feature = "compile"))]
    fn compiled(&self, chosen: &Chosen) -> Result<Sandbox, Error> {
        let _ = (self.environment, &chosen.bytes);
        let reason = "this build runs only the built-in component; build one with `cargo build --release --features compile`";
        Err(wrong(&chosen.name, reason.into()))
    }
}

impl Chosen {
    fn new(name: String, bytes: Vec<u8>) -> Self {
        Self { name, digest: Digest::of(&bytes), bytes }
    }

    /// Somebody has promised this very component.
    fn check(&self, expected: Option<Digest>, policy: &dyn Policy) -> Result<(), Error> {
        let digest = self.digest;
        match expected {
            Some(expected) if expected == digest => Ok(()),
            Some(expected) => Err(mismatch(&self.name, digest, expected)),
            None if digest == Sandbox::built_in_digest() || policy.pins(digest) => Ok(()),
            None => Err(wrong(
                &self.name,
                format!(
                    "a component can publish the keys that it wraps, so that another than the built-in one runs only with its digest; if you trust \
                     this one, add --component-sha256 {digest}"
                ),
            )),
        }
    }
}

/// The bytes of a component's file, which is read once.
///
/// # Errors
/// If it can't be read, or is longer than [`MAX_COMPONENT`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| wrong(&shown::path(path).to_string(), reason);
    let unreadable = |error: std::io::Error| failed(format!("the component can't be read: {error}"));
    // Who may write it isn't asked: its digest is.
    let (file, metadata) =
        trusted_file::open_regular(path).map_err(|untrusted| failed(format!("the component is not used: {untrusted}")))?;
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_COMPONENT) as usize);
    file.take(MAX_COMPONENT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 <= MAX_COMPONENT {
        true => Ok(bytes),
        false => Err(failed(format!("it is longer than {MAX_COMPONENT} bytes, and a component isn't"))),
    }
}

fn mismatch(name: &str, digest: Digest, expected: Digest) -> Error {
    let remedy = "take the component that was approved, or have this one approved and name its digest";
    wrong(name, format!("its SHA-256 digest is {digest}, not {expected}; {remedy}"))
}

fn wrong(place: &str, reason: String) -> Error {
    Error::Configuration { place: place.to_owned(), reason }
}

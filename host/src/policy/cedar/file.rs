//! A policy in a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CedarPolicy;
use super::problem::Problem;
use crate::fresh::{Fresh, Source};
use crate::policy::{Denial, Permit, Policy, Request};
use crate::{Digest, Error, shown, text_file};

/// A policy in a file. [`Policy::refresh`] reads it anew when the file changed; an exchange keeps the one that it began with.
pub struct PolicyFile(Fresh<InFile>);

struct InFile(PathBuf);

impl PolicyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Those of [`CedarPolicy::read`], and that others than this user and root could change the file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = Fresh::load(InFile(path.to_owned()))?;
        tracing::info!(file = %shown::path(path), sha256 = %file.current().digest, "policy read");
        Ok(Self(file))
    }
}

impl Source for InFile {
    type Value = CedarPolicy;

    fn files(&self) -> Vec<&PathBuf> {
        vec![&self.0]
    }

    fn read(&self) -> Result<CedarPolicy, Error> {
        let policy = CedarPolicy::of(&self.0, &text_file::read_unexposed(&self.0, "the policy")?)?;
        if tracing::enabled!(tracing::Level::WARN) {
            policy.warnings().iter().for_each(|problem| tracing::warn!("{}:{problem}", shown::path(&self.0)));
        }
        Ok(policy)
    }
}

impl CedarPolicy {
    /// Reads a policy from a file, to look at it: who else could change the file isn't asked.
    ///
    /// # Errors
    /// If the file can't be read, or isn't a policy: then the error names the first place.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::of(path, &read_text(path)?)
    }

    fn of(path: &Path, text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|problems| wrong(path, &problems))
    }
}

/// The text of a policy's file.
///
/// # Errors
/// If it can't be read, or has more than 1 MiB.
pub fn read_text(path: &Path) -> Result<String, Error> {
    text_file::read(path, "the policy")
}

fn wrong(path: &Path, problems: &[Problem]) -> Error {
    let first = problems.first().expect("a policy is refused for a reason");
    let more = match problems.len() {
        1 => String::new(),
        _ => "; `ocicrypt-kms policy check` lists all".to_owned(),
    };
    Error::Configuration { place: format!("{}:{}", shown::path(path), first.place), reason: format!("{}{more}", first.message) }
}

impl Policy for PolicyFile {
    fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        self.0.current().decide(request)
    }

    fn could_allow(&self, request: &Request<'_>) -> bool {
        self.0.current().could_allow(request)
    }

    fn pins(&self, component: Digest) -> bool {
        self.0.current().pins(component)
    }

    fn digest(&self) -> Option<Digest> {
        self.0.current().digest()
    }

    fn current(&self) -> Option<Arc<dyn Policy>> {
        Some(self.0.current())
    }

    fn refresh(&self, asked: bool) -> Result<bool, Error> {
        self.0.refresh(asked)
    }
}

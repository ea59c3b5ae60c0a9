//! `hashivault://MOUNT/KEY`, `openbao://MOUNT/KEY`
//!
//! A key of the [transit engine], which is usually mounted at `transit`; a mount may have several segments. Names of keys are what
//! the engine's routes match, `\w(([\w-.]+)?\w)?` (`GenericNameRegex` of its SDK). Mounts could be called almost anything; here their
//! segments follow the same rule, so that they mean the same in a path as in the URI.
//!
//! [transit engine]: https://developer.hashicorp.com/vault/api-docs/secret/transit

use super::error::{KeyUriError, quoted};
use super::parts::{Rule, consists, is_name_byte, is_word_byte, segments};
use super::{Addresses, Service};

/// A key of a transit engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct VaultKey {
    /// Which product the URI says.
    pub flavour: VaultFlavour,
    /// The path where the engine is mounted, without slashes at its ends.
    pub mount: String,
    /// The key's name.
    pub key: String,
}

/// The products that have a transit engine. The scheme says which: they are addressed by different environment variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum VaultFlavour {
    /// HashiCorp Vault.
    HashiVault,
    /// OpenBao.
    OpenBao,
}

impl VaultKey {
    pub(super) fn parse(flavour: VaultFlavour, rest: &str) -> Result<Self, KeyUriError> {
        match segments(rest)?.as_slice() {
            [mount @ .., key] => Self::new(flavour, mount, key),
            [] => Err(shape(rest)),
        }
    }

    /// Tink's `hcvault://HOST/MOUNT/keys/KEY`, also without `keys`. The host has to be the one of the configuration, which is then
    /// left out.
    pub(super) fn parse_with_host(rest: &str, addresses: &Addresses) -> Result<Self, KeyUriError> {
        let [host, path @ ..] = &segments(rest)?[..] else { return Err(shape(rest)) };
        if !addresses.vault_host.as_ref().is_some_and(|configured| configured.eq_ignore_ascii_case(host)) {
            return Err(KeyUriError::VaultHost(quoted(host)));
        }
        let (mount, key) = match path {
            [mount @ .., "keys", key] if !mount.is_empty() => (mount, key),
            [mount @ .., key] => (mount, key),
            [] => return Err(shape(rest)),
        };
        Self::new(VaultFlavour::HashiVault, mount, key)
    }

    fn new(flavour: VaultFlavour, mount: &[&str], key: &str) -> Result<Self, KeyUriError> {
        let mount = if mount.is_empty() { &["transit"] } else { mount };
        if RESERVED.contains(&mount[0]) {
            return Err(KeyUriError::ReservedMount(quoted(mount[0])));
        }
        for segment in mount {
            MOUNT.check(segment)?;
        }
        Ok(Self { flavour, mount: mount.join("/"), key: KEY.check(key)? })
    }

    pub(super) fn identity(&self) -> String {
        format!("{}://{}/{}", self.flavour.scheme(), self.mount, self.key)
    }
}

impl VaultFlavour {
    /// The scheme of the canonical spelling.
    pub fn scheme(self) -> &'static str {
        match self {
            VaultFlavour::HashiVault => "hashivault",
            VaultFlavour::OpenBao => "openbao",
        }
    }
}

/// Where the server itself answers and no engine can be mounted (`protectedMounts` in its mount table).
const RESERVED: [&str; 5] = ["audit", "auth", "cubbyhole", "identity", "sys"];

const MOUNT: Rule = name("segment of a mount path");
const KEY: Rule = name("key");

const fn name(part: &'static str) -> Rule {
    Rule {
        service: Service::Vault,
        part,
        says: "at most 128 letters, digits, underscores, and inside it also hyphens and dots",
        holds: |text| {
            let ends_in_word = [text.bytes().next(), text.bytes().next_back()].into_iter().flatten().all(is_word_byte);
            ends_in_word && consists(text, 1..=128, |byte| is_name_byte(byte) || byte == b'.')
        },
    }
}

fn shape(rest: &str) -> KeyUriError {
    KeyUriError::Shape { service: Service::Vault, found: quoted(rest) }
}

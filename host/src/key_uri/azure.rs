//! `azurekms://HOST/KEY[/VERSION]`
//!
//! The parts of a [key identifier], `https://HOST/keys/KEY/VERSION`. Microsoft says that identifiers "should always be compared as
//! case-insensitive strings", so all of it is made lower case: otherwise one key would have many canonical spellings. Names of vaults
//! and HSM pools are 3 to 24 letters, digits and hyphens, no two hyphens in a row; names of keys 1 to 127 of the same; versions 32 digits.
//!
//! [key identifier]: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers

use super::error::{KeyUriError, quoted};
use super::parts::{Rule, consists, is_label_byte, is_lower_hex, segments};
use super::{Addresses, Algorithm, Service};

/// A key of Azure Key Vault or Managed HSM, or one version of it. All parts are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct AzureKey {
    /// The host name: one label and a known suffix.
    pub host: String,
    /// The key's name.
    pub key: String,
    /// The version, if the URI names one.
    pub version: Option<String>,
}

impl AzureKey {
    pub(super) fn parse(rest: &str, addresses: &Addresses) -> Result<Self, KeyUriError> {
        match segments(rest)?.as_slice() {
            [host, key] => Self::new(host, key, None, addresses),
            [host, key, version] => Self::new(host, key, Some(version), addresses),
            _ => Err(shape(rest)),
        }
    }

    /// The form of the `kid` that the service reports.
    pub(super) fn parse_identifier(rest: &str, addresses: &Addresses) -> Result<Self, KeyUriError> {
        match segments(rest)?.as_slice() {
            [host, "keys", key] => Self::new(host, key, None, addresses),
            [host, "keys", key, version] => Self::new(host, key, Some(version), addresses),
            // Somebody else's address: that of a server of Vault, say.
            [host, ..] if !is_host(host, addresses) => Err(KeyUriError::NotOfAzure(quoted(rest))),
            _ => Err(shape(rest)),
        }
    }

    fn new(host: &str, key: &str, version: Option<&str>, addresses: &Addresses) -> Result<Self, KeyUriError> {
        Ok(Self {
            host: check_host(host, addresses)?,
            key: KEY.check(&key.to_ascii_lowercase())?,
            version: version.map(|version| VERSION.check(&version.to_ascii_lowercase())).transpose()?,
        })
    }

    /// Whether the host is a Managed HSM pool, the only kind that holds symmetric keys.
    pub fn is_managed_hsm(&self) -> bool {
        self.domain().starts_with("managedhsm.")
    }

    /// The name of the vault or of the HSM pool: the host's first label.
    pub fn vault(&self) -> &str {
        self.host.split('.').next().unwrap_or_default()
    }

    /// The known suffix, such as `vault.azure.net`: the host without its first label.
    pub fn domain(&self) -> &str {
        self.host.split_once('.').map_or("", |(_, domain)| domain)
    }

    pub(super) fn identity(&self) -> String {
        format!("azurekms://{}/{}", self.host, self.key)
    }

    pub(super) fn version_suffix(&self) -> String {
        self.version.iter().map(|version| format!("/{version}")).collect()
    }

    pub(super) fn algorithms(&self) -> &'static [Algorithm] {
        if self.is_managed_hsm() { &[Algorithm::RsaOaep256, Algorithm::A256Kw] } else { &[Algorithm::RsaOaep256] }
    }
}

/// The domains of the public clouds.
const SUFFIXES: [&str; 6] = [
    "vault.azure.net",
    "vault.azure.cn",
    "vault.usgovcloudapi.net",
    "managedhsm.azure.net",
    "managedhsm.azure.cn",
    "managedhsm.usgovcloudapi.net",
];

/// Whether it is the host of a vault or of an HSM pool.
pub(super) fn is_host(host: &str, addresses: &Addresses) -> bool {
    check_host(host, addresses).is_ok()
}

/// The credentials' token goes to this host, so its suffix is compared whole: no deeper name, no longer domain.
fn check_host(host: &str, addresses: &Addresses) -> Result<String, KeyUriError> {
    let lower = host.to_ascii_lowercase();
    let known = |suffix: &str| {
        let configured = addresses.azure_suffixes.iter().map(String::as_str);
        SUFFIXES.into_iter().chain(configured).any(|known| !known.is_empty() && known.eq_ignore_ascii_case(suffix))
    };
    match lower.split_once('.') {
        Some((name, suffix)) if known(suffix) => VAULT.check(name).map(|_| lower),
        _ => Err(KeyUriError::AzureHost(quoted(host))),
    }
}

fn shape(rest: &str) -> KeyUriError {
    KeyUriError::Shape { service: Service::Azure, found: quoted(rest) }
}

const VAULT: Rule = Rule {
    service: Service::Azure,
    part: "vault name",
    says: "3 to 24 letters, digits and single hyphens, none of them at an end",
    holds: |text| consists(text, 3..=24, is_label_byte) && text.split('-').all(|word| !word.is_empty()),
};

const KEY: Rule = Rule {
    service: Service::Azure,
    part: "key",
    says: "1 to 127 letters, digits and hyphens",
    holds: |text| consists(text, 1..=127, is_label_byte),
};

const VERSION: Rule = Rule {
    service: Service::Azure,
    part: "key version",
    says: "32 hexadecimal digits",
    holds: |text| consists(text, 32..=32, is_lower_hex),
};

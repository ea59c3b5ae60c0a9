//! Key URIs: which key of which key management service.
//!
//! This module is the only place where a key URI is taken apart. Everything else gets a [`KeyUri`], which exists only for text
//! that passed every rule, and reads its parts from there: nothing that builds a request path, a host name or a file name has to
//! check them again.
//!
//! | service | canonical | also accepted |
//! |---|---|---|
//! | Google Cloud KMS | `gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K[/cryptoKeyVersions/V]` | `gcp-kms://…` |
//! | AWS KMS | `awskms:///ARN`, `awskms:///alias/NAME`, `awskms:///ID` | `aws-kms:///…`, `aws-kms://ARN`, a bare ARN or key id |
//! | Azure Key Vault, Managed HSM | `azurekms://HOST/KEY[/VERSION]` | the key identifier `https://HOST/keys/KEY[/VERSION]` |
//! | Vault, OpenBao transit | `hashivault://MOUNT/KEY`, `openbao://MOUNT/KEY` | without `MOUNT`; `hcvault://HOST/MOUNT/[keys/]KEY` |
//! | local keystore | `local://NAME` | |
//! | a service that a component knows | `http-kms://ENDPOINT/KEY[/…]` | |
//! | a service of an embedding program ([`OtherService`]) | `SCHEME://SEGMENT[/SEGMENT…]` | |
//!
//! A query may follow: `?algorithm=NAME` and any number up to 16 of `context_NAME=VALUE`, in any order.
//!
//! # What can be relied on
//!
//! - *Total.* [`KeyUri::parse`] returns for every text, without a panic, in time linear in at most [`MAX_LENGTH`] bytes.
//! - *One spelling.* Parsing [`KeyUri::canonical`] with the same [`Addresses`] gives an equal value; two values are equal exactly
//!   if their canonical spellings are. It is printable ASCII.
//! - *No address.* A URI arrives with an image, so it never decides whom the host talks to. Only Azure's form has a host, and that
//!   is one label under a suffix from a fixed list or the configuration. The region in an ARN has to be one of its partition.
//! - *No escape.* No accepted part has a separator, a `.` or `..` segment, a percent sign or a control character, so a part put
//!   into a path can't leave its place.
//!
//! What it doesn't do: know that two URIs are the same key. An alias, an id and an ARN, or a project's id and its number, are
//! different keys here.

mod aws;
mod azure;
mod error;
mod gcp;
mod http_kms;
mod local;
mod other;
mod parts;
mod query;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "aws")]
pub(crate) use aws::partition_of;
pub use aws::{Arn, AwsKey, aws_dns_suffix};
pub use azure::AzureKey;
pub use error::KeyUriError;
pub use gcp::GcpKey;
pub use http_kms::{HttpKmsKey, is_endpoint_name};
pub use local::LocalKey;
pub use other::{BadServiceName, OtherKey, OtherService};
pub use query::{Algorithm, MAX_CONTEXT_ENTRIES};
pub use vault::{VaultFlavour, VaultKey};

use error::quoted;
use query::Query;

/// The most bytes of a key URI, as it arrives and in its canonical spelling.
pub const MAX_LENGTH: usize = 2048;

/// A key URI that passed every rule. Ordered and compared as its canonical spelling is. A clone is the same one: an exchange keeps several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyUri(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Parts {
    // First, so that it decides the derived order.
    canonical: String,
    // The identity, then the version, then the query: each shorter form is a prefix of the canonical spelling.
    identity_length: usize,
    path_length: usize,
    key: Key,
    query: Query,
}

/// One key management product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Service {
    /// Google Cloud KMS.
    Gcp,
    /// AWS KMS.
    Aws,
    /// Azure Key Vault and Managed HSM.
    Azure,
    /// The transit engine of HashiCorp Vault and OpenBao.
    Vault,
    /// JWK sets in files on this machine.
    Local,
    /// An endpoint of the configuration, whose service a component knows.
    HttpKms,
    /// A service that an embedding program brings along.
    Other(OtherService),
}

/// The parts of a key URI, by service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key {
    /// A key or key version of Google Cloud KMS.
    Gcp(GcpKey),
    /// A key or alias of AWS KMS.
    Aws(AwsKey),
    /// A key or key version of Azure Key Vault or Managed HSM.
    Azure(AzureKey),
    /// A key of a transit engine.
    Vault(VaultKey),
    /// A key of the local keystore.
    Local(LocalKey),
    /// A key behind an endpoint of the configuration.
    HttpKms(HttpKmsKey),
    /// A key of a service that isn't built in.
    Other(OtherKey),
}

/// How a key URI begins.
#[derive(Clone, Copy)]
pub(crate) enum Scheme {
    Gcp,
    Aws,
    Azure,
    AzureIdentifier,
    Vault(VaultFlavour),
    VaultHost,
    Local,
    HttpKms,
    Other(OtherService),
}

impl Scheme {
    /// The scheme of this name: a built-in one, or one that was added.
    pub fn of(name: &str, addresses: &Addresses) -> Option<Self> {
        Self::named(name).or_else(|| addresses.services.iter().find(|service| service.as_str() == name).copied().map(Self::Other))
    }

    /// The built-in scheme of this name, in the only spelling it has.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gcpkms" | "gcp-kms" => Some(Self::Gcp),
            "awskms" | "aws-kms" => Some(Self::Aws),
            "azurekms" => Some(Self::Azure),
            "https" => Some(Self::AzureIdentifier),
            "hashivault" => Some(Self::Vault(VaultFlavour::HashiVault)),
            "openbao" => Some(Self::Vault(VaultFlavour::OpenBao)),
            "hcvault" => Some(Self::VaultHost),
            "local" => Some(Self::Local),
            "http-kms" => Some(Self::HttpKms),
            _ => None,
        }
    }

    /// Whose keys it begins.
    #[cfg(feature = "http")]
    pub fn service(self) -> Service {
        match self {
            Self::Gcp => Service::Gcp,
            Self::Aws => Service::Aws,
            Self::Azure | Self::AzureIdentifier => Service::Azure,
            Self::Vault(_) | Self::VaultHost => Service::Vault,
            Self::Local => Service::Local,
            Self::HttpKms => Service::HttpKms,
            Self::Other(service) => Service::Other(service),
        }
    }
}

/// What the configuration adds to the addresses that are built in. The default adds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Domains of further clouds under which Key Vaults and Managed HSMs are, such as `vault.example.cloud`. A vault is one label
    /// in front; a Managed HSM is told by a domain that begins with `managedhsm.`.
    pub azure_suffixes: Vec<String>,
    /// The host name of the configured Vault, without port: the only one that `hcvault://HOST/…` may name.
    pub vault_host: Option<String>,
    /// Services that aren't built in.
    pub services: Vec<OtherService>,
}

impl KeyUri {
    /// Reads a key URI in any accepted spelling.
    pub fn parse(text: &str, addresses: &Addresses) -> Result<Self, KeyUriError> {
        check_text(text)?;
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Query::parse(query)?),
            None => (text, Query::default()),
        };
        let key = Key::parse(path, addresses)?;
        if let Some(algorithm) = query.algorithm
            && !key.algorithms().contains(&algorithm)
        {
            return Err(KeyUriError::AlgorithmRefused { service: key.service(), algorithm, possible: key.algorithms() });
        }
        Self::new(key, query)
    }

    fn new(key: Key, query: Query) -> Result<Self, KeyUriError> {
        let mut canonical = key.identity();
        let identity_length = canonical.len();
        canonical.push_str(&key.version_suffix());
        let path_length = canonical.len();
        canonical.push_str(&query.to_string());
        // Percent-encoding can make it longer than the text was.
        check_length(&canonical)?;
        Ok(Self(Arc::new(Parts { canonical, identity_length, path_length, key, query })))
    }

    /// The one spelling of this URI: what a packet records as `key_url`.
    pub fn canonical(&self) -> &str {
        &self.0.canonical
    }

    /// The canonical spelling up to the query.
    pub fn without_query(&self) -> &str {
        &self.0.canonical[..self.0.path_length]
    }

    /// The canonical spelling without query and version: what `keys` and policy compare. It is itself a key URI, its own identity.
    pub fn identity(&self) -> &str {
        &self.0.canonical[..self.0.identity_length]
    }

    /// The service whose key this is.
    pub fn service(&self) -> Service {
        self.0.key.service()
    }

    /// The parts in front of the query.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// The encryption context, decoded. Names are ASCII, so that this order, by bytes, is also that of RFC 8785, by UTF-16 units.
    pub fn context(&self) -> &BTreeMap<String, String> {
        &self.0.query.context
    }

    /// How the key wraps, where the URI says so.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.0.query.algorithm
    }

    /// Whether a packet with the URI `packet` is one for this parameter: the same key and version, and everything that this query
    /// asks for. The packet's query may hold more.
    pub fn covers(&self, packet: &KeyUri) -> bool {
        self.without_query() == packet.without_query() && self.0.query.is_part_of(&packet.0.query)
    }

    /// Whether it is the ARN of a multi-Region key of AWS KMS.
    pub(crate) fn is_multi_region(&self) -> bool {
        matches!(self.key(), Key::Aws(key) if key.is_multi_region())
    }

    /// `named` with this URI's query, if both are multi-Region keys of AWS KMS that are related: ARNs that are equal but for the region.
    pub(crate) fn in_region_of(&self, named: &Self) -> Option<Self> {
        match (self.key(), named.key()) {
            (Key::Aws(key), Key::Aws(other)) if key.is_related_to(other) => Self::new(named.key().clone(), self.0.query.clone()).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.canonical)
    }
}

impl Key {
    fn parse(path: &str, addresses: &Addresses) -> Result<Self, KeyUriError> {
        // No part of any service may have these, wherever they stand. User information comes first: it may hold a password, which
        // the other errors would quote.
        if path.contains('@') {
            return Err(KeyUriError::UserInfo);
        }
        if path.contains('%') {
            return Err(KeyUriError::PercentInPath(quoted(path)));
        }
        let Some((scheme, rest)) = path.split_once("://") else {
            return AwsKey::parse_bare(path).map(Key::Aws);
        };
        if let "https" | "http" = scheme {
            of_api(rest).map_or(Ok(()), |uri| Err(KeyUriError::OfApi { found: quoted(rest), uri }))?;
        }
        check_no_port(rest).map_err(|port| match scheme {
            "https" if !azure::is_host(rest.split([':', '/']).next().unwrap_or_default(), addresses) => {
                KeyUriError::NotOfAzure(quoted(rest))
            }
            _ => port,
        })?;
        match Scheme::of(scheme, addresses).ok_or_else(|| KeyUriError::Scheme(quoted(scheme)))? {
            Scheme::Gcp => GcpKey::parse(rest).map(Key::Gcp),
            Scheme::Aws => AwsKey::parse(rest).map(Key::Aws),
            Scheme::Azure => AzureKey::parse(rest, addresses).map(Key::Azure),
            Scheme::AzureIdentifier => AzureKey::parse_identifier(rest, addresses).map(Key::Azure),
            Scheme::Vault(flavour) => VaultKey::parse(flavour, rest).map(Key::Vault),
            Scheme::VaultHost => VaultKey::parse_with_host(rest, addresses).map(Key::Vault),
            Scheme::Local => LocalKey::parse(rest).map(Key::Local),
            Scheme::HttpKms => HttpKmsKey::parse(rest).map(Key::HttpKms),
            Scheme::Other(service) => OtherKey::parse(service, rest).map(Key::Other),
        }
    }

    fn service(&self) -> Service {
        match self {
            Key::Gcp(_) => Service::Gcp,
            Key::Aws(_) => Service::Aws,
            Key::Azure(_) => Service::Azure,
            Key::Vault(_) => Service::Vault,
            Key::Local(_) => Service::Local,
            Key::HttpKms(_) => Service::HttpKms,
            Key::Other(key) => Service::Other(key.service),
        }
    }

    fn identity(&self) -> String {
        match self {
            Key::Gcp(key) => key.identity(),
            Key::Aws(key) => key.identity(),
            Key::Azure(key) => key.identity(),
            Key::Vault(key) => key.identity(),
            Key::Local(key) => key.identity(),
            Key::HttpKms(key) => key.identity(),
            Key::Other(key) => key.identity(),
        }
    }

    /// What follows the identity if the URI names a version.
    fn version_suffix(&self) -> String {
        match self {
            Key::Gcp(key) => key.version_suffix(),
            Key::Azure(key) => key.version_suffix(),
            Key::Aws(_) | Key::Vault(_) | Key::Local(_) | Key::HttpKms(_) | Key::Other(_) => String::new(),
        }
    }

    /// The algorithms that a query may ask of this key.
    fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Key::Gcp(key) => key.algorithms(),
            Key::Aws(_) | Key::Vault(_) => &[Algorithm::RsaOaep256],
            Key::Azure(key) => key.algorithms(),
            // Only the component knows how such a key wraps.
            Key::HttpKms(_) => &[],
            // A JWK need not say its algorithm (RFC 7517, 4.4); what other services need is theirs to refuse.
            Key::Local(_) | Key::Other(_) => Algorithm::ALL,
        }
    }
}

impl Service {
    /// The short name: that of the configuration, of logs and of policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Gcp => "gcp",
            Service::Aws => "aws",
            Service::Azure => "azure",
            Service::Vault => "vault",
            Service::Local => "local",
            Service::HttpKms => "http-kms",
            Service::Other(service) => service.as_str(),
        }
    }

    /// The name in sentences.
    fn product(self) -> &'static str {
        match self {
            Service::Gcp => "Google Cloud KMS",
            Service::Aws => "AWS KMS",
            Service::Azure => "Azure Key Vault",
            Service::Vault => "Vault",
            Service::Local => "the local keystore",
            Service::HttpKms => "an endpoint",
            Service::Other(service) => service.as_str(),
        }
    }

    /// How a URI of this service is written, for hints.
    fn form(self) -> &'static str {
        match self {
            Service::Gcp => "gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY[/cryptoKeyVersions/VERSION]",
            Service::Aws => "awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID, awskms:///alias/NAME or awskms:///ID",
            Service::Azure => "azurekms://NAME.vault.azure.net/KEY[/VERSION]",
            Service::Vault => "hashivault://MOUNT/KEY or openbao://MOUNT/KEY",
            Service::Local => "local://NAME",
            Service::HttpKms => "http-kms://ENDPOINT/KEY",
            Service::Other(_) => "SCHEME://NAME[/NAME…] with names of letters, digits and characters of `_-.`",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds for the text as a whole, before it is taken apart.
fn check_text(text: &str) -> Result<(), KeyUriError> {
    if text.is_empty() {
        return Err(KeyUriError::Empty);
    }
    check_length(text)?;
    if let Some((position, found)) = text.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
        return Err(KeyUriError::Character { found: quoted(found.encode_utf8(&mut [0; 4])), position });
    }
    if text.contains('#') {
        return Err(KeyUriError::Fragment);
    }
    Ok(())
}

fn check_length(text: &str) -> Result<(), KeyUriError> {
    if text.len() > MAX_LENGTH {
        return Err(KeyUriError::TooLong(text.len()));
    }
    Ok(())
}

/// The URI of the key whose address in the API of its service was given: of Vault's transit engine, whose address ends with `keys`, or the name of
/// an operation, and the key's name; or of Cloud KMS.
fn of_api(rest: &str) -> Option<String> {
    let (host, path) = rest.split_once("/v1/")?;
    if host == "cloudkms.googleapis.com" {
        let key = GcpKey::parse(path.split(':').next()?).ok()?;
        return Some(key.identity() + &key.version_suffix());
    }
    let (mount, key) = ["/keys/", "/encrypt/", "/decrypt/"].iter().find_map(|verb| path.split_once(verb))?;
    let key = key.split('/').next()?;
    Some(VaultKey::parse(VaultFlavour::HashiVault, &format!("{mount}/{key}")).ok()?.identity())
}

/// Only a colon with a number is a port: the ARN of `aws-kms://ARN` stands in the authority's place and has colons too.
fn check_no_port(rest: &str) -> Result<(), KeyUriError> {
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Err(KeyUriError::Port(quoted(authority))),
        _ => Ok(()),
    }
}

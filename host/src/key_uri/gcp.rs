//! `gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K[/cryptoKeyVersions/V]`
//!
//! The resource names of [`projects.locations.keyRings.cryptoKeys`][keys] and its `cryptoKeyVersions`. Key rings and keys match
//! `[a-zA-Z0-9_-]{1,63}` ([`keyRings.create`][rings], [`cryptoKeys.create`][create]); a project is its number or its
//! [id][project], which in older organisations has a domain in front (`example.com:project`).
//!
//! [keys]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys
//! [rings]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings/create
//! [create]: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/create
//! [project]: https://cloud.google.com/resource-manager/reference/rest/v1/projects

use super::error::{KeyUriError, quoted};
use super::parts::{Rule, consists, is_digit, is_label_byte, is_name_byte, segments};
use super::{Algorithm, Service};

/// A key of Google Cloud KMS, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct GcpKey {
    /// The project's id or number.
    pub project: String,
    /// The location, such as `global` or `europe-west3`.
    pub location: String,
    /// The key ring.
    pub key_ring: String,
    /// The key's own name.
    pub key: String,
    /// The number of the version, if the URI names one.
    pub version: Option<String>,
}

impl GcpKey {
    pub(super) fn parse(rest: &str) -> Result<Self, KeyUriError> {
        let segments = segments(rest)?;
        let (key, version) = match &segments[..] {
            [key @ .., "cryptoKeyVersions", version] => (key, Some(VERSION.check(version)?)),
            key => (key, None),
        };
        let ["projects", project, "locations", location, "keyRings", key_ring, "cryptoKeys", key] = key else {
            return Err(KeyUriError::Shape { service: Service::Gcp, found: quoted(rest) });
        };
        Ok(Self {
            project: PROJECT.check(project)?,
            location: LOCATION.check(location)?,
            key_ring: KEY_RING.check(key_ring)?,
            key: KEY.check(key)?,
            version,
        })
    }

    /// The resource name of the key, `projects/…/cryptoKeys/KEY`.
    pub fn key_name(&self) -> String {
        let Self { project, location, key_ring, key, .. } = self;
        format!("projects/{project}/locations/{location}/keyRings/{key_ring}/cryptoKeys/{key}")
    }

    /// The resource name of what the URI names: the version if it has one, else the key.
    pub fn resource_name(&self) -> String {
        self.key_name() + &self.version_suffix()
    }

    pub(super) fn identity(&self) -> String {
        format!("gcpkms://{}", self.key_name())
    }

    pub(super) fn version_suffix(&self) -> String {
        self.version.iter().map(|version| format!("/cryptoKeyVersions/{version}")).collect()
    }

    /// Only a version can be asymmetric for us: `asymmetricDecrypt` and the public key are a version's.
    pub(super) fn algorithms(&self) -> &'static [Algorithm] {
        if self.version.is_some() { &[Algorithm::RsaOaep256] } else { &[] }
    }
}

const PROJECT: Rule = Rule {
    service: Service::Gcp,
    part: "project",
    says: "a project's number or its id of lower-case letters, digits and hyphens, with DOMAIN: in front if it has one",
    holds: |text| {
        let is_label = |text: &str| consists(text, 1..=63, is_label_byte);
        match text.split_once(':') {
            Some((domain, id)) => domain.split('.').all(is_label) && is_label(id),
            None => is_label(text),
        }
    },
};

const LOCATION: Rule = name("location");
const KEY_RING: Rule = name("key ring");
const KEY: Rule = name("key");

const VERSION: Rule = Rule {
    service: Service::Gcp,
    part: "key version",
    says: "a number without leading zeros",
    holds: |text| consists(text, 1..=18, is_digit) && !text.starts_with('0'),
};

const fn name(part: &'static str) -> Rule {
    Rule {
        service: Service::Gcp,
        part,
        says: "1 to 63 letters, digits, underscores and hyphens",
        holds: |text| consists(text, 1..=63, is_name_byte),
    }
}

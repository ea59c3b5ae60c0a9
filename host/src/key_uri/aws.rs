//! `awskms:///ARN`, `awskms:///alias/NAME`, `awskms:///ID`
//!
//! What the `KeyId` of a request may be ([`Encrypt`]): an ARN, an alias or a key id. Ids are UUIDs, of multi-Region keys `mrk-` and
//! 32 hexadecimal digits ([key ids]). An alias is `alias/` and up to 256 characters in all ([`CreateAlias`]). The partitions and their
//! regions are those of the SDKs' [`partitions.json`].
//!
//! [`Encrypt`]: https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
//! [`CreateAlias`]: https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateAlias.html
//! [key ids]: https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id
//! [`partitions.json`]: https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json

use super::Service;
use super::error::{KeyUriError, quoted};
use super::parts::{Rule, consists, is_digit, is_lower_hex, is_name_byte, segments};

/// A key of AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct AwsKey {
    /// What `KeyId` of a request holds: the ARN, `alias/NAME` or the id, as in the URI.
    pub key_id: String,
    /// The parts of the ARN, if it is one. Without it the environment says the region.
    pub arn: Option<Arn>,
}

/// The parts of the ARN of a key or an alias.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Arn {
    /// The partition, such as `aws` or `aws-cn`.
    pub partition: &'static str,
    /// The domain of the partition's endpoints: KMS answers at `kms.REGION.` and this.
    pub dns_suffix: &'static str,
    /// The region, known to be one of the partition.
    pub region: String,
    /// The twelve digits of the account.
    pub account: String,
    /// `key/ID` or `alias/NAME`.
    pub resource: String,
}

impl AwsKey {
    pub(super) fn parse(rest: &str) -> Result<Self, KeyUriError> {
        // `aws-kms://ARN`, with two slashes, is how Tink writes it. The ARN stands where a host would, but can't be taken for one.
        if rest.starts_with("arn:") {
            return Self::parse_key_id(rest);
        }
        let (host, key_id) = rest.split_once('/').unwrap_or((rest, ""));
        if !host.is_empty() {
            return Err(KeyUriError::AwsHost(quoted(host)));
        }
        Self::parse_key_id(key_id)
    }

    /// An ARN or a key id by itself, as other programs' packets have it. A bare alias is too likely something else.
    pub(super) fn parse_bare(text: &str) -> Result<Self, KeyUriError> {
        if text.starts_with("arn:") || is_key_id(text) {
            return Self::parse_key_id(text);
        }
        Err(KeyUriError::NoScheme(quoted(text)))
    }

    fn parse_key_id(text: &str) -> Result<Self, KeyUriError> {
        let arn = match segments(text)?.as_slice() {
            [start, ..] if start.starts_with("arn:") => Some(Arn::parse(text)?),
            ["alias", ..] => ALIAS.check(text).map(|_| None)?,
            [id] => ID.check(id).map(|_| None)?,
            _ => return Err(shape(text)),
        };
        Ok(Self { key_id: text.to_owned(), arn })
    }

    /// Whether it is an alias, which says nothing about the key behind it.
    pub fn is_alias(&self) -> bool {
        self.arn.as_ref().map_or(self.key_id.as_str(), |arn| arn.resource.as_str()).starts_with("alias/")
    }

    pub(super) fn identity(&self) -> String {
        format!("awskms:///{}", self.key_id)
    }

    /// Whether it is the ARN of a [multi-Region key], of which other regions can have related keys with the same id and key material.
    ///
    /// [multi-Region key]: https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html
    pub(crate) fn is_multi_region(&self) -> bool {
        self.arn.as_ref().is_some_and(|arn| arn.resource.starts_with("key/mrk-"))
    }

    /// Whether both are ARNs of multi-Region keys that are equal but for the region.
    pub(crate) fn is_related_to(&self, other: &Self) -> bool {
        let shared = |key: &Self| key.arn.as_ref().map(|arn| (arn.partition, arn.account.clone(), arn.resource.clone()));
        self.is_multi_region() && shared(self) == shared(other)
    }
}

impl Arn {
    /// The key's id, or `alias/NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.resource.strip_prefix("key/").unwrap_or(&self.resource)
    }

    fn parse(text: &str) -> Result<Self, KeyUriError> {
        let fields: Vec<&str> = text.split(':').collect();
        let ["arn", partition, "kms", region, account, resource] = fields[..] else {
            return Err(shape(text));
        };
        let partition = PARTITIONS.iter().find(|known| known.name == partition).ok_or_else(|| KeyUriError::Partition(quoted(partition)))?;
        if !partition.has(region) {
            return Err(KeyUriError::Region { partition: partition.name, found: quoted(region) });
        }
        match resource.split_once('/') {
            Some(("key", id)) => ID.check(id)?,
            Some(("alias", _)) => ALIAS.check(resource)?,
            _ => return Err(shape(text)),
        };
        Ok(Self {
            partition: partition.name,
            dns_suffix: partition.dns_suffix,
            region: region.to_owned(),
            account: ACCOUNT.check(account)?,
            resource: resource.to_owned(),
        })
    }
}

/// A partition of AWS, with its own domains.
pub(crate) struct Partition {
    name: &'static str,
    /// The domain of its endpoints.
    pub dns_suffix: &'static str,
    /// That of its endpoints that have IPv6 addresses, too.
    #[cfg_attr(not(feature = "aws"), allow(dead_code))]
    pub dual_stack_suffix: &'static str,
    /// What stands in front of `-DIRECTION-NUMBER` in the names of its regions.
    areas: &'static [&'static str],
}

/// A new area needs a row here: guessing would let an image choose a host name that isn't known to be AWS's.
const PARTITIONS: &[Partition] = &[
    Partition {
        name: "aws",
        dns_suffix: "amazonaws.com",
        dual_stack_suffix: "api.aws",
        areas: &["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"],
    },
    Partition { name: "aws-cn", dns_suffix: "amazonaws.com.cn", dual_stack_suffix: "api.amazonwebservices.com.cn", areas: &["cn"] },
    Partition { name: "aws-us-gov", dns_suffix: "amazonaws.com", dual_stack_suffix: "api.aws", areas: &["us-gov"] },
    Partition { name: "aws-eusc", dns_suffix: "amazonaws.eu", dual_stack_suffix: "api.amazonwebservices.eu", areas: &["eusc-de"] },
    Partition { name: "aws-iso", dns_suffix: "c2s.ic.gov", dual_stack_suffix: "api.aws.ic.gov", areas: &["us-iso"] },
    Partition { name: "aws-iso-b", dns_suffix: "sc2s.sgov.gov", dual_stack_suffix: "api.aws.scloud", areas: &["us-isob"] },
    Partition { name: "aws-iso-e", dns_suffix: "cloud.adc-e.uk", dual_stack_suffix: "api.cloud-aws.adc-e.uk", areas: &["eu-isoe"] },
    Partition { name: "aws-iso-f", dns_suffix: "csp.hci.ic.gov", dual_stack_suffix: "api.aws.hci.ic.gov", areas: &["us-isof"] },
];

impl Partition {
    fn has(&self, region: &str) -> bool {
        let mut parts = region.rsplitn(3, '-');
        let (Some(number), Some(direction), Some(area)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        self.areas.contains(&area) && consists(direction, 1..=16, |byte| byte.is_ascii_lowercase()) && consists(number, 1..=2, is_digit)
    }
}

/// The domain of the endpoints of a region that the environment names: that of its partition. For a region that isn't known it is that of
/// `aws`, as in the SDKs; an image can't name one.
pub fn aws_dns_suffix(region: &str) -> &'static str {
    partition_of(region).dns_suffix
}

/// The partition of a region; `aws` for one that isn't known.
pub(crate) fn partition_of(region: &str) -> &'static Partition {
    PARTITIONS.iter().find(|partition| partition.has(region)).unwrap_or(&PARTITIONS[0])
}

fn is_key_id(text: &str) -> bool {
    let is_uuid = || {
        let lengths = text.split('-').map(str::len);
        lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| is_lower_hex(byte) || byte == b'-')
    };
    let is_multi_region = || text.strip_prefix("mrk-").is_some_and(|hex| consists(hex, 32..=32, is_lower_hex));
    is_uuid() || is_multi_region()
}

fn shape(text: &str) -> KeyUriError {
    KeyUriError::Shape { service: Service::Aws, found: quoted(text) }
}

const ID: Rule = Rule {
    service: Service::Aws,
    part: "key id",
    says: "a lower-case UUID, or mrk- and 32 lower-case hexadecimal digits",
    holds: is_key_id,
};

const ALIAS: Rule = Rule {
    service: Service::Aws,
    part: "alias",
    says: "alias/ and a name of letters, digits, underscores, hyphens and slashes, at most 256 characters in all",
    holds: |text| text.strip_prefix("alias/").is_some_and(|name| consists(name, 1..=250, |byte| is_name_byte(byte) || byte == b'/')),
};

const ACCOUNT: Rule = Rule { service: Service::Aws, part: "account", says: "12 digits", holds: |text| consists(text, 12..=12, is_digit) };

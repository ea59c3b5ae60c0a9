//! Why a text isn't a key URI, and what to do about it.

use super::{Algorithm, MAX_CONTEXT_ENTRIES, MAX_LENGTH, Service};

/// Why a text isn't a key URI. Displayed, it is one sentence that says what is wrong; [`KeyUriError::hint`] is a second one that says
/// what to do. Both are one line of printable ASCII: strings in here are already in backticks, escaped and shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyUriError {
    /// There is no text.
    #[error("the key URI is empty")]
    Empty,
    /// More than [`MAX_LENGTH`] bytes, as it is or in its canonical spelling.
    #[error("the key URI takes {0} bytes, more than {MAX_LENGTH}")]
    TooLong(usize),
    /// A character that isn't printable ASCII.
    #[error("the key URI has the character {found} at byte {position}")]
    Character {
        /// The first such character.
        found: String,
        /// Where it is.
        position: usize,
    },
    /// A `#`.
    #[error("the key URI has a fragment (`#`)")]
    Fragment,
    /// An `@`. What stands before it isn't shown: it may be a password.
    #[error("the key URI has user information (`@`)")]
    UserInfo,
    /// A host with a port.
    #[error("the key URI has a port: {0}")]
    Port(String),
    /// The address of a key in the API of its service.
    #[error("{found} is the address of a key in an API, not a key URI")]
    OfApi {
        /// What follows the scheme.
        found: String,
        /// The URI of that key.
        uri: String,
    },
    /// `https://` with something else than a key identifier of Azure.
    #[error("{0} is not a key identifier of Azure Key Vault, the only key URI that begins with https://")]
    NotOfAzure(String),
    /// A `%` in front of the query.
    #[error("the key URI has percent-encoding in its path: {0}")]
    PercentInPath(String),
    /// Two slashes in a row, or one at an end.
    #[error("the key URI has an empty path segment: {0}")]
    EmptySegment(String),
    /// A `.` or `..`.
    #[error("the key URI has a `.` or `..` path segment: {0}")]
    DotSegment(String),
    /// Neither a scheme nor an ARN or key id of AWS.
    #[error("the key URI has no scheme: {}", if_plain(.0))]
    NoScheme(String),
    /// A scheme of no service, or not in lower case.
    #[error("{} is not the scheme of a key URI", if_plain(.0))]
    Scheme(String),
    /// A path of another form than the service's keys have.
    #[error("{found} does not name a key of {}", service.product())]
    Shape {
        /// The service that the scheme says.
        service: Service,
        /// The path.
        found: String,
    },
    /// A part with the wrong length or characters.
    #[error("{found} is not a valid {part} of {}", service.product())]
    Part {
        /// The service that the scheme says.
        service: Service,
        /// What the part is called.
        part: &'static str,
        /// What it has to be.
        rule: &'static str,
        /// What it is.
        found: String,
    },
    /// A host in an AWS key URI.
    #[error("the AWS key URI names a host: {0}")]
    AwsHost(String),
    /// An ARN of an unknown partition.
    #[error("{0} is not a partition of AWS")]
    Partition(String),
    /// An ARN whose region isn't one of its partition.
    #[error("{found} is not a region of the AWS partition {partition}")]
    Region {
        /// The partition.
        partition: &'static str,
        /// The region.
        found: String,
    },
    /// A host that isn't one label under a known suffix.
    #[error("{0} is not the host of a Key Vault or Managed HSM")]
    AzureHost(String),
    /// `hcvault://` with a host other than the configured one.
    #[error("{0} is not the configured Vault")]
    VaultHost(String),
    /// A mount where the server keeps its own endpoints.
    #[error("{0} is a reserved path of Vault, not the mount of a transit engine")]
    ReservedMount(String),
    /// A `+` in the query.
    #[error("the key URI's query has a `+`: {0}")]
    PlusInQuery(String),
    /// An entry of the query without `=`.
    #[error("the query entry {0} is not of the form NAME=VALUE")]
    QueryEntry(String),
    /// An entry of the query with an unknown name.
    #[error("{0} is not a query name of key URIs")]
    QueryName(String),
    /// Two entries of the query with one name.
    #[error("the query name {0} occurs twice")]
    DuplicateQueryName(String),
    /// A `%` without two hexadecimal digits.
    #[error("the query has a `%` without two hexadecimal digits: {0}")]
    PercentEncoding(String),
    /// Percent-encoded bytes that aren't UTF-8.
    #[error("the query text {0} is not UTF-8 when decoded")]
    NotUtf8(String),
    /// A percent-encoded control character.
    #[error("the query text {0} has a control character")]
    ControlCharacter(String),
    /// An entry of the query without a value.
    #[error("the query entry {0} has no value")]
    EmptyValue(String),
    /// A context name with the wrong length or characters.
    #[error("{0} is not a valid context name")]
    ContextName(String),
    /// More than [`MAX_CONTEXT_ENTRIES`].
    #[error("the key URI has more than {MAX_CONTEXT_ENTRIES} context entries")]
    TooManyContextEntries,
    /// An algorithm that isn't known.
    #[error("{0} is not an algorithm that a key URI can name")]
    Algorithm(String),
    /// An algorithm that the key can't have.
    #[error("this key of {} can not have the algorithm {algorithm}", service.product())]
    AlgorithmRefused {
        /// The service that the scheme says.
        service: Service,
        /// What the query asks for.
        algorithm: Algorithm,
        /// What it could ask for.
        possible: &'static [Algorithm],
    },
}

impl KeyUriError {
    /// One sentence that says what to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty => format!("name a key, such as {}", Service::Gcp.form()),
            Self::TooLong(_) => "use shorter or fewer context entries".into(),
            Self::Character { .. } => {
                "use printable ASCII without spaces; in a context value, write other characters percent-encoded, a space as %20".into()
            }
            Self::Fragment => "leave the `#` and what follows it out; in a context value, write it as %23".into(),
            Self::UserInfo => "leave it out: credentials come from the service's usual environment or files".into(),
            Self::Port(_) => "leave it out: addresses come from the configuration or the service's environment variables".into(),
            Self::OfApi { uri, .. } if uri.starts_with("gcpkms:") => format!("write {uri}"),
            Self::OfApi { uri, .. } => {
                format!("write {uri}, or openbao:// for OpenBao, and set VAULT_ADDR or BAO_ADDR to the server's address")
            }
            Self::NotOfAzure(_) => format!(
                "write {} for a key of Azure, {} for one of Vault, whose address is set by VAULT_ADDR or BAO_ADDR",
                Service::Azure.form(),
                Service::Vault.form()
            ),
            Self::PercentInPath(_) => "write the names as they are; only query values can be percent-encoded".into(),
            Self::EmptySegment(_) => "write no double slash and none at the end, and leave no name empty".into(),
            Self::DotSegment(_) => "write the whole path without `.` and `..`".into(),
            Self::NoScheme(_) => format!("start with one of {SCHEMES}, or for AWS give a whole ARN or key id"),
            Self::Scheme(_) => format!("start with one of {SCHEMES}, in lower case"),
            Self::Shape { service, .. } => format!("write {}", service.form()),
            Self::Part { service, rule, .. } => format!("it has to be {rule}, in {}", service.form()),
            Self::AwsHost(_) => {
                format!("write three slashes, {}; endpoints come from the configuration or AWS_ENDPOINT_URL_KMS", Service::Aws.form())
            }
            Self::Partition(_) => "write the ARN as AWS shows it, arn:aws:kms:REGION:ACCOUNT:key/ID".into(),
            Self::Region { .. } => "check the region and the partition in the ARN, such as arn:aws-cn:kms:cn-north-1:ACCOUNT:key/ID".into(),
            Self::AzureHost(_) => {
                format!("write {}", Service::Azure.form())
            }
            Self::VaultHost(_) => "write hashivault://MOUNT/KEY, without a host".into(),
            Self::ReservedMount(_) => "name the path where the transit engine is mounted, as in hashivault://transit/KEY".into(),
            Self::PlusInQuery(_) => "write a space as %20 and a plus sign as %2B".into(),
            Self::QueryEntry(_) => format!("write {QUERY}, with `&` between entries"),
            Self::QueryName(_) => format!("only {QUERY} are known; regions, addresses and credentials are not part of the query"),
            Self::DuplicateQueryName(_) => "give each name once".into(),
            Self::PercentEncoding(_) => "write a percent sign as %25".into(),
            Self::NotUtf8(_) => "percent-encode the UTF-8 bytes of the text".into(),
            Self::ControlCharacter(_) => "leave control characters out, also percent-encoded ones".into(),
            Self::EmptyValue(_) => "give it a value, or leave the entry out".into(),
            Self::ContextName(_) => "it has to be 1 to 128 letters, digits and characters of `_.:/-`, as in context_NAME=VALUE".into(),
            Self::TooManyContextEntries => format!("use at most {MAX_CONTEXT_ENTRIES}"),
            Self::Algorithm(_) => format!("write one of {}, a plus sign as %2B", names(Algorithm::ALL)),
            Self::AlgorithmRefused { service: Service::Gcp, possible: [], .. } => {
                "name the asymmetric version: end with /cryptoKeyVersions/VERSION?algorithm=RSA-OAEP-256".into()
            }
            Self::AlgorithmRefused { possible: [], .. } => "leave algorithm= out: only the component knows how such a key wraps".into(),
            Self::AlgorithmRefused { possible, .. } => format!("it can have {}, or leave algorithm= out", names(possible)),
        }
    }
}

const SCHEMES: &str = "gcpkms://, awskms:///, azurekms://, hashivault://, openbao://, local:// or http-kms://";
const QUERY: &str = "context_NAME=VALUE and algorithm=NAME";
const QUOTED_LENGTH: usize = 100;

fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(", ")
}

/// A quoted text, unless it may be a secret that stands where a key URI should.
fn if_plain(quoted: &str) -> String {
    let text = quoted.trim_matches('`');
    if text.is_empty() || crate::shown::name(text).is_harmless() { quoted.to_owned() } else { "(a text that is not shown)".to_owned() }
}

/// `text` in backticks, on one line of ASCII, shortened to about a hundred characters. (Not in quotation marks: clients show errors as quoted
/// strings, in which those are hard to read.)
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('`');
    for character in text.chars() {
        let shown = match character {
            '`' => character.escape_unicode().to_string(),
            '\'' | '"' => character.to_string(),
            _ => character.escape_default().to_string(),
        };
        if quoted.len() + shown.len() > QUOTED_LENGTH {
            quoted.push_str("...");
            break;
        }
        quoted.push_str(&shown);
    }
    quoted.push('`');
    quoted
}

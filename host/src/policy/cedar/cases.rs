//! Requests in words, and tables of what should come of them: how a policy is tested.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use ocicrypt_kms_protocol::Operation;
use serde::{Deserialize, Deserializer};

use crate::caller::{Caller, Identity};
use crate::distinguished_name::is_rfc4514;
use crate::exchange::DEFAULT_NAME;
use crate::key_uri::{Addresses, KeyUri};
use crate::policy::{Denial, Origin, Permit, Policy, Request};
use crate::{Digest, Error, shown, text_file};

/// A table of cases: a TOML file with a `[[case]]` for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The policy that the cases are about, from the table's own folder.
    pub policy: Option<PathBuf>,
    /// The cases.
    #[serde(rename = "case", default)]
    pub cases: Vec<Case>,
}

/// A request in words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// All names of the caller: `process` (the user of this process), `uid:1000` with `gid:1000` (the same number unless it is given),
    /// `anonymous`, or of a certificate `spiffe://…`, `dns:NAME`, `subject:NAME`.
    #[serde(deserialize_with = "one_or_more")]
    pub caller: Vec<String>,
    /// `wrap` or `unwrap`.
    pub operation: String,
    /// The key's URI, with its encryption context.
    pub key: String,
    /// Who named the key: `parameter` (the default), `configuration` or `annotation`.
    pub origin: Option<String>,
    /// The provider's name in `ocicrypt.json`: `kmscrypt` by default.
    pub provider: Option<String>,
    /// The component's SHA-256 digest; 64 zeros by default.
    pub component: Option<String>,
    /// The URIs of keys that were opened before in the same exchange.
    pub opened: Vec<String>,
    /// When, in RFC 3339; now by default.
    pub time: Option<String>,
    /// What should come of it. A table's cases need it.
    pub expect: Option<Expectation>,
    /// A rule that should be among those that decide.
    pub rule: Option<String>,
}

/// What should come of a case.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// The key is lent.
    Allow,
    /// It isn't.
    Deny,
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub struct Situation {
    caller: Caller,
    operation: Operation,
    key: KeyUri,
    origin: Origin,
    provider: String,
    component: Digest,
    opened: Vec<KeyUri>,
    time: SystemTime,
}

impl Table {
    /// Reads a table from a file.
    ///
    /// # Errors
    /// If it can't be read, or a case is malformed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = text_file::read(path, "the table")?;
        let wrong = |reason: String| Error::Configuration { place: shown::path(path).to_string(), reason };
        let mut table: Self = toml::from_str(&text).map_err(|error| wrong(text_file::toml_error(&text, &error)))?;
        if table.cases.is_empty() {
            return Err(wrong("it has no `[[case]]`, so that it tests nothing".into()));
        }
        if let Some(case) = table.cases.iter().find(|case| case.expect.is_none()) {
            return Err(wrong(format!("the case `{}` needs `expect = \"allow\"` or `expect = \"deny\"`", case.name)));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        table.policy = table.policy.map(|policy| folder.join(policy));
        Ok(table)
    }
}

impl Case {
    /// What comes of the case with this policy, where that isn't what should. `addresses` are those that key URIs may have besides the
    /// built-in ones.
    ///
    /// # Errors
    /// A sentence that says what came instead, or what is malformed.
    pub fn check(&self, policy: &dyn Policy, addresses: &Addresses) -> Result<(), String> {
        let situation = self.situation(addresses)?;
        let decision = policy.decide(&situation.request());
        let rules = match &decision {
            Ok(Permit { rules }) | Err(Denial { rules, .. }) => rules,
        };
        let outcome = match &decision {
            Ok(_) => "it is allowed".to_owned(),
            Err(denial) => format!("it is denied: {}", denial.reason),
        };
        if self.expect.is_some_and(|expected| (expected == Expectation::Allow) != decision.is_ok()) {
            return Err(outcome);
        }
        match &self.rule {
            Some(rule) if !rules.contains(rule) => Err(format!("{outcome}, and `{rule}` is not among the rules that decide: {rules:?}")),
            _ => Ok(()),
        }
    }

    /// The request that it describes.
    ///
    /// # Errors
    /// A sentence that says which part is malformed.
    pub fn situation(&self, addresses: &Addresses) -> Result<Situation, String> {
        let key = |uri: &str| KeyUri::parse(uri, addresses).map_err(|error| format!("{error}; {}", error.hint()));
        let component = self.component.as_deref().map(|digest| digest.parse::<Digest>().map_err(|error| format!("`{digest}`: {error}")));
        Ok(Situation {
            caller: caller(&self.caller)?,
            operation: operation(&self.operation)?,
            key: key(&self.key)?,
            origin: self.origin.as_deref().map_or(Ok(Origin::Parameter), origin)?,
            provider: self.provider.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            component: component.unwrap_or(Ok(Digest::from_bytes([0; 32])))?,
            opened: self.opened.iter().map(|uri| key(uri)).collect::<Result<_, _>>()?,
            time: self.time.as_deref().map_or_else(|| Ok(SystemTime::now()), time)?,
        })
    }
}

impl Situation {
    /// The request.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            key: &self.key,
            operation: self.operation,
            origin: self.origin,
            caller: &self.caller,
            provider: &self.provider,
            component: self.component,
            opened: &self.opened,
            time: self.time,
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        More(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::More(names) => names,
    })
}

fn operation(name: &str) -> Result<Operation, String> {
    match name {
        "wrap" => Ok(Operation::Wrap),
        "unwrap" => Ok(Operation::Unwrap),
        _ => Err(format!("the operation `{name}` is neither wrap nor unwrap")),
    }
}

fn origin(name: &str) -> Result<Origin, String> {
    let all = [Origin::Parameter, Origin::Configuration, Origin::Annotation];
    let found = all.into_iter().find(|origin| origin.as_str() == name);
    found.ok_or_else(|| format!("the origin `{name}` is none of parameter, configuration and annotation"))
}

fn time(text: &str) -> Result<SystemTime, String> {
    let time = text.parse::<Timestamp>().map_err(|error| format!("the time `{text}` is not RFC 3339: {error}"))?;
    Ok(time.into())
}

fn caller(names: &[String]) -> Result<Caller, String> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not the number of a user or group"));
    let after = |prefix: &str| names.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect::<Vec<_>>();
    let is_certificates = |name: &String| ["spiffe://", "dns:", "subject:"].iter().any(|kind| name.starts_with(kind));
    let words: Vec<_> = names.iter().map(|name| name.split_once(':').map_or(name.as_str(), |(kind, _)| kind)).collect();
    match words[..] {
        ["process"] => Ok(Caller::Process),
        ["anonymous"] => Ok(Caller::Anonymous),
        ["uid"] | ["uid", "gid"] => {
            let uid = number(&after("uid:")[0])?;
            Ok(Caller::Peer { uid, gid: after("gid:").first().map_or(Ok(uid), |gid| number(gid))?, pid: None })
        }
        [_, ..] if names.iter().all(is_certificates) => {
            let (subjects, ids) = (after("subject:"), after("spiffe://"));
            if subjects.len() > 1 || ids.len() > 1 {
                return Err(format!("the caller {names:?} has more than one subject or SPIFFE id, and a certificate has one of each"));
            }
            let spiffe = ids.first().map(|id| format!("spiffe://{id}"));
            let subject = subjects.into_iter().next().unwrap_or_default();
            if !is_rfc4514(&subject) {
                return Err(format!(
                    "the subject `{subject}` is no caller's: write it as `openssl x509 -noout -subject -nameopt RFC2253,-esc_msb` prints it"
                ));
            }
            Ok(Caller::Certificate(Box::new(Identity { subject, spiffe, dns: after("dns:") })))
        }
        _ => Err(format!(
            "the caller {names:?} is none of `process`, `anonymous`, `uid:NUMBER` (with `gid:NUMBER`), and the names of a certificate: \
             `spiffe://…`, `dns:NAME`, `subject:NAME`"
        )),
    }
}

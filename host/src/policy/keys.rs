//! The configured `keys` list.

use super::{Denial, Origin, Permit, Policy, Request};
use crate::error::printable;
use crate::key_uri::{Addresses, KeyUri, KeyUriError, OtherService, Service};
use crate::shown;

/// The name of its one rule.
const RULE: &str = "keys";

/// The configured `keys` list: which keys an image may choose by itself, or, as [`KeyList::for_all`], the only keys that are lent.
///
/// Keys that the client or the configuration named are lent without it: in exec mode both are the user's own. With no list at all, an
/// image may choose only `local://` and, as with the original provider, `gcpkms://` keys.
#[derive(Clone, Debug, Default)]
pub struct KeyList {
    patterns: Option<Vec<Pattern>>,
    for_all: bool,
}

/// One entry of a [`KeyList`].
#[derive(Clone, Debug, Eq, PartialEq)]
enum Pattern {
    /// One key, any version, any query.
    Key(String),
    /// All keys whose URI starts so; ends with `/`.
    Below(String),
}

/// Why an entry of the `keys` list can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// No key URI.
    #[error("{0}; {hint}", hint = .0.hint())]
    KeyUri(#[from] KeyUriError),
    /// A `*` somewhere else than at the end, after a `/`.
    #[error("{}: a `*` may stand only at the end, after a `/`", entry(.0))]
    Star(String),
    /// A prefix that no canonical key URI has.
    #[error(
        "{}: a pattern starts with a canonical scheme: gcpkms://, awskms:///, azurekms://, hashivault://, openbao://, local:// or http-kms://",
        entry(.0)
    )]
    Scheme(String),
}

/// An entry in backticks, if it names a scheme or is a name: one that isn't may be a secret.
fn entry(text: &str) -> String {
    let is_uri = text.split_once("://").is_some_and(|(scheme, rest)| shown::is_scheme(scheme) && !rest.contains('@'));
    if is_uri { format!("`{}`", printable(text, 256)) } else { shown::name(text.trim_end_matches('*')).to_string() }
}

/// What all canonical URIs of a service begin with, if it is how `uri` begins.
pub(super) fn root(uri: &str) -> Option<&'static str> {
    const ROOTS: [&str; 7] = ["gcpkms://", "awskms:///", "azurekms://", "hashivault://", "openbao://", "local://", "http-kms://"];
    ROOTS.into_iter().find(|root| uri.starts_with(root))
}

impl KeyList {
    /// Reads the entries of a list: key URIs, or prefixes of canonical ones that end with `/*`.
    ///
    /// # Errors
    /// If an entry is neither.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>, addresses: &Addresses) -> Result<Self, PatternError> {
        let patterns = entries.into_iter().map(|entry| Pattern::parse(entry, addresses));
        Ok(Self { patterns: Some(patterns.collect::<Result<_, _>>()?), for_all: false })
    }

    /// The same list for every key, whoever names it: for a server, whose clients are others than its operator.
    #[must_use]
    pub fn for_all(self) -> Self {
        Self { for_all: true, ..self }
    }

    fn allows(&self, key: &KeyUri) -> bool {
        match &self.patterns {
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(key)),
            None => matches!(key.service(), Service::Local | Service::Gcp),
        }
    }
}

impl Pattern {
    fn parse(entry: &str, addresses: &Addresses) -> Result<Self, PatternError> {
        let Some(prefix) = entry.strip_suffix('*') else {
            return match entry.contains('*') {
                true => Err(PatternError::Star(entry.to_owned())),
                false => Ok(Self::Key(KeyUri::parse(entry, addresses)?.identity().to_owned())),
            };
        };
        if prefix.contains('*') || !prefix.ends_with('/') {
            return Err(PatternError::Star(entry.to_owned()));
        }
        let of_other = |service: &OtherService| prefix.strip_prefix(service.as_str()).is_some_and(|rest| rest.starts_with("://"));
        if root(prefix).is_none() && !addresses.services.iter().any(of_other) {
            return Err(PatternError::Scheme(entry.to_owned()));
        }
        Ok(Self::Below(prefix.to_owned()))
    }

    fn matches(&self, key: &KeyUri) -> bool {
        match self {
            Self::Key(identity) => key.identity() == identity,
            Self::Below(prefix) => key.identity().starts_with(prefix),
        }
    }
}

impl Policy for KeyList {
    fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        if request.origin != Origin::Annotation && !self.for_all {
            return Ok(Permit::default());
        }
        if self.allows(request.key) {
            return Ok(Permit { rules: vec![RULE.to_owned()] });
        }
        let reason = match &self.patterns {
            _ if self.for_all => "this server lends only the `keys` of its configuration, and it is none of them",
            Some(_) => "only the image names it, and the configured `keys` don't list it",
            None => "only the image names it, and no `keys` are configured",
        };
        let who = if self.for_all { "clients may use" } else { "images may choose" };
        let hint = format!(
            "if {who} this key, add `{}` to `keys` in the configuration{}",
            request.key.identity(),
            if self.for_all { ", and restart the server" } else { "" }
        );
        Err(Denial { reason: reason.to_owned(), hint, rules: Vec::new() })
    }

    fn could_allow(&self, request: &Request<'_>) -> bool {
        self.decide(request).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use ocicrypt_kms_protocol::Operation;

    use super::*;
    use crate::caller::Caller;
    use crate::digest::Digest;

    const GCP: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";

    fn decide(list: &KeyList, key: &str, origin: Origin) -> Result<(), Denial> {
        let key = KeyUri::parse(key, &Addresses::default()).unwrap();
        let request = Request {
            key: &key,
            operation: Operation::Unwrap,
            origin,
            caller: &Caller::Process,
            provider: "kmscrypt",
            component: Digest::of(b""),
            opened: &[],
            time: SystemTime::UNIX_EPOCH,
        };
        let decision = list.decide(&request).map(drop);
        assert_eq!(list.could_allow(&request), decision.is_ok(), "it looks at nothing that changes");
        decision
    }

    fn list(entries: &[&str]) -> KeyList {
        KeyList::parse(entries.iter().copied(), &Addresses::default()).unwrap()
    }

    #[test]
    fn without_a_list_an_image_chooses_only_local_and_cloud_kms_keys() {
        let none = KeyList::default();
        for key in ["local://k", GCP] {
            assert_eq!(decide(&none, key, Origin::Annotation), Ok(()));
        }
        let denial = decide(&none, "hashivault://transit/k", Origin::Annotation).unwrap_err();
        assert!(denial.hint.contains("add `hashivault://transit/k` to `keys`"), "{}", denial.hint);
    }

    #[test]
    fn with_a_list_an_image_chooses_only_what_it_holds() {
        let list = list(&[GCP, "local://team-a", "hashivault://transit/*", "http-kms://eu/team/*"]);
        for key in
            [GCP, &format!("{GCP}/cryptoKeyVersions/3?context_a=b"), "local://team-a", "hashivault://transit/any", "http-kms://eu/team/k"]
        {
            assert_eq!(decide(&list, key, Origin::Annotation), Ok(()), "{key}");
        }
        for key in ["local://team-ab", "local://team", "hashivault://transit2/any", "http-kms://eu/k", &format!("{GCP}2")] {
            assert!(decide(&list, key, Origin::Annotation).is_err(), "{key}");
        }
    }

    #[test]
    fn a_list_for_all_holds_whoever_names_a_key() {
        let list = list(&["local://team-a"]).for_all();
        for origin in [Origin::Parameter, Origin::Configuration, Origin::Annotation] {
            assert_eq!(decide(&list, "local://team-a", origin), Ok(()));
            let denial = decide(&list, GCP, origin).unwrap_err();
            assert!(denial.hint.contains(&format!("if clients may use this key, add `{GCP}`")), "{}", denial.hint);
        }
    }

    #[test]
    fn an_empty_list_lets_an_image_choose_nothing() {
        assert!(decide(&list(&[]), "local://k", Origin::Annotation).is_err());
    }

    #[test]
    fn what_the_client_or_the_configuration_names_is_lent() {
        for origin in [Origin::Parameter, Origin::Configuration] {
            assert_eq!(decide(&list(&[]), "hashivault://transit/k", origin), Ok(()));
        }
    }

    #[test]
    fn a_star_stands_only_at_the_end_after_a_slash() {
        let refused = |entry| KeyList::parse([entry], &Addresses::default()).unwrap_err();
        for entry in ["local://team*", "local://*/k", "*", "gcpkms://projects/*/locations/*"] {
            assert!(matches!(refused(entry), PatternError::Star(_)), "{entry}");
        }
        for entry in ["gcp-kms://projects/*", "awskms://*", "http://x/*", "/*"] {
            assert!(matches!(refused(entry), PatternError::Scheme(_)), "{entry}");
        }
        assert!(matches!(refused("local://"), PatternError::KeyUri(_)));
    }
}

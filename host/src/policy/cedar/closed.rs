//! Attributes that have few values. What compares one with another text, or with a pattern that none of them matches, never holds, whatever is
//! asked: so a rule that forbids by a misspelled word would forbid nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::expressions::walk_conditions;
use super::pins::is_digest;
use crate::key_uri::{OtherService, Service};
use crate::policy::Origin;

/// An attribute that has few values.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Attribute {
    Origin,
    Service,
    Component,
}

/// What an attribute is compared with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Comparison {
    pub attribute: Attribute,
    pub with: With,
}

/// The other side of a comparison.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum With {
    Text(String),
    /// What stands between the wildcards of a `like`, before the first and behind the last.
    Like(Vec<String>),
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Outlook {
    /// It can hold.
    Possible,
    /// It holds only for keys of a service that an embedding program brings along, if there is one.
    Elsewhere,
    /// It never holds.
    Never,
}

impl With {
    /// What a `like` has as its pattern, in Cedar's JSON.
    fn like(pattern: &Value) -> Self {
        let mut pieces = vec![String::new()];
        for element in pattern.as_array().into_iter().flatten() {
            match (element["Literal"].as_str(), pieces.last_mut()) {
                (Some(text), Some(piece)) => piece.push_str(text),
                _ => pieces.push(String::new()),
            }
        }
        Self::Like(pieces)
    }

    /// Whether the comparison holds for this value.
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => text == value,
            Self::Like(pieces) => matches(pieces, value),
        }
    }

    /// Whether it holds for the digest of some component.
    fn is_some_digest(&self) -> bool {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match self {
            Self::Text(text) => is_digest(text),
            Self::Like(pieces) => could_match(pieces, 64..=64, is_hex),
        }
    }

    /// Whether it holds for the name of some service that isn't built in.
    fn is_some_service(&self) -> bool {
        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match self {
            Self::Text(text) => OtherService::may_be_called(text),
            Self::Like(pieces) => could_match(pieces, 2..=32, is_label),
        }
    }
}

impl fmt::Display for With {
    /// As policies write it, in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Like(pieces) => {
                let pieces: Vec<_> = pieces.iter().map(|piece| piece.escape_debug().to_string().replace('*', "\\*")).collect();
                write!(f, "\"{}\"", pieces.join("*"))
            }
        }
    }
}

/// Whether a text is what these pieces are with anything between them.
fn matches(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else { return pieces == [text] };
    let Some(between) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else { return false };
    middle.iter().try_fold(between, |rest, piece| rest.split_once(piece.as_str()).map(|(_, rest)| rest)).is_some()
}

/// Whether some text of such a length and such bytes is.
fn could_match(pieces: &[String], length: RangeInclusive<usize>, allowed: impl Fn(u8) -> bool) -> bool {
    let fixed: usize = pieces.iter().map(String::len).sum();
    let fits = if pieces.len() == 1 { length.contains(&fixed) } else { fixed <= *length.end() };
    fits && pieces.iter().all(|piece| piece.bytes().all(&allowed))
}

impl Attribute {
    fn of(expression: &Value) -> Option<Self> {
        let member = &expression["."];
        match (member["left"]["Var"].as_str()?, member["attr"].as_str()?) {
            ("context", "origin") => Some(Self::Origin),
            ("resource", "service") => Some(Self::Service),
            ("context", "component") => Some(Self::Component),
            _ => None,
        }
    }

    /// As policies write it.
    fn name(self) -> &'static str {
        match self {
            Self::Origin => "context.origin",
            Self::Service => "resource.service",
            Self::Component => "context.component",
        }
    }

    /// Its values, where they can be listed.
    fn values(self) -> Vec<&'static str> {
        use Service::{Aws, Azure, Gcp, HttpKms, Local, Vault};
        match self {
            Self::Origin => [Origin::Parameter, Origin::Configuration, Origin::Annotation].map(Origin::as_str).to_vec(),
            Self::Service => [Gcp, Aws, Azure, Vault, Local, HttpKms].map(Service::as_str).to_vec(),
            Self::Component => Vec::new(),
        }
    }
}

impl Comparison {
    /// Whether a policy with this text could have any: to look at its rules takes a process that makes one exchange as long as to read them.
    /// A name can be spelled with escapes, too.
    pub fn could_be_in(policy: &str) -> bool {
        policy.contains('\\') || ["origin", "service", "component"].iter().any(|name| policy.contains(name))
    }

    /// Those of a rule in Cedar's JSON, each once.
    pub fn all(rule: &Value) -> BTreeSet<Self> {
        let mut all = BTreeSet::new();
        walk_conditions(rule, |operator, operands| {
            let (left, right) = (&operands["left"], &operands["right"]);
            match operator {
                "==" | "!=" | "contains" | "containsAll" | "containsAny" => {
                    all.extend(Self::between(left, right).chain(Self::between(right, left)));
                }
                "like" => all.extend(Self::best(&attributes(left), &With::like(&operands["pattern"]))),
                _ => {}
            }
            true
        });
        all
    }

    /// Those of attributes on one side with texts on the other.
    fn between(side: &Value, other: &Value) -> impl Iterator<Item = Self> {
        let attributes = attributes(side);
        texts(other).into_iter().filter_map(move |text| Self::best(&attributes, &With::Text(text.to_owned())))
    }

    /// The comparison with the attribute, of several, that is likeliest to hold: one is enough.
    fn best(attributes: &[Attribute], with: &With) -> Option<Self> {
        attributes.iter().map(|&attribute| Self { attribute, with: with.clone() }).min_by_key(Self::outlook)
    }

    pub fn outlook(&self) -> Outlook {
        let possible = match self.attribute {
            Attribute::Component => self.with.is_some_digest(),
            attribute => attribute.values().into_iter().any(|value| self.with.is(value)),
        };
        match self.attribute {
            _ if possible => Outlook::Possible,
            Attribute::Service if self.with.is_some_service() => Outlook::Elsewhere,
            _ => Outlook::Never,
        }
    }

    /// Why it never holds here, and what would.
    pub fn message(&self) -> String {
        let Self { attribute, with } = self;
        let is = match attribute.values().as_slice() {
            [first @ .., last] => format!("{} or {last:?}", first.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")),
            [] => "64 lower-case hexadecimal digits".to_owned(),
        };
        let name = attribute.name();
        match (self.outlook(), with) {
            (Outlook::Elsewhere, With::Text(_)) => format!("no service of this program is called {with}: `{name}` is {is}"),
            (_, With::Text(_)) => format!("`{name}` is never {with}: it is {is}"),
            (_, With::Like(_)) => format!("`{name}` is never like {with}: it is {is}"),
        }
    }
}

/// The attributes that an expression is, or lists; none if it could be anything else, too.
fn attributes(expression: &Value) -> Vec<Attribute> {
    fn all(expression: &Value) -> Option<Vec<Attribute>> {
        if let Some(attribute) = Attribute::of(expression) {
            return Some(vec![attribute]);
        }
        let parts: Vec<_> = parts(expression)?.into_iter().map(all).collect::<Option<_>>()?;
        Some(parts.concat())
    }
    all(expression).unwrap_or_default()
}

/// The texts that an expression is, or lists.
fn texts(expression: &Value) -> Vec<&str> {
    let listed = parts(expression).into_iter().flatten().flat_map(texts);
    expression["Value"].as_str().into_iter().chain(listed).collect()
}

/// What a set lists, or what a choice is between.
fn parts(expression: &Value) -> Option<Vec<&Value>> {
    let choice = &expression["if-then-else"];
    match expression["Set"].as_array() {
        Some(set) => Some(set.iter().collect()),
        None => choice.is_object().then(|| vec![&choice["then"], &choice["else"]]),
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::super::expressions::json;
    use super::*;

    fn outlooks(condition: &str) -> Vec<(With, Outlook)> {
        let rule = Policy::parse(None, format!("permit (principal, action, resource) when {{ {condition} }};")).unwrap();
        Comparison::all(&json(&rule)).into_iter().map(|comparison| (comparison.with.clone(), comparison.outlook())).collect()
    }

    #[test]
    fn every_comparison_with_an_attribute_of_few_values_is_found_however_it_is_written() {
        for condition in [
            "context.origin == \"x\"",
            "\"x\" == context.origin",
            "context.origin != \"x\"",
            "context[\"origin\"] == \"x\"",
            "context[\"orig\\u{69}n\"] == \"x\"",
            "[\"annotation\", \"x\"].contains(context.origin)",
            "principal is Kms::User && (if context.origin == \"x\" then true else false)",
            "!(context.provider == \"a\" || [context.origin == \"x\"].contains(true))",
            "[context.origin].containsAny([\"x\"])",
            "[\"annotation\", \"x\"].containsAny([context.origin])",
            "[\"annotation\", \"x\"].containsAll([context.origin])",
            "[context.origin].containsAll([\"x\"])",
            "[context.origin].contains(\"x\")",
            "[context.origin, context.component].contains(\"x\")",
            "[context.origin] == [\"x\"]",
            "[[context.origin]].contains([\"x\"])",
            "context.origin == (if principal is Kms::User then \"x\" else \"annotation\")",
            "(if principal is Kms::User then context.origin else context.component) == \"x\"",
        ] {
            assert!(outlooks(condition).contains(&(With::Text("x".into()), Outlook::Never)), "{condition}");
            assert!(Comparison::could_be_in(condition), "{condition}");
        }
        assert!(!Comparison::could_be_in("permit (principal, action, resource == Kms::Key::\"local://x\");"));
        for condition in [
            "context.provider == \"x\"",
            "context has origin",
            "resource.name == \"x\"",
            "context.origin == context.provider",
            "[context.origin, context.provider].contains(\"x\")",
            "(if principal is Kms::User then context.origin else context.provider) == \"x\"",
            "context.provider like \"x*\"",
        ] {
            assert_eq!(outlooks(condition), [], "{condition}");
        }
        let one_of_them = outlooks("[context.origin, resource.service].contains(\"aws\")");
        assert_eq!(one_of_them, [(With::Text("aws".into()), Outlook::Possible)]);
    }

    #[test]
    fn a_pattern_holds_if_one_of_the_values_matches_it() {
        let of = |attribute: &str, pattern: &str| {
            let found = outlooks(&format!("{attribute} like \"{pattern}\""));
            assert_eq!((found.len(), found[0].0.to_string()), (1, format!("\"{pattern}\"")));
            found[0].1
        };
        for pattern in ["*", "**", "annotation", "anno*", "*tion", "a*o*n", "*a*", "a*nnotation", "conf*", "*parameter*"] {
            assert_eq!(of("context.origin", pattern), Outlook::Possible, "{pattern}");
        }
        for pattern in ["", "anot*", "anno", "Anno*", "*tion*tion", "annotation*n", "a**x", "\\*", "anno\\*", "image*"] {
            assert_eq!(of("context.origin", pattern), Outlook::Never, "{pattern}");
        }
        for (pattern, outlook) in [
            ("*kms", Outlook::Possible),
            ("g*", Outlook::Possible),
            ("my-*", Outlook::Elsewhere),
            ("gcpkms*", Outlook::Elsewhere),
            ("AWS*", Outlook::Never),
            ("hashi_*", Outlook::Never),
            ("*://*", Outlook::Never),
        ] {
            assert_eq!(of("resource.service", pattern), outlook, "{pattern}");
        }
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (pattern, outlook) in [
            ("ba7816bf*", Outlook::Possible),
            ("*15ad*", Outlook::Possible),
            (digest, Outlook::Possible),
            (&format!("{digest}*"), Outlook::Possible),
            (&format!("*{digest}0"), Outlook::Never),
            (&digest[1..], Outlook::Never),
            ("sha256:*", Outlook::Never),
            ("BA7816BF*", Outlook::Never),
        ] {
            assert_eq!(of("context.component", pattern), outlook, "{pattern}");
        }
    }

    #[test]
    fn what_an_attribute_can_be_is_possible_and_nothing_else() {
        let of = |attribute: &str, value: &str| outlooks(&format!("{attribute} == \"{value}\"")).remove(0).1;
        for origin in ["parameter", "configuration", "annotation"] {
            assert_eq!(of("context.origin", origin), Outlook::Possible, "{origin}");
        }
        for service in ["gcp", "aws", "azure", "vault", "local", "http-kms"] {
            assert_eq!(of("resource.service", service), Outlook::Possible, "{service}");
        }
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of("context.component", digest), Outlook::Possible);
        for (attribute, value) in [
            ("context.origin", "anotation"),
            ("context.origin", "Parameter"),
            ("resource.service", "AWS"),
            ("resource.service", "gcpkms"),
            ("resource.service", "hashivault"),
            ("context.component", &digest.to_uppercase()),
            ("context.component", &format!("sha256:{digest}")),
        ] {
            assert_eq!(of(attribute, value), Outlook::Never, "{value}");
        }
        assert_eq!(of("resource.service", "my-hsm"), Outlook::Elsewhere);
    }
}

//! Attributes that have few values. What compares one with another text never holds, whatever is asked: so a rule that forbids by a
//! misspelled word would forbid nothing.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value;

use super::expressions::{json, walk_conditions};
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

/// A text that an attribute is compared with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Comparison {
    pub attribute: Attribute,
    pub with: String,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outlook {
    /// It can hold.
    Possible,
    /// It holds only for keys of a service that an embedding program brings along, if there is one.
    Elsewhere,
    /// It never holds.
    Never,
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

    /// Those of a rule, each once.
    pub fn all(rule: &Policy) -> BTreeSet<Self> {
        let mut all = BTreeSet::new();
        walk_conditions(&json(rule), |operator, operands| {
            let (left, right) = (&operands["left"], &operands["right"]);
            let sides = match operator {
                "==" | "!=" => [(left, right), (right, left)].to_vec(),
                "contains" => [(right, left)].to_vec(),
                _ => Vec::new(),
            };
            for (attribute, other) in sides {
                let attribute = Attribute::of(attribute);
                all.extend(
                    attribute
                        .into_iter()
                        .flat_map(|attribute| texts(other).into_iter().map(move |with| Self { attribute, with: with.to_owned() })),
                );
            }
            true
        });
        all
    }

    pub fn outlook(&self) -> Outlook {
        let possible = match self.attribute {
            Attribute::Component => is_digest(&self.with),
            attribute => attribute.values().contains(&self.with.as_str()),
        };
        match self.attribute {
            _ if possible => Outlook::Possible,
            Attribute::Service if OtherService::may_be_called(&self.with) => Outlook::Elsewhere,
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
        match (self.outlook(), attribute.name()) {
            (Outlook::Elsewhere, name) => format!("no service of this program is called {with:?}: `{name}` is {is}"),
            (_, name) => format!("`{name}` is never {with:?}: it is {is}"),
        }
    }
}

/// The texts that an expression is, or lists.
fn texts(expression: &Value) -> Vec<&str> {
    let listed = expression["Set"].as_array().into_iter().flatten();
    listed.chain([expression]).filter_map(|item| item["Value"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlooks(condition: &str) -> Vec<(String, Outlook)> {
        let rule = Policy::parse(None, format!("permit (principal, action, resource) when {{ {condition} }};")).unwrap();
        Comparison::all(&rule).into_iter().map(|comparison| (comparison.with.clone(), comparison.outlook())).collect()
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
        ] {
            assert!(outlooks(condition).contains(&("x".to_owned(), Outlook::Never)), "{condition}");
            assert!(Comparison::could_be_in(condition), "{condition}");
        }
        assert!(!Comparison::could_be_in("permit (principal, action, resource == Kms::Key::\"local://x\");"));
        for condition in ["context.provider == \"x\"", "context has origin", "resource.name == \"x\"", "context.origin == context.provider"]
        {
            assert_eq!(outlooks(condition), [], "{condition}");
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

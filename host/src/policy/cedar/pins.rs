//! Which components a policy was written for.

use std::collections::BTreeSet;

use cedar_policy::{Effect, PolicySet};
use serde_json::Value;

use super::expressions::{conditions, json};
use crate::digest::Digest;

/// The components that a policy names, if each rule that allows anything names some. What is not understood counts as not naming any.
pub(super) fn pinned(policies: &PolicySet) -> BTreeSet<Digest> {
    let permits = policies.policies().filter(|policy| policy.effect() == Effect::Permit);
    let named = permits.map(|policy| of_rule(&json(policy)));
    named.collect::<Option<Vec<_>>>().unwrap_or_default().into_iter().flatten().collect()
}

/// The components that one rule, in Cedar's JSON, holds for: a condition `when` has to be true in whole.
fn of_rule(rule: &Value) -> Option<Vec<Digest>> {
    let mut when = conditions(rule).filter(|condition| condition["kind"] == "when").map(|condition| &condition["body"]);
    when.find_map(of_condition)
}

fn of_condition(condition: &Value) -> Option<Vec<Digest>> {
    let (operator, operands) = condition.as_object()?.iter().next()?;
    let (left, right) = (&operands["left"], &operands["right"]);
    match operator.as_str() {
        "&&" => of_condition(left).or_else(|| of_condition(right)),
        "==" if is_component(left) => Some(vec![digest(right)?]),
        "==" if is_component(right) => Some(vec![digest(left)?]),
        "contains" if is_component(right) => left["Set"].as_array()?.iter().map(digest).collect(),
        _ => None,
    }
}

/// Whether it is `context.component`.
fn is_component(expression: &Value) -> bool {
    let member = &expression["."];
    member["attr"] == "component" && member["left"]["Var"] == "context"
}

/// A digest in the one spelling that a component's has.
fn digest(expression: &Value) -> Option<Digest> {
    expression["Value"].as_str().filter(|text| is_digest(text))?.parse().ok()
}

/// Whether a text is spelled as a component's digest is.
pub(super) fn is_digest(text: &str) -> bool {
    text.parse().is_ok_and(|digest: Digest| digest.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const B: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn pinned_by(conditions: &[String]) -> Vec<String> {
        let rules = conditions.iter().map(|conditions| format!("permit (principal, action, resource) {conditions};")).collect::<String>();
        super::pinned(&rules.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    fn pinned(conditions: &str) -> Vec<String> {
        pinned_by(&[conditions.to_owned()])
    }

    #[test]
    fn a_component_that_must_be_this_one_is_pinned() {
        for conditions in [
            format!("when {{ context.component == \"{A}\" }}"),
            format!("when {{ \"{A}\" == context.component }}"),
            format!("when {{ context[\"component\"] == \"{A}\" }}"),
            format!("when {{ principal is Kms::User && context.component == \"{A}\" && context.origin == \"parameter\" }}"),
            format!("when {{ true }} unless {{ false }} when {{ [\"{A}\"].contains(context.component) }}"),
        ] {
            assert_eq!(pinned(&conditions), [A], "{conditions}");
        }
        assert_eq!(pinned(&format!("when {{ [\"{A}\", \"{B}\"].contains(context.component) }}")), [A, B]);
    }

    #[test]
    fn a_component_that_may_be_another_is_not() {
        for conditions in [
            String::new(),
            format!("unless {{ context.component == \"{A}\" }}"),
            format!("when {{ context.component != \"{A}\" }}"),
            format!("when {{ !(context.component == \"{A}\") }}"),
            format!("when {{ context.component == \"{A}\" || principal is Kms::User }}"),
            format!("when {{ if principal is Kms::User then context.component == \"{A}\" else true }}"),
            format!("when {{ (context.component == \"{A}\") == false }}"),
            format!("when {{ context.provider == \"{A}\" }}"),
            format!("when {{ resource.component == \"{A}\" }}"),
            format!("when {{ context.component like \"{A}\" }}"),
            format!("when {{ [\"{A}\", context.provider].contains(context.component) }}"),
            "when { context.component == context.component }".to_owned(),
            format!("when {{ context.component == \"{}\" }}", A.to_uppercase()),
            format!("when {{ context.component == \"sha256:{A}\" }}"),
        ] {
            assert_eq!(pinned(&conditions), [""; 0], "{conditions}");
        }
    }

    #[test]
    fn every_rule_that_permits_has_to_name_components() {
        let [a, b] = [A, B].map(|digest| format!("when {{ context.component == \"{digest}\" }}"));
        assert_eq!(pinned_by(&[a.clone(), b.clone()]), [A, B]);
        assert_eq!(pinned_by(&[a, b, String::new()]), [""; 0]);
        assert_eq!(pinned_by(&[]), [""; 0]);
        let forbid = format!("forbid (principal, action, resource) when {{ context.component == \"{A}\" }};");
        assert_eq!(super::pinned(&forbid.parse().unwrap()), BTreeSet::new());
    }
}

//! Going through a rule's conditions, in Cedar's JSON.

use cedar_policy::Policy;
use serde_json::Value;

/// Shows `see` each expression of what a rule says below its head, as operator and operands. It tells whether to go on inside.
pub(super) fn walk_conditions(rule: &Value, mut see: impl FnMut(&str, &Value) -> bool) {
    conditions(rule).for_each(|condition| walk(&condition["body"], &mut see));
}

/// The conditions of a rule, each with its `kind` and `body`.
pub(super) fn conditions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["conditions"].as_array().into_iter().flatten()
}

/// A rule in Cedar's JSON; `null` where Cedar can't say it so.
pub(super) fn json(rule: &Policy) -> Value {
    rule.to_json().unwrap_or_default()
}

/// Shows `see` each expression within one, itself first.
pub(super) fn walk(expression: &Value, see: &mut impl FnMut(&str, &Value) -> bool) {
    match expression {
        Value::Object(members) => members.iter().for_each(|(operator, operands)| {
            if see(operator, operands) {
                walk(operands, see);
            }
        }),
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        _ => {}
    }
}

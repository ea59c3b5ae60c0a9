//! What a policy's author should know before it is used.

use cedar_policy::{Effect, EntityUid, Policy, PolicySet, PrincipalConstraint, ValidationMode, ValidationResult, Validator};
use serde_json::Value;

use super::closed::{Comparison, Outlook};
use super::entities::Kind;
use super::expressions::{conditions, json, walk};
use super::problem::Problem;
use super::rules::{Rules, located};
use super::schema::schema;
use super::tokens::tokens;
use crate::distinguished_name::is_rfc4514;
use crate::key_uri::{Addresses, KeyUri};
use crate::policy::keys::root;

/// Checks against the schema, strictly.
fn validate(policies: &PolicySet) -> ValidationResult {
    Validator::new(schema().clone()).validate(policies, ValidationMode::Strict)
}

/// What keeps a policy from being used: what doesn't fit the schema, and comparisons that never hold.
pub(super) fn errors(text: &str, policies: &PolicySet, rules: &Rules) -> Vec<Problem> {
    let validated = validate(policies);
    let mut problems: Vec<_> = validated.validation_errors().map(|error| rules.problem(text, error.policy_id(), error)).collect();
    for (rule, begin) in located(text, policies) {
        problems.extend(compared(text, rule, begin, Outlook::Never));
    }
    problems.sort_by_key(|problem| problem.place);
    problems
}

/// What can't be wanted, though it is no error.
pub(super) fn warnings(text: &str, policies: &PolicySet, rules: &Rules) -> Vec<Problem> {
    let validated = validate(policies);
    let mut problems: Vec<_> = validated.validation_warnings().map(|warning| rules.problem(text, warning.policy_id(), warning)).collect();
    if !policies.policies().any(|rule| rule.effect() == Effect::Permit) {
        problems.push(Problem::at(text, 0, "no rule permits anything, so that no key is lent to anybody"));
    }
    for (rule, begin) in located(text, policies) {
        if forbids_names(rule) {
            problems.push(Problem::at(text, begin, FORBIDS_NAMES));
        }
        if let PrincipalConstraint::Eq(name) = rule.principal_constraint()
            && matches!(Kind::of(&name), Some(Kind::Dns | Kind::Subject))
        {
            let message = format!("a caller can have other names that come before this one; write `principal in {name}`");
            problems.push(Problem::at(text, begin, &message));
        }
        for literal in rule.entity_literals() {
            if let Some(message) = never_equal(&literal) {
                let quoted = format!("\"{}\"", literal.id().escaped());
                problems.push(Problem::at(text, position(text, begin, &quoted), &message));
            }
        }
        problems.extend(compared(text, rule, begin, Outlook::Elsewhere));
    }
    problems.sort_by_key(|problem| problem.place);
    problems
}

const FORBIDS_NAMES: &str = "one key can have several names, so a rule that forbids some of them is evaded by another; permit what is \
    allowed instead, or forbid everything `unless` it has an allowed name";

/// Whether a rule forbids keys by what their names say. `unless` is different: it forbids all other names.
fn forbids_names(rule: &Policy) -> bool {
    let json = json(rule);
    let mut when = conditions(&json).filter(|condition| condition["kind"] == "when").map(|condition| &condition["body"]);
    let scope = &json["resource"];
    rule.effect() == Effect::Forbid && (scope["op"] == "==" || scope["op"] == "in" || !scope["in"].is_null() || when.any(looks_at_name))
}

/// Whether an expression looks at a key. A key's service is the same by each of its names.
fn looks_at_name(expression: &Value) -> bool {
    let of_resource = |expression: &Value| expression["left"]["Var"] == "resource";
    let mut looks = false;
    walk(expression, &mut |operator, operands| match operator {
        "." if of_resource(operands) => {
            looks |= operands["attr"] != "service";
            false
        }
        _ => {
            looks |= operator == "Var" && operands == "resource";
            true
        }
    });
    looks
}

/// Comparisons with this outlook, and where they stand.
fn compared(text: &str, rule: &Policy, begin: usize, outlook: Outlook) -> Vec<Problem> {
    if !Comparison::could_be_in(text) {
        return Vec::new();
    }
    let json = json(rule);
    if json.is_null() {
        return vec![Problem::at(text, begin, "this rule can't be checked for comparisons that never hold; write it another way")];
    }
    let comparisons = Comparison::all(&json).into_iter().filter(|comparison| comparison.outlook() == outlook);
    let place = |comparison: &Comparison| position(text, begin, &comparison.with.to_string());
    comparisons.map(|comparison| Problem::at(text, place(&comparison), &comparison.message())).collect()
}

/// Why no caller and no key ever is this entity.
fn never_equal(literal: &EntityUid) -> Option<String> {
    let id: &str = literal.id().unescaped();
    match Kind::of(literal)? {
        Kind::Key => not_canonical(id),
        Kind::Folder if root(id).is_none_or(|root| !id.ends_with('/') || id.len() < root.len()) => Some(format!(
            "{literal} holds no key: the id is the beginning of canonical key URIs and ends with a slash, as in Kms::Folder::\"local://\""
        )),
        Kind::Dns | Kind::Domain
            if id != id.to_ascii_lowercase() || id.ends_with('.') || id.starts_with("*.") && Kind::of(literal) == Some(Kind::Domain) =>
        {
            Some(format!("{literal} is no caller's: names are compared in lower case, without a dot at the end, and a domain has no `*.`"))
        }
        Kind::Subject if id.is_empty() || !is_rfc4514(id) => Some(format!(
            "{literal} is no caller's: write it as `openssl x509 -noout -subject -nameopt RFC2253,-esc_msb` prints it, as in Kms::Subject::\"CN=node,O=admins\""
        )),
        Kind::User | Kind::Group if id.parse::<u32>().map_or(true, |number| number.to_string() != id) => {
            Some(format!("{literal} is no caller's: users and groups are known by their numbers"))
        }
        _ => None,
    }
}

fn not_canonical(id: &str) -> Option<String> {
    match KeyUri::parse(id, &Addresses::default()) {
        Ok(key) if key.identity() == id => None,
        Ok(key) => Some(format!("no key has the id `{id}`: write Kms::Key::\"{}\", without version and query", key.identity())),
        // What the configuration adds isn't known here.
        Err(_) if root(id).is_some() => None,
        Err(error) => Some(format!("no key has the id `{id}`: {error}")),
    }
}

/// Where a rule that begins there has this string, in quotes; where it begins if it spells the string otherwise.
fn position(text: &str, begin: usize, quoted: &str) -> usize {
    tokens(&text[begin..]).find(|(_, token)| *token == quoted).map_or(begin, |(offset, _)| begin + offset)
}

//! Policies in the language [Cedar](https://docs.cedarpolicy.com/). `docs/policy.md` describes what they can speak of.
//!
//! A policy permits nothing by itself: a key is lent if a rule permits it and none forbids it. It is checked against the schema before it is
//! used, and a rule that can't be evaluated denies, where Cedar by itself would pass over it.

mod cases;
mod check;
mod closed;
mod entities;
mod explanation;
mod expressions;
mod file;
mod memory;
mod nesting;
mod pins;
mod problem;
mod question;
mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod tokens;

use cedar_policy::{AuthorizationError, Authorizer, Decision, PolicySet, Response};

pub use self::cases::{Case, Expectation, Situation, Table};
pub use self::explanation::{Explanation, Outcome};
pub use self::file::{PolicyFile, read_text};
use self::memory::Memory;
pub use self::problem::{Place, Problem};
use self::question::Question;
pub use self::rules::Rule;
use self::rules::Rules;
pub use self::schema::SCHEMA;
use super::{Denial, Permit, Policy, Request};
use crate::digest::Digest;
use crate::error::printable;
use crate::key_uri::KeyUri;

/// The longest text of Cedar about a rule that can't be evaluated, in bytes.
const MAX_REASON: usize = 512;
/// How much stack a decision gets, in bytes. Only what it uses becomes memory.
const STACK: usize = 1 << 20;
/// What to do about a rule that denies.
const EXPLAIN: &str = "`ocicrypt-kms policy explain` shows what the rules look at";

/// A policy.
pub struct CedarPolicy {
    text: String,
    digest: Digest,
    policies: PolicySet,
    rules: Rules,
    authorizer: Authorizer,
    /// Without it, each request is decided anew.
    memory: Option<Memory>,
}

impl CedarPolicy {
    /// Reads a policy, and checks it against the schema, and that no comparison with an attribute of few values is with another text.
    ///
    /// # Errors
    /// All that is wrong with it, at least one.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        nesting::check(text).map_err(|problem| vec![problem])?;
        let policies: PolicySet = text
            .parse()
            .map_err(|errors: cedar_policy::ParseErrors| errors.iter().map(|error| Problem::of(text, error)).collect::<Vec<_>>())?;
        if policies.templates().next().is_some() {
            let message = "`?principal` and `?resource` belong to templates, which nothing links here; write the entity";
            return Err(vec![Problem::at(
                text,
                tokens::tokens(text).find(|(_, token)| *token == "?").map_or(0, |(begin, _)| begin),
                message,
            )]);
        }
        let rules = Rules::of(text, &policies)?;
        let errors = check::errors(text, &policies, &rules);
        if !errors.is_empty() {
            return Err(errors);
        }
        let (digest, memory) = (Digest::of(text.as_bytes()), Memory::of(text));
        Ok(Self { text: text.to_owned(), digest, policies, rules, authorizer: Authorizer::new(), memory })
    }

    /// Its rules, in the order of the text.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.rules.all()
    }

    /// What its author can't have wanted, though it is no error: names that no key and no caller has, and keys that are forbidden by one
    /// of their names.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        check::warnings(&self.text, &self.policies, &self.rules)
    }

    fn decide_here(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        let question = Question::of(request, None).map_err(|reason| {
            let reason = format!("the policy can't be asked about it: {}", printable(&reason, MAX_REASON));
            denial(reason, EXPLAIN.into(), Vec::new())
        })?;
        self.answer(&self.authorizer.is_authorized(&question.request, &self.policies, &question.entities), request)
    }

    fn answer(&self, response: &Response, request: &Request<'_>) -> Result<Permit, Denial> {
        let diagnostics = response.diagnostics();
        if let Some(AuthorizationError::PolicyEvaluationError(error)) = diagnostics.errors().next() {
            let rules = self.rules.names(diagnostics.errors().map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id()));
            let cause = printable(&error.inner().to_string(), MAX_REASON);
            return Err(denial(format!("the policy's {} can't be evaluated: {cause}", listed(&rules)), EXPLAIN.into(), rules));
        }
        let rules = self.rules.names(diagnostics.reason());
        match response.decision() {
            Decision::Allow => Ok(Permit { rules }),
            Decision::Deny if rules.is_empty() => Err(unpermitted(request)),
            Decision::Deny => Err(denial(format!("it is forbidden by the policy's {}", listed(&rules)), EXPLAIN.into(), rules)),
        }
    }
}

impl Policy for CedarPolicy {
    fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        // Cedar measures the stack that is left, and gives up on one that it doesn't know: guests' calls run on stacks of their own.
        let ask = || stacker::grow(STACK, || self.decide_here(request));
        match &self.memory {
            Some(memory) => memory.permit(request, ask),
            None => ask(),
        }
    }

    fn could_allow(&self, request: &Request<'_>) -> bool {
        // An exchange lasts seconds: what the time decides is decided now.
        self.decide(request).is_ok() || could_look_at(&self.text, "opened")
    }

    fn pins(&self, component: Digest) -> bool {
        pins::pinned(&self.policies).contains(&component)
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.digest)
    }
}

/// Whether a policy could look at an attribute of this name, which can be spelled with escapes, too.
fn could_look_at(policy: &str, attribute: &str) -> bool {
    policy.contains(attribute) || policy.contains('\\')
}

fn denial(reason: String, hint: String, rules: Vec<String>) -> Denial {
    Denial { reason, hint, rules }
}

/// `rule X`, or `rules X, Y`.
fn listed(rules: &[String]) -> String {
    let names: Vec<_> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    format!("{} {}", if rules.len() == 1 { "rule" } else { "rules" }, names.join(", "))
}

/// No rule permits it: what would, and nothing that wasn't asked for, since people paste it.
fn unpermitted(request: &Request<'_>) -> Denial {
    let [principal, action] = [entities::principal(request.caller), entities::action(request.operation)].map(|entity| entity.uid());
    let head = format!("principal in {principal}, action == {action}, resource == {}", entities::key_uid(request.key));
    let rule = format!("permit ({head}) when {{ context.origin == {:?} && {} }};", request.origin.as_str(), bound_to(request.key));
    let reason = format!("no rule of the policy permits it to {principal}");
    denial(reason, format!("if it should, add the rule `{rule}`, or one that covers it"), Vec::new())
}

/// The condition that a key has the encryption context that this one has.
fn bound_to(key: &KeyUri) -> String {
    let entries: Vec<_> = key.context().iter().map(|(name, value)| format!("{{name: {name:?}, value: {value:?}}}")).collect();
    match entries.as_slice() {
        [] => "context.encryption_context.isEmpty()".to_owned(),
        entries => format!("context.encryption_context == [{}]", entries.join(", ")),
    }
}

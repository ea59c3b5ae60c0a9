//! Why a policy decides as it does.

use cedar_policy::PolicySet;

use super::question::Question;
use super::{CedarPolicy, Rule};
use crate::policy::{Denial, Permit, Policy, Request};

/// What came of one rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It permits or forbids the request.
    Applies,
    /// It has no say in it.
    DoesNotApply,
    /// It can't be evaluated, which denies.
    Fails(String),
}

/// A decision, what the rules could look at, and what came of each.
pub struct Explanation {
    /// What the policy answers.
    pub decision: Result<Permit, Denial>,
    /// The entities and the context, a line each.
    pub question: String,
    /// Each rule, in the order of the text.
    pub rules: Vec<(Rule, Outcome)>,
}

impl CedarPolicy {
    /// Decides, and tells why.
    ///
    /// # Errors
    /// If the request can't be put to the policy.
    pub fn explain(&self, request: &Request<'_>) -> Result<Explanation, String> {
        let question = Question::of(request, None)?;
        let rules = self.rules().iter().map(|rule| Ok((rule.clone(), self.outcome(rule, &question)?))).collect::<Result<_, String>>()?;
        Ok(Explanation { decision: self.decide(request), question: question.to_string(), rules })
    }

    /// Asks one rule alone.
    fn outcome(&self, rule: &Rule, question: &Question) -> Result<Outcome, String> {
        let alone = PolicySet::from_policies(self.policies.policy(&rule.id).cloned()).map_err(|error| error.to_string())?;
        let response = self.authorizer.is_authorized(&question.request, &alone, &question.entities);
        let diagnostics = response.diagnostics();
        Ok(match diagnostics.errors().next() {
            Some(error) => Outcome::Fails(error.to_string()),
            None if diagnostics.reason().next().is_some() => Outcome::Applies,
            None => Outcome::DoesNotApply,
        })
    }
}

//! The rules of a policy: their names, and where they stand.

use std::collections::{HashMap, HashSet};
use std::fmt;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet};
use miette::Diagnostic;

use super::problem::{Place, Problem, said};
use super::tokens;

/// The longest name of a rule, in bytes.
const MAX_NAME: usize = 128;

/// One rule: a `permit` or a `forbid`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// What `@id("…")` in front of it says, else Cedar's own id with the line: `policy0 (line 3)`.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// Whether it forbids.
    pub forbids: bool,
    pub(super) id: PolicyId,
    /// The byte at which it begins.
    begin: usize,
}

impl fmt::Display for Rule {
    /// Its name in quotes, as sentences have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)
    }
}

/// All rules, in the order of the text.
#[derive(Debug)]
pub(super) struct Rules {
    all: Vec<Rule>,
    by_id: HashMap<PolicyId, usize>,
}

impl Rules {
    /// # Errors
    /// If a name can't be one, or two rules have the same.
    pub fn of(text: &str, policies: &PolicySet) -> Result<Self, Vec<Problem>> {
        let all: Vec<_> = located(text, policies).into_iter().map(|(policy, begin)| Rule::of(text, policy, begin)).collect();
        let mut names = HashSet::new();
        let mut wrong = |rule: &Rule| match rule.name.as_str() {
            name if !is_name(name) => Some(format!("the rule's @id is not 1 to {MAX_NAME} printable characters")),
            name if !names.insert(name.to_owned()) => Some(format!("another rule has the @id `{name}`, too")),
            _ => None,
        };
        let problems: Vec<_> = all.iter().filter_map(|rule| Some(Problem { place: rule.place, message: wrong(rule)? })).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let by_id = all.iter().enumerate().map(|(index, rule)| (rule.id.clone(), index)).collect();
        Ok(Self { all, by_id })
    }

    pub fn all(&self) -> &[Rule] {
        &self.all
    }

    /// The names of these rules, in the order of the text.
    pub fn names<'a>(&self, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<String> {
        let mut indices: Vec<_> = ids.filter_map(|id| self.by_id.get(id).copied()).collect();
        indices.sort_unstable();
        indices.into_iter().map(|index| self.all[index].name.clone()).collect()
    }

    /// What Cedar says of a rule, which it calls by a number, under the name that the rule has here.
    pub fn problem(&self, text: &str, id: &PolicyId, diagnostic: &impl Diagnostic) -> Problem {
        let Some(rule) = self.by_id.get(id).map(|index| &self.all[*index]) else { return Problem::of(text, diagnostic) };
        let (offset, said) = said(diagnostic);
        let said = said.strip_prefix(&format!("for policy `{id}`, ")).unwrap_or(&said);
        Problem::at(text, offset.unwrap_or(rule.begin), &format!("in the rule {rule}: {said}"))
    }
}

impl Rule {
    fn of(text: &str, policy: &Policy, begin: usize) -> Self {
        let place = Place::of(text, begin);
        let named = policy.annotation("id").map(str::to_owned);
        let name = named.unwrap_or_else(|| format!("{} (line {})", policy.id(), place.line));
        Self { name, place, forbids: policy.effect() == Effect::Forbid, id: policy.id().clone(), begin }
    }
}

/// Rules with the byte at which they begin. Cedar numbers them in the order of the text.
pub(super) fn located<'a>(text: &str, policies: &'a PolicySet) -> Vec<(&'a Policy, usize)> {
    let number = |policy: &&Policy| policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX);
    let mut rules: Vec<_> = policies.policies().collect();
    rules.sort_by_key(number);
    let begins = tokens::rules(text).chain(std::iter::repeat(0));
    rules.into_iter().zip(begins).collect()
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && crate::error::printable(name, MAX_NAME) == name
}

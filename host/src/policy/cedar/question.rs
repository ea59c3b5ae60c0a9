//! A request for a key as the question that Cedar is asked.

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use cedar_policy::{Context, Entities, RestrictedExpression, Schema};
use jiff::Timestamp;

use super::entities::{action, key_uid, principal, resource};
use crate::policy::Request;

/// What the rules can look at beside the three entities. As the schema has it.
const CONTEXT: [&str; 6] = ["provider", "component", "origin", "encryption_context", "opened", "time"];

/// A request and all entities that it is about.
pub(super) struct Question {
    pub request: cedar_policy::Request,
    pub entities: Entities,
}

impl Question {
    /// # Errors
    /// If Cedar can't take a value, such as a time outside of its range, or if a part doesn't fit the schema, where one is given.
    pub fn of(asked: &Request<'_>, schema: Option<&Schema>) -> Result<Self, String> {
        let context = Context::from_pairs(context(asked)?).map_err(|error| error.to_string())?;
        let entities = [principal(asked.caller), action(asked.operation), resource(asked.key)];
        let [principal, action, resource] = [0, 1, 2].map(|index| entities[index].uid());
        let request = cedar_policy::Request::new(principal, action, resource, context, schema).map_err(|error| error.to_string())?;
        let entities = Entities::from_entities(entities, schema).map_err(|error| error.to_string())?;
        Ok(Self { request, entities })
    }
}

fn context(asked: &Request<'_>) -> Result<Vec<(String, RestrictedExpression)>, String> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let opened = asked.opened.iter().map(|key| RestrictedExpression::new_entity_uid(key_uid(key)));
    let entries = asked.key.context().iter().map(|(name, value)| {
        let entry = [("name".to_owned(), text(name)), ("value".to_owned(), text(value))];
        RestrictedExpression::new_record(entry).expect("its two names differ")
    });
    let values = [
        text(asked.provider),
        text(&asked.component.to_string()),
        text(asked.origin.as_str()),
        RestrictedExpression::new_set(entries),
        RestrictedExpression::new_set(opened),
        RestrictedExpression::new_datetime(written(asked.time).ok_or("the time is out of range")?),
    ];
    Ok(CONTEXT.map(str::to_owned).into_iter().zip(values).collect())
}

/// A time as Cedar's `datetime` reads it: RFC 3339 with milliseconds, in UTC.
fn written(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.3}"))
}

impl fmt::Display for Question {
    /// What the rules could look at, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("principal", self.request.principal()), ("action", self.request.action()), ("resource", self.request.resource())];
        for (part, entity) in parts.into_iter().filter_map(|(part, uid)| Some((part, self.entities.get(uid?)?))) {
            writeln!(f, "{part} {}", entity.uid())?;
            let attributes = entity.attrs().filter_map(|(name, value)| Some(format!("  {name} {}", value.ok()?)));
            let above = self.entities.ancestors(&entity.uid()).into_iter().flatten().map(|above| format!("  in {above}"));
            write_sorted(f, attributes)?;
            write_sorted(f, above)?;
        }
        let value = |name: &'static str| Some(format!("context.{name} {}", self.request.context()?.get(name)?));
        CONTEXT.into_iter().filter_map(value).try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn write_sorted(f: &mut fmt::Formatter<'_>, lines: impl Iterator<Item = String>) -> fmt::Result {
    lines.collect::<BTreeSet<_>>().iter().try_for_each(|line| writeln!(f, "{line}"))
}

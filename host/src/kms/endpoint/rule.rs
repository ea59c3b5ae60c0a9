//! Which requests an endpoint lets through.

use ocicrypt_kms_protocol::Operation;
use reqwest::Method;

use super::path::{Pattern, Target};
use crate::config::{HttpKmsRule, HttpKmsUsage};
use crate::error::printable;

/// Requests that are let through.
#[derive(Debug)]
pub struct Rule {
    /// What the endpoint has to have been opened for.
    pub operation: Operation,
    /// The method.
    pub method: Method,
    path: Pattern,
    query: Vec<String>,
}

impl Rule {
    pub(super) fn new(settings: &HttpKmsRule) -> Result<Self, String> {
        let HttpKmsRule { usage, method, path, query } = settings;
        let pattern = Pattern::parse(path).map_err(|error| format!("`allow`: `{}`: {error}", printable(path, 128)))?;
        // A name that could be an entry's.
        let is_name = |name: &&String| Target::parse(&format!("/x?{name}=x")).is_ok_and(|target| target.query_names().eq([name.as_str()]));
        if let Some(wrong) = query.iter().find(|name| !is_name(name)) {
            return Err(format!("`allow`: `{}` is not the name of a query's entry", printable(wrong, 64)));
        }
        Ok(Self { operation: operation(*usage), method: read_method(method)?, path: pattern, query: query.clone() })
    }

    pub(super) fn allows(&self, operation: Operation, method: &str, target: &Target<'_>, key: &str) -> bool {
        self.operation == operation
            && self.method.as_str() == method
            && self.path.matches(target.path, key)
            && target.query_names().all(|name| self.query.iter().any(|allowed| allowed == name))
    }

    /// Method and path with the key in its place, and no word of a component's.
    pub(super) fn shown(&self, key: &str) -> String {
        format!("{} {}", self.method, self.path.for_key(key))
    }
}

fn operation(usage: HttpKmsUsage) -> Operation {
    match usage {
        HttpKmsUsage::Wrap => Operation::Wrap,
        HttpKmsUsage::Unwrap => Operation::Unwrap,
    }
}

/// A method in upper case, such as `GET` or Vault's `LIST`.
fn read_method(name: &str) -> Result<Method, String> {
    let is_method = (1..=16).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_uppercase());
    let method = Method::from_bytes(name.as_bytes()).ok().filter(|method| is_method && !matches!(*method, Method::CONNECT | Method::TRACE));
    method.ok_or_else(|| format!("`allow`: {} is not a method such as GET or POST, in upper case", crate::shown::name(name)))
}

//! The members of a credential file. What is wrong with one is said by its name, never by its value, which may be a secret.

use ocicrypt_kms_protocol::json::{Object, Value, string};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::kms::http::parse_endpoint;

/// The members of an object that belongs to a credential of some type.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub object: &'a Object<'a>,
    /// The credential's type.
    pub kind: &'a str,
}

impl<'a> Fields<'a> {
    /// A string, if it is there and not empty.
    pub fn text(&self, name: &str) -> Result<Option<String>, String> {
        let text = self.object.get(name).map(|value| string(value).ok_or_else(|| self.malformed(name, "a string"))).transpose()?;
        Ok(text.map(|text| text.into_owned()).filter(|text| !text.is_empty()))
    }

    /// A string that has to be there.
    pub fn required(&self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A string that has to be there and nobody may see.
    pub fn secret(&self, name: &str) -> Result<Zeroizing<String>, String> {
        self.required(name).map(Zeroizing::new)
    }

    /// Whole seconds or milliseconds.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let number = |value: &Value<'_>| value.text().parse().map_err(|_| self.malformed(name, "a number"));
        self.object.get(name).map(number).transpose()
    }

    /// The address of a token service: `https`, or `http` to loopback.
    pub fn address(&self, name: &str, default: &str) -> Result<Url, String> {
        let text = self.text(name)?;
        parse_endpoint(text.as_deref().unwrap_or(default)).map_err(|reason| format!("`{name}`: {reason}"))
    }

    /// The members of a member, if it is there.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, String> {
        if self.object.get(name).is_none() {
            return Ok(None);
        }
        let object = self.object.object(name).map_err(|_| self.malformed(name, "an object"))?;
        Ok(Some(Fields { object, ..*self }))
    }

    /// The strings of an array.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let Some(value) = self.object.get(name) else { return Ok(Vec::new()) };
        let texts = value.elements().and_then(|elements| elements.map(|element| string(&element).map(|text| text.into_owned())).collect());
        texts.ok_or_else(|| self.malformed(name, "an array of strings"))
    }

    /// A member that isn't there.
    pub fn missing(&self, name: &str) -> String {
        format!("it is not a whole credential of type `{}`: missing field `{name}`", self.kind)
    }

    /// A member that isn't what it has to be.
    pub fn malformed(&self, name: &str, what: &str) -> String {
        format!("it is not a well-formed credential of type `{}`: `{name}` is not {what}", self.kind)
    }
}

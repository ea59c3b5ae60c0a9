//! JSON objects whose members are unique, read one level at a time.
//!
//! serde's derived readers quote unexpected values in their errors and let a map's last duplicate win. Neither may happen to a message that
//! holds keys, so objects are taken apart by hand, and values stay [`RawValue`]s: their spelling can be copied as it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The most members that one object may have: a bound on memory, far above what any client writes.
pub const MAX_MEMBERS: usize = 256;

/// Why a text isn't the JSON that was expected. Holds positions and member names, never values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("not JSON (line {line}, column {column})")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON, but something else than an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// The same member twice: two readers could take different ones.
    #[error("a JSON object has the member {0:?} twice")]
    Duplicate(String),
    /// More than [`MAX_MEMBERS`] members.
    #[error("a JSON object has more than {MAX_MEMBERS} members")]
    TooManyMembers,
}

/// An object's members, each name once, values as they were spelled.
#[derive(Debug, Default)]
pub struct Object<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// If the text isn't JSON, isn't an object, has a member twice or too many of them.
    pub fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        serde_json::from_slice(text).map_err(|error| classify(&error))
    }

    /// Reads a value that is an object or `null`; `null` reads as an object without members.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn from_value(value: &'a RawValue) -> Result<Self, JsonError> {
        match value.get() {
            "null" => Ok(Self::default()),
            text => Self::parse(text.as_bytes()),
        }
    }

    /// A member's value, unless it is missing or `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A member that is an object; missing or `null` reads as an object without members.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn object(&self, name: &str) -> Result<Self, JsonError> {
        self.get(name).map_or_else(|| Ok(Self::default()), Self::from_value)
    }

    /// Names and values, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

/// The text of a value that is a JSON string, or `None` if it is something else.
#[must_use]
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// A JSON string, borrowed unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

// Marks the errors that are raised below among serde_json's own, whose text may quote values.
const DUPLICATE: &str = "duplicate member ";
const TOO_MANY: &str = "too many members";

fn classify(error: &serde_json::Error) -> JsonError {
    if !error.is_data() {
        return JsonError::Syntax { line: error.line(), column: error.column() };
    }
    let text = error.to_string();
    if let Some(rest) = text.strip_prefix(DUPLICATE) {
        let name = rest.rsplit_once(" at line ").map_or(rest, |(name, _)| name);
        JsonError::Duplicate(name.chars().take(64).collect())
    } else if text.starts_with(TOO_MANY) {
        JsonError::TooManyMembers
    } else {
        JsonError::NotAnObject
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(Text(name)) = map.next_key()? {
                    let value = map.next_value::<&RawValue>()?;
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("{DUPLICATE}{name}")));
                    }
                    if members.len() == MAX_MEMBERS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    members.insert(name, value);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_the_spelling_of_their_values() {
        let object = Object::parse(br#"{"a": [1, 2 ], "b":null, "\u0063":"x\u0041"}"#).unwrap();
        assert_eq!(object.get("a").unwrap().get(), "[1, 2 ]");
        assert!(object.get("b").is_none());
        assert_eq!(string(object.get("c").unwrap()).unwrap(), "xA");
    }

    #[test]
    fn a_duplicate_member_is_an_error_however_it_is_spelled() {
        let error = Object::parse(br#"{"op":1,"\u006fp":2}"#).unwrap_err();
        assert_eq!(error, JsonError::Duplicate("op".into()));
    }

    #[test]
    fn errors_never_quote_values() {
        for text in [&br#""c2VjcmV0""#[..], br#"["c2VjcmV0"]"#, br#"{"a":"c2VjcmV0"#, b"c2VjcmV0"] {
            let error = Object::parse(text).unwrap_err().to_string();
            assert!(!error.contains("c2Vj"), "{error}");
        }
    }

    #[test]
    fn members_are_bounded() {
        let many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("\"{n}\":0")).collect();
        let text = format!("{{{}}}", many.join(","));
        assert_eq!(Object::parse(text.as_bytes()).unwrap_err(), JsonError::TooManyMembers);
    }
}

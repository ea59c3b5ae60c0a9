//! JSON objects whose members are unique, read in one pass.
//!
//! serde's derived readers quote unexpected values in their errors and let a map's last duplicate win. Neither may happen to a message that
//! holds keys, so objects are taken apart by hand, and values stay as they are spelled: they can be copied so.

mod scanner;
mod text;

use std::borrow::Cow;

use self::scanner::Scanner;
pub use self::text::quote;

/// The most members that one object may have: a bound on the time to find one twice, far above what any client writes.
pub const MAX_MEMBERS: usize = 256;
/// The most members that all objects of one text may have together: a bound on memory, far above what a keystore holds.
pub const MAX_ALL_MEMBERS: usize = 4096;
/// The most objects and arrays within each other: a bound on the stack.
pub const MAX_DEPTH: usize = 64;

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
    /// More than [`MAX_MEMBERS`], or than [`MAX_ALL_MEMBERS`].
    #[error("its JSON has more than {MAX_MEMBERS} members in one object, or {MAX_ALL_MEMBERS} in all")]
    TooManyMembers,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("its JSON is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
}

impl JsonError {
    fn syntax(text: &[u8], at: usize) -> Self {
        let before = &text[..text.len().min(at + 1)];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line = 1 + before[..line_start].iter().filter(|&&byte| byte == b'\n').count();
        Self::Syntax { line, column: before.len() - line_start }
    }
}

/// An object's members, each name once, values as they were spelled.
#[derive(Clone, Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// A JSON value as it was spelled.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    text: &'a str,
    /// The members, if it is an object.
    object: Option<Object<'a>>,
}

/// The elements of an array.
#[derive(Debug)]
pub struct Elements<'a>(Scanner<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.element()
    }
}

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// If the text isn't JSON, isn't an object, or if it or an object in it has a member twice or too many of them.
    pub fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        Value::parse(text)?.object.ok_or(JsonError::NotAnObject)
    }

    /// A member's value, unless it is missing or `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.value(name).filter(|value| value.text != "null")
    }

    /// A member that is an object; missing or `null` reads as an object without members.
    ///
    /// # Errors
    /// If it is something else.
    pub fn object(&self, name: &str) -> Result<&Self, JsonError> {
        self.get(name).map_or_else(|| Ok(Default::default()), |value| value.object.as_ref().ok_or(JsonError::NotAnObject))
    }

    /// Names and values, as they stand in the text.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    fn value(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }
}

impl Default for &Object<'_> {
    /// One without members.
    fn default() -> Self {
        static EMPTY: Object<'static> = Object(Vec::new());
        &EMPTY
    }
}

impl<'a> Value<'a> {
    /// Reads a text that is one value.
    ///
    /// # Errors
    /// If it isn't JSON, or if an object in it has a member twice or too many of them.
    pub fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        let valid = std::str::from_utf8(text).map_err(|error| JsonError::syntax(text, error.valid_up_to()))?;
        Scanner::new(valid).whole()
    }

    /// How it is spelled, without whitespace around it.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The elements of a value that is an array, or `None` if it is something else. Each is read when it is asked for, so that nobody has to
    /// keep more of them than wanted.
    #[must_use]
    pub fn elements(&self) -> Option<Elements<'a>> {
        self.text.starts_with('[').then(|| Elements(Scanner::new(self.text)))
    }

    /// Whether one of its strings is the one that is looked for: itself, or one that stands in it, at any depth. Names of members don't count.
    pub fn has_string(&self, is_it: &mut impl FnMut(&str) -> bool) -> bool {
        if let Some(object) = &self.object {
            return object.members().any(|(_, value)| value.has_string(is_it));
        }
        match self.elements() {
            Some(mut elements) => elements.any(|element| element.has_string(is_it)),
            None => string(self).is_some_and(|text| is_it(&text)),
        }
    }

    /// The members of a value that is an object.
    ///
    /// # Errors
    /// If it is something else.
    pub fn into_object(self) -> Result<Object<'a>, JsonError> {
        self.object.ok_or(JsonError::NotAnObject)
    }
}

/// The text of a value that is a JSON string, or `None` if it is something else.
#[must_use]
pub fn string<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    value.text.starts_with('"').then(|| text::unquote(value.text))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_keep_the_spelling_of_their_values() {
        let object = Object::parse(br#"{"a": [1, 2 ], "b":null, "\u0063":"x\u0041", "d": { "e":1 } }"#).unwrap();
        assert_eq!(object.get("a").unwrap().text(), "[1, 2 ]");
        assert!(object.get("b").is_none());
        assert_eq!(string(object.get("c").unwrap()).unwrap(), "xA");
        assert_eq!(object.get("d").unwrap().text(), r#"{ "e":1 }"#);
        assert_eq!(object.object("d").unwrap().get("e").unwrap().text(), "1");
    }

    #[test]
    fn an_arrays_elements_are_those_that_stand_in_it() {
        let elements = |text: &str| {
            let value = Value::parse(text.as_bytes()).unwrap();
            value.elements().map(|elements| elements.map(|element| element.text().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(elements(" [ 1,[2,3] , {\"a\":[4]},\"]\" ] ").unwrap(), ["1", "[2,3]", "{\"a\":[4]}", "\"]\""]);
        for empty in ["[]", "[ \n]"] {
            assert_eq!(elements(empty).unwrap(), [""; 0], "{empty:?}");
        }
        for other in ["{}", "\"[]\"", "null", "7"] {
            assert_eq!(elements(other), None, "{other}");
        }
        let value = Value::parse(b"[1]").unwrap();
        let mut elements = value.elements().unwrap();
        assert!(elements.next().is_some() && elements.next().is_none() && elements.next().is_none());
    }

    #[test]
    fn every_string_is_seen_once_and_no_name_of_a_member() {
        let value = Value::parse(br#"["a",{"b":"\u0063","d":[["e"],{"f":null,"g":{"h":"i"}}]},7,"\ud800"]"#).unwrap();
        let mut seen = Vec::new();
        assert!(!value.has_string(&mut |text| {
            seen.push(text.to_owned());
            false
        }));
        assert_eq!(seen, ["a", "c", "e", "i"]);
        assert!(value.has_string(&mut |text| text == "i") && !value.has_string(&mut |text| text == "h"));
    }

    #[test]
    fn a_duplicate_member_is_an_error_however_it_is_spelled_and_wherever_it_stands() {
        for text in [r#"{"op":1,"\u006fp":2}"#, r#"{"a":[{"b":{"op":1,"op":null}}]}"#] {
            assert_eq!(Object::parse(text.as_bytes()).unwrap_err(), JsonError::Duplicate("op".into()), "{text}");
        }
    }

    #[test]
    fn errors_never_quote_values() {
        for text in [&br#""c2VjcmV0""#[..], br#"["c2VjcmV0"]"#, br#"{"a":"c2VjcmV0"#, b"c2VjcmV0"] {
            let error = Object::parse(text).unwrap_err().to_string();
            assert!(!error.contains("c2Vj"), "{error}");
        }
    }

    #[test]
    fn members_and_depth_are_bounded() {
        let object = |members: usize| format!("{{{}}}", (0..members).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
        let array = |objects: usize| format!("[{}]", vec![object(MAX_MEMBERS); objects].join(","));
        let enough = MAX_ALL_MEMBERS / MAX_MEMBERS;
        assert!(Value::parse(array(enough).as_bytes()).is_ok());
        for text in [object(MAX_MEMBERS + 1), array(enough + 1)] {
            assert_eq!(Value::parse(text.as_bytes()).unwrap_err(), JsonError::TooManyMembers);
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Value::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(Value::parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err(), JsonError::TooDeep);
    }

    #[test]
    fn what_is_wrong_is_found_where_it_stands() {
        for (text, line, column) in [("{", 1, 1), ("{\n \"a\":tru}", 2, 6), ("[1,]", 1, 4), ("", 1, 0), ("{}\n\nx", 3, 1)] {
            assert_eq!(Value::parse(text.as_bytes()).unwrap_err(), JsonError::Syntax { line, column }, "{text:?}");
        }
    }

    /// What serde_json takes, except what only this reader bounds or refuses.
    fn agrees(text: &[u8]) -> bool {
        match Value::parse(text) {
            Ok(value) => serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok_and(|raw| raw.get() == value.text()),
            Err(JsonError::Syntax { .. }) => serde_json::from_slice::<serde_json::Value>(text).is_err(),
            Err(_) => true,
        }
    }

    #[test]
    fn the_grammar_is_that_of_rfc_8259() {
        let good =
            ["[0,-0,10.5e+3,1E-2]", " [ ] ", "{ }", r#""\u00e4\/\b""#, "\"ä\u{7f}\"", "[null,true,false]", "\"1234567\"", "\"12345678\""];
        let bad = r#"01 - 1. .5 +1 1e [1,] [,] {,} {"a"} {"a":} {"a":1,} {1:2} nul tru NaN " "\x" "\u12g4" "\u123" [} {] 'a' \"#;
        let bad = bad.split(' ').chain(["", "1 2", "[1 2]", "\"\n\"", "\"\u{1f}2345678\"", "\u{feff}1", "\u{a0}1"]);
        for text in good {
            assert!(Value::parse(text.as_bytes()).is_ok() && agrees(text.as_bytes()), "{text}");
        }
        for text in bad {
            assert!(Value::parse(text.as_bytes()).is_err() && agrees(text.as_bytes()), "{text}");
        }
        assert!(agrees(b"\"\xff\"") && agrees(b"\"\xe4\""));
    }

    proptest! {
        #[test]
        fn every_text_reads_as_serde_reads_it(text in r#"[\[\]{}",:0-9eE.+\-\\u ntfalse\x00-\x20ä]{0,24}"#, any: Vec<u8>) {
            prop_assert!(agrees(text.as_bytes()) && agrees(&any));
        }

        #[test]
        fn an_array_has_the_elements_that_were_written(elements in prop::collection::vec(r#"[1-9][0-9]{0,2}|"[a-z,\]]{0,4}"|\[[0-9],"[a-z]"\]|\{"a":[0-9]\}"#, 0..6)) {
            let text = format!("[{}]", elements.join(" ,\t"));
            let value = Value::parse(text.as_bytes()).unwrap();
            let read: Vec<_> = value.elements().unwrap().map(|element| element.text().to_owned()).collect();
            prop_assert_eq!(read, elements);
        }

        #[test]
        fn every_string_reads_as_serde_reads_it(text: String) {
            let spelled = quote(&text);
            prop_assert_eq!(string(&Value::parse(spelled.as_bytes()).unwrap()).unwrap(), text);
        }
    }
}

//! Request bodies in proto3's JSON: <https://protobuf.dev/programming-guides/json/>.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::refusal::Refusal;

/// Padding may be missing.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The members of a message, by their names in the .proto file.
pub(super) struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// Reads a body whose fields are all among the known ones. The service refuses others, which shows misspellings.
    pub(super) fn parse(body: &[u8], known: &[&str]) -> Result<Self, Refusal> {
        let problem = |text: String| Refusal::invalid_argument(format!("Invalid JSON payload received. {text}"));
        let body: Value = serde_json::from_slice(body).map_err(|error| problem(error.to_string()))?;
        let Value::Object(members) = body else {
            return Err(problem("Root element must be a message.".to_owned()));
        };
        let mut fields = BTreeMap::new();
        for (name, value) in members {
            let field = snake_case(&name);
            if !known.contains(&field.as_str()) {
                return Err(problem(format!("Unknown name \"{name}\": Cannot find field.")));
            }
            if !value.is_null() {
                fields.insert(field, value);
            }
        }
        Ok(Self(fields))
    }

    /// A `bytes` field: base64 with either alphabet. A missing field is empty.
    pub(super) fn bytes(&self, field: &str) -> Result<Vec<u8>, Refusal> {
        let Some(value) = self.0.get(field) else { return Ok(Vec::new()) };
        value
            .as_str()
            .and_then(|text| STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok())
            .ok_or_else(|| invalid_value(field, "TYPE_BYTES", value))
    }

    /// Checks `data` against the checksum that came with it. Says whether one came.
    pub(super) fn verify(&self, field: &str, data: &[u8]) -> Result<bool, Refusal> {
        let checksum = format!("{field}_crc32c");
        match self.integer(&checksum)? {
            None => Ok(false),
            Some(sent) if sent == i64::from(crc32c::crc32c(data)) => Ok(true),
            Some(_) => Err(Refusal::invalid_argument(format!("The checksum in field {checksum} did not match the data in field {field}."))),
        }
    }

    /// An `int64` field: a number, or a string as JSON numbers can't hold all of them.
    fn integer(&self, field: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.0.get(field) else { return Ok(None) };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        number.map(Some).ok_or_else(|| invalid_value(field, "TYPE_INT64", value))
    }

    /// A `string` field. A missing field is empty.
    pub(super) fn text(&self, field: &str) -> Result<&str, Refusal> {
        let Some(value) = self.0.get(field) else { return Ok("") };
        value.as_str().ok_or_else(|| invalid_value(field, "TYPE_STRING", value))
    }

    /// A `repeated string` field. A missing field is empty.
    pub(super) fn texts(&self, field: &str) -> Result<Vec<&str>, Refusal> {
        let Some(value) = self.0.get(field) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
        texts.ok_or_else(|| invalid_value(field, "TYPE_STRING", value))
    }
}

fn invalid_value(field: &str, kind: &str, value: &Value) -> Refusal {
    Refusal::invalid_argument(format!("Invalid value at '{field}' ({kind}), {value}"))
}

/// Both spellings of a field's name are read; this is the one in the .proto file.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

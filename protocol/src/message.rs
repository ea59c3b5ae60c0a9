//! One message from a client to a key provider.

use zeroize::Zeroizing;

use crate::json::{JsonError, Object, Value, quote, string};
use crate::{MAX_ANNOTATION, MAX_MESSAGE, MAX_VALUE, MAX_VALUES, Spelling, bytes};

/// What a message asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Operation {
    /// `keywrap`: wrap opts data for recipients.
    Wrap,
    /// `keyunwrap`: unwrap an annotation to opts data.
    Unwrap,
}

impl Operation {
    /// The verb: `wrap` or `unwrap`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a message can't be read. Never quotes values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("the message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Nothing was sent.
    #[error("the message is empty")]
    Empty,
    /// Not the JSON that was expected at this place.
    #[error("{place} is malformed: {error}")]
    Json {
        /// Which part of the message.
        place: &'static str,
        /// What is wrong with it.
        error: JsonError,
    },
    /// No `op`, or not a string.
    #[error("the message has no operation (`op` is missing)")]
    NoOperation,
    /// `op` is something else than `keywrap` or `keyunwrap`.
    #[error("the message's operation (`op`) is neither `keywrap` nor `keyunwrap`")]
    UnknownOperation,
    /// The opts data or the annotation is missing.
    #[error("the message has no `{0}`")]
    Missing(&'static str),
    /// A byte field is neither base64 nor an array of numbers.
    #[error("the message's `{0}` is neither base64 nor an array of bytes")]
    BadBytes(&'static str),
    /// The values of a provider's parameter aren't an array of byte fields that hold text.
    #[error("the message's parameter for a key provider is not an array of base64 texts")]
    BadParameter,
    /// A provider's parameter has more than [`MAX_VALUES`] values.
    #[error("the message's parameter for the key provider has more than {MAX_VALUES} values")]
    TooManyValues,
    /// A value of a provider's parameter is longer than [`MAX_VALUE`].
    #[error("the message's parameter for the key provider has a value that takes more than {MAX_VALUE} bytes")]
    ValueTooLong,
    /// The annotation is longer than [`MAX_ANNOTATION`].
    #[error("the annotation is longer than {MAX_ANNOTATION} bytes")]
    AnnotationTooLong,
}

/// What clients send as the value of a parameter that was given without one (`--encryption-key provider:NAME`).
const ENABLED: &str = "Enabled";

/// One message: the operation, the providers' parameters, and the bytes to wrap or unwrap, all in the client's spelling.
#[derive(Debug)]
pub struct Message<'a> {
    operation: Operation,
    parameters: Object<'a>,
    payload: Value<'a>,
}

/// What a client gave for one provider.
#[derive(Clone, Copy)]
pub struct Parameter<'a> {
    provider: &'a str,
    value: Option<&'a Value<'a>>,
}

/// One value of a parameter: what it says, and how the client spelled it.
struct Given<'a> {
    text: Zeroizing<String>,
    spelled: &'a str,
}

impl<'a> Given<'a> {
    fn read(value: &Value<'a>) -> Result<Self, MessageError> {
        let spelled = value.text();
        if spelled.len() > MAX_VALUE {
            return Err(MessageError::ValueTooLong);
        }
        let bytes = bytes::read(value).ok_or(MessageError::BadParameter)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| MessageError::BadParameter)?.to_owned();
        Ok(Self { text: Zeroizing::new(text), spelled })
    }

    /// Empty values and `Enabled` mean that none was given.
    fn says_something(&self) -> bool {
        !self.text.is_empty() && *self.text != ENABLED
    }
}

impl<'a> Parameter<'a> {
    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> &'a str {
        self.provider
    }

    /// Whether one of the values is one that `accept` takes: for finding out which provider is being called. Values that can't be read, or are
    /// too long to be read, are none.
    pub fn holds(&self, accept: impl Fn(&str) -> bool) -> bool {
        self.elements().into_iter().flatten().any(|value| Given::read(&value).is_ok_and(|given| accept(&given.text)))
    }

    /// Whether anything was given, readable or not, besides empty values and `Enabled` (a parameter given without a value).
    #[must_use]
    pub fn says_something(&self) -> bool {
        let says_something = |value| Given::read(&value).map_or(true, |given| given.says_something());
        self.elements().map_or(true, |mut values| values.any(says_something))
    }

    /// The values. Empty ones and `Enabled` are left out.
    ///
    /// # Errors
    /// If they aren't an array of byte fields that hold text, or if they are too many or too long.
    pub fn values(&self) -> Result<Vec<Zeroizing<String>>, MessageError> {
        Ok(self.given()?.into_iter().map(|value| value.text).collect())
    }

    fn given(&self) -> Result<Vec<Given<'a>>, MessageError> {
        let mut given = Vec::new();
        for (index, value) in self.elements()?.enumerate() {
            if index >= MAX_VALUES {
                return Err(MessageError::TooManyValues);
            }
            given.push(Given::read(&value)?);
        }
        given.retain(Given::says_something);
        Ok(given)
    }

    /// What stands in its array, one after the other: how many there are is bounded by the message alone.
    fn elements(&self) -> Result<impl Iterator<Item = Value<'a>> + use<'a>, MessageError> {
        let elements = self.value.map(|value| value.elements().ok_or(MessageError::BadParameter)).transpose()?;
        Ok(elements.into_iter().flatten())
    }
}

impl<'a> Message<'a> {
    /// Reads a message. Only the operation's own parameters are looked at; other members are skipped.
    ///
    /// # Errors
    /// If it is too long or malformed, or if the operation or what it works on is missing.
    pub fn parse(text: &'a [u8]) -> Result<Self, MessageError> {
        if text.len() > MAX_MESSAGE {
            return Err(MessageError::TooLong);
        }
        if text.trim_ascii().is_empty() {
            return Err(MessageError::Empty);
        }
        let message = Object::parse(text).map_err(at("the message"))?;
        let operation = operation(&message)?;
        let (params, config, payload) = names(operation);
        let inner = message.object(params).map_err(at(params))?;
        let client = inner.object(config).map_err(at(config))?;
        Ok(Self {
            operation,
            parameters: client.object("Parameters").map_err(at("Parameters"))?.clone(),
            payload: inner.get(payload).cloned().ok_or(MessageError::Missing(payload))?,
        })
    }

    /// What is asked for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// What was given for each provider.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'_>> {
        self.parameters.members().map(|(provider, _)| self.parameter(provider))
    }

    /// What was given for one provider; nothing, if there is no parameter for it.
    #[must_use]
    pub fn parameter<'m>(&'m self, provider: &'m str) -> Parameter<'m> {
        Parameter { provider, value: self.parameters.get(provider) }
    }

    /// Whether there is a parameter for the provider, with or without a value.
    #[must_use]
    pub fn has_parameter(&self, provider: &str) -> bool {
        self.parameters.get(provider).is_some()
    }

    /// The values of one provider's parameter.
    ///
    /// # Errors
    /// As [`Parameter::values`].
    pub fn values(&self, provider: &str) -> Result<Vec<String>, MessageError> {
        Ok(self.parameter(provider).values()?.iter().map(|value| value.as_str().to_owned()).collect())
    }

    /// How the client reads bytes. One that spells opts data as base64 is Go's ocicrypt, which reads base64 in less time than numbers;
    /// ocicrypt-rs sends JSON text, and reads numbers only.
    #[must_use]
    pub fn spelling(&self) -> Spelling {
        // JSON text begins with a brace, and whatever isn't base64 for certain is answered in numbers, which both read.
        match self.payload.text().as_bytes() {
            [b'"', first, ..] if self.operation == Operation::Wrap && (first.is_ascii_alphanumeric() || b"+/".contains(first)) => {
                Spelling::Base64
            }
            _ => Spelling::Numbers,
        }
    }

    /// The opts data to wrap.
    ///
    /// # Errors
    /// If it isn't spelled as bytes.
    pub fn opts_data(&self) -> Result<Zeroizing<Vec<u8>>, MessageError> {
        bytes::read_opts_data(&self.payload).ok_or(MessageError::BadBytes("optsdata"))
    }

    /// The decoded annotation to unwrap.
    ///
    /// # Errors
    /// If it isn't spelled as bytes, or is too long.
    pub fn annotation(&self) -> Result<Vec<u8>, MessageError> {
        let annotation = bytes::read(&self.payload).ok_or(MessageError::BadBytes("annotation"))?;
        if annotation.len() > MAX_ANNOTATION {
            return Err(MessageError::AnnotationTooLong);
        }
        Ok(annotation.to_vec())
    }

    /// Writes the message anew for the guest of one provider: its own values and the payload in the client's spelling, and nothing else.
    /// With `replacement`, that is its one value.
    ///
    /// # Errors
    /// As [`Parameter::values`].
    pub fn for_provider(&self, parameter: &Parameter<'_>, replacement: Option<&str>) -> Result<Zeroizing<Vec<u8>>, MessageError> {
        let given = parameter.given()?;
        let values = match replacement {
            Some(value) => spelled(value),
            None => given.iter().map(|value| value.spelled).collect::<Vec<_>>().join(","),
        };
        Ok(write(self.operation, parameter.provider, &values, self.payload.text().as_bytes()))
    }
}

/// Writes a message as a client would: asks `provider` to wrap opts data for keys, or to unwrap a decoded annotation with them.
#[must_use]
pub fn compose(operation: Operation, provider: &str, keys: &[&str], payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let values = keys.iter().map(|key| spelled(key)).collect::<Vec<_>>().join(",");
    let mut encoded = Zeroizing::new(Vec::with_capacity(payload.len().div_ceil(3) * 4 + 2));
    bytes::write_base64(payload, &mut encoded);
    write(operation, provider, &values, &encoded)
}

/// One value of a parameter, as Go's clients spell it.
fn spelled(value: &str) -> String {
    format!("\"{}\"", bytes::encode(value.as_bytes()))
}

/// A message with nothing in it but what one provider needs; `values` and `payload` are spelled already.
fn write(operation: Operation, provider: &str, values: &str, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let (params, config, member) = names(operation);
    let head = format!(
        r#"{{"op":"{op}","{params}":{{"{config}":{{"Parameters":{{{name}:[{values}]}}}},"{member}":"#,
        op = op_name(operation),
        name = quote(provider),
    );
    // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
    let mut message = Zeroizing::new(Vec::with_capacity(head.len() + payload.len() + 2));
    for part in [head.as_bytes(), payload, b"}}"] {
        message.extend_from_slice(part);
    }
    message
}

fn at(place: &'static str) -> impl Fn(JsonError) -> MessageError {
    move |error| MessageError::Json { place, error }
}

fn operation(message: &Object<'_>) -> Result<Operation, MessageError> {
    let op = message.get("op").and_then(string).ok_or(MessageError::NoOperation)?;
    [Operation::Wrap, Operation::Unwrap].into_iter().find(|&operation| op_name(operation) == op).ok_or(if op.is_empty() {
        MessageError::NoOperation
    } else {
        MessageError::UnknownOperation
    })
}

fn op_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Wrap => "keywrap",
        Operation::Unwrap => "keyunwrap",
    }
}

/// The members that hold an operation's parameters, the client's configuration and the payload.
fn names(operation: Operation) -> (&'static str, &'static str, &'static str) {
    match operation {
        Operation::Wrap => ("keywrapparams", "ec", "optsdata"),
        Operation::Unwrap => ("keyunwrapparams", "dc", "annotation"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKOPEO_WRAP: &[u8] = include_bytes!("../samples/skopeo-1.18-keywrap.json");
    const SKOPEO_WRAP_TWO: &[u8] = include_bytes!("../samples/skopeo-1.18-keywrap-two-recipients-and-jwe.json");
    const SKOPEO_UNWRAP: &[u8] = include_bytes!("../samples/skopeo-1.18-keyunwrap.json");
    const KEY: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";

    #[test]
    fn messages_of_skopeo_read() {
        let wrap = Message::parse(SKOPEO_WRAP).unwrap();
        assert_eq!(wrap.operation(), Operation::Wrap);
        assert_eq!(wrap.values("kmscrypt").unwrap(), [KEY]);
        assert!(wrap.opts_data().unwrap().starts_with(br#"{"symkey":"#));
        let unwrap = Message::parse(SKOPEO_UNWRAP).unwrap();
        assert_eq!(unwrap.operation(), Operation::Unwrap);
        assert_eq!(unwrap.values("kmscrypt").unwrap(), [KEY]);
        assert!(unwrap.annotation().unwrap().starts_with(br#"{"key_url": "x""#));
    }

    #[test]
    fn messages_of_ocicrypt_rs_read() {
        let text = r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"p":["bG9jYWw6Ly9r"]},"DecryptConfig":{"Parameters":{}}},
            "optsdata":"{\"symkey\":\"a\"}"},"keyunwrapparams":{"dc":null,"annotation":null}}"#;
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.values("p").unwrap(), ["local://k"]);
        assert_eq!(message.opts_data().unwrap().as_slice(), br#"{"symkey":"a"}"#);
        let text =
            r#"{"op":"keyunwrap","keyunwrapparams":{"dc":{"Parameters":{"p":[[108,111,99,97,108,58,47,47,107]]}},"annotation":[123,125]}}"#;
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.values("p").unwrap(), ["local://k"]);
        assert_eq!(message.annotation().unwrap(), b"{}");
    }

    #[test]
    fn a_guest_gets_nothing_of_other_schemes() {
        let message = Message::parse(SKOPEO_WRAP_TWO).unwrap();
        let anew = message.for_provider(&message.parameter("kmscrypt"), None).unwrap();
        let text = std::str::from_utf8(&anew).unwrap();
        assert!(!text.contains("pubkeys") && !text.contains("DecryptConfig"), "{text}");
        let guest = Message::parse(&anew).unwrap();
        assert_eq!(guest.values("kmscrypt").unwrap(), [KEY, "hashivault://team-k2"]);
        assert_eq!(guest.opts_data().unwrap(), message.opts_data().unwrap());
    }

    #[test]
    fn a_guest_gets_values_and_payload_in_the_clients_spelling() {
        let text = br#"{"op":"keyunwrap","keyunwrapparams":{"dc":{"Parameters":{"p\"q":[[ 97 ],"YQ=="]}},"annotation":[ 1,2 ]}}"#;
        let message = Message::parse(text).unwrap();
        let anew = message.for_provider(&message.parameter("p\"q"), None).unwrap();
        assert_eq!(
            anew.as_slice(),
            br#"{"op":"keyunwrap","keyunwrapparams":{"dc":{"Parameters":{"p\"q":[[ 97 ],"YQ=="]}},"annotation":[ 1,2 ]}}"#
        );
    }

    #[test]
    fn a_replacement_is_the_only_value_that_a_guest_gets() {
        let message = Message::parse(SKOPEO_WRAP_TWO).unwrap();
        let anew = message.for_provider(&message.parameter("kmscrypt"), Some("local://k")).unwrap();
        assert_eq!(Message::parse(&anew).unwrap().values("kmscrypt").unwrap(), ["local://k"]);
    }

    #[test]
    fn a_composed_message_reads_as_it_was_meant() {
        let message = compose(Operation::Wrap, "p\"q", &["local://a", "local://b"], b"opts data");
        let wrap = Message::parse(&message).unwrap();
        assert_eq!((wrap.operation(), wrap.values("p\"q").unwrap()), (Operation::Wrap, vec!["local://a".into(), "local://b".into()]));
        assert_eq!(wrap.opts_data().unwrap().as_slice(), b"opts data");
        let message = compose(Operation::Unwrap, "p", &[], b"annotation");
        let unwrap = Message::parse(&message).unwrap();
        assert!(unwrap.values("p").unwrap().is_empty());
        assert_eq!(unwrap.annotation().unwrap(), b"annotation");
    }

    #[test]
    fn who_sends_opts_data_in_base64_is_answered_so_and_everybody_else_in_numbers() {
        let spelling = |text: &[u8]| Message::parse(text).unwrap().spelling();
        assert_eq!(spelling(SKOPEO_WRAP), Spelling::Base64);
        assert_eq!(spelling(SKOPEO_UNWRAP), Spelling::Numbers, "ocicrypt-rs spells annotations in base64, too");
        for opts_data in [r#""{\"symkey\":\"a\"}""#, r#"" {}""#, r#""\u007b}""#, r#""\n{}""#, "[123,125]", r#""""#] {
            let text = format!(r#"{{"op":"keywrap","keywrapparams":{{"optsdata":{opts_data}}}}}"#);
            assert_eq!(spelling(text.as_bytes()), Spelling::Numbers, "{opts_data}");
        }
    }

    #[test]
    fn enabled_and_empty_values_mean_no_parameter() {
        let text = br#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"p":["RW5hYmxlZA==",""],"q":null}},"optsdata":"e30="}}"#;
        let message = Message::parse(text).unwrap();
        for provider in ["p", "q", "missing"] {
            assert!(message.values(provider).unwrap().is_empty(), "{provider}");
        }
        assert!(message.parameters().all(|parameter| parameter.values().unwrap().is_empty() && !parameter.says_something()));
    }

    #[test]
    fn providers_are_found_by_their_values() {
        let message = Message::parse(SKOPEO_WRAP_TWO).unwrap();
        let found = message.parameters().filter(|parameter| parameter.holds(|value| value.contains("://")));
        assert_eq!(found.map(|parameter| parameter.provider()).collect::<Vec<_>>(), ["kmscrypt"]);
    }

    #[test]
    fn what_is_malformed_is_named() {
        let refused = |text: &str| Message::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(refused(" "), "the message is empty");
        assert_eq!(refused("{"), "the message is malformed: not JSON (line 1, column 1)");
        assert_eq!(refused("[]"), "the message is malformed: not a JSON object");
        assert_eq!(refused("{}"), "the message has no operation (`op` is missing)");
        assert_eq!(refused(r#"{"op":""}"#), "the message has no operation (`op` is missing)");
        assert_eq!(refused(r#"{"op":"KEYWRAP"}"#), MessageError::UnknownOperation.to_string());
        assert_eq!(refused(r#"{"op":"keywrap"}"#), "the message has no `optsdata`");
        assert_eq!(refused(r#"{"op":"keyunwrap","keyunwrapparams":null}"#), "the message has no `annotation`");
        assert_eq!(refused(r#"{"op":"keywrap","keywrapparams":{"ec":7}}"#), "ec is malformed: not a JSON object");
        let twice = r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"p":[],"p":[]}},"optsdata":""}}"#;
        assert_eq!(refused(twice), r#"the message is malformed: a JSON object has the member "p" twice"#);
        assert_eq!(Message::parse(&vec![b' '; MAX_MESSAGE + 1]).unwrap_err(), MessageError::TooLong);
    }

    /// A message with these values, as they are spelled.
    fn with_values(values: &str) -> Vec<u8> {
        format!(r#"{{"op":"keyunwrap","keyunwrapparams":{{"dc":{{"Parameters":{{"p":{values}}}}},"annotation":"e30="}}}}"#).into_bytes()
    }

    #[test]
    fn values_are_bounded_in_number_and_length_before_any_is_kept() {
        let read = |values: &str| Message::parse(&with_values(values)).unwrap().values("p").map(|values| values.len());
        let many = |number: usize| format!("[{}]", vec![r#""YQ==""#; number].join(","));
        assert_eq!(read(&many(MAX_VALUES)), Ok(MAX_VALUES));
        for number in [MAX_VALUES + 1, 220_000] {
            assert_eq!(read(&many(number)), Err(MessageError::TooManyValues), "{number}");
        }
        let long = |length: usize| format!(r#"["{}"]"#, "YWFh".repeat(length / 4));
        assert_eq!(read(&long(MAX_VALUE - 4)), Ok(1));
        for spelled in [long(MAX_VALUE), format!("[[97{}]]", " ".repeat(MAX_VALUE))] {
            assert_eq!(read(&spelled), Err(MessageError::ValueTooLong));
        }
        let uri = vec!["255"; 2048].join(", ");
        assert!(uri.len() + 2 <= MAX_VALUE, "a key URI is read in every spelling");
    }

    #[test]
    fn values_that_can_not_be_read_say_something() {
        let says_something = |values: &str| Message::parse(&with_values(values)).unwrap().parameter("p").says_something();
        let long = format!(r#"["{}"]"#, "YWFh".repeat(MAX_VALUE));
        let last = format!(r#"[{}"YQ=="]"#, "\"\",".repeat(MAX_VALUES));
        for values in [r#"["YQ=="]"#, r#"["","YQ=="]"#, r#"["*"]"#, r#"["/w=="]"#, "[7]", "7", "{}", r#""YQ==""#, &long, &last] {
            assert!(says_something(values), "{values}");
        }
        for values in ["null", "[]", r#"[""]"#, "[[]]", r#"["RW5hYmxlZA==","RW5hYmxlZA=="]"#] {
            assert!(!says_something(values), "{values}");
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_an_error_only_for_its_own_provider() {
        let text = br#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"p":["*"],"q":["YQ=="]}},"optsdata":"e30="}}"#;
        let message = Message::parse(text).unwrap();
        assert_eq!(message.values("p").unwrap_err(), MessageError::BadParameter);
        assert_eq!(message.values("q").unwrap(), ["a"]);
    }
}

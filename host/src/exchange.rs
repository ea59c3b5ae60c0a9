//! What the host itself reads of a message, before a guest sees any of it.
//!
//! The operation and the keys that the client named decide what a guest may open, so the host reads them itself. The guest gets the
//! message written anew, with nothing in it but what its provider needs.

use std::collections::BTreeSet;

use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Message, Operation, Parameter, Spelling};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::key_uri::{Addresses, KeyUri, Scheme, Service};
use crate::policy::Origin;
use crate::{Error, error};

/// The provider's name where neither the configuration nor the message tells it: the original's.
pub const DEFAULT_NAME: &str = "kmscrypt";

/// One message, as the host has read it.
pub(crate) struct Exchange {
    /// What is asked for.
    pub operation: Operation,
    /// The provider that is called.
    pub name: String,
    /// The keys that were named for this exchange; none: the configured defaults (wrap), or whatever the annotation names (unwrap).
    pub named: Vec<KeyUri>,
    /// Who named them.
    pub origin: Origin,
    /// The annotation that is to be unwrapped, decoded; empty for a wrap.
    annotation: Vec<u8>,
    /// How the client reads the answer's bytes.
    pub spelling: Spelling,
}

/// What the configuration says of every message.
pub(crate) struct Settings<'a> {
    /// `--provider`, or the configuration's.
    pub name: Option<&'a str>,
    /// The name where nothing tells it.
    pub default_name: &'a str,
    /// `--kmsURI`: takes the place of the parameter.
    pub key: Option<&'a KeyUri>,
    /// Keys to wrap for when the message names none.
    pub default_recipients: &'a [KeyUri],
    /// For parsing key URIs.
    pub addresses: &'a Addresses,
}

impl Exchange {
    /// Reads a message, and writes it anew for the guest.
    pub fn read(message: &[u8], settings: &Settings<'_>) -> Result<(Self, Zeroizing<Vec<u8>>), Error> {
        let message = Message::parse(message).map_err(malformed)?;
        let operation = message.operation();
        let parameter = match settings.name {
            Some(name) => message.parameter(name),
            None => find_parameter(&message, settings)?,
        };
        let (named, origin) = named(&parameter, operation, settings)?;
        let name = parameter.provider().to_owned();
        if operation == Operation::Wrap && named.is_empty() {
            return Err(no_recipients(&name));
        }
        let annotation = match operation {
            Operation::Wrap if !is_opts_data(&message.opts_data().map_err(malformed)?) => return Err(no_opts_data()),
            Operation::Wrap => Vec::new(),
            Operation::Unwrap => message.annotation().map_err(malformed)?,
        };
        let anew = message.for_provider(&parameter, settings.key.map(KeyUri::canonical)).map_err(malformed)?;
        Ok((Self { operation, name, named, origin, annotation, spelling: message.spelling() }, anew))
    }

    /// Who named `key`, or `None` if nobody did who may.
    ///
    /// A wrap opens exactly the keys that were named. An unwrap opens keys that stand in the annotation, so that a guest can't spell what
    /// it knows into the name of another; and if keys were named, only those, except that the annotation may say more in its query.
    pub fn origin_of(&self, key: &KeyUri, addresses: &Addresses) -> Option<Origin> {
        let named = match self.operation {
            Operation::Wrap => self.named.contains(key),
            Operation::Unwrap => {
                let may_open = self.named.is_empty() || self.named.iter().any(|named| named.covers(key));
                may_open && (self.named.contains(key) || self.annotation_names(key, addresses))
            }
        };
        named.then_some(self.origin)
    }

    /// The digest of the annotation that is to be unwrapped.
    pub fn annotation_digest(&self) -> Option<Digest> {
        (self.operation == Operation::Unwrap).then(|| Digest::of(&self.annotation))
    }

    /// The services of all keys that could be opened, each once.
    pub fn services(&self, addresses: &Addresses) -> Vec<Service> {
        let mut services: BTreeSet<_> = self.named.iter().map(KeyUri::service).collect();
        if self.named.is_empty() {
            self.annotation_has(&mut |text| {
                services.extend(KeyUri::parse(text, addresses).map(|uri| uri.service()));
                false
            });
        }
        services.into_iter().collect()
    }

    /// Whether the annotation is JSON in which `key` stands, as a string in any of its spellings.
    fn annotation_names(&self, key: &KeyUri, addresses: &Addresses) -> bool {
        // Mostly it is spelled as it was written: then nothing else needs to be read as a key URI.
        let canonical = key.canonical();
        self.annotation_has(&mut |text| text == canonical || KeyUri::parse(text, addresses).is_ok_and(|uri| uri == *key))
    }

    /// Whether the annotation is JSON with a string that is looked for.
    fn annotation_has(&self, is_it: &mut impl FnMut(&str) -> bool) -> bool {
        serde_json::from_slice(&self.annotation).is_ok_and(|json| holds(&json, is_it))
    }
}

/// Opts data is a JSON object with a `symkey`. Nothing else is wrapped, since nothing else is ever handed out.
pub(crate) fn is_opts_data(bytes: &[u8]) -> bool {
    let symkey = |object: Object<'_>| object.get("symkey").and_then(string).is_some_and(|key| !key.is_empty());
    Object::parse(bytes).is_ok_and(symkey)
}

/// Whether a string somewhere in `json` is the one.
fn holds(json: &serde_json::Value, is_it: &mut impl FnMut(&str) -> bool) -> bool {
    match json {
        serde_json::Value::String(text) => is_it(text),
        serde_json::Value::Array(items) => items.iter().any(|item| holds(item, is_it)),
        serde_json::Value::Object(members) => members.values().any(|value| holds(value, is_it)),
        _ => false,
    }
}

/// The keys for this exchange, and who named them.
fn named(parameter: &Parameter<'_>, operation: Operation, settings: &Settings<'_>) -> Result<(Vec<KeyUri>, Origin), Error> {
    if let Some(key) = settings.key {
        return Ok((vec![key.clone()], Origin::Configuration));
    }
    let values = parameter.values().map_err(malformed)?;
    let parameters = values.map(|value| KeyUri::parse(value, settings.addresses)).collect::<Result<Vec<_>, _>>()?;
    Ok(match operation {
        _ if !parameters.is_empty() => (parameters, Origin::Parameter),
        Operation::Wrap => (settings.default_recipients.to_vec(), Origin::Configuration),
        Operation::Unwrap => (parameters, Origin::Annotation),
    })
}

/// The one parameter whose values are key URIs; without one, the default.
fn find_parameter<'m>(message: &'m Message<'_>, settings: &Settings<'m>) -> Result<Parameter<'m>, Error> {
    let is_ours = |parameter: &Parameter<'_>| parameter.holds(|value| is_ours(value, settings.addresses));
    let (mut ours, others): (Vec<_>, Vec<_>) = message.parameters().partition(is_ours);
    let default = || message.parameter(settings.default_name);
    match ours.len() {
        0 if message.has_parameter(settings.default_name) || settings.key.is_some() || message.operation() == Operation::Unwrap => {
            Ok(default())
        }
        // A misspelled scheme must not pass for no parameter, and so for the default recipients.
        0 => Ok(others.into_iter().find(|parameter| parameter.holds(|value| value.contains("://"))).unwrap_or_else(default)),
        1 => Ok(ours.remove(0)),
        _ => Err(several_providers(&ours)),
    }
}

/// Whether a value is a key URI, or was meant to be one. Its start tells: what other schemes send (PEM texts, mail addresses, whole files)
/// would be a malformed key URI, too.
fn is_ours(value: &str, addresses: &Addresses) -> bool {
    match value.split_once("://") {
        Some((scheme, _)) => Scheme::of(scheme, addresses).is_some(),
        None => value.starts_with("arn:") || KeyUri::parse(value, addresses).is_ok(),
    }
}

fn malformed(error: ocicrypt_kms_protocol::MessageError) -> Error {
    let hint = "this program is started by container tools, by way of ocicrypt.json; see `ocicrypt-kms --help`";
    Error::InvalidInput { reason: error.to_string(), hint: hint.to_owned() }
}

fn no_recipients(name: &str) -> Error {
    Error::InvalidInput {
        reason: format!("no key to wrap with was named for the provider `{}`", error::printable(name, 64)),
        hint: format!(
            "name one with --encryption-key provider:{}:KEY_URI, or set `default-recipients` in the configuration",
            error::printable(name, 64)
        ),
    }
}

fn several_providers(parameters: &[Parameter<'_>]) -> Error {
    let names: Vec<_> = parameters.iter().map(Parameter::provider).collect();
    Error::InvalidInput {
        reason: format!("the message has key URIs for several providers: {}", error::printable(&names.join(", "), 256)),
        hint: "say which one this is: --provider NAME, in the `args` of ocicrypt.json, or `provider` in the configuration".into(),
    }
}

fn no_opts_data() -> Error {
    Error::InvalidInput {
        reason: "what is to be wrapped is not the key of an image layer, so that no unwrap would ever hand it out".into(),
        hint: "opts data is a JSON object with a string `symkey`, and no member twice; check which program sent the message".into(),
    }
}

#[cfg(test)]
mod tests {
    use ocicrypt_kms_protocol::bytes;

    use super::*;

    const SKOPEO_WRAP_TWO: &[u8] = include_bytes!("../../protocol/samples/skopeo-1.18-keywrap-two-recipients-and-jwe.json");

    fn uri(text: &str) -> KeyUri {
        KeyUri::parse(text, &Addresses::default()).unwrap()
    }

    fn message(operation: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
        message_of(operation, parameters, r#"{"symkey":"a"}"#)
    }

    fn message_of(operation: &str, parameters: &[(&str, &str)], payload_text: &str) -> Vec<u8> {
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| format!("\"{name}\":[\"{}\"]", bytes::encode(value.as_bytes()))).collect();
        let encoded = bytes::encode(payload_text.as_bytes());
        let (params, config, payload) =
            if operation == "keywrap" { ("keywrapparams", "ec", "optsdata") } else { ("keyunwrapparams", "dc", "annotation") };
        format!(r#"{{"op":"{operation}","{params}":{{"{config}":{{"Parameters":{{{}}}}},"{payload}":"{encoded}"}}}}"#, parameters.join(","))
            .into_bytes()
    }

    fn read(message: &[u8], name: Option<&str>, key: Option<&str>, defaults: &[&str]) -> Result<Exchange, Error> {
        read_and_write(message, name, key, defaults).map(|(exchange, _)| exchange)
    }

    fn read_and_write(
        message: &[u8],
        name: Option<&str>,
        key: Option<&str>,
        defaults: &[&str],
    ) -> Result<(Exchange, Zeroizing<Vec<u8>>), Error> {
        let (key, defaults) = (key.map(uri), defaults.iter().map(|text| uri(text)).collect::<Vec<_>>());
        let addresses = Addresses::default();
        let settings =
            Settings { name, default_name: DEFAULT_NAME, key: key.as_ref(), default_recipients: &defaults, addresses: &addresses };
        Exchange::read(message, &settings)
    }

    #[test]
    fn the_provider_is_the_one_parameter_that_holds_key_uris() {
        let exchange = read(SKOPEO_WRAP_TWO, None, None, &[]).unwrap();
        assert_eq!(exchange.name, "kmscrypt");
        assert_eq!(exchange.named, [uri("gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"), uri("hashivault://team-k2")]);
        assert_eq!(exchange.origin, Origin::Parameter);
    }

    #[test]
    fn what_other_schemes_send_is_no_key_uri() {
        let private_key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", "MII+/=".repeat(1000));
        for other in
            [&private_key, "-----BEGIN PUBLIC KEY-----\nMIIB\n", "alice@example.com", "# see https://example.com\n", "/a%20key.yaml"]
        {
            for operation in ["keywrap", "keyunwrap"] {
                let message = message(operation, &[("other", other), ("kmscrypt", "local://x"), ("another", other)]);
                assert_eq!(read(&message, None, None, &[]).unwrap().named, [uri("local://x")], "{other}");
            }
        }
    }

    #[test]
    fn a_malformed_key_uri_is_still_one_by_its_start() {
        for value in ["gcpkms://", "local://a b", "local://u@k", "arn:aws", "https://", "aws-kms://%"] {
            assert!(is_ours(value, &Addresses::default()), "{value}");
        }
        for value in ["", "Enabled", "kbs:///a/b", "LOCAL://k", "keyid=local://k", "://", "-----BEGIN local://k"] {
            assert!(!is_ours(value, &Addresses::default()), "{value}");
        }
    }

    #[test]
    fn several_providers_with_key_uris_are_an_error_that_names_them_and_the_flag() {
        let several = message("keywrap", &[("a", "local://x"), ("b", "local://y"), ("c", "kbs:///z")]);
        let line = read(&several, None, None, &[]).err().unwrap().line();
        assert!(line.contains("a, b") && !line.contains("a, b, c") && line.contains("--provider"), "{line}");
        assert_eq!(read(&several, Some("b"), None, &[]).unwrap().named, [uri("local://y")]);
    }

    #[test]
    fn a_misspelled_key_uri_never_passes_for_the_default_recipients() {
        for value in ["gcpkm://projects/p", "local://..", "gcpkms://projects/p"] {
            let error = read(&message("keywrap", &[("p", value)]), None, None, &["local://default"]).err().unwrap();
            assert!(matches!(error, Error::KeyUri(_)), "{value}: {error}");
        }
    }

    #[test]
    fn a_parameter_without_a_value_is_not_taken_for_another_providers() {
        let both = message("keywrap", &[("attestation", "kbs:///x"), ("kmscrypt", "Enabled")]);
        assert_eq!(read(&both, None, None, &["local://default"]).unwrap().named, [uri("local://default")]);
    }

    #[test]
    fn a_wrap_without_recipients_takes_the_defaults_or_says_what_to_do() {
        let enabled = message("keywrap", &[("p", "Enabled")]);
        let exchange = read(&enabled, Some("p"), None, &["local://default"]).unwrap();
        assert_eq!((exchange.named, exchange.origin), (vec![uri("local://default")], Origin::Configuration));
        let line = read(&enabled, Some("p"), None, &[]).err().unwrap().line();
        assert!(line.contains("provider:p:KEY_URI") && line.contains("default-recipients"), "{line}");
    }

    #[test]
    fn opts_data_is_an_object_with_a_symkey_and_no_member_twice() {
        assert!(is_opts_data(br#"{"symkey":"a","digest":"b"}"#));
        for other in ["", "{}", "secret", "[]", r#"{"symkey":""}"#, r#"{"symkey":null}"#, r#"{"symkey":{}}"#, r#""symkey""#] {
            assert!(!is_opts_data(other.as_bytes()), "{other}");
        }
        assert!(!is_opts_data(br#"{"symkey":"a","symkey":"a"}"#));
    }

    #[test]
    fn what_no_unwrap_would_hand_out_is_not_wrapped() {
        for opts_data in ["", "{}", "secret", r#"{"symkey":"secret","digest":"","digest":""}"#] {
            let error = read(&message_of("keywrap", &[("p", "local://k")], opts_data), None, None, &[]).err().unwrap();
            assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
            let line = error.line();
            assert!(line.contains("is not the key of an image layer") && !line.contains("secret"), "{opts_data}: {line}");
        }
    }

    #[test]
    fn a_configured_key_takes_the_place_of_the_parameter() {
        for operation in ["keywrap", "keyunwrap"] {
            let given = message(operation, &[("kmscrypt", "local://a")]);
            let (exchange, anew) = read_and_write(&given, None, Some("local://b"), &[]).unwrap();
            assert_eq!((exchange.named.as_slice(), exchange.origin), ([uri("local://b")].as_slice(), Origin::Configuration));
            assert_eq!(Message::parse(&anew).unwrap().values("kmscrypt").unwrap(), ["local://b"]);
        }
    }

    fn origin(exchange: &Exchange, key: &str) -> Option<Origin> {
        exchange.origin_of(&uri(key), &Addresses::default())
    }

    const PACKETS: &str = r#"[{"key_url":"local://k?context_b=2&context_a=1"},{"key_url":"local://k"},{"key_url":"local://k?context_a=2"},{"key_url":"local://k2?context_a=1"}]"#;

    #[test]
    fn an_unwrap_opens_only_named_keys_but_a_packet_may_say_more_in_its_query() {
        let exchange = read(&message_of("keyunwrap", &[("p", "local://k?context_a=1")], PACKETS), None, None, &[]).unwrap();
        assert_eq!(origin(&exchange, "local://k?context_a=1&context_b=2"), Some(Origin::Parameter));
        for other in ["local://k", "local://k?context_a=2", "local://k2?context_a=1"] {
            assert_eq!(origin(&exchange, other), None, "{other}");
        }
    }

    #[test]
    fn a_wrap_opens_exactly_the_named_keys() {
        let exchange = read(&message("keywrap", &[("p", "local://k")]), None, None, &[]).unwrap();
        assert_eq!(origin(&exchange, "local://k"), Some(Origin::Parameter));
        assert_eq!(origin(&exchange, "local://k?context_a=1"), None);
    }

    #[test]
    fn an_unwrap_without_parameters_leaves_the_choice_to_the_annotation() {
        let unwrap = message_of("keyunwrap", &[("attestation", "kbs:///x")], PACKETS);
        let exchange = read(&unwrap, None, None, &["local://default"]).unwrap();
        assert_eq!((exchange.name.as_str(), exchange.origin), (DEFAULT_NAME, Origin::Annotation));
        assert_eq!(origin(&exchange, "local://k2?context_a=1"), Some(Origin::Annotation));
    }

    #[test]
    fn an_unwrap_opens_no_key_that_does_not_stand_in_the_annotation() {
        let any = read(&message_of("keyunwrap", &[], PACKETS), None, None, &[]).unwrap();
        let named = read(&message_of("keyunwrap", &[("p", "local://k")], PACKETS), None, None, &[]).unwrap();
        for leak in ["local://c2VjcmV0", "local://k?context_leak=c2VjcmV0"] {
            assert_eq!((origin(&any, leak), origin(&named, leak)), (None, None), "{leak}");
        }
        let bare = r#"{"key_url":"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}"#;
        let exchange = read(&message_of("keyunwrap", &[], bare), None, None, &[]).unwrap();
        let canonical = "awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(origin(&exchange, canonical), Some(Origin::Annotation), "another spelling of the same key");
    }
}

//! What the host itself reads of a message, before a guest sees any of it.
//!
//! The operation and the keys that the client named decide what a guest may open, so the host reads them itself. The guest gets the
//! message written anew, with nothing in it but what its provider needs.

use ocicrypt_kms_protocol::{Message, Operation};
use zeroize::Zeroizing;

use crate::key_uri::{Addresses, KeyUri, KeyUriError};
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
    /// The message for the guest.
    pub message: Zeroizing<Vec<u8>>,
}

/// What the configuration says of every message.
pub(crate) struct Settings<'a> {
    /// `--provider`, or the configuration's.
    pub name: Option<&'a str>,
    /// `--kmsURI`: takes the place of the parameter.
    pub key: Option<&'a KeyUri>,
    /// Keys to wrap for when the message names none.
    pub default_recipients: &'a [KeyUri],
    /// For parsing key URIs.
    pub addresses: &'a Addresses,
}

impl Exchange {
    /// Reads a message.
    pub fn read(message: &[u8], settings: &Settings<'_>) -> Result<Self, Error> {
        let message = Message::parse(message).map_err(malformed)?;
        let operation = message.operation();
        let name = match settings.name {
            Some(name) => name.to_owned(),
            None => find_name(&message, settings)?,
        };
        let values = match settings.key {
            Some(_) => Vec::new(),
            None => message.values(&name).map_err(malformed)?,
        };
        let parameters = values.iter().map(|value| KeyUri::parse(value, settings.addresses)).collect::<Result<Vec<_>, _>>()?;
        let (named, origin) = match (settings.key, operation) {
            (Some(key), _) => (vec![key.clone()], Origin::Configuration),
            (None, Operation::Wrap) if parameters.is_empty() => (settings.default_recipients.to_vec(), Origin::Configuration),
            (None, _) => (parameters, Origin::Parameter),
        };
        if operation == Operation::Wrap && named.is_empty() {
            return Err(no_recipients(&name));
        }
        let message = message.for_provider(&name, settings.key.map(KeyUri::canonical)).map_err(malformed)?;
        Ok(Self { operation, name, named, origin, message })
    }

    /// Who named `key`, or `None` if nobody did who may: if keys were named, no other opens, except that a packet's URI may say more in its
    /// query than the one that was named.
    pub fn origin_of(&self, key: &KeyUri) -> Option<Origin> {
        if self.named.is_empty() {
            return (self.operation == Operation::Unwrap).then_some(Origin::Annotation);
        }
        let matches = |named: &KeyUri| match self.operation {
            Operation::Wrap => named == key,
            Operation::Unwrap => named.covers(key),
        };
        self.named.iter().any(matches).then_some(self.origin)
    }
}

/// The one parameter whose values are key URIs; without one, the default.
fn find_name(message: &Message<'_>, settings: &Settings<'_>) -> Result<String, Error> {
    let names: Vec<_> = message.providers(|value| is_ours(value, settings.addresses)).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => match message.providers(|value| value.contains("://")).next() {
            // A misspelled scheme must not pass for no parameter, and so for the default recipients.
            Some(name) if settings.key.is_none() && message.operation() == Operation::Wrap => Ok(name.to_owned()),
            _ => Ok(DEFAULT_NAME.to_owned()),
        },
        several => Err(Error::InvalidInput {
            reason: format!("the message has key URIs for several providers: {}", error::printable(&several.join(", "), 256)),
            hint: "say which one this is: --provider NAME, in the `args` of ocicrypt.json, or `provider` in the configuration".into(),
        }),
    }
}

/// Whether a value is a key URI, or was meant to be one.
fn is_ours(value: &str, addresses: &Addresses) -> bool {
    !matches!(KeyUri::parse(value, addresses), Err(KeyUriError::Scheme(_) | KeyUriError::NoScheme(_) | KeyUriError::Empty))
}

fn malformed(error: ocicrypt_kms_protocol::MessageError) -> Error {
    let hint = "this program is started by container tools, by way of ocicrypt.json; see `ocicrypt-kms --help`";
    Error::InvalidInput { reason: error.to_string(), hint: hint.to_owned() }
}

fn no_recipients(name: &str) -> Error {
    Error::InvalidInput {
        reason: format!("no key to wrap with was named for the provider `{}`", error::printable(name, 64)),
        hint: format!(
            "name one: --encryption-key provider:{}:KEY_URI; or set `default-recipients` in the configuration",
            error::printable(name, 64)
        ),
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
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| format!("\"{name}\":[\"{}\"]", bytes::encode(value.as_bytes()))).collect();
        let (params, config, payload) =
            if operation == "keywrap" { ("keywrapparams", "ec", "optsdata") } else { ("keyunwrapparams", "dc", "annotation") };
        format!(r#"{{"op":"{operation}","{params}":{{"{config}":{{"Parameters":{{{}}}}},"{payload}":"e30="}}}}"#, parameters.join(","))
            .into_bytes()
    }

    fn read(message: &[u8], name: Option<&str>, key: Option<&str>, defaults: &[&str]) -> Result<Exchange, Error> {
        let (key, defaults) = (key.map(uri), defaults.iter().map(|text| uri(text)).collect::<Vec<_>>());
        Exchange::read(message, &Settings { name, key: key.as_ref(), default_recipients: &defaults, addresses: &Addresses::default() })
    }

    #[test]
    fn the_provider_is_the_one_parameter_that_holds_key_uris() {
        let exchange = read(SKOPEO_WRAP_TWO, None, None, &[]).unwrap();
        assert_eq!(exchange.name, "kmscrypt");
        assert_eq!(exchange.named, [uri("gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"), uri("hashivault://team-k2")]);
        assert_eq!(exchange.origin, Origin::Parameter);
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
    fn a_wrap_without_recipients_takes_the_defaults_or_says_what_to_do() {
        let enabled = message("keywrap", &[("p", "Enabled")]);
        let exchange = read(&enabled, Some("p"), None, &["local://default"]).unwrap();
        assert_eq!((exchange.named, exchange.origin), (vec![uri("local://default")], Origin::Configuration));
        let line = read(&enabled, Some("p"), None, &[]).err().unwrap().line();
        assert!(line.contains("provider:p:KEY_URI") && line.contains("default-recipients"), "{line}");
    }

    #[test]
    fn a_configured_key_takes_the_place_of_the_parameter() {
        for operation in ["keywrap", "keyunwrap"] {
            let exchange = read(&message(operation, &[("kmscrypt", "local://a")]), None, Some("local://b"), &[]).unwrap();
            assert_eq!((exchange.named.as_slice(), exchange.origin), ([uri("local://b")].as_slice(), Origin::Configuration));
            assert_eq!(Message::parse(&exchange.message).unwrap().values("kmscrypt").unwrap(), ["local://b"]);
        }
    }

    #[test]
    fn an_unwrap_opens_only_named_keys_but_a_packet_may_say_more_in_its_query() {
        let exchange = read(&message("keyunwrap", &[("p", "local://k?context_a=1")]), None, None, &[]).unwrap();
        assert_eq!(exchange.origin_of(&uri("local://k?context_a=1&context_b=2")), Some(Origin::Parameter));
        for other in ["local://k", "local://k?context_a=2", "local://k2?context_a=1"] {
            assert_eq!(exchange.origin_of(&uri(other)), None, "{other}");
        }
    }

    #[test]
    fn a_wrap_opens_exactly_the_named_keys() {
        let exchange = read(&message("keywrap", &[("p", "local://k")]), None, None, &[]).unwrap();
        assert_eq!(exchange.origin_of(&uri("local://k")), Some(Origin::Parameter));
        assert_eq!(exchange.origin_of(&uri("local://k?context_a=1")), None);
    }

    #[test]
    fn an_unwrap_without_parameters_leaves_the_choice_to_the_annotation() {
        let exchange = read(&message("keyunwrap", &[("attestation", "kbs:///x")]), None, None, &["local://default"]).unwrap();
        assert_eq!(exchange.name, DEFAULT_NAME);
        assert_eq!(exchange.origin_of(&uri("local://any")), Some(Origin::Annotation));
    }
}

//! What the host itself reads of a message, before a guest sees any of it.
//!
//! The operation and the keys that the client named decide what a guest may open, so the host reads them itself. The guest gets the
//! message written anew, with nothing in it but what its provider needs.

use std::collections::BTreeSet;

use ocicrypt_kms_protocol::json::{Object, Value, string};
use ocicrypt_kms_protocol::{MAX_PACKETS, MAX_VALUES, Message, MessageError, Operation, Parameter, Spelling};
use zeroize::Zeroizing;

use crate::Error;
use crate::digest::Digest;
use crate::error::printable;
use crate::key_uri::{Addresses, KeyUri, KeyUriError, Scheme, Service};
use crate::policy::Origin;

/// The provider's name where neither the configuration nor the message tells it: the original's.
pub const DEFAULT_NAME: &str = "kmscrypt";
/// The longest name of a provider, in bytes. Policies remember it, and logs and records have it.
pub const MAX_NAME: usize = 128;
/// What ocicrypt's own schemes call their parameters, which stand beside those of providers: OpenPGP, JWE, PKCS #7, PKCS #11.
const OF_OTHER_SCHEMES: [&str; 13] = [
    "gpg-client",
    "gpg-client-homedir",
    "gpg-privatekeys",
    "gpg-privatekeys-passwords",
    "gpg-pubkeyringfile",
    "gpg-recipients",
    "pkcs11-config",
    "pkcs11-pubkeys",
    "pkcs11-yamls",
    "privkeys",
    "privkeys-passwords",
    "pubkeys",
    "x509s",
];

/// The most keys elsewhere of one annotation that a policy is asked about beforehand: several times what packets there are.
const MAX_ASKED: usize = 4 * MAX_PACKETS;

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
    /// Multi-Region keys of AWS KMS that were named, by the client or else by the configuration; none for a wrap.
    multi_region: Vec<KeyUri>,
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
    /// Multi-Region keys of AWS KMS that the configuration names by their ARNs.
    pub multi_region: &'a [KeyUri],
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
        let name = provider_name(parameter.provider())?.to_owned();
        let (named, origin) = named(&parameter, operation, settings)?;
        if operation == Operation::Wrap && named.is_empty() {
            return Err(no_recipients(&name));
        }
        let annotation = match operation {
            Operation::Wrap if !is_opts_data(&message.opts_data().map_err(malformed)?) => return Err(no_opts_data()),
            Operation::Wrap => Vec::new(),
            Operation::Unwrap => message.annotation().map_err(malformed)?,
        };
        let anew = message.for_provider(&parameter, settings.key.map(KeyUri::canonical)).map_err(malformed)?;
        let multi_region = match operation {
            Operation::Wrap => Vec::new(),
            Operation::Unwrap if named.is_empty() => settings.multi_region.to_vec(),
            Operation::Unwrap => named.iter().filter(|key| key.is_multi_region()).cloned().collect(),
        };
        Ok((Self { operation, name, named, origin, multi_region, annotation, spelling: message.spelling() }, anew))
    }

    /// The key that is used where the annotation names `key`: that one. Only where it is a multi-Region key of AWS KMS that nobody else named, and
    /// a related one of another region was named, it is the named one, whose key material is the same. Policy, budget and records are
    /// about the key that is used.
    pub fn used_for(&self, key: KeyUri) -> KeyUri {
        if self.multi_region.iter().any(|named| named.without_query() == key.without_query()) {
            return key;
        }
        self.multi_region.iter().find_map(|named| key.in_region_of(named)).unwrap_or(key)
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

    /// The services of all keys that could be opened, each once: of those that were named; else, of those that stand in the annotation, where
    /// an image's author writes what he wants: local ones, and others that could be lent.
    pub fn services(&self, addresses: &Addresses, could_be_lent: impl Fn(&KeyUri) -> bool) -> Vec<Service> {
        let mut services: BTreeSet<_> = self.named.iter().map(KeyUri::service).collect();
        let mut asked = BTreeSet::new();
        if self.named.is_empty() {
            self.annotation_has(&mut |text| {
                if let Ok(uri) = KeyUri::parse(text, addresses).map(|uri| self.used_for(uri)) {
                    let service = uri.service();
                    let is_new = !services.contains(&service) && (service == Service::Local || asked.insert(uri.clone()));
                    if is_new && (service == Service::Local || could_be_lent(&uri)) {
                        services.insert(service);
                    }
                }
                asked.len() >= MAX_ASKED
            });
        }
        services.into_iter().collect()
    }

    /// Whether the annotation is JSON in which `key` stands, as a string in any of its spellings.
    fn annotation_names(&self, key: &KeyUri, addresses: &Addresses) -> bool {
        // Mostly it is spelled as it was written: then nothing else needs to be read as a key URI.
        let canonical = key.canonical();
        self.annotation_has(&mut |text| text == canonical || KeyUri::parse(text, addresses).is_ok_and(|uri| self.used_for(uri) == *key))
    }

    /// Whether the annotation is JSON with a string that is looked for.
    fn annotation_has(&self, is_it: &mut impl FnMut(&str) -> bool) -> bool {
        // The reader is the component's own, so that both find the same strings.
        Value::parse(&self.annotation).is_ok_and(|annotation| annotation.has_string(is_it))
    }
}

/// Opts data is a JSON object with a `symkey`. Nothing else is wrapped, since nothing else is ever handed out.
pub(crate) fn is_opts_data(bytes: &[u8]) -> bool {
    let symkey = |object: Object<'_>| object.get("symkey").and_then(string).is_some_and(|key| !key.is_empty());
    Object::parse(bytes).is_ok_and(symkey)
}

/// The keys for this exchange, and who named them.
fn named(parameter: &Parameter<'_>, operation: Operation, settings: &Settings<'_>) -> Result<(Vec<KeyUri>, Origin), Error> {
    if let Some(key) = settings.key {
        return Ok((vec![key.clone()], Origin::Configuration));
    }
    let mut named = Vec::new();
    for value in parameter.values().map_err(|error| unreadable(parameter, &error))? {
        let key = KeyUri::parse(&value, settings.addresses).map_err(|error| no_key_uri(parameter, &value, error, settings))?;
        if !named.contains(&key) {
            named.push(key);
        }
    }
    match operation {
        Operation::Wrap if named.len() > MAX_PACKETS => Err(too_many_recipients(parameter)),
        _ if !named.is_empty() => Ok((named, Origin::Parameter)),
        Operation::Wrap => Ok((settings.default_recipients.to_vec(), Origin::Configuration)),
        Operation::Unwrap => Ok((named, Origin::Annotation)),
    }
}

/// The name, if a provider can have it. It is kept and logged as it is.
pub(crate) fn provider_name(name: &str) -> Result<&str, Error> {
    if (1..=MAX_NAME).contains(&name.len()) && printable(name, MAX_NAME) == name {
        return Ok(name);
    }
    Err(Error::InvalidInput {
        reason: format!("a key provider can't be called `{}`", printable(name, 64)),
        hint: format!("its name in ocicrypt.json has to be 1 to {MAX_NAME} bytes of printable text"),
    })
}

/// The provider that is called, by what is given for it: the only one with key URIs. If none has any, the one with the default name; else the
/// only one with values, which then have to be key URIs: who misspelled one restricts the exchange to a key all the same.
fn find_parameter<'m>(message: &'m Message<'_>, settings: &Settings<'m>) -> Result<Parameter<'m>, Error> {
    let is_ours = |parameter: &Parameter<'_>| parameter.holds(|value| is_ours(value, settings.addresses));
    let (ours, others): (Vec<_>, Vec<_>) = message.parameters().partition(is_ours);
    match ours.as_slice() {
        [] => {}
        [one] => return Ok(*one),
        several => return Err(several_providers("key URIs for several providers", several)),
    }
    let default = message.parameter(settings.default_name);
    if settings.key.is_some() || message.has_parameter(settings.default_name) {
        return Ok(default);
    }
    let could_be_ours = |other: &Parameter<'_>| !OF_OTHER_SCHEMES.contains(&other.provider()) && other.says_something();
    match others.into_iter().filter(could_be_ours).collect::<Vec<_>>().as_slice() {
        [] => Ok(default),
        [one] => Ok(*one),
        several => Err(several_providers("values for several providers, and no key URI among them", several)),
    }
}

/// Whether a value is a key URI, or was meant to be one. Its start tells: what other schemes send (PEM texts, mail addresses, whole files)
/// would be a malformed key URI, too.
fn is_ours(value: &str, addresses: &Addresses) -> bool {
    match value.split_once(':') {
        Some((scheme, _)) => scheme == "arn" || Scheme::of(scheme, addresses).is_some(),
        None => KeyUri::parse(value, addresses).is_ok(),
    }
}

fn malformed(error: MessageError) -> Error {
    let hint = "this program is started by container tools, by way of ocicrypt.json; see `ocicrypt-kms --help`";
    Error::InvalidInput { reason: error.to_string(), hint: hint.to_owned() }
}

/// Values that can't be read at all.
fn unreadable(parameter: &Parameter<'_>, error: &MessageError) -> Error {
    Error::InvalidInput {
        reason: format!("{error} (of the provider `{}`)", printable(parameter.provider(), 64)),
        hint: format!("name at most {MAX_VALUES} keys, each by its key URI"),
    }
}

/// A value that is no key URI. What doesn't even begin as one isn't shown: it may be a secret that was meant for another provider.
fn no_key_uri(parameter: &Parameter<'_>, value: &str, error: KeyUriError, settings: &Settings<'_>) -> Error {
    let name = printable(parameter.provider(), 64);
    let said = |error: &KeyUriError| format!("the parameter of the provider `{name}`: {error}");
    if is_ours(value, settings.addresses) {
        return Error::InvalidInput { reason: said(&error), hint: error.hint() };
    }
    let is_scheme = |scheme: &str| scheme.len() <= 32 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let error = match value.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => KeyUriError::Scheme(format!("`{scheme}`")),
        _ => KeyUriError::NoScheme("it is not shown".to_owned()),
    };
    let others = match settings.name {
        None if name != settings.default_name => format!("; if `{name}` is another provider than this one, {SAY_WHICH}"),
        _ => String::new(),
    };
    Error::InvalidInput { reason: said(&error), hint: format!("{}{others}", error.hint()) }
}

fn too_many_recipients(parameter: &Parameter<'_>) -> Error {
    Error::InvalidInput {
        reason: format!("more than {MAX_PACKETS} keys to wrap with were named for the provider `{}`", printable(parameter.provider(), 64)),
        hint: format!("name at most {MAX_PACKETS}"),
    }
}

fn no_recipients(name: &str) -> Error {
    let name = printable(name, 64);
    Error::InvalidInput {
        reason: format!("no key to wrap with was named for the provider `{name}`"),
        hint: format!("name one with --encryption-key provider:{name}:KEY_URI, or set `default-recipients` in the configuration"),
    }
}

/// What to do where a message has values of several providers.
const SAY_WHICH: &str = "say which one this is: --provider NAME in the `args` of a `cmd` entry of ocicrypt.json, or `provider` in the configuration; \
                         `serve` has one name, so that each name of a `grpc` or `ttrpc` entry needs a server and a socket of its own: \
                         ocicrypt-kms serve --provider NAME --listen unix:///PATH";

fn several_providers(what: &str, parameters: &[Parameter<'_>]) -> Error {
    let names: Vec<_> = parameters.iter().take(8).map(|parameter| printable(parameter.provider(), 64)).collect();
    let more = if parameters.len() > names.len() { ", …" } else { "" };
    Error::InvalidInput { reason: format!("the message has {what}: {}{more}", names.join(", ")), hint: SAY_WHICH.into() }
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
    use proptest::prelude::*;

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
        let settings = Settings {
            name,
            default_name: DEFAULT_NAME,
            key: key.as_ref(),
            default_recipients: &defaults,
            multi_region: &[],
            addresses: &addresses,
        };
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
        for value in
            ["gcpkms://", "local://a b", "local://u@k", "arn:aws", "https://", "aws-kms://%", "local:a", "gcpkms:projects/p", "openbao:/k"]
        {
            assert!(is_ours(value, &Addresses::default()), "{value}");
        }
        for value in ["", "Enabled", "kbs:///a/b", "cc_kbc::null", "LOCAL://k", "keyid=local://k", "://", "-----BEGIN local://k"] {
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
        for value in MISSPELLED {
            let error = read(&message("keywrap", &[("p", value)]), None, None, &["local://default"]).err().unwrap();
            assert!(matches!(error, Error::InvalidInput { .. }), "{value}: {error}");
        }
    }

    /// What somebody could write who means a key, and what other providers are given.
    const MISSPELLED: [&str; 9] =
        ["local:a", "local:/a", "locl://a", "LOCAL://a", "local://..", "gcpkms://projects/p", "gcpkm://projects/p", "team", "cc_kbc::null"];

    #[test]
    fn a_misspelled_key_uri_never_leaves_the_choice_to_the_annotation() {
        for value in MISSPELLED {
            // Without a name, with a name, with the default name, and beside what ocicrypt's own schemes are given.
            let beside = [("privkeys", "-----BEGIN PRIVATE KEY-----"), ("team", value), ("x509s", "-----BEGIN CERTIFICATE-----")];
            for (parameters, name) in [(&beside[..], None), (&beside[1..2], Some("team")), (&[(DEFAULT_NAME, value)], None)] {
                let error = read(&message_of("keyunwrap", parameters, PACKETS), name, None, &[]).err().unwrap();
                let line = error.line();
                assert!(matches!(error, Error::InvalidInput { .. }), "{value}: {error}");
                assert!(
                    line.starts_with(&format!(
                        "the parameter of the provider `{}`: ",
                        name.unwrap_or(parameters.get(1).map_or(DEFAULT_NAME, |_| "team"))
                    )),
                    "{line}"
                );
                let unknown = name.is_none() && parameters.len() == 3 && !is_ours(value, &Addresses::default());
                assert_eq!(line.contains("--provider NAME"), unknown, "{line}");
            }
        }
    }

    #[test]
    fn one_value_that_can_not_be_read_is_as_bad_as_all() {
        for values in [r#""bG9jYWw6Ly9h","*""#, r#""*""#, r#""bG9jYWw6Ly9h",7"#, r#""bG9jYWw6Ly9h","/w==""#, r#""bG9jYWw6Ly9h","eA==""#] {
            for (operation, params, config, payload) in
                [("keywrap", "keywrapparams", "ec", "optsdata"), ("keyunwrap", "keyunwrapparams", "dc", "annotation")]
            {
                let payload = format!("\"{payload}\":\"{}\"", bytes::encode(br#"{"symkey":"a"}"#));
                let text = format!(r#"{{"op":"{operation}","{params}":{{"{config}":{{"Parameters":{{"team":[{values}]}}}},{payload}}}}}"#);
                let line = read(text.as_bytes(), None, None, &["local://default"]).err().unwrap().line();
                assert!(line.contains("provider `team`"), "{operation} {values}: {line}");
            }
        }
    }

    #[test]
    fn what_is_given_for_other_providers_beside_this_one_is_none_of_our_business() {
        let others = [("attestation-agent", "cc_kbc::null"), ("team", "local://a"), ("other", "team-key")];
        assert_eq!(read(&message_of("keyunwrap", &others, PACKETS), None, None, &[]).unwrap().named, [uri("local://a")]);
        let default = [("attestation-agent", "cc_kbc::null"), (DEFAULT_NAME, "Enabled")];
        assert_eq!(read(&message_of("keyunwrap", &default, PACKETS), None, None, &[]).unwrap().origin, Origin::Annotation);
        let named = read(&message_of("keyunwrap", &[others[0], others[2]], PACKETS), Some("team"), None, &[]).unwrap();
        assert_eq!((named.name.as_str(), named.origin), ("team", Origin::Annotation));
        for given in [&[others[0], others[2]][..], &[others[0], others[2], ("third", "x")]] {
            let line = read(&message_of("keyunwrap", given, PACKETS), None, None, &[]).err().unwrap().line();
            assert!(
                line.contains("for several providers") && line.contains("attestation-agent, other") && line.contains("--provider NAME"),
                "{line}"
            );
        }
        // What replaces the parameter anyway restricts more.
        let key = read(&message_of("keyunwrap", &[("team", "local:a")], PACKETS), None, Some("local://k"), &[]).unwrap();
        assert_eq!(key.named, [uri("local://k")]);
    }

    #[test]
    fn what_does_not_begin_as_a_key_uri_is_not_shown() {
        for secret in
            ["-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n", "c2VjcmV0", "foo://x%2Fc2VjcmV0?token=c2VjcmV0", "c2VjcmV0://", "x:c2VjcmV0"]
        {
            for name in [None, Some("other")] {
                let line = read(&message_of("keyunwrap", &[("other", secret)], PACKETS), name, None, &[]).err().unwrap().line();
                assert!(line.contains("provider `other`") && (!line.contains("c2VjcmV0") || secret.starts_with("c2VjcmV0:")), "{line}");
            }
        }
    }

    #[test]
    fn a_providers_name_is_short_and_printable() {
        let long = "n".repeat(MAX_NAME);
        for name in ["kmscrypt", "my provider", "p", "größer", &long] {
            assert_eq!(read(&message("keywrap", &[(name, "local://x")]), None, None, &[]).unwrap().name, name);
        }
        let huge = "n".repeat(1 << 20);
        for name in ["", " p", "a\u{202e}b", "a\u{ad}b", "a\u{e0041}b", &format!("{long}n"), &huge] {
            for (operation, configured) in [("keywrap", None), ("keyunwrap", None), ("keyunwrap", Some(name))] {
                let error = read(&message(operation, &[(name, "local://x")]), configured, None, &[]).err().unwrap();
                assert!(error.to_string().len() < 256 && error.line().contains("1 to 128 bytes of printable text"), "{error}");
            }
        }
    }

    #[test]
    fn recipients_are_bounded_and_each_counts_once() {
        let wrap = |keys: &[String]| {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            read(&ocicrypt_kms_protocol::compose(Operation::Wrap, "p", &keys, br#"{"symkey":"a"}"#), None, None, &[])
        };
        let keys = |number: usize| (0..number).map(|number| format!("local://{number}")).collect::<Vec<_>>();
        assert_eq!(wrap(&[keys(MAX_PACKETS), keys(MAX_PACKETS)].concat()).unwrap().named.len(), MAX_PACKETS);
        let line = wrap(&keys(MAX_PACKETS + 1)).err().unwrap().line();
        assert!(line.contains("more than 16 keys") && line.contains("provider `p`"), "{line}");
        for number in [MAX_VALUES + 1, 100_000] {
            let line = wrap(&keys(number)).err().unwrap().line();
            assert!(line.contains("more than 64 values (of the provider `p`)"), "{line}");
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

    #[test]
    fn an_annotation_adds_services_of_keys_that_could_be_lent_and_a_parameter_adds_its_own() {
        let annotation = r#"{"a":["local://k",{"b":"awskms:///alias/a"}],"c":"hashivault://transit/k","d":"hashivault://transit/k2"}"#;
        let services = |parameters: &[(&str, &str)], lent: &[&str]| {
            let exchange = read(&message_of("keyunwrap", parameters, annotation), None, None, &[]).unwrap();
            exchange.services(&Addresses::default(), |uri| lent.contains(&uri.canonical()))
        };
        assert_eq!(services(&[], &[]), [Service::Local]);
        assert_eq!(services(&[], &["hashivault://transit/k2"]), [Service::Vault, Service::Local]);
        assert_eq!(services(&[], &["awskms:///alias/a", "hashivault://transit/k"]), [Service::Aws, Service::Vault, Service::Local]);
        assert_eq!(services(&[("p", "awskms:///alias/b")], &[]), [Service::Aws], "what the client names is its own choice");
    }

    #[test]
    fn a_policy_is_asked_beforehand_about_few_of_the_keys_that_an_annotation_names() {
        let uris: Vec<_> = (0..2_000).map(|number| format!("\"awskms:///alias/{number}\"")).collect();
        let exchange = read(&message_of("keyunwrap", &[], &format!("[{}]", uris.join(","))), None, None, &[]).unwrap();
        let asked = std::cell::Cell::new(0);
        let never = |_: &KeyUri| {
            asked.set(asked.get() + 1);
            false
        };
        assert_eq!((exchange.services(&Addresses::default(), never), asked.get()), (Vec::new(), MAX_ASKED));
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
        let unwrap = message_of("keyunwrap", &[("attestation", "Enabled"), ("privkeys", "-----BEGIN PRIVATE KEY-----")], PACKETS);
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

    /// An unwrap of this annotation, which names no key.
    fn unwrap_of(annotation: &[u8]) -> Exchange {
        read(&ocicrypt_kms_protocol::compose(Operation::Unwrap, DEFAULT_NAME, &[], annotation), None, None, &[]).unwrap()
    }

    /// Host and component find the same keys in it: those of the packets that the component reads, and none where it reads no JSON.
    fn agrees(annotation: &[u8]) -> Result<(), String> {
        use ocicrypt_kms_component::annotation::parse;
        use ocicrypt_kms_component::keys::Error as Refusal;
        let exchange = unwrap_of(annotation);
        match parse(annotation) {
            Ok(packets) => {
                packets.iter().filter_map(|packet| KeyUri::parse(&packet.key_url, &Addresses::default()).ok()).try_for_each(|key| {
                    exchange.origin_of(&key, &Addresses::default()).map(drop).ok_or_else(|| format!("only the component finds {key}"))
                })
            }
            Err(Refusal::InvalidInput(reason)) if ["not JSON", "twice", "members", "levels"].iter().any(|why| reason.contains(why)) => {
                let found = exchange.annotation_has(&mut |_| true);
                if found { Err(format!("only the host finds strings: {reason}")) } else { Ok(()) }
            }
            Err(_) => Ok(()),
        }
    }

    #[test]
    fn host_and_component_read_an_annotation_alike() {
        let packet = |more: &str| format!(r#"{{"key_url":"local://k",{more}"wrapped_key":"YQ==","wrap_type":"JWE"}}"#);
        let nested = |depth: usize| format!(r#""x":{}{},"#, "[".repeat(depth), "]".repeat(depth));
        let members = |number: usize| (0..number).map(|number| format!("\"{number}\":0,")).collect::<String>();
        for (read, more) in [
            (true, String::new()),
            (true, r#""x":1e999,"y":-0.0e-999,"#.into()),
            (true, format!(r#""x":{},"#, "9".repeat(400))),
            (true, r#""x":"\ud800","y":"\udc00\ud800","#.into()),
            (true, nested(60)),
            (false, nested(100)),
            (false, nested(1000)),
            (false, members(300)),
            (false, r#""key_url":"local://k","#.into()),
            (false, r#""x":{"y":1,"y":2},"#.into()),
            (false, r#""key_\u0075rl":"local://k","#.into()),
            (false, "\"x\":\"\n\",".into()),
        ] {
            for annotation in [packet(&more), format!("[{},{}]", packet(""), packet(&more))] {
                agrees(annotation.as_bytes()).unwrap_or_else(|reason| panic!("{reason}: {more:.100}"));
                assert_eq!(origin(&unwrap_of(annotation.as_bytes()), "local://k").is_some(), read, "{more:.100}");
            }
        }
        for (before, behind) in [("\u{feff}", ""), ("", "{}"), ("", "\0"), ("\u{a0}", "")] {
            let annotation = format!("{before}{}{behind}", packet(""));
            agrees(annotation.as_bytes()).unwrap();
            assert_eq!(origin(&unwrap_of(annotation.as_bytes()), "local://k"), None);
        }
    }

    proptest! {
        #[test]
        fn host_and_component_read_every_annotation_alike(
            text in r#"\[?\{"key_url":"local://[ab]"(,"(wrapped_key|wrap_type|key_url|x)":("YQ=="|"JWE"|"\\ud[89a]00"|1e9{1,4}|null|\[\[1\],\{"a":0,"[ab]":"local://b"\}\])){1,4}\}[\]\ufeff ]{0,2}"#,
            changes in prop::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut annotation = text.into_bytes();
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut annotation) = *byte);
            prop_assert_eq!(agrees(&annotation), Ok(()));
        }
    }
}

//! Messages as clients write them, and what stands in the answers.

use ocicrypt_kms::protocol::{Answer, Operation, bytes};

/// What skopeo asks to wrap: a layer's key and how it was used.
pub const OPTS_DATA: &[u8] = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk=","digest":"sha256:fa8cd3cc1b54693d960ba043b203f3c6ee94cb858b2044e90cf934cd96f3ae89","cipheroptions":{"nonce":"MrCECZwGoAn7dSbloBcDNQ=="}}"#;

/// A provider's name and its values.
pub type Parameter<'a> = (&'a str, &'a [&'a str]);

/// A message that asks to wrap, as Go's ocicrypt writes it.
pub fn keywrap(parameters: &[Parameter<'_>], opts_data: &[u8]) -> Vec<u8> {
    format!(
        r#"{{"op":"keywrap","keywrapparams":{{"ec":{{"Parameters":{},"DecryptConfig":{{"Parameters":{{}}}}}},"optsdata":"{}"}},"keyunwrapparams":{{"dc":null,"annotation":null}}}}"#,
        object(parameters),
        bytes::encode(opts_data)
    )
    .into_bytes()
}

/// A message that asks to unwrap, as Go's ocicrypt writes it.
pub fn keyunwrap(parameters: &[Parameter<'_>], annotation: &[u8]) -> Vec<u8> {
    format!(
        r#"{{"op":"keyunwrap","keywrapparams":{{"ec":null,"optsdata":null}},"keyunwrapparams":{{"dc":{{"Parameters":{}}},"annotation":"{}"}}}}"#,
        object(parameters),
        bytes::encode(annotation)
    )
    .into_bytes()
}

fn object(parameters: &[Parameter<'_>]) -> String {
    let values =
        |values: &[&str]| values.iter().map(|value| format!("\"{}\"", bytes::encode(value.as_bytes()))).collect::<Vec<_>>().join(",");
    let members: Vec<_> = parameters.iter().map(|(name, texts)| format!("\"{name}\":[{}]", values(texts))).collect();
    format!("{{{}}}", members.join(","))
}

/// A message that asks to wrap the opts data for these keys.
pub fn wrapping(uris: &[&str]) -> Vec<u8> {
    keywrap(&[("kmscrypt", uris)], OPTS_DATA)
}

/// A message that asks to unwrap and names these keys, or none.
pub fn unwrapping(uris: &[&str], annotation: &[u8]) -> Vec<u8> {
    match uris {
        [] => keyunwrap(&[], annotation),
        uris => keyunwrap(&[("kmscrypt", uris)], annotation),
    }
}

/// The decoded annotation of an answer to [`keywrap`].
pub fn annotation_of(answer: &[u8]) -> Vec<u8> {
    Answer::parse(Operation::Wrap, answer).unwrap().result.to_vec()
}

/// The opts data of an answer to [`keyunwrap`].
pub fn opts_data_of(answer: &[u8]) -> Vec<u8> {
    Answer::parse(Operation::Unwrap, answer).unwrap().result.to_vec()
}

//! A key provider in Rust for a KMS that the host has no code for: OpenBao's transit engine, by its REST API. The host knows where the server
//! is and adds the token.

wit_bindgen::generate!({ path: "../../../wit", world: "key-provider-http", generate_all });

use exports::ocicrypt::keyprovider::provider::{Guest, PacketInfo, Settings};
use ocicrypt::keyprovider::kms::{Usage, canonical_uri};
use ocicrypt::keyprovider::kms_http::{Endpoint, Request};
use ocicrypt::keyprovider::types::Error;
use ocicrypt_kms_protocol::json::{Object, quote, string};
use ocicrypt_kms_protocol::{Answer, Message, Operation, Spelling, bytes};

struct Transit;

impl Guest for Transit {
    fn exchange(settings: Settings, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        let invalid = |error: ocicrypt_kms_protocol::MessageError| Error::InvalidInput(error.to_string());
        let message = Message::parse(&message).map_err(invalid)?;
        let mut uris = message.values(&settings.name).map_err(invalid)?;
        let result = match message.operation() {
            Operation::Wrap => {
                uris = if uris.is_empty() { settings.default_recipients } else { uris };
                wrap(&uris, &message.opts_data().map_err(invalid)?)?
            }
            Operation::Unwrap => unwrap(&uris, &message.annotation().map_err(invalid)?)?,
        };
        Ok(Answer::new(message.operation(), result.into()).write(Spelling::Base64).to_vec())
    }

    fn inspect(annotation: Vec<u8>) -> Result<Vec<PacketInfo>, Error> {
        let [key_uri, ciphertext] = read(&annotation, ["key_url", "ciphertext"])?;
        Ok(vec![PacketInfo { key_uri, wrap_type: "transit".into(), wrapped_length: ciphertext.len() as u32, attributes: Vec::new() }])
    }
}

fn wrap(uris: &[String], opts_data: &[u8]) -> Result<Vec<u8>, Error> {
    let [uri] = uris else { return Err(Error::InvalidInput("this format has one recipient".into())) };
    let uri = canonical_uri(uri)?;
    let ciphertext = transit(&uri, Usage::Wrap, ["encrypt", "plaintext", "ciphertext"], &bytes::encode(opts_data))?;
    Ok(format!(r#"{{"key_url":{},"ciphertext":{}}}"#, quote(&uri), quote(&ciphertext)).into_bytes())
}

fn unwrap(uris: &[String], annotation: &[u8]) -> Result<Vec<u8>, Error> {
    let [uri, ciphertext] = read(annotation, ["key_url", "ciphertext"])?;
    let named = uris.iter().map(|uri| canonical_uri(uri)).collect::<Result<Vec<_>, _>>()?;
    if !named.is_empty() && !named.contains(&uri) {
        return Err(Error::NoMatchingKey(format!("the annotation is for {uri}")));
    }
    let plaintext = transit(&uri, Usage::Unwrap, ["decrypt", "ciphertext", "plaintext"], &ciphertext)?;
    bytes::decode(&plaintext).map(|plaintext| plaintext.to_vec()).ok_or_else(|| Error::Corrupt("the answer is not base64".into()))
}

/// One operation of the engine: its name, and the members of what it's sent and of what it answers.
fn transit(uri: &str, usage: Usage, [verb, sent, answered]: [&str; 3], value: &str) -> Result<String, Error> {
    let endpoint = Endpoint::open(uri, usage)?;
    let info = endpoint.info();
    if !info.context.is_empty() {
        return Err(Error::InvalidInput("this provider can't bind an encryption context".into()));
    }
    let headers = vec![("content-type".into(), "application/json".into())];
    let body = format!(r#"{{"{sent}":{}}}"#, quote(value)).into_bytes();
    let answer = endpoint.send(&Request { method: "POST".into(), path: format!("/v1/transit/{verb}/{}", info.key), headers, body })?;
    let answer = Object::parse(&answer.body).map_err(|_| malformed())?;
    let [value] = members(answer.object("data").map_err(|_| malformed())?, [answered])?;
    Ok(value)
}

fn read<const N: usize>(json: &[u8], names: [&str; N]) -> Result<[String; N], Error> {
    members(&Object::parse(json).map_err(|_| malformed())?, names)
}

fn members<const N: usize>(object: &Object<'_>, names: [&str; N]) -> Result<[String; N], Error> {
    let texts: Option<Vec<_>> = names.iter().map(|name| object.get(name).and_then(string).map(|text| text.into_owned())).collect();
    texts.and_then(|texts| texts.try_into().ok()).ok_or_else(malformed)
}

fn malformed() -> Error {
    Error::InvalidInput("a member is missing, or it is not JSON".into())
}

export!(Transit);

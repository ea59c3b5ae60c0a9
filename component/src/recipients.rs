//! One exchange: which packets for which keys, in which order.

use ocicrypt_kms_protocol::{Answer, MAX_PACKETS, Message, Operation, Spelling};
use zeroize::Zeroizing;

use crate::annotation::{self, Packet, WrapType};
use crate::jwe;
use crate::keys::{Attempt, Error, Host, Key, Usage};

/// Answers one message for the provider called `name`. A wrap without recipients takes `defaults`.
///
/// # Errors
/// If the message is malformed, or if the keys that it needs can't be had or used.
pub fn exchange<H: Host>(host: &H, name: &str, defaults: &[String], message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let message = Message::parse(message).map_err(|error| Error::InvalidInput(error.to_string()))?;
    let invalid = |error: ocicrypt_kms_protocol::MessageError| Error::InvalidInput(error.to_string());
    let parameters = message.values(name).map_err(invalid)?;
    let result = match message.operation() {
        Operation::Wrap => {
            let recipients = if parameters.is_empty() { defaults } else { &parameters };
            Zeroizing::new(wrap(host, recipients, &message.opts_data().map_err(invalid)?)?)
        }
        Operation::Unwrap => unwrap(host, &parameters, &message.annotation().map_err(invalid)?)?,
    };
    Ok(Answer::new(message.operation(), result).write(Spelling::Base64))
}

/// Wraps opts data for every recipient, or for none: all keys are borrowed before the first is used.
fn wrap<H: Host>(host: &H, recipients: &[String], opts_data: &[u8]) -> Result<Vec<u8>, Error> {
    let recipients = canonical(host, recipients)?;
    match recipients.len() {
        0 => return Err(Error::InvalidInput("no key to wrap with was named".into())),
        1..=MAX_PACKETS => {}
        _ => return Err(Error::InvalidInput(format!("more than {MAX_PACKETS} keys to wrap with were named"))),
    }
    let keys: Vec<_> = recipients.iter().map(|uri| host.open(uri, Usage::Wrap)).collect::<Result<_, _>>()?;
    let packets: Vec<_> = keys.iter().map(|key| wrap_with(host, key, opts_data)).collect::<Result<_, _>>()?;
    Ok(annotation::write(&packets))
}

fn wrap_with<H: Host>(host: &H, key: &H::Key, opts_data: &[u8]) -> Result<Packet, Error> {
    let info = key.info();
    let wrap_type = WrapType::of(&info.wrapping);
    let wrapped_key = match wrap_type {
        WrapType::Jwe => jwe::encrypt(host, key, &info, opts_data)?.into_bytes(),
        _ => key.encrypt(opts_data)?,
    };
    Ok(Packet { key_url: info.uri, wrapped_key, wrap_type })
}

/// Unwraps the first packet that works, of those that match a parameter, or of all if there is none.
fn unwrap<H: Host>(host: &H, parameters: &[String], annotation: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let packets = annotation::parse(annotation)?;
    let parameters = canonical(host, parameters)?;
    let mut failures = Vec::new();
    for packet in &packets {
        let attempt = match host.canonical_uri(&packet.key_url) {
            Ok(uri) if !parameters.is_empty() && !parameters.iter().any(|parameter| covers(parameter, &uri)) => continue,
            // A packet whose URI can't be read matches no parameter.
            Err(_) if !parameters.is_empty() => continue,
            Ok(_) => unwrap_with(host, packet),
            Err(error) => Err(error),
        };
        match attempt {
            Ok(opts_data) => return Ok(opts_data),
            Err(error) => failures.push((packet.key_url.clone(), error)),
        }
    }
    Err(match failures.len() {
        0 => Error::NoMatchingKey(format!("the annotation is for {}", list(&packets))),
        1 => failures.remove(0).1,
        _ => Error::AllFailed(failures.into_iter().map(attempt).collect()),
    })
}

fn unwrap_with<H: Host>(host: &H, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, Error> {
    if let WrapType::Unknown(_) = packet.wrap_type {
        return Err(Error::InvalidInput("the packet's `wrap_type` is neither `AES` nor `JWE`".into()));
    }
    let key = host.open(&packet.key_url, Usage::Unwrap)?;
    let info = key.info();
    if WrapType::of(&info.wrapping) != packet.wrap_type {
        let (is, implied) = (packet.wrap_type.as_str(), WrapType::of(&info.wrapping));
        let implied = implied.as_str();
        return Err(Error::InvalidInput(format!("the packet's `wrap_type` is {is}, but its key makes packets of type {implied}")));
    }
    match WrapType::of(&info.wrapping) {
        WrapType::Jwe => jwe::decrypt(&key, &info, &packet.wrapped_key),
        _ => key.decrypt(&packet.wrapped_key),
    }
}

/// Canonical URIs, each once, in the order given.
fn canonical<H: Host>(host: &H, uris: &[String]) -> Result<Vec<String>, Error> {
    let mut canonical = Vec::with_capacity(uris.len());
    for uri in uris {
        let uri = host.canonical_uri(uri)?;
        if !canonical.contains(&uri) {
            canonical.push(uri);
        }
    }
    Ok(canonical)
}

/// Whether a packet's canonical URI matches a parameter's: equal without query, and every query entry of the parameter is the packet's too.
fn covers(parameter: &str, packet: &str) -> bool {
    let split = |uri: &str| uri.split_once('?').map_or((uri.to_owned(), String::new()), |(key, query)| (key.to_owned(), query.to_owned()));
    let ((parameter, asked), (packet, given)) = (split(parameter), split(packet));
    let mut asked = asked.split('&').filter(|entry| !entry.is_empty());
    parameter == packet && asked.all(|entry| given.split('&').any(|other| other == entry))
}

fn list(packets: &[Packet]) -> String {
    packets.iter().map(|packet| packet.key_url.as_str()).collect::<Vec<_>>().join(", ")
}

fn attempt((key_uri, error): (String, Error)) -> Attempt {
    let (kind, message) = match error {
        Error::InvalidInput(message) => ("invalid-input", message),
        Error::NoMatchingKey(message) => ("no-matching-key", message),
        Error::Denied(message) => ("denied", message),
        Error::Kms(failure) => ("kms", format!("{} {}: {}", failure.status, failure.code, failure.message)),
        Error::Unavailable(message) => ("unavailable", message),
        Error::Corrupt(message) => ("corrupt", message),
        Error::AllFailed(_) => ("all-failed", String::new()),
    };
    Attempt { key_uri, kind: kind.to_owned(), message }
}

#[cfg(test)]
mod tests;

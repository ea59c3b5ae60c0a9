//! The interface `kms` on top of `wasi:http`: keys `openbao://MOUNT/KEY` of a transit engine whose address and token stand in the
//! environment (`BAO_ADDR`, `BAO_TOKEN`). It takes the place of a host that lends keys, where only stock interfaces exist, and protects
//! none: see `docs/composition.md`.

mod http;

#[allow(missing_docs, unsafe_code)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package example:adapter; world adapter { export ocicrypt:keyprovider/kms@0.1.0; }",
        generate_all,
    });
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bindings::exports::ocicrypt::keyprovider::kms::{Guest, GuestKey, Key, KeyInfo, Usage, WrappedKey};
use bindings::ocicrypt::keyprovider::types::Error;

const SCHEME: &str = "openbao://";

/// What the component exports.
pub struct Adapter;

/// A key that was opened.
pub struct TransitKey {
    uri: String,
    mount: String,
    name: String,
    usage: Usage,
}

impl Guest for Adapter {
    type Key = TransitKey;

    fn canonical_uri(uri: String) -> Result<String, Error> {
        parts(&uri).map(|(mount, name)| format!("{SCHEME}{mount}/{name}"))
    }
}

impl GuestKey for TransitKey {
    fn open(uri: String, usage: Usage) -> Result<Key, Error> {
        let (mount, name) = parts(&uri)?;
        Ok(Key::new(Self { uri: format!("{SCHEME}{mount}/{name}"), mount, name, usage }))
    }

    fn info(&self) -> KeyInfo {
        let (uri, service, wrapping) = (self.uri.clone(), "vault".into(), "kms".into());
        KeyInfo { uri, service, wrapping, context: Vec::new(), attributes: Vec::new() }
    }

    fn encrypt(&self, plaintext: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.call(Usage::Wrap, "encrypt", "plaintext", &BASE64.encode(plaintext), "ciphertext").map(String::into_bytes)
    }

    fn decrypt(&self, ciphertext: Vec<u8>) -> Result<Vec<u8>, Error> {
        let ciphertext = String::from_utf8(ciphertext).map_err(|_| Error::InvalidInput("the ciphertext is no text".into()))?;
        let plaintext = self.call(Usage::Unwrap, "decrypt", "ciphertext", &ciphertext, "plaintext")?;
        BASE64.decode(plaintext).map_err(|_| Error::Corrupt("the service's answer is not base64".into()))
    }

    fn wrap_key(&self, _: Vec<u8>, _: String) -> Result<WrappedKey, Error> {
        Err(Error::InvalidInput(format!("{} encrypts by itself: use `encrypt` and `decrypt`", self.uri)))
    }

    fn unwrap_key(&self, _: Vec<u8>, _: String) -> Result<Vec<u8>, Error> {
        Err(Error::InvalidInput(format!("{} encrypts by itself: use `encrypt` and `decrypt`", self.uri)))
    }
}

impl TransitKey {
    /// Asks the service to do something with the key, and gives one member of what it answers.
    fn call(&self, usage: Usage, action: &str, member: &str, value: &str, answer: &str) -> Result<String, Error> {
        if usage != self.usage {
            return Err(Error::Denied(format!("{} was opened to {:?}", self.uri, self.usage)));
        }
        http::post(&format!("/v1/{}/{action}/{}", self.mount, self.name), member, value, answer)
    }
}

/// The mount and the name in a URI of this adapter. Both become parts of a path, so they are names and nothing else.
fn parts(uri: &str) -> Result<(String, String), Error> {
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')) {
        Some((mount, name)) if is_name(mount) && is_name(name) => Ok((mount.to_owned(), name.to_owned())),
        _ => Err(Error::InvalidInput(format!("{uri}: this adapter has keys {SCHEME}MOUNT/KEY"))),
    }
}

// The names of the exports are no symbols that a linker for another target takes.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod export {
    use super::Adapter;
    crate::bindings::export!(Adapter with_types_in crate::bindings);
}

//! The sandboxed half of `ocicrypt-kms`: a key provider as a WebAssembly component.
//!
//! It reads the client's message ([`ocicrypt_kms_protocol`]), decides which packets are for which keys ([`recipients`]), reads and
//! writes packets ([`annotation`]) and their JWE form ([`jwe`]), and borrows keys from the host through [`keys`]. It has no other way out:
//! the world in `wit/` gives it lent keys and random numbers.
//!
//! All logic is written against the [`keys::Host`] trait, so that it also runs natively, where the tests give it keys of their own.

pub mod annotation;
pub mod jwe;
pub mod keys;
pub mod recipients;

#[cfg(target_family = "wasm")]
mod allocator;
#[allow(missing_docs, unsafe_code)]
mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "key-provider", generate_all });
}

use bindings::exports::ocicrypt::keyprovider::provider::{Guest, PacketInfo, Settings};
use bindings::ocicrypt::keyprovider::types::Error;
use zeroize::Zeroizing;

/// What the component exports.
pub struct Provider;

impl Guest for Provider {
    fn exchange(settings: Settings, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        let message = Zeroizing::new(message);
        let mut answer = recipients::exchange(&keys::Lent, &settings.name, &settings.default_recipients, &message)?;
        Ok(std::mem::take(&mut *answer))
    }

    fn inspect(annotation: Vec<u8>) -> Result<Vec<PacketInfo>, Error> {
        annotation::parse(&annotation)?.iter().map(annotation::Packet::info).collect()
    }
}

// The names of the exports are no symbols that a linker for another target takes.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod export {
    crate::bindings::export!(Provider with_types_in crate::bindings);
    use super::Provider;
}

//! Keys of Azure Key Vault and Managed HSM against a fake of them: the protocol, the faults, the credentials, and what an image may not
//! bring about.

pub mod client_certificates;
mod credentials;
mod faults;
mod images;
mod keys;
mod packets;
pub mod program;
mod refusals;
mod sdk;
mod stage;

/// A key that the fake has, in a vault.
const KEY: &str = "https://team.vault.azure.net/keys/k";
/// Another one, in another vault.
const OTHER: &str = "https://other.vault.azure.net/keys/o";
/// An AES key in a Managed HSM.
const AES: &str = "https://pool.managedhsm.azure.net/keys/aes";

/// The URI of a key.
fn uri(identifier: &str) -> String {
    identifier.replacen("https://", "azurekms://", 1).replacen("/keys/", "/", 1)
}

/// The URI of the AES key, which has to say its algorithm.
fn aes_uri() -> String {
    uri(AES) + "?algorithm=A256KW"
}

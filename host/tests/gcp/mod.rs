//! Cloud KMS keys against a fake of Cloud KMS: the protocol, the faults, the credentials, and what an image may not bring about.

mod asymmetric;
mod credentials;
mod faults;
mod images;
mod packets;
pub mod program;
mod refusals;
mod stage;

/// A key that the fake has.
pub const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
/// Another one.
const OTHER: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/other";

/// The URI of a key, a version, or a key with a query.
pub fn uri(name: &str) -> String {
    format!("gcpkms://{name}")
}

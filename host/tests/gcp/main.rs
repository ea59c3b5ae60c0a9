//! Cloud KMS keys against a fake of Cloud KMS: the protocol, the faults, the credentials, and what an image may not bring about.
#![cfg(feature = "gcp")]

#[cfg(feature = "asymmetric")]
mod asymmetric;
mod credentials;
#[path = "../support/failure.rs"]
mod failure;
mod faults;
mod images;
#[path = "../support/in_process.rs"]
mod in_process;
#[path = "../support/log.rs"]
mod log;
#[path = "../support/messages.rs"]
mod messages;
mod packets;
mod program;
mod refusals;
#[path = "../support/secrets.rs"]
mod secrets;
mod stage;
#[path = "../support/program.rs"]
mod user;

/// A key that the fake has.
const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
/// Another one.
const OTHER: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/other";

/// The URI of a key, a version, or a key with a query.
fn uri(name: &str) -> String {
    format!("gcpkms://{name}")
}

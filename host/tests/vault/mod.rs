//! Keys of the transit engine: against OpenBao's server, and where that can't be made to misbehave, against a scripted one.

mod faults;
mod logins;
mod packets;
mod program;
mod refusals;
pub mod replies;
mod rsa;
pub mod user;
pub mod ways;

/// A key that each test's server has: aes256-gcm96.
const KEY: &str = "openbao://transit/k";

//! Keys of the transit engine: against OpenBao's server, and where that can't be made to misbehave, against a scripted one.
#![cfg(feature = "vault")]

#[path = "../support/bao.rs"]
mod bao;
#[path = "../support/failure.rs"]
mod failure;
mod faults;
#[path = "../support/log.rs"]
mod log;
mod logins;
#[path = "../support/messages.rs"]
mod messages;
mod packets;
mod program;
mod refusals;
#[path = "../support/request.rs"]
mod request;
mod rsa;
mod scripted;
mod user;

/// A key that each test's server has: aes256-gcm96.
const KEY: &str = "openbao://transit/k";

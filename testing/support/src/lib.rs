//! What the integration tests share: the program under test, the services that it talks to, the clients that start it.
//!
//! Everything fails by panicking, and says what is missing: these are parts of tests.
#![expect(clippy::new_without_default, reason = "a new folder and a found program are no default values")]

pub mod alone;
pub mod azure_cli;
pub mod bao;
pub mod certificates;
pub mod checkout;
pub mod failure;
pub mod go;
pub mod guest;
pub mod home;
pub mod in_process;
pub mod layout;
pub mod log;
pub mod messages;
pub mod moto;
pub mod program;
pub mod registry;
pub mod scripted;
pub mod secrets;
pub mod skopeo;
pub mod tunnel;

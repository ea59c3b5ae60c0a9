//! The parts of the host that read what others wrote, compiled by themselves: the whole host would bring a WebAssembly engine and its
//! compiler, instrumented, for nothing that the targets reach.
#![allow(dead_code)]

/// The audit log's records.
#[path = "../../host/src/audit"]
pub mod audit {
    pub mod record;
}
#[path = "../../host/src/config/mod.rs"]
pub mod config;
#[path = "../../host/src/digest.rs"]
pub mod digest;
#[path = "../../host/src/error.rs"]
pub mod error;
#[path = "../../host/src/key_uri/mod.rs"]
pub mod key_uri;
#[path = "../../host/src/text_file.rs"]
mod text_file;
/// Services that hold keys.
#[path = "../../host/src/kms"]
pub mod kms {
    pub mod keystore;
}

// Where these modules look for it.
pub use error::Error;

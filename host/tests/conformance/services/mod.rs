//! The services of the table.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "vault")]
pub mod vault;

use std::sync::atomic::{AtomicU32, Ordering};

/// A name that no other key has.
fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("key-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

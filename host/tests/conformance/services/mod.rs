//! The services of the table.

pub mod aws;
pub mod azure;
pub mod gcp;
pub mod local;
pub mod vault;

use std::sync::atomic::{AtomicU32, Ordering};

/// A name that no other key has.
fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("key-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

//! The checkout that the tests were built from.

use std::path::PathBuf;

/// The path of a file or folder of it.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(name)
}

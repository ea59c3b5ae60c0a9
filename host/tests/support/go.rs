//! The programs of tests/go, as `tools/setup test` builds them.
// Each test file uses a part of it.
#![allow(dead_code)]

use std::path::PathBuf;

/// The path of one.
pub fn program(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a home folder");
    let path = cache.join("ocicrypt-kms/go/bin").join(name);
    assert!(path.exists(), "these tests need {name}, which is not here; run `tools/setup test`");
    path
}

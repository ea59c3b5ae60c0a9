//! Where `tools/setup` keeps the programs that tests need.

use std::path::PathBuf;

/// One of them, below `$XDG_CACHE_HOME/ocicrypt-kms` or `~/.cache/ocicrypt-kms`.
///
/// # Panics
/// If there is no home folder.
#[must_use]
pub fn cached(program: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home folder")).join(".cache"));
    cache.join("ocicrypt-kms").join(program)
}

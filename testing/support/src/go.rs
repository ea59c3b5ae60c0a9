//! The programs of tests/go, as `tools/setup test` builds them.

use std::path::PathBuf;

/// The path of one.
pub fn program(name: &str) -> PathBuf {
    let path = ocicrypt_kms_fakes::cached("go/bin").join(name);
    assert!(path.exists(), "these tests need {name}, which is not here; run `tools/setup test`");
    path
}

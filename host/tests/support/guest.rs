//! Components for tests, built from `host/tests/guests`.

use std::path::Path;

/// The component of this name.
pub fn component(name: &str) -> Vec<u8> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name);
    let target = ocicrypt_kms_guest_build::shared_target_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
    ocicrypt_kms_guest_build::build(&guest, &target).unwrap()
}

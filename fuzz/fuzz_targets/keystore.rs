//! No file makes the keystore panic, and rotating a key that can be used keeps all its versions usable.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::kms::keystore::{Existing, Jwk, Keystore, write_public_set};
use ocicrypt_kms_protocol::Operation;

/// Each input is a file. `fuzz/run` has temporary files in memory, and removes them.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder for the keystore"));

fuzz_target!(|text: &[u8]| {
    let keystore = Keystore::new(FOLDER.path().to_owned());
    let mut file = File::create(keystore.path("k")).expect("the file can be written");
    file.set_permissions(PermissionsExt::from_mode(0o600)).expect("it is ours");
    file.write_all(text).expect("the file can be written");
    match keystore.load("k", Operation::Unwrap) {
        Ok(versions) => check_rotated(&keystore, &versions),
        Err(error) => assert!(!error.line().contains('\n'), "{}", error.line()),
    }
});

fn check_rotated(keystore: &Keystore, versions: &[Jwk]) {
    assert!(!versions.is_empty());
    assert!(versions.iter().all(|version| version.algorithm() == versions[0].algorithm()));
    // A full set, or one of another algorithm, is left alone, as it was.
    let new = Jwk::generate_symmetric().expect("there are random numbers");
    let added = usize::from(keystore.create("k", Existing::Rotate, &new).is_ok());
    let rotated = keystore.load("k", Operation::Unwrap).expect("it can still be used");
    assert_eq!(rotated.len(), versions.len() + added);
    for (version, kept) in versions.iter().zip(&rotated[added..]) {
        assert!(version.write() == kept.write());
    }
    if let Some(public) = write_public_set(versions) {
        check_public(keystore, &public, versions.len());
    }
}

/// What is printed for other machines reads there, and holds nothing private.
fn check_public(keystore: &Keystore, public: &str, versions: usize) {
    std::fs::write(keystore.path("public"), public).expect("the file can be written");
    std::fs::set_permissions(keystore.path("public"), PermissionsExt::from_mode(0o644)).expect("it is ours");
    let public = keystore.load("public", Operation::Wrap).expect("it can be used");
    assert_eq!(public.len(), versions);
    assert!(!public.iter().any(Jwk::is_secret));
    std::fs::remove_file(keystore.path("public")).expect("it can be removed");
}

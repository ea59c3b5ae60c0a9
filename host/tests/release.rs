//! What `tools/dist` makes of a release in a minute: the component, built in two folders to one digest, and the WIT package. Part of `make check`.

use std::path::Path;
use std::process::Command;

use ocicrypt_kms::Digest;
use ocicrypt_kms::sandbox::BUILT_IN;
use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::program::text_of;

#[test]
fn the_component_of_a_release_has_one_digest_wherever_it_is_built() {
    let out = tempfile::tempdir().unwrap();
    let script = checkout::path("tools/dist");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut dist = Command::new(script);
    text_of(dist.arg(out.path()).arg("portable").env("CARGO_TARGET_DIR", target));
    let version = env!("CARGO_PKG_VERSION");
    let names = [format!("ocicrypt-kms-component-{version}.wasm"), "ocicrypt-keyprovider-0.1.0.wasm".to_owned()];
    let sums = text_of(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(out.path()));
    assert_eq!(sums.lines().collect::<Vec<_>>(), [format!("{}: OK", names[1]), format!("{}: OK", names[0])]);

    // The script has built it twice and compared it with the one that comes with the sources, which is this program's.
    if option_env!("OCICRYPT_KMS_COMPONENT").is_none() {
        assert_eq!(Digest::of(&std::fs::read(out.path().join(&names[0])).unwrap()), Digest::of(BUILT_IN));
    }
    let wit = text_of(Command::new(cached("embed/bin/wasm-tools")).args(["component", "wit"]).arg(out.path().join(&names[1])));
    assert!(wit.contains("package ocicrypt:keyprovider@0.1.0;") && wit.contains("export provider;"), "{wit}");
}

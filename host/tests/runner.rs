//! The integration tests of the library and the program, in one binary: each links wasmtime, the SDKs of the services, Cedar and tonic.
//!
//! What has a binary of its own is `conformance`, whose tests are listed by a table, and `release`, which takes minutes.

mod address_space;
mod audit;
mod aws;
mod azure;
mod component;
mod composition;
mod doctor;
mod embedding;
mod example_guests;
mod exec;
mod executable_memory;
mod gcp;
mod hosts;
mod http_kms;
mod inspect;
mod jose;
mod lending;
mod other_components;
mod own_host;
mod panics;
mod policy;
mod process_wide;
mod public_keys;
mod secrets_for_paths;
mod security_claims;
mod server;
mod services;
mod skopeo;
mod trusted_files;
mod vault;
mod wrong_setups;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ocicrypt_kms_testing::checkout;

/// Folders without tests: clients in Go and in other languages, and guests, which are packages of their own.
const OTHERS: [&str; 3] = ["clients", "go", "guests"];

/// cargo compiles what is listed, and says nothing of a file that isn't.
#[test]
fn no_test_file_is_forgotten() {
    let tests = checkout::path("host/tests");
    let manifest: toml::Table = std::fs::read_to_string(checkout::path("host/Cargo.toml")).unwrap().parse().unwrap();
    let mut listed = BTreeSet::new();
    for test in manifest["test"].as_array().unwrap() {
        let name = test["name"].as_str().unwrap();
        let (file, folder) = (tests.join(name).with_extension("rs"), tests.join(name));
        let (file, folder) = if file.exists() { (file, &tests) } else { (folder.join("main.rs"), &folder) };
        list(file, folder, &mut listed);
    }
    let mut found = BTreeSet::new();
    find(&tests, &mut found);
    OTHERS.iter().for_each(|name| found.retain(|file| !file.starts_with(tests.join(name))));
    let forgotten: Vec<_> = found.difference(&listed).collect();
    assert!(forgotten.is_empty(), "no `mod` and no `[[test]]` of host/Cargo.toml names {forgotten:?}");
}

/// What tests start fails as what is shipped does: both profiles leave that to the one that they inherit.
#[test]
fn the_tested_and_the_shipped_program_treat_panics_and_overflows_alike() {
    let manifest: toml::Table = std::fs::read_to_string(checkout::path("Cargo.toml")).unwrap().parse().unwrap();
    let profiles = manifest["profile"].as_table().unwrap();
    assert_eq!(profiles["release"]["panic"].as_str(), Some("unwind"));
    assert_eq!(profiles["release"]["package"]["ocicrypt-kms"]["overflow-checks"].as_bool(), Some(true));
    for name in ["dist", "e2e"] {
        let profile = profiles[name].as_table().unwrap();
        assert_eq!(profile["inherits"].as_str(), Some("release"), "{name}");
        // Checks of the command line's definition, at its start.
        let packages = profile["package"].as_table().unwrap().iter().filter(|(package, _)| *package != "clap_builder");
        for (package, settings) in packages.chain([(&name.to_owned(), &profiles[name])]) {
            for setting in ["panic", "overflow-checks", "debug-assertions"] {
                assert!(settings.get(setting).is_none(), "{name} has a {setting} of its own for {package}");
            }
        }
    }
}

/// A file and those of its modules, which are in `folder`. What has a `#[path]` elsewhere is none of these tests.
fn list(file: PathBuf, folder: &Path, listed: &mut BTreeSet<PathBuf>) {
    let Ok(text) = std::fs::read_to_string(&file) else { return };
    listed.insert(file);
    for name in text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')) {
        let (file, folder) = (folder.join(name).with_extension("rs"), folder.join(name));
        list(if file.exists() { file } else { folder.join("mod.rs") }, &folder, listed);
    }
}

/// The files of Rust below a folder.
fn find(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
}

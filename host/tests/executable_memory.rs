//! A file of its own: no other test of its process may run a component meanwhile.
#![cfg(feature = "local")]

#[path = "support/messages.rs"]
mod messages;

use messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
use ocicrypt_kms::{Config, Environment, KeyProvider};

/// The mappings of this process that may be executed, without what changes by itself.
fn executable() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|rights| rights.contains('x'))).map(str::to_owned).collect()
}

#[test]
fn the_built_in_component_runs_without_memory_becoming_executable() {
    let folder = tempfile::tempdir().unwrap();
    Keystore::new(folder.path().to_owned()).create("team", Existing::Refuse, &Jwk::generate_symmetric().unwrap()).unwrap();
    let before = executable();
    assert!(!before.is_empty());
    let config = Config { keystore: Some(folder.path().to_owned()), ..Config::default() };
    let provider = KeyProvider::builder(config).environment(Environment::of([("HOME", "/")])).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(provider.exchange(&keywrap(&[("kmscrypt", &["local://team"])], OPTS_DATA))).unwrap();
    let answer = runtime.block_on(provider.exchange(&keyunwrap(&[], &annotation_of(&answer)))).unwrap();
    assert_eq!(opts_data_of(&answer), OPTS_DATA);
    assert_eq!(executable(), before);
}

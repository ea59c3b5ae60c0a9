//! The code that the built-in component runs is there before it runs.

use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
use ocicrypt_kms::{Config, Environment, KeyProvider};
use ocicrypt_kms_testing::alone::alone;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};

/// The mappings of this process that may be executed, without what changes by itself.
fn executable() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|rights| rights.contains('x'))).map(str::to_owned).collect()
}

#[test]
fn the_built_in_component_runs_without_memory_becoming_executable() {
    // No other test may run a component meanwhile.
    alone("executable_memory::the_built_in_component_runs_without_memory_becoming_executable", run_the_built_in_component);
}

fn run_the_built_in_component() {
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

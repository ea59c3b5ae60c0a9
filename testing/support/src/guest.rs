//! Components for tests, each built once in a process.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::{checkout, program};

/// The component of `host/tests/guests` that has this name.
pub fn component(name: &str) -> &'static [u8] {
    built(&format!("host/tests/guests/{name}"))
}

/// The component in Rust of `example/guests` that has this name.
pub fn example(name: &str) -> &'static [u8] {
    built(&format!("example/guests/{name}"))
}

fn built(folder: &str) -> &'static [u8] {
    static COMPONENTS: Mutex<BTreeMap<String, &'static [u8]>> = Mutex::new(BTreeMap::new());
    let mut components = COMPONENTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    components.entry(folder.to_owned()).or_insert_with(|| build(folder).leak())
}

fn build(folder: &str) -> Vec<u8> {
    let target = ocicrypt_kms_guest_build::shared_target_dir(&program::own_folder());
    ocicrypt_kms_guest_build::build(&checkout::path(folder), &target).unwrap_or_else(|error| panic!("{error}"))
}

//! What the built-in component is: its imports, its exports, its size.

use wasmtime::Engine;
use wasmtime::component::{Component, types::ComponentItem};

use ocicrypt_kms::sandbox::BUILT_IN;

/// The interfaces on one side of the component, each with its functions.
fn interfaces<'a>(engine: &Engine, items: impl Iterator<Item = (&'a str, ComponentItem)>) -> Vec<(String, Vec<String>)> {
    let functions = |item: ComponentItem| match item {
        ComponentItem::ComponentInstance(instance) => {
            let exports = instance.exports(engine).map(|(name, item)| (name.to_owned(), item.ty));
            exports.filter(|(_, ty)| matches!(ty, ComponentItem::ComponentFunc(_))).map(|(name, _)| name).collect()
        }
        other => panic!("an interface is an instance, not {other:?}"),
    };
    items.map(|(name, item)| (name.to_owned(), functions(item))).collect()
}

#[test]
fn the_component_reaches_lent_keys_and_random_numbers_and_nothing_else() {
    let engine = Engine::default();
    let component = Component::new(&engine, BUILT_IN).unwrap().component_type();
    let mut imports = interfaces(&engine, component.imports(&engine).map(|(name, item)| (name, item.ty)));
    imports.sort();
    let names: Vec<_> = imports.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ocicrypt:keyprovider/kms@0.1.0", "ocicrypt:keyprovider/types@0.1.0", "wasi:random/random@0.2.6"]);
    let kms = [
        "[method]key.decrypt",
        "[method]key.encrypt",
        "[method]key.info",
        "[method]key.unwrap-key",
        "[method]key.wrap-key",
        "[static]key.open",
        "canonical-uri",
    ];
    let mut used = imports[0].1.clone();
    used.sort();
    assert_eq!(used, kms);
    assert!(imports[1].1.is_empty(), "`types` has no functions: {:?}", imports[1].1);
    assert_eq!(imports[2].1, ["get-random-bytes"]);
}

#[test]
fn the_component_exports_a_provider() {
    let engine = Engine::default();
    let component = Component::new(&engine, BUILT_IN).unwrap().component_type();
    let exports = interfaces(&engine, component.exports(&engine).map(|(name, item)| (name, item.ty)));
    assert_eq!(exports, [("ocicrypt:keyprovider/provider@0.1.0".to_owned(), vec!["exchange".to_owned(), "inspect".to_owned()])]);
}

#[test]
fn the_component_is_small() {
    assert!(BUILT_IN.len() < 400 << 10, "{} bytes", BUILT_IN.len());
}

#[test]
fn the_component_holds_no_path_of_the_machine_that_built_it() {
    let home = std::env::var("HOME").unwrap();
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    for path in [format!("{home}/"), format!("{workspace}/")] {
        assert!(!BUILT_IN.windows(path.len()).any(|window| window == path.as_bytes()), "{path}");
    }
}

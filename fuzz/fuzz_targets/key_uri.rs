//! No text makes the parser of key URIs panic, and everything that it accepts has one spelling that means the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::key_uri::{Addresses, KeyUri, MAX_LENGTH};

fuzz_target!(|text: &str| {
    // With every address that the configuration can add, so that all branches can be reached.
    let addresses = Addresses { azure_suffixes: vec!["vault.example.cloud".into()], vault_host: Some("vault.example.com".into()), ..Addresses::default() };
    let parse = |text: &str| KeyUri::parse(text, &addresses);
    match parse(text) {
        Ok(uri) => check_accepted(&uri, parse),
        Err(error) => {
            for line in [error.to_string(), error.hint()] {
                assert!(line.len() < 500 && line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
            }
        }
    }
});

fn check_accepted<E: std::fmt::Debug>(uri: &KeyUri, parse: impl Fn(&str) -> Result<KeyUri, E>) {
    assert!(uri.canonical().len() <= MAX_LENGTH && uri.canonical().bytes().all(|byte| byte.is_ascii_graphic()), "{uri}");
    assert_eq!(&parse(uri.canonical()).expect("the canonical spelling is accepted"), uri);
    assert!(uri.canonical().starts_with(uri.without_query()) && uri.without_query().starts_with(uri.identity()), "{uri}");
    assert!(uri.covers(uri));

    let plain = parse(uri.without_query()).expect("it is accepted without its query");
    assert_eq!((plain.canonical(), plain.identity(), plain.key()), (uri.without_query(), uri.identity(), uri.key()));
    assert!(plain.covers(uri));

    let identity = parse(uri.identity()).expect("an identity is a key URI");
    assert_eq!((identity.canonical(), identity.identity(), identity.service()), (uri.identity(), uri.identity(), uri.service()));
}

//! What is wrapped, how it is sent and recorded, and that it unwraps, here and with OpenBao's own program.

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap, opts_data_of};
use ocicrypt_kms_testing::scripted::{Reply, Request, Scripted};
use serde_json::json;

use super::KEY;
use super::replies;
use super::user::{User, member, packet, wrapped};

/// What a ciphertext of AES-GCM looks like for some plaintext in base64.
fn ciphertext_for(plaintext: &str) -> String {
    format!("vault:v1:{}", bytes::encode(&vec![7; bytes::decode(plaintext).unwrap().len() + 28]))
}

/// A server that encrypts anything to zeros of the right length, and decrypts anything to opts data.
pub fn obliging() -> impl Fn(&Request, usize) -> Reply + Send + Sync + 'static {
    |request, _| match request.json()["plaintext"].as_str() {
        Some(plaintext) => replies::data("ciphertext", &ciphertext_for(plaintext)),
        None => replies::data("plaintext", &bytes::encode(OPTS_DATA)),
    }
}

#[test]
fn keys_of_each_type_that_encrypts_with_authentication_wrap_and_bao_decrypts_it() {
    let bao = Bao::start();
    let user = User::root(&bao);
    for kind in ["aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"] {
        bao.run(&["write", &format!("transit/keys/{kind}"), &format!("type={kind}")]);
        let uri = format!("openbao://transit/{kind}");
        let annotation = user.wrap(&uri);
        let text = wrapped(&annotation);
        assert_eq!(annotation, packet(&uri, "AES", &text), "nothing else is in the packet");
        assert_eq!(bao.decrypt(&format!("transit/decrypt/{kind}"), &text, &[]), OPTS_DATA);
        assert_eq!(user.unwrap(&uri, &annotation), OPTS_DATA);
    }
}

#[test]
fn what_bao_encrypts_unwraps() {
    let bao = Bao::start();
    let text = bao.encrypt("transit/encrypt/k", OPTS_DATA);
    assert_eq!(User::root(&bao).unwrap(KEY, &packet(KEY, "AES", &text)), OPTS_DATA);
}

#[test]
fn context_is_bound_as_associated_data() {
    let bao = Bao::start();
    let user = User::root(&bao);
    let annotation = user.wrap(&format!("{KEY}?context_stage=prod&context_a=b%20%C3%A9%22c"));
    assert_eq!(member(&annotation, "key_url"), format!("{KEY}?context_a=b%20%C3%A9%22c&context_stage=prod"));
    let json = "{\"a\":\"b \u{e9}\\\"c\",\"stage\":\"prod\"}";
    let associated = format!("associated_data={}", bytes::encode(json.as_bytes()));
    assert_eq!(bao.decrypt("transit/decrypt/k", &wrapped(&annotation), &[&associated]), OPTS_DATA);
    assert_eq!(user.unwrap(KEY, &annotation), OPTS_DATA);
    for query in ["", "?context_a=other", "?context_stage=prod"] {
        let changed = packet(&format!("{KEY}{query}"), "AES", &wrapped(&annotation));
        let error = user.try_unwrap(KEY, &changed).unwrap_err();
        assert!(error.kind() == ErrorKind::Kms && error.line().contains("another encryption context"), "{}", error.line());
    }
}

#[test]
fn an_exchange_is_one_request_that_holds_what_is_needed_and_nothing_else() {
    let server = Scripted::start(obliging());
    let user = User::of_scripted(&server, "[vault]\nnamespace = 'team/a'");
    let annotation = user.wrap("openbao://team/transit/k?context_a=1");
    user.unwrap("openbao://team/transit/k", &annotation);
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v1/team/transit/encrypt/k", "/v1/team/transit/decrypt/k"]);
    let associated_data = bytes::encode(br#"{"a":"1"}"#);
    assert_eq!(
        requests[0].json(),
        json!({"plaintext": bytes::encode(OPTS_DATA), "type": "none-the-key-must-exist", "associated_data": associated_data})
    );
    assert_eq!(requests[1].json(), json!({"ciphertext": wrapped(&annotation), "associated_data": associated_data}));
    for request in requests {
        for (name, value) in [
            ("x-vault-token", "a-token-of-this-test"),
            ("x-vault-namespace", "team/a"),
            ("x-vault-request", "true"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(request.headers(name), [value], "{name}: {:?}", request.headers);
        }
    }
}

#[test]
fn an_address_may_have_a_path_in_front() {
    let server = Scripted::start(obliging());
    let address = format!("{}/proxied/", server.address());
    User::new(&[("BAO_ADDR", &address), ("BAO_TOKEN", "t0ken")], "").wrap(KEY);
    assert_eq!(server.take_paths(), ["/proxied/v1/transit/encrypt/k"]);
}

#[test]
fn rotated_keys_unwrap_what_they_wrapped_before_until_the_version_is_forbidden() {
    let bao = Bao::start();
    let user = User::root(&bao);
    let before = user.wrap(KEY);
    bao.run(&["write", "-f", "transit/keys/k/rotate"]);
    let after = user.wrap(KEY);
    assert!(wrapped(&before).starts_with("vault:v1:") && wrapped(&after).starts_with("vault:v2:"));
    for annotation in [&before, &after] {
        assert_eq!(user.unwrap(KEY, annotation), OPTS_DATA);
    }
    bao.run(&["write", "transit/keys/k/config", "min_decryption_version=2"]);
    assert_eq!(user.unwrap(KEY, &after), OPTS_DATA);
    let line = user.try_unwrap(KEY, &before).unwrap_err().line();
    let (_, remedy) = line.split_once("bao write ").unwrap_or_else(|| panic!("{line}"));
    bao.run(&[&["write"][..], &remedy.split(' ').collect::<Vec<_>>()].concat());
    assert_eq!(user.unwrap(KEY, &before), OPTS_DATA, "the remedy helps");
}

#[test]
fn a_mount_may_be_anywhere_and_in_a_namespace() {
    let bao = Bao::start();
    bao.run(&["secrets", "enable", "-path=team/a/transit", "transit"]);
    bao.run(&["write", "-f", "team/a/transit/keys/k"]);
    User::root(&bao).uses("openbao://team/a/transit/k");
    bao.run(&["namespace", "create", "apart"]);
    bao.run(&["secrets", "enable", "-namespace=apart", "transit"]);
    bao.run(&["write", "-namespace=apart", "-f", "transit/keys/only-here"]);
    let uri = "openbao://transit/only-here";
    let variable = &[("BAO_TOKEN", ocicrypt_kms_testing::bao::ROOT), ("BAO_NAMESPACE", "apart")][..];
    let inside = User::of(&bao, variable, "[vault]\nnamespace = 'another'");
    let annotation = inside.wrap(uri);
    assert_eq!(inside.unwrap(uri, &annotation), OPTS_DATA);
    let error = User::root(&bao).try_unwrap(uri, &annotation).unwrap_err();
    assert!(error.line().contains("key not found"), "{}", error.line());
}

#[test]
fn either_scheme_and_the_configured_host_name_the_server() {
    let bao = Bao::start();
    let user = User::root(&bao);
    user.uses("openbao://k");
    let annotation = user.wrap("hashivault://k");
    assert_eq!(member(&annotation, "key_url"), "hashivault://transit/k");
    assert_eq!(user.unwrap("hcvault://127.0.0.1/transit/keys/k", &annotation), OPTS_DATA);
    let error = user.try_wrap("hcvault://localhost/transit/keys/k").unwrap_err();
    assert!(error.line().contains("is not the configured Vault"), "{}", error.line());
}

#[test]
fn an_image_chooses_a_key_only_if_the_configuration_allows_it() {
    let bao = Bao::start();
    let annotation = User::root(&bao).wrap(KEY);
    let nobody_named = keyunwrap(&[], &annotation);
    let error = User::root(&bao).exchange(&nobody_named).unwrap_err();
    assert!(error.kind() == ErrorKind::Denied && error.line().contains("only the image names it"), "{}", error.line());
    let allowed = User::of(&bao, &[("BAO_TOKEN", ocicrypt_kms_testing::bao::ROOT)], &format!("keys = ['{KEY}']"));
    assert_eq!(opts_data_of(&allowed.exchange(&nobody_named).unwrap()), OPTS_DATA);
}

#[test]
fn what_is_no_opts_data_is_not_handed_out() {
    let bao = Bao::start();
    let text = bao.encrypt("transit/encrypt/k", b"a password that is kept with the same key");
    let user = User::root(&bao);
    let line = user.try_unwrap(KEY, &packet(KEY, "AES", &text)).unwrap_err().line();
    assert!(line.contains("is not the key of an image layer") && !line.contains("password"), "{line}");
    assert!(!user.log().contains("password"));
}

#[test]
fn the_audit_log_names_the_request_as_the_server_does() {
    let (bao, folder) = (Bao::start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("audit.jsonl");
    let user = User::of(&bao, &[("BAO_TOKEN", ROOT)], &format!("[audit]\nfile = \"{}\"\n", file.display()));
    let annotation = user.wrap(KEY);
    user.unwrap(KEY, &annotation);
    let text = std::fs::read_to_string(file).unwrap();
    let ids: Vec<_> = text.lines().filter_map(|line| line.split("\"request_id\":\"").nth(1)?.split('"').next()).collect();
    // As a UUID is long.
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 36), "{text}");
}

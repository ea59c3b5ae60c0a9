//! The rules of lending hold for endpoints as they do for keys.

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};

use super::stage::{Asks, KEY, Stage};

fn server() -> Scripted {
    Scripted::start(|_, _| Reply::new(200, "done"))
}

const WRAPS: &str = "POST /v1/encrypt/team/k";

#[test]
fn another_key_than_the_exchanges_does_not_open() {
    let server = server();
    let stage = Stage::new(&server.address());
    for other in ["http-kms://kms/team/other", "http-kms://other/team/k", "http-kms://kms/team/k?context_leak=c2VjcmV0"] {
        let told = stage.wrap(Asks { open: other, ..Asks::send(WRAPS) }).unwrap();
        assert!(told.contains("Denied(") && told.contains("this exchange is not about it"), "{told}");
        let told = stage.unwrap(&[KEY], Asks { open: other, ..Asks::send(WRAPS) }).unwrap();
        assert!(told.contains("this exchange is not about it"), "{told}");
    }
    assert_eq!(server.connections(), 0);
    let records = stage.records();
    assert!(records.len() == 6 && records.iter().all(|record| record["outcome"] == "denied" && record["key"].is_null()), "{records:?}");
}

#[test]
fn an_endpoint_of_a_wrap_does_not_unwrap() {
    let server = server();
    let stage = Stage::new(&server.address());
    let told = stage.wrap(Asks { usage: "unwrap", ..Asks::default() }).unwrap();
    assert!(told.contains("this exchange may wrap, not unwrap"), "{told}");
    let told = stage.wrap(Asks::send("POST /v1/decrypt/team/k")).unwrap();
    assert!(told.contains("none of those allowed to wrap"), "{told}");
    let told = stage.unwrap(&[KEY], Asks::send(WRAPS)).unwrap();
    assert!(told.contains("none of those allowed to unwrap"), "{told}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn one_request_succeeds_unless_the_configuration_says_more() {
    let server = server();
    let requests = format!("{WRAPS}\n{WRAPS}\n{WRAPS}");
    let told = Stage::new(&server.address()).wrap(Asks::send(&requests)).unwrap();
    assert!(told.contains("200 [] done") && told.matches("it was lent for 1 successful requests").count() == 2, "{told}");
    assert_eq!(server.requests().len(), 1);
    let stage = Stage::new(&server.address()).and("max-requests = 2\n");
    let told = stage.wrap(Asks::send(&requests)).unwrap();
    assert_eq!((told.matches("200 [] done").count(), server.requests().len()), (2, 3), "{told}");
    let records = stage.records();
    let outcomes: Vec<_> = records.iter().map(|record| record["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ok", "ok", "denied"]);
    assert!(records[2]["error"].as_str().unwrap().contains("raise `max-requests` below `[http-kms.kms]`"), "{}", records[2]);
}

#[test]
fn failed_requests_are_bounded_too() {
    let server = Scripted::start(|_, _| Reply::new(400, "no"));
    let requests = vec![WRAPS; 200].join("\n");
    let stage = Stage::new(&server.address());
    let told = stage.wrap(Asks::send(&requests)).unwrap();
    assert!(told.contains("this exchange has used keys more than 16 times"), "{told}");
    assert_eq!(server.requests().len(), 16);
    assert!(stage.records().len() <= 33, "a component can't flood the log");
}

#[test]
fn a_key_that_only_the_annotation_names_opens_only_if_policy_allows_it() {
    let server = server();
    let unwraps = Asks::send("POST /v1/decrypt/team/k");
    let told = Stage::new(&server.address()).unwrap(&[], unwraps).unwrap();
    assert!(told.contains("only the image names it") && server.connections() == 0, "{told}");
    let told = Stage::new(&server.address()).before("keys = [\"http-kms://kms/team/*\"]").unwrap(&[], unwraps).unwrap();
    assert!(told.contains("200 [] done"), "{told}");
}

#[test]
fn a_policy_decides_by_endpoint_and_operation_before_a_byte_is_sent() {
    let server = server();
    let stage = Stage::new(&server.address());
    let policy = stage.folder.path().join("policy.cedar");
    let rule = r#"@id("wraps") permit (principal, action == Kms::Action::"wrap", resource)
        when { resource.service == "http-kms" && resource has endpoint && resource.endpoint == "kms" };"#;
    std::fs::write(&policy, rule).unwrap();
    let stage = stage.before(&format!("policy = {policy:?}"));
    assert!(stage.wrap(Asks::send(WRAPS)).unwrap().contains("200 [] done"));
    assert_eq!(stage.record()["rules"], serde_json::json!(["wraps"]));
    let told = stage.unwrap(&[KEY], Asks::send("POST /v1/decrypt/team/k")).unwrap();
    assert!(told.contains("no rule of the policy permits it") && server.connections() == 1, "{told}");
}

#[test]
fn an_endpoint_without_a_rule_for_the_operation_is_not_lent() {
    let unwraps_only = "allow = [{ usage = 'unwrap', method = 'GET', path = '/k' }]";
    let stage = Stage::with("http://127.0.0.1:1", |token| format!("bearer-file = {token:?}\n{unwraps_only}"));
    let told = stage.wrap(Asks::send(WRAPS)).unwrap();
    assert!(told.contains("InvalidInput(") && told.contains("the endpoint `kms` allows no request to wrap"), "{told}");
}

#[test]
fn the_interface_for_keys_opens_no_endpoint_and_says_what_to_run() {
    let server = server();
    let told = Stage::new(&server.address()).wrap(Asks { other_interface: "yes", ..Asks::default() }).unwrap();
    assert!(told.contains("this component does not know how to use keys behind an endpoint"), "{told}");
}

#[test]
fn an_endpoint_that_is_kept_for_the_next_exchange_is_gone() {
    let server = server();
    let stage = Stage::new(&server.address());
    for _ in 0..3 {
        assert!(stage.wrap(Asks::send(WRAPS)).unwrap().starts_with("kept 0\n"));
    }
}

#[test]
fn listing_packets_opens_no_endpoint() {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = Stage::new(&server.address()).provider_listing().unwrap();
    assert!(runtime.block_on(provider.inspect(b"{}")).is_err());
    assert_eq!(server.connections(), 0);
}

#[test]
fn errors_are_the_hosts_own_and_not_what_a_component_makes_up() {
    let refusing = Scripted::start(|_, _| Reply::new(403, "the plaintext was x"));
    let stage = Stage::new(&refusing.address());
    let error = stage.wrap(Asks { report: "kms", ..Asks::send(WRAPS) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kms);
    let line = error.line();
    assert!(
        line.starts_with("http-kms://kms/team/k: the KMS answered 403 Forbidden: POST /v1/encrypt/team/k; check what the credential"),
        "{line}"
    );
    let told = stage.wrap(Asks::send(WRAPS)).unwrap();
    assert!(told.contains("status: 403") && !told.contains("plaintext"), "{told}");
    let error = stage.wrap(Asks { report: "denied", ..Asks::send(WRAPS) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Component, "{}", error.line());
}

//! What a component can ask for, and what never leaves.

use ocicrypt_kms_testing::scripted::{Reply, Scripted};

use super::stage::{Asks, KEY, RULES, Stage, TOKEN};

fn server() -> Scripted {
    Scripted::start(|request, _| {
        let reply = Reply::new(200, format!("echo {}", request.line()));
        reply.header("content-type", "text/plain").header("set-cookie", "a=b").header("x-amzn-requestid", "answer-1")
    })
}

#[test]
fn the_host_adds_the_credential_and_a_component_its_own_headers() {
    let server = server();
    let stage = Stage::new(&format!("{}/base/", server.address()));
    let told = stage.wrap(Asks { body: 3, ..Asks::send("POST /v1/encrypt/team/k?version=2|content-type: text/x|Accept: text/y") }).unwrap();
    let request = &server.requests()[0];
    assert_eq!((request.line().as_str(), request.body.as_slice()), ("POST /base/v1/encrypt/team/k?version=2", b"xxx".as_slice()));
    assert_eq!(request.headers("authorization"), [format!("Bearer {TOKEN}")]);
    assert_eq!((request.headers("content-type"), request.headers("accept")), (vec!["text/x"], vec!["text/y"]));
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.iter().all(|name| ["accept", "authorization", "content-length", "content-type", "host"].contains(name)), "{names:?}");
    assert!(told.contains(r#"200 [("content-type", "text/plain")] echo POST"#), "{told}");
    assert!(told.contains(r#"EndpointInfo { uri: "http-kms://kms/team/k", key: "team/k""#), "{told}");
}

#[test]
fn a_credential_can_be_in_another_header() {
    let server = server();
    let settings = |token: &std::path::Path| format!("header = {{ name = 'X-Vault-Token', file = {token:?} }}\n{RULES}");
    let stage = Stage::with(&server.address(), settings).and("request-headers = ['x-tenant']\n");
    let told = stage.wrap(Asks::send("POST /v1/encrypt/team/k|x-vault-token: mine\nPOST /v1/encrypt/team/k|x-tenant: a")).unwrap();
    assert!(told.contains("a header that a component can't set here"), "{told}");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].headers("x-vault-token"), requests[0].headers("x-tenant")), (vec![TOKEN], vec!["a"]));
    assert!(requests[0].headers("authorization").is_empty());
}

/// Requests that never leave, and why.
fn refused(stage: &Stage, requests: &[(&str, &str)]) {
    for (request, reason) in requests {
        let told = stage.wrap(Asks::send(request)).unwrap();
        assert!(told.contains("Denied(") && told.contains(reason), "{request}: {told}");
        let record = stage.records().pop().unwrap();
        assert_eq!((&record["event"], &record["outcome"], &record["key"]), (&"use".into(), &"denied".into(), &KEY.into()), "{record}");
        let error = record["error"].as_str().unwrap();
        assert!(error.contains(reason) && !error.contains("evil") && record["request"].is_null(), "{error}");
    }
}

#[test]
fn other_methods_and_paths_are_refused_before_a_byte_is_sent() {
    let server = server();
    let none = "its method, path or query is none of those allowed to wrap: POST /v1/encrypt/team/k, PUT /v1/store/team/k/*";
    refused(
        &Stage::new(&server.address()),
        &[
            ("GET /v1/encrypt/team/k", none),
            ("post /v1/encrypt/team/k", none),
            ("DELETE /v1/keys/team/k", none),
            ("POST /v1/encrypt/team/evil", none),
            ("POST /v1/encrypt/team", none),
            ("POST /v1/encrypt/k", none),
            ("POST /v1/encrypt/team/k/evil", none),
            ("POST /v1/decrypt/team/k", none),
            ("POST /v1/encrypt/team/k?evil=1", none),
            ("POST /V1/encrypt/team/k", none),
            ("PUT /v1/store/team/k/a/b", none),
            ("PUT /v1/store/team/evil/a", none),
        ],
    );
    assert_eq!(server.connections(), 0);
}

#[test]
fn path_tricks_are_refused_before_a_byte_is_sent() {
    let server = server();
    refused(
        &Stage::new(&server.address()),
        &[
            ("POST /v1/encrypt/team/k/../evil", "segment `.` or `..`"),
            ("PUT /v1/store/team/k/..", "segment `.` or `..`"),
            ("POST /v1/./encrypt/team/k", "segment `.` or `..`"),
            ("POST /v1/encrypt/team%2fk", "a character that"),
            ("PUT /v1/store/team/k/%2e%2e", "a character that"),
            ("PUT /v1/store/team/k/..%2f..%2fevil", "a character that"),
            ("PUT /v1/store/team/k/..;evil", "a character that"),
            ("PUT /v1/store/team/k/a\\evil", "a character that"),
            ("PUT /v1/store/team/k/a\u{ff0f}evil", "a character that"),
            ("POST /v1//encrypt/team/k", "an empty segment"),
            ("POST //evil.example/v1/encrypt/team/k", "an empty segment"),
            ("POST https://evil.example/v1/encrypt/team/k", "does not begin with a slash"),
            ("POST @evil.example/v1/encrypt/team/k", "does not begin with a slash"),
            ("POST ", "does not begin with a slash"),
            ("POST /v1/encrypt/team/k#evil", "a character that"),
            ("POST /v1/encrypt/team/k?", "its query is not"),
            ("POST /v1/encrypt/team/k?version=1&version=2", "its query is not"),
            ("POST /v1/encrypt/team/k?version=1%26evil=2", "a character that"),
            ("POST /v1/encrypt/team/k HTTP/1.1", "a character that"),
        ],
    );
    let long = format!("PUT /v1/store/team/k/{}", "a".repeat(3000));
    refused(&Stage::new(&server.address()), &[(&long, "longer than 2048 bytes")]);
    assert_eq!(server.connections(), 0);
}

#[test]
fn forged_and_split_headers_are_refused_before_a_byte_is_sent() {
    let server = server();
    let (other, value) = ("a header that a component can't set here", "a header whose value is not printable ASCII");
    let forged = |header: &str, reason| refused(&Stage::new(&server.address()), &[(&format!("POST /v1/encrypt/team/k|{header}"), reason)]);
    for header in [
        "authorization: Bearer evil",
        "host: evil.example",
        "cookie: evil=1",
        "content-length: 0",
        "transfer-encoding: chunked",
        "connection: close",
        "upgrade: h2c",
        "proxy-authorization: evil",
        "x-forwarded-for: evil",
        "x-http-method-override: DELETE",
        "x-vault-token: evil",
        "accept\\r\\nhost: evil.example",
        ": evil",
    ] {
        forged(header, other);
    }
    forged("accept: a\\r\\nhost: evil.example", value);
    forged("accept: a\\nauthorization: Bearer evil", value);
    forged("accept: a|ACCEPT: b", "a header twice");
    let many: String = (0..17).map(|_| "|accept: a").collect();
    refused(&Stage::new(&server.address()), &[(&format!("POST /v1/encrypt/team/k{many}"), "more than 16 headers")]);
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_body_that_is_too_long_is_refused_before_a_byte_is_sent() {
    let server = server();
    let stage = Stage::new(&server.address()).and("max-body-kib = 1\n");
    let told = stage.wrap(Asks { body: 1025, ..Asks::send("POST /v1/encrypt/team/k") }).unwrap();
    assert!(told.contains("longer than 1024 bytes") && server.connections() == 0, "{told}");
    let told = stage.wrap(Asks { body: 1024, ..Asks::send("POST /v1/encrypt/team/k") }).unwrap();
    assert!(told.contains("200 ") && server.requests()[0].body.len() == 1024, "{told}");
}

#[test]
fn each_request_is_on_record_in_the_words_of_its_rule() {
    let server = server();
    let stage = Stage::new(&server.address());
    stage.wrap(Asks::send("PUT /v1/store/team/k/a-secret-of-the-component")).unwrap();
    let record = stage.record();
    let expected = [("event", "use"), ("key", KEY), ("operation", "wrap"), ("request", "PUT /v1/store/team/k/*"), ("outcome", "ok")];
    assert!(expected.iter().all(|(name, value)| record[name] == *value), "{record}");
    assert_eq!((&record["status"], &record["request_id"], &record["origin"]), (&200.into(), &"answer-1".into(), &"parameter".into()));
    assert!(!record.to_string().contains("a-secret"), "{record}");
}

#[test]
fn what_an_unwrap_is_answered_is_on_the_disk_before_the_component_has_it() {
    let stage = std::sync::Arc::new(std::sync::Mutex::new(None::<std::path::PathBuf>));
    let log = stage.clone();
    // The second request is made with the first one's answer in hand.
    let server = Scripted::start(move |_, _| {
        let log = std::fs::read_to_string(log.lock().unwrap().as_ref().unwrap()).unwrap_or_default();
        Reply::new(200, format!("{} records", log.lines().count()))
    });
    let host = Stage::new(&server.address()).and("max-requests = 2\n");
    *stage.lock().unwrap() = Some(host.log());
    let twice = "POST /v1/decrypt/team/k\nPOST /v1/decrypt/team/k";
    let told = host.unwrap(&[KEY], Asks::send(twice)).unwrap();
    assert!(told.contains("0 records") && told.contains("1 records"), "{told}");
}

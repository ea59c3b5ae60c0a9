//! What an operator sees: metrics, logs, traces.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, unwrapping, wrapping};

use super::client::{Protocol, call, call_with, connect, runtime};
use super::limits::{asked, gcp_user};
use super::serving::{Serving, socket, user};

const TEAM: &[&str] = &["local://team"];
const GCP: &[&str] = &["gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"];

/// The status and the body of one GET.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Where a server's metrics are, as it said.
pub fn metrics_of(server: &Serving) -> String {
    let line = server.wait_for("metrics");
    line["address"].as_str().unwrap().trim_start_matches("http://").trim_end_matches("/metrics").to_owned()
}

#[test]
fn what_an_alert_waits_for_is_there_before_it_happens() {
    let user = user();
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--metrics", "127.0.0.1:0"]);
    let (_, text) = get(&metrics_of(&server), "/metrics");
    for line in [
        r#"ocicrypt_kms_reloads_total{what="policy",outcome="failed"} 0"#,
        r#"ocicrypt_kms_reloads_total{what="certificates",outcome="failed"} 0"#,
        "ocicrypt_kms_tls_refusals_total 0",
        "ocicrypt_kms_sandbox_failures_total 0",
        "ocicrypt_kms_audit_records_lost_total 0",
        concat!("ocicrypt_kms_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn metrics_tell_what_was_done_and_health_that_it_is_up() {
    let (_fake, user) = gcp_user("");
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--metrics", "127.0.0.1:0"]);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let annotation = annotation_of(&call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap());
        call(&channel, "WrapKey", &unwrapping(&[], &annotation)).await.unwrap();
        call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap();
        call(&channel, "WrapKey", &wrapping(&["local://missing"])).await.unwrap_err();
        call(&channel, "WrapKey", b"{").await.unwrap_err();
    });
    let address = metrics_of(&server);
    let (status, text) = get(&address, "/metrics");
    assert_eq!(status, 200);
    for line in [
        r#"ocicrypt_kms_exchanges_total{operation="wrap",service="local",outcome="ok"} 1"#,
        r#"ocicrypt_kms_exchanges_total{operation="unwrap",service="local",outcome="ok"} 1"#,
        r#"ocicrypt_kms_exchanges_total{operation="wrap",service="gcp",outcome="ok"} 1"#,
        r#"ocicrypt_kms_exchanges_total{operation="wrap",service="local",outcome="kms"} 1"#,
        r#"ocicrypt_kms_exchanges_total{operation="none",service="none",outcome="invalid-input"} 1"#,
        r#"ocicrypt_kms_exchange_duration_seconds_count{operation="wrap",service="gcp"} 1"#,
        r#"ocicrypt_kms_key_use_duration_seconds_count{operation="wrap",service="gcp",outcome="ok"} 1"#,
        // One for a token, one for the key.
        r#"ocicrypt_kms_requests_total{service="gcp",status="200"} 2"#,
        r#"ocicrypt_kms_tokens_total{service="gcp",outcome="ok"} 1"#,
        "ocicrypt_kms_exchanges_in_flight 0",
        "# HELP ocicrypt_kms_exchanges_total Exchanges that ended.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert_eq!(get(&address, "/healthz"), (200, "ok\n".into()));
    assert_eq!(get(&address, "/other").0, 404);
}

#[test]
fn a_log_names_key_and_caller_and_holds_no_secret() {
    let user = user();
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--log-level", "debug"]);
    let annotation = runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let annotation = annotation_of(&call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap());
        call(&channel, "WrapKey", &unwrapping(&[], &annotation)).await.unwrap();
        call(&channel, "WrapKey", &unwrapping(&["local://other"], &annotation)).await.unwrap_err();
        annotation
    });
    let failed = server.wait_for("failed");
    assert_eq!(failed["operation"], "unwrap");
    assert_eq!(failed["key"], "local://other");
    assert!(failed["error"].as_str().unwrap().starts_with("no-matching-key; the client was told why"), "{failed}");
    let text = format!("{:?}", server.logged());
    let opts_data = std::str::from_utf8(OPTS_DATA).unwrap();
    let symkey = opts_data.split('"').nth(3).unwrap();
    let wrapped = String::from_utf8(annotation).unwrap();
    for secret in [symkey, &wrapped] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_log_names_the_key_of_an_exchange_that_was_denied_before_any_was_opened() {
    let user = user();
    user.write("config.toml", "keys = []\n");
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--metrics", "127.0.0.1:0"]);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let annotation = br#"{"key_url":"local://of-the-image","wrapped_key":"AA==","wrap_type":"AES"}"#;
        call(&channel, "WrapKey", &unwrapping(&[], annotation)).await.unwrap_err();
    });
    assert_eq!(server.wait_for("failed")["key"], "local://of-the-image");
    let (_, text) = get(&metrics_of(&server), "/metrics");
    let line = r#"ocicrypt_kms_exchanges_total{operation="unwrap",service="local",outcome="denied"} 1"#;
    assert!(text.lines().any(|found| found == line) && !text.contains("of-the-image"), "{text}");
}

/// Somebody who collects traces: the bodies of what was posted.
fn collector() -> (String, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..read]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = sender.send(bytes);
        }
    });
    (address, receiver)
}

#[test]
fn a_clients_trace_goes_on_in_the_servers_spans() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (address, posted) = collector();
    let mut user = user();
    user.set("OTEL_EXPORTER_OTLP_ENDPOINT", &address);
    let mut server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let mut request = tonic::Request::new(Protocol { message: wrapping(TEAM) });
        request.metadata_mut().insert("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap());
        call_with(&channel, "WrapKey", request).await.unwrap();
    });
    server.signal("TERM");
    assert!(server.ended().success());
    let trace: Vec<u8> = (0..16).map(|index| u8::from_str_radix(&TRACE[2 * index..2 * index + 2], 16).unwrap()).collect();
    let body = posted.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(body.starts_with(b"POST /v1/traces"), "{}", String::from_utf8_lossy(&body));
    let holds = |needle: &[u8]| body.windows(needle.len()).any(|window| window == needle);
    assert!(holds(&trace) && holds(b"exchange") && holds(b"ocicrypt-kms"));
}

#[test]
fn a_server_that_stops_says_so_to_health_checks() {
    let (fake, user) = gcp_user("");
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--metrics", "127.0.0.1:0"]);
    let address = metrics_of(&server);
    fake.fault(ocicrypt_kms_fakes::gcp::Fault::Slow(Duration::from_secs(2)).times(1));
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let under_way = tokio::spawn(async move { call(&channel, "WrapKey", &wrapping(GCP)).await });
        asked(&fake).await;
        server.signal("TERM");
        server.wait_for("stopping: no new connections, what is under way may end");
        let begun = Instant::now();
        while get(&address, "/healthz") != (503, "stopping\n".into()) {
            assert!(begun.elapsed() < Duration::from_secs(1), "the server still says that it is healthy");
        }
        under_way.await.unwrap().unwrap();
    });
}

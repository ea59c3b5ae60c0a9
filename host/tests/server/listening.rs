//! Where a server listens, and where it refuses to.

use std::os::unix::fs::MetadataExt;

use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::refusal;

use super::client::{call, connect, runtime};
use super::serving::{Serving, socket, user, user_with};

fn refused(arguments: &[&str]) -> String {
    let user = user();
    let (code, line) = refusal(&user.run(&[&["serve"], arguments].concat(), b""));
    assert_eq!(code, 2, "{line}");
    line
}

#[test]
fn a_socket_belongs_to_its_user_and_goes_with_the_server() {
    let user = user();
    let mut server = Serving::on_socket(&user);
    let path = socket(&user).0;
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    server.signal("TERM");
    assert!(server.ended().success());
    assert!(!path.exists());
}

#[test]
fn a_group_may_use_the_socket_if_the_configuration_says_so() {
    let gid = rustix::process::getgid().as_raw();
    let user = user_with(&format!("[server]\ngroup = \"{gid}\"\n"));
    let _server = Serving::on_socket(&user);
    let file = std::fs::metadata(socket(&user).0).unwrap();
    assert_eq!((file.mode() & 0o777, file.gid()), (0o660, gid));
}

#[test]
fn tcp_without_tls_is_refused_on_loopback_too() {
    let line = refused(&["--listen", "tcp://127.0.0.1:0"]);
    assert!(line.contains("anybody who reaches it could use the keys") && line.contains("--insecure-tcp"), "{line}");
}

#[test]
fn tcp_without_tls_is_served_where_it_is_asked_for_and_its_caller_is_anonymous() {
    let user = user();
    let server = Serving::start(&user, &["--listen", "tcp://127.0.0.1:0", "--insecure-tcp"]);
    let address = server.addresses[0].replace("tcp://", "http://");
    runtime().block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        call(&channel, "WrapKey", &wrapping(&["local://team"])).await.unwrap();
    });
    assert_eq!(server.wait_for("done")["caller"], "anonymous");
    let warned = server.wait_until("a warning", |line| line["level"] == "WARN");
    assert!(warned["message"].as_str().unwrap().starts_with("TCP without TLS") && warned["address"].is_string(), "{warned}");
}

#[test]
fn the_originals_flag_means_plain_grpc_on_loopback_unless_a_host_is_given() {
    let user = user();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Serving::start(&user, &["--grpcport", &format!(":{port}")]);
    assert_eq!(server.addresses, [format!("tcp://127.0.0.1:{port}")]);
    let line = refused(&["--grpcport", "127.0.0.1:0"]);
    assert!(line.contains("--insecure-tcp"), "{line}");
}

#[test]
fn what_is_no_address_is_refused() {
    assert!(refused(&["--listen", "http://localhost:1"]).contains("write unix:///PATH, ttrpc+unix:///PATH or tcp://HOST:PORT"));
    assert!(refused(&["--listen", "tcp://localhost"]).contains("HOST:PORT"));
    assert!(refused(&["--listen", "unix://relative"]).contains("is absolute"));
    assert!(refused(&["--listen", "tcp://127.0.0.1:0", "--tls-cert", "c.pem"]).contains("give all three or none"));
}

#[test]
fn a_second_server_on_a_socket_is_refused() {
    let user = user();
    let _server = Serving::on_socket(&user);
    let (_, line) = refusal(&user.run(&["serve", "--listen", &socket(&user).1], b""));
    assert!(line.contains("another process listens there"), "{line}");
    runtime().block_on(async { drop(connect(&socket(&user).0).await.unwrap()) });
}

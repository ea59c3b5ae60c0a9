//! Clients of gRPC on a Unix socket whose `:authority` is no host: those of gRPC's C core and of Java name the socket's path.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{piped, run};

use super::serving::{Serving, socket, user};

const TEAM: &[&str] = &["local://team"];
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// Python's gRPC, which is the C core's, as a user of its library.
fn python(target: &str, method: &str, authority: &[&str], message: &[u8]) -> Output {
    let script = checkout::path("host/tests/clients/client.py");
    piped(Command::new(cached("python/bin/python")).arg(script).args([target, method]).args(authority), message)
}

fn succeeded(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn pythons_client_is_served_by_the_documented_option_and_its_refusal_without_is_logged() {
    let user = user();
    let server = Serving::on_socket(&user);
    let path = socket(&user).0;
    for target in [format!("unix:{}", path.display()), format!("unix://{}", path.display())] {
        let annotation = annotation_of(&succeeded(python(&target, "WrapKey", &["localhost"], &wrapping(TEAM))));
        assert_eq!(opts_data_of(&succeeded(python(&target, "UnWrapKey", &["localhost"], &unwrapping(TEAM, &annotation)))), OPTS_DATA);
        assert!(server.logged().iter().all(|line| line["code"] != "PROTOCOL_ERROR"));
    }
    let refused = python(&format!("unix:{}", path.display()), "WrapKey", &[], &wrapping(TEAM));
    assert!(!refused.status.success());
    let line = server.wait_until("PROTOCOL_ERROR", |line| line["code"] == "PROTOCOL_ERROR");
    assert!(line["level"] == "INFO" && line["message"].as_str().unwrap().contains("grpc.default_authority"), "{line}");
}

/// A call of the health service with this authority, which has no message: the type of the frame that answers it.
fn answer(socket: &Path, authority: &[u8]) -> u8 {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
    // POST and http of the static table (RFC 7541 appendix A), and literals by its names.
    let fields =
        [&[0x83, 0x86, 0x44][..], &text(b"/grpc.health.v1.Health/Check"), &[0x41], &text(authority), &[0x5f], &text(b"application/grpc")];
    let block = fields.concat();
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let request = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &length[1..], &[HEADERS, 5, 0, 0, 0, 1], &block].concat();
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(&request).unwrap();
    loop {
        let mut header = [0; 9];
        client.read_exact(&mut header).unwrap();
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        client.read_exact(&mut vec![0; length]).unwrap();
        if header[8] == 1 {
            return header[3];
        }
    }
}

/// As gRPC for Java writes it (grpc-netty), and the C core.
#[test]
fn a_path_as_authority_is_refused_and_logged_at_most_ten_times_a_second() {
    let user = user();
    let server = Serving::on_socket(&user);
    let path = socket(&user).0;
    assert_eq!(answer(&path, b"localhost"), HEADERS);
    assert!(server.logged().iter().all(|line| line["code"] != "PROTOCOL_ERROR"));
    for authority in [&b"/run/ocicrypt-kms/kms.sock"[..], b"run%2Focicrypt-kms%2Fkms.sock", b"a b"] {
        assert_eq!(answer(&path, authority), RST_STREAM, "{}", String::from_utf8_lossy(authority));
    }
    let line = server.wait_until("PROTOCOL_ERROR", |line| line["code"] == "PROTOCOL_ERROR");
    assert_eq!((&line["level"], &line["what"]), (&"INFO".into(), &"a request".into()));
    assert!(line["message"].as_str().unwrap().contains("docs/clients.md"), "{line}");
    (0..200).for_each(|_| assert_eq!(answer(&path, b"a b"), RST_STREAM));
    assert!(server.logged().iter().filter(|line| line["code"] == "PROTOCOL_ERROR").count() <= 110, "at most ten in a second");
}

/// `make check` installs them (`tools/setup clients`): the documented line works with each version.
#[test]
#[ignore = "needs `tools/setup clients`, which compiles for minutes: `make clients`"]
fn grpcurl_of_each_version_is_served_as_documented() {
    let user = user();
    let _server = Serving::on_socket(&user);
    for version in ["1.8.9", "1.9.1", "1.9.4"] {
        let mut command = Command::new(cached("clients").join(format!("grpcurl-{version}")));
        let arguments = ["-plaintext", "-unix", "-authority", "localhost"];
        let output = run(command.args(arguments).arg(socket(&user).0).arg("grpc.health.v1.Health/Check"));
        assert!(String::from_utf8_lossy(&output.stdout).contains("SERVING"), "{version}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "needs `tools/setup clients`, which compiles for minutes: `make clients`"]
fn javascripts_client_is_served() {
    let user = user();
    let _server = Serving::on_socket(&user);
    let target = format!("unix:{}", socket(&user).0.display());
    let javascript = |method: &str, message: &[u8]| {
        let script = checkout::path("host/tests/clients/client.js");
        let mut command = Command::new("node");
        let path = format!("{}:{}", cached("embed/bin").display(), std::env::var("PATH").unwrap());
        command.arg(script).args([&target, method]).env("PATH", path).env("NODE_PATH", cached("clients/node_modules"));
        succeeded(piped(&mut command, message))
    };
    let annotation = annotation_of(&javascript("WrapKey", &wrapping(TEAM)));
    assert_eq!(opts_data_of(&javascript("UnWrapKey", &unwrapping(TEAM, &annotation))), OPTS_DATA);
}

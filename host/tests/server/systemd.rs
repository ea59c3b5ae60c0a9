//! What systemd hands over and wants to know (sd_listen_fds(3), sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program;

use super::client::{call, connect, runtime, ttrpc_call};
use super::serving::{Serving, socket, user};

const TEAM: &[&str] = &["local://team"];
/// Does what systemd does: listens, hands the sockets over as descriptors 3 and 4, and becomes the program.
const ACTIVATE: &str = r#"
import os, socket, sys
kept = []
for number, path in enumerate(sys.argv[1:3]):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    os.dup2(listener.fileno(), 3 + number)
    kept.append(listener)
os.set_inheritable(3, True)
os.set_inheritable(4, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "2"
os.environ["LISTEN_FDNAMES"] = "grpc:ttrpc"
os.execv(sys.argv[3], sys.argv[3:])
"#;

#[test]
fn sockets_that_systemd_hands_over_are_served_each_with_its_protocol() {
    let user = user();
    let (grpc, ttrpc) = (socket(&user).0, user.home().join("ttrpc.sock"));
    let mut command = Command::new("python3");
    command.args(["-c", ACTIVATE]).args([&grpc, &ttrpc]).args([program::path(), "serve", "--log-format", "json"]);
    user.as_user(&mut command);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let server = Serving::spawn(command);
    assert_eq!(server.addresses, [format!("unix://{}", grpc.display()), format!("ttrpc+unix://{}", ttrpc.display())]);
    runtime().block_on(async {
        call(&connect(&grpc).await.unwrap(), "WrapKey", &wrapping(TEAM)).await.unwrap();
        let client = ttrpc::r#async::Client::connect(&format!("unix://{}", ttrpc.display())).await.unwrap();
        ttrpc_call(&client, "WrapKey", &wrapping(TEAM), Duration::from_secs(10)).await.unwrap();
    });
}

#[test]
fn systemd_is_told_that_the_server_is_ready_and_that_it_stops() {
    let mut user = user();
    let path = user.home().join("notify.sock");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    user.set("NOTIFY_SOCKET", &path);
    let mut server = Serving::on_socket(&user);
    let told = || {
        let mut buffer = [0; 256];
        let length = notified.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert!(told().contains("READY=1"));
    server.signal("TERM");
    assert!(told().contains("STOPPING=1"));
    assert!(server.ended().success());
}

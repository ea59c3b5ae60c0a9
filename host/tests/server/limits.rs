//! What a server bounds: time, size, exchanges at a time, and how long it takes to stop.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::Program;
use tonic::Code;

use super::client::{call, call_within, connect, runtime};
use super::serving::{Serving, socket, user_with};

const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
const GCP: &[&str] = &["gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"];
const TEAM: &[&str] = &["local://team"];

/// A user of a fake Cloud KMS, whose server has these settings.
pub fn gcp_user(settings: &str) -> (FakeGcp, Program) {
    let fake = FakeGcp::start();
    fake.add_key(KEY);
    let user = gcp_user_of(&fake, settings);
    (fake, user)
}

/// Waits until a call has reached the KMS.
pub async fn asked(fake: &FakeGcp) {
    let begun = Instant::now();
    while fake.kms_requests().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the KMS was not called");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn gcp_user_of(fake: &FakeGcp, settings: &str) -> Program {
    let mut user = user_with("");
    user.write("config.toml", format!("keys = [\"local://*\", \"gcpkms://*\"]\n{settings}"));
    user.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", fake.endpoint());
    user.set("GOOGLE_APPLICATION_CREDENTIALS", fake.authorized_user_file(user.home()));
    user
}

#[test]
fn a_clients_deadline_ends_the_call_to_the_kms() {
    let (fake, user) = gcp_user("");
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap();
        fake.fault(Fault::Slow(Duration::from_secs(20)).until_cleared());
        let begun = Instant::now();
        let status = call_within(&channel, &wrapping(GCP), Duration::from_millis(700)).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        // What nobody waits for any more does not hold up others.
        call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
    });
}

#[test]
fn a_client_that_goes_away_takes_its_call_to_the_kms_with_it() {
    let (fake, user) = gcp_user("[server]\nmax-exchanges = 1\nmax-waiting = 0\n");
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        fake.fault(Fault::Slow(Duration::from_secs(20)).until_cleared());
        let message = wrapping(GCP);
        let given_up = tokio::time::timeout(Duration::from_millis(500), call(&channel, "WrapKey", &message)).await;
        assert!(given_up.is_err());
        fake.clear_faults();
        // The only place is free again, long before the KMS would have answered.
        let begun = Instant::now();
        while let Err(status) = call(&channel, "WrapKey", &wrapping(TEAM)).await {
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(begun.elapsed() < Duration::from_secs(5), "the place is still taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn exchanges_wait_for_their_turn_and_are_turned_away_where_too_many_wait() {
    let (fake, user) = gcp_user("[server]\nmax-exchanges = 2\nmax-waiting = 2\n");
    let _server = Serving::on_socket(&user);
    fake.fault(Fault::Slow(Duration::from_millis(1500)).times(2));
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move { call(&channel, "WrapKey", &wrapping(GCP)).await })
            })
            .collect();
        let mut turned_away = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => {}
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    assert!(status.message().contains("try again later, or raise `max-exchanges`"), "{status}");
                    turned_away += 1;
                }
            }
        }
        assert_eq!(turned_away, 4);
    });
}

#[test]
fn an_exchange_has_the_configured_time_at_most() {
    let (fake, user) = gcp_user("deadline-seconds = 1\n");
    let _server = Serving::on_socket(&user);
    fake.fault(Fault::Slow(Duration::from_secs(20)).until_cleared());
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let begun = Instant::now();
        let status = call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_connection_lives_on() {
    let user = user_with("");
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let status = call(&channel, "WrapKey", &vec![b' '; 5 << 20]).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
    });
}

#[test]
fn a_server_that_is_stopped_ends_what_is_under_way_and_takes_nothing_new() {
    let (fake, user) = gcp_user("");
    let mut server = Serving::on_socket(&user);
    fake.fault(Fault::Slow(Duration::from_millis(1500)).times(1));
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let under_way = {
            let channel = channel.clone();
            tokio::spawn(async move { call(&channel, "WrapKey", &wrapping(GCP)).await })
        };
        asked(&fake).await;
        server.signal("TERM");
        server.wait_for("stopping: no new connections, what is under way may end");
        let stopped = Instant::now();
        while connect(&socket(&user).0).await.is_ok() {
            assert!(stopped.elapsed() < Duration::from_secs(1), "the server still takes connections");
        }
        under_way.await.unwrap().unwrap();
    });
    assert!(server.ended().success());
}

#[test]
fn a_server_that_is_stopped_does_not_wait_for_ever() {
    let (fake, user) = gcp_user("[server]\ndrain-seconds = 1\n");
    let mut server = Serving::on_socket(&user);
    fake.fault(Fault::Slow(Duration::from_secs(25)).until_cleared());
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let under_way = tokio::spawn(async move { call(&channel, "WrapKey", &wrapping(GCP)).await });
        asked(&fake).await;
        let begun = Instant::now();
        server.signal("TERM");
        assert!(server.ended().success());
        assert!(begun.elapsed() < Duration::from_secs(8));
        under_way.await.unwrap().unwrap_err();
    });
}

/// It reads and acknowledges nothing of what the server says, and goes on asking. It has as long as an exchange and a slow message after its time.
#[test]
fn an_old_connection_is_closed_whatever_its_client_does() {
    const REQUEST: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
    let user = user_with("deadline-seconds = 1\n[server]\nconnection-seconds = 1\n");
    let server = Serving::on_socket(&user);
    let mut stubborn = UnixStream::connect(socket(&user).0).unwrap();
    let (mut reader, begun) = (stubborn.try_clone().unwrap(), Instant::now());
    let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    stubborn.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    for stream in (1_u32..).step_by(2) {
        if stubborn.write_all(&[&REQUEST[..5], &stream.to_be_bytes(), &REQUEST[9..]].concat()).is_err() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the connection is still served");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(begun.elapsed() > Duration::from_secs(10), "it was closed early: {:?}", begun.elapsed());
    drop(reading.join().unwrap());
    // Others come and go as ever, each told in time.
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        for _ in 0..30 {
            call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    drop(server);
}

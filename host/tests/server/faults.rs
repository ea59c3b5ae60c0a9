//! What goes wrong around a server: the KMS, the server itself, its descriptors, its clients.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use ocicrypt_kms_testing::messages::{OPTS_DATA, unwrapping, wrapping};
use ocicrypt_kms_testing::program;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use tonic::Code;

use super::client::{both_ways, call, connect, runtime};
use super::limits::gcp_user;
use super::serving::{Serving, socket, user, user_with};

const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
const GCP: &[&str] = &["gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"];
const TEAM: &[&str] = &["local://team"];

#[test]
fn a_kms_that_dies_is_unavailable_until_it_is_back() {
    let (fake, user) = gcp_user("deadline-seconds = 3\n");
    let port = fake.address().port();
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap();
        drop(fake);
        let status = call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap_err();
        assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status}");
        call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
        let back = FakeGcp::start_on(port);
        back.add_key(KEY);
        both_ways(&channel, &wrapping(GCP), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.unwrap();
    });
}

#[test]
fn a_server_that_is_killed_under_load_and_started_again_gives_no_wrong_answer() {
    let user = user();
    let path = socket(&user).0;
    runtime().block_on(async {
        for _ in 0..3 {
            let mut server = Serving::on_socket(&user);
            let done = Arc::new(AtomicUsize::new(0));
            let load: Vec<_> = (0..4)
                .map(|_| {
                    let (path, done) = (path.clone(), done.clone());
                    tokio::spawn(async move {
                        let Ok(channel) = connect(&path).await else { return };
                        // An answer is right, or there is none.
                        while both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.is_ok() {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let begun = Instant::now();
            while done.load(Ordering::Relaxed) < 100 {
                assert!(begun.elapsed() < Duration::from_secs(30), "the server answers nobody");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.signal("KILL");
            assert!(!server.ended().success());
            for client in load {
                client.await.unwrap();
            }
        }
    });
}

#[test]
fn a_server_without_descriptors_left_recovers_when_clients_go() {
    let user = user();
    let mut command = Command::new("prlimit");
    let arguments = ["--nofile=48:48", program::path(), "serve", "--log-format", "json", "--listen", &socket(&user).1];
    command.args(arguments);
    let path = std::env::var_os("PATH").unwrap();
    user.as_user(command.env("PATH", &path));
    command.env("PATH", path);
    let server = Serving::spawn(command);
    let crowd: Vec<_> = (0..80).map(|_| UnixStream::connect(socket(&user).0).unwrap()).collect();
    server.wait_for("a connection can't be accepted");
    drop(crowd);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
    });
}

#[test]
fn two_hundred_slow_clients_hold_up_nobody_and_are_sent_away() {
    let user = user_with("[server]\ngreeting-seconds = 2\n");
    let server = Serving::on_socket(&user);
    let path = socket(&user).0;
    let mut slow: Vec<_> = (0..200).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for (index, client) in slow.iter_mut().enumerate() {
        // Half of them say nothing at all, the others begin and stop.
        client.write_all(&b"PRI * HTTP"[..(index % 2) * 10]).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    }
    runtime().block_on(async {
        let channel = connect(&path).await.unwrap();
        let begun = Instant::now();
        both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
    for client in &mut slow {
        // The server closes the connection: the end of the stream, or a reset.
        let mut rest = Vec::new();
        match client.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    drop(server);
}

#[test]
fn bytes_that_are_no_protocol_end_the_connection_and_nothing_else() {
    let user = user_with("");
    let ttrpc = user.home().join("ttrpc.sock");
    let _server = Serving::start(&user, &["--listen", &socket(&user).1, "--listen", &format!("ttrpc+unix://{}", ttrpc.display())]);
    for path in [&socket(&user).0, &ttrpc] {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 64]] {
            let mut client = UnixStream::connect(path).unwrap();
            let _ = client.write_all(garbage);
            drop(client);
        }
    }
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
    });
}

#[test]
fn who_speaks_the_other_protocol_is_sent_away_at_once_and_the_log_says_so() {
    let user = user_with("");
    let ttrpc = user.home().join("ttrpc.sock");
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--listen", &format!("ttrpc+unix://{}", ttrpc.display())]);
    // How a client of gRPC begins, and a request of ttrpc that is as long as it says.
    let [grpc, frame] = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"\0\0\0\x02\0\0\0\x01\x01\0\x08\x01"];
    for (path, greeting, expected) in [(&ttrpc, grpc, "ttrpc"), (&socket(&user).0, frame, "gRPC")] {
        let mut client = UnixStream::connect(path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.write_all(greeting).unwrap();
        let mut rest = Vec::new();
        if let Err(error) = client.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        server.wait_until(expected, |line| {
            line["message"] == "a client speaks another protocol than its listener"
                && line["expected"] == expected
                && line["level"] == "INFO"
        });
    }
}

/// Bounded so that the test is quick; `OCICRYPT_KMS_EXCHANGES=200000` makes it long.
#[test]
fn memory_does_not_grow_with_the_number_of_exchanges() {
    let exchanges: u64 = std::env::var("OCICRYPT_KMS_EXCHANGES").map_or(8_000, |number| number.parse().unwrap());
    let user = user();
    let server = Serving::on_socket(&user);
    let path = socket(&user).0;
    let run = |exchanges: u64| {
        let path = &path;
        async move {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    let path = path.clone();
                    tokio::spawn(async move {
                        // A connection for each hundred, as Go's clients have one for each.
                        for _ in 0..exchanges.div_ceil(2 * 8 * 100) {
                            let channel = connect(&path).await.unwrap();
                            for _ in 0..100 {
                                both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.unwrap();
                            }
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
        }
    };
    let runtime = runtime();
    runtime.block_on(run(exchanges / 4));
    let before = server.memory("VmRSS");
    runtime.block_on(run(exchanges));
    let after = server.memory("VmRSS");
    assert!(after < before + 4096, "{before} KiB before, {after} KiB after {exchanges} exchanges");
}

/// No line of the log is about a panic.
fn assert_no_defect(server: &Serving) {
    let logged = server.logged();
    assert!(!logged.iter().any(|line| line.to_string().contains("a defect") || line.to_string().contains("panic")), "{logged:?}");
}

#[test]
fn a_kms_that_asks_for_a_wait_without_end_costs_its_own_exchange() {
    let (fake, user) = gcp_user("");
    let server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        for wait in ["18446744073709551615", "18446744073709551616"] {
            fake.fault(Fault::RetryAfter(wait));
            let begun = Instant::now();
            let status = call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap_err();
            assert!(status.code() == Code::Unavailable && begun.elapsed() < Duration::from_secs(5), "{status}");
            both_ways(&channel, &wrapping(GCP), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.unwrap();
        }
    });
    assert_no_defect(&server);
}

#[test]
fn a_token_service_that_answers_absurdly_costs_one_exchange() {
    // For Google there is no library that would panic: tokens are used, however long they are said to last.
    let (fake, mut user) = gcp_user("");
    user.write("config.toml", "keys = [\"local://*\", \"gcpkms://*\", \"awskms:///*\"]");
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let kms = Scripted::always(Reply::new(200, format!(r#"{{"KeyId":"{arn}","CiphertextBlob":"YWJj"}}"#)));
    let absurd = Arc::new(AtomicBool::new(true));
    let is_absurd = absurd.clone();
    let instance = Scripted::start(move |request, _| match (request.method.as_str(), request.path.as_str()) {
        ("PUT", _) => {
            let ttl = if is_absurd.swap(false, Ordering::Relaxed) { "18446744073709551615" } else { "600" };
            Reply::new(200, "imds").header("x-aws-ec2-metadata-token-ttl-seconds", ttl)
        }
        (_, path) if path.ends_with("/images") => Reply::new(
            200,
            r#"{"Code":"Success","AccessKeyId":"id","SecretAccessKey":"secret","Token":"token","Expiration":"2099-01-01T00:00:00Z"}"#,
        ),
        _ => Reply::new(200, "images"),
    });
    user.set("AWS_ENDPOINT_URL_KMS", kms.address());
    user.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.address());
    let _server = Serving::on_socket(&user);
    fake.fault(Fault::Member("expires_in", "18446744073709551615").on_tokens());
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap();
        let keys: &[&str] = &[&format!("awskms:///{arn}")];
        let status = call(&channel, "WrapKey", &wrapping(keys)).await.unwrap_err();
        assert!(status.code() == Code::Unavailable && status.message().contains("the token service's answer is absurd"), "{status}");
        call(&channel, "WrapKey", &wrapping(keys)).await.unwrap();
    });
    assert!(!absurd.load(Ordering::Relaxed));
}

#[test]
fn credentials_that_fail_again_and_again_leave_no_threads_behind() {
    let (fake, mut user) = gcp_user("");
    user.set("GOOGLE_APPLICATION_CREDENTIALS", fake.impersonated_file(user.home()));
    fake.fault(Fault::Member("accessToken", "7").until_cleared().on_tokens());
    let server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let fail = || async { call(&channel, "WrapKey", &wrapping(GCP)).await.unwrap_err() };
        fail().await;
        let before = server.memory("Threads");
        for _ in 0..20 {
            fail().await;
        }
        let begun = Instant::now();
        // Room for one that still ends, and for those that resolve names.
        while server.memory("Threads") > before + 4 {
            assert!(begun.elapsed() < Duration::from_secs(8), "{before} threads, then {}", server.memory("Threads"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fake.clear_faults();
        both_ways(&channel, &wrapping(GCP), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.unwrap();
    });
}

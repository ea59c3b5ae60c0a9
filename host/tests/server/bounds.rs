//! The bounds that hold for each way in: by gRPC on a Unix socket and by mutual TLS, by ttrpc, and for readers of metrics.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::Fault;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keywrap, opts_data_of, unwrapping, wrapping};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::client::{Protocol, call, connect, over_tls, runtime, ttrpc_call, ttrpc_request};
use super::limits::{asked, gcp_user};
use super::observing::get;
use super::serving::user_with;
use super::stage::Stage;

const TEAM: &[&str] = &["local://team"];
const GCP: &[&str] = &["gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"];
/// Settings that make what waits for a client wait for a second, so that a message may take two.
const IMPATIENT: &str = "deadline-seconds = 1\n[server]\ngreeting-seconds = 1\nmessage-seconds = 1\n";
/// When what has to end in a second or two must have ended.
const SOON: Duration = Duration::from_secs(8);
/// What an honest client waits at most while others do what they do.
const PROMPTLY: Duration = Duration::from_secs(2);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A way in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Unix,
    Tls,
    Ttrpc,
    Metrics,
}

const WAYS: [Way; 4] = [Way::Unix, Way::Tls, Way::Ttrpc, Way::Metrics];

impl Stage {
    /// A connection whose client has not said a word.
    async fn connect(&self, way: Way) -> io::Result<Box<dyn Stream>> {
        Ok(match way {
            Way::Unix => Box::new(UnixStream::connect(&self.unix).await?),
            Way::Ttrpc => Box::new(UnixStream::connect(&self.ttrpc).await?),
            Way::Tls => Box::new(TcpStream::connect(self.tcp.replace("localhost", "127.0.0.1")).await?),
            Way::Metrics => Box::new(TcpStream::connect(&self.metrics).await?),
        })
    }

    /// A connection whose client may say what its protocol wants first: behind TLS, where there is any.
    async fn secured(&self, way: Way) -> io::Result<Box<dyn Stream>> {
        let stream = self.connect(way).await?;
        if way != Way::Tls {
            return Ok(stream);
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate().as_bytes()).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(self.client.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.client.key.as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(Box::new(connector.connect("localhost".try_into().unwrap(), stream).await?))
    }

    async fn grpc(&self, way: Way) -> Channel {
        match way {
            Way::Unix => connect(&self.unix).await.unwrap(),
            _ => over_tls(&self.tcp, &self.authority.certificate(), Some(&self.client)).await.unwrap(),
        }
    }

    async fn wrap(&self, way: Way, uris: &[&str]) -> Result<Vec<u8>, Status> {
        if way != Way::Ttrpc {
            return call(&self.grpc(way).await, "WrapKey", &wrapping(uris)).await;
        }
        let client = ttrpc::r#async::Client::connect(&format!("unix://{}", self.ttrpc.display())).await.unwrap();
        ttrpc_call(&client, "WrapKey", &wrapping(uris), SOON).await.map_err(|error| match error {
            ttrpc::Error::RpcStatus(status) => Status::new(Code::from_i32(status.code() as i32), status.message()),
            other => panic!("{other}"),
        })
    }

    /// Clients of each way that do as they should, with new connections, are served promptly.
    async fn serves_the_honest(&self) {
        let begun = Instant::now();
        for way in [Way::Unix, Way::Tls, Way::Ttrpc] {
            self.wrap(way, TEAM).await.unwrap();
        }
        let address = self.metrics.clone();
        let (status, _) = tokio::task::spawn_blocking(move || get(&address, "/healthz")).await.unwrap();
        assert_eq!(status, 200);
        assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    }
}

/// Waits until the server closes a connection, and says how long that took.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    // The end of the stream, or a reset.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the server closes it");
    begun.elapsed()
}

#[test]
fn a_silent_client_is_sent_away_whichever_way_it_came_and_holds_up_nobody() {
    let user = user_with(IMPATIENT);
    let stage = Stage::new(&user);
    runtime().block_on(async {
        for way in WAYS {
            let mut silent = Vec::new();
            for _ in 0..300 {
                // Readers of metrics, of which there may be few, are sent away by the next.
                silent.extend(stage.connect(way).await);
            }
            stage.serves_the_honest().await;
            for stream in &mut silent {
                closed(stream).await;
            }
        }
    });
}

#[test]
fn a_client_that_says_slowly_what_it_wants_is_sent_away_whichever_way_it_came() {
    let user = user_with(IMPATIENT);
    let stage = Stage::new(&user);
    runtime().block_on(async {
        for (way, greeting) in
            [(Way::Unix, PREFACE), (Way::Tls, PREFACE), (Way::Ttrpc, &[0; 10]), (Way::Metrics, b"GET /metrics HTTP/1.1\r\n")]
        {
            let mut stream = stage.secured(way).await.unwrap();
            let begun = Instant::now();
            // Each byte is new hope.
            for byte in greeting {
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            closed(&mut stream).await;
            assert!(begun.elapsed() < SOON, "{way:?}: {:?}", begun.elapsed());
        }
    });
}

#[test]
fn half_a_message_is_waited_for_as_long_as_a_message_may_take() {
    let user = user_with(IMPATIENT);
    let stage = Stage::new(&user);
    runtime().block_on(async {
        for way in [Way::Unix, Way::Tls] {
            let channel = stage.grpc(way).await;
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let path = tonic::codegen::http::uri::PathAndQuery::from_static("/keyprovider.KeyProviderService/WrapKey");
            let never = tonic::Request::new(tokio_stream::pending::<Protocol>());
            let codec = tonic_prost::ProstCodec::<Protocol, Protocol>::default();
            let answered = tokio::time::timeout(SOON, grpc.client_streaming(never, path, codec)).await.expect("an answer");
            assert_eq!(answered.unwrap_err().code(), Code::DeadlineExceeded, "{way:?}");
            call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap();
        }
        let mut stream = stage.connect(Way::Ttrpc).await.unwrap();
        let request = ttrpc_request(0, TEAM);
        stream.write_all(&request[..request.len() - 1]).await.unwrap();
        let time = closed(&mut stream).await;
        assert!(time > Duration::from_secs(1), "it has its time: {time:?}");
    });
}

#[test]
fn a_client_that_sends_requests_and_reads_no_answer_costs_no_memory_and_is_sent_away() {
    let user = user_with(IMPATIENT);
    let stage = Stage::new(&user);
    runtime().block_on(async {
        stage.serves_the_honest().await;
        let before = stage.server.memory("VmRSS");
        let mut stream = stage.connect(Way::Ttrpc).await.unwrap();
        let begun = Instant::now();
        let mut sent = 0;
        // Hundreds of megabytes, if the server took them.
        let refused = loop {
            match tokio::time::timeout(SOON, stream.write_all(&ttrpc_request(sent, TEAM))).await.expect("the server closes it") {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 500_000, "all were taken");
        };
        assert!(matches!(refused.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{refused}");
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        let after = stage.server.memory("VmRSS");
        assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after {sent} requests");
        stage.serves_the_honest().await;
    });
}

#[test]
fn requests_that_are_sent_all_at_once_are_answered_one_and_all() {
    const NUMBER: u32 = 1000;
    let user = user_with("");
    let stage = Stage::new(&user);
    runtime().block_on(async {
        let stream = UnixStream::connect(&stage.ttrpc).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let sending = tokio::spawn(async move {
            for number in 0..NUMBER {
                writer.write_all(&ttrpc_request(number, TEAM)).await.unwrap();
            }
            writer
        });
        let mut answered = std::collections::BTreeSet::new();
        for _ in 0..NUMBER {
            let mut header = [0; 10];
            tokio::time::timeout(SOON, reader.read_exact(&mut header)).await.expect("an answer").unwrap();
            let length = u32::from_be_bytes(header[..4].try_into().unwrap());
            let mut body = vec![0; length as usize];
            reader.read_exact(&mut body).await.unwrap();
            answered.insert(u32::from_be_bytes(header[4..8].try_into().unwrap()));
        }
        assert_eq!(answered.len(), NUMBER as usize);
        drop(sending.await.unwrap());
    });
}

#[test]
fn one_caller_can_not_have_all_connections() {
    let user = user_with("[server]\nmax-connections = 8\nmax-connections-per-caller = 5\n");
    let stage = Stage::new(&user);
    runtime().block_on(async {
        let mut greedy = Vec::new();
        for _ in 0..5 {
            let mut stream = stage.connect(Way::Unix).await.unwrap();
            stream.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
            let mut answer = [0; 9];
            stream.read_exact(&mut answer).await.unwrap();
            greedy.push(stream);
        }
        // By another protocol it is the same caller.
        let mut one_more = stage.connect(Way::Ttrpc).await.unwrap();
        one_more.write_all(&ttrpc_request(0, TEAM)).await.unwrap();
        closed(&mut one_more).await;
        let refused = stage.server.wait_for("a connection is refused");
        assert!(refused["reason"].as_str().unwrap().contains("`max-connections-per-caller`"), "{refused}");
        stage.wrap(Way::Tls, TEAM).await.unwrap();
        drop(greedy);
        let begun = Instant::now();
        let served = async || call(&connect(&stage.unix).await.ok()?, "WrapKey", &wrapping(TEAM)).await.ok();
        while served().await.is_none() {
            assert!(begun.elapsed() < SOON, "there is no place again");
        }
    });
}

/// A request's body that says how long its message is, and never sends it.
struct Announced(Option<Bytes>);

impl hyper::body::Body for Announced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Status>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes)))))
    }
}

/// Announces a message of so many bytes, and never sends it. Where it is refused, because another one was held just then, it is announced again.
async fn announce(mut channel: Channel, length: u32) {
    loop {
        let prefix = [&[0][..], &length.to_be_bytes(), &[0]].concat();
        let request = tonic::codegen::http::Request::post("http://localhost/keyprovider.KeyProviderService/WrapKey")
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(Announced(Some(prefix.into()))))
            .unwrap();
        std::future::poll_fn(|context| tonic::codegen::Service::poll_ready(&mut channel, context)).await.unwrap();
        let _ = tonic::codegen::Service::call(&mut channel, request).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until this user's messages are refused, and checks that by either protocol; and that others are served meanwhile.
async fn has_used_up_its_memory(stage: &Stage) {
    let begun = Instant::now();
    let refused = loop {
        match stage.wrap(Way::Unix, TEAM).await {
            Ok(_) => assert!(begun.elapsed() < SOON, "it is still served"),
            Err(status) => break status,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("`message-memory-mib`"), "{refused}");
    let mut ttrpc = stage.connect(Way::Ttrpc).await.unwrap();
    ttrpc.write_all(&ttrpc_request(0, TEAM)).await.unwrap();
    closed(&mut ttrpc).await;
    stage.wrap(Way::Tls, TEAM).await.unwrap();
}

async fn has_memory_again(stage: &Stage) {
    let begun = Instant::now();
    while stage.wrap(Way::Unix, TEAM).await.is_err() {
        assert!(begun.elapsed() < SOON, "there is no memory again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn one_caller_can_not_have_all_memory_by_messages_that_it_announces() {
    let user = user_with("[server]\nmessage-memory-mib = 8\n");
    let stage = Stage::new(&user);
    runtime().block_on(async {
        let channel = stage.grpc(Way::Unix).await;
        let half: Vec<_> = (0..2).map(|_| tokio::spawn(announce(channel.clone(), 3 << 20))).collect();
        has_used_up_its_memory(&stage).await;
        half.iter().for_each(tokio::task::JoinHandle::abort);
        has_memory_again(&stage).await;
    });
    let (_, text) = get(&stage.metrics, "/metrics");
    assert!(!text.contains("ocicrypt_kms_exchanges_refused_total{reason=\"memory\"} 0"), "{text}");
}

#[test]
fn one_caller_can_not_have_all_memory_by_answers_that_it_does_not_take() {
    let user = user_with("[server]\nmessage-memory-mib = 8\n");
    let stage = Stage::new(&user);
    runtime().block_on(async {
        let opts_data = format!(r#"{{"symkey":"{}"}}"#, "A".repeat(30_000));
        let message = keywrap(&[("kmscrypt", TEAM)], opts_data.as_bytes());
        let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", stage.unix.display())).unwrap();
        let channel = endpoint.initial_stream_window_size(0).connect().await.unwrap();
        let untaken = (0..90).map(|_| {
            let (channel, message) = (channel.clone(), message.clone());
            tokio::spawn(async move { call(&channel, "WrapKey", &message).await })
        });
        let untaken: Vec<_> = untaken.collect();
        has_used_up_its_memory(&stage).await;
        untaken.iter().for_each(tokio::task::JoinHandle::abort);
        has_memory_again(&stage).await;
    });
}

#[test]
fn one_caller_can_not_have_all_turns() {
    let (fake, user) = gcp_user("[server]\nmax-exchanges = 4\n");
    let stage = Stage::new(&user);
    fake.fault(Fault::Slow(Duration::from_secs(20)).until_cleared());
    runtime().block_on(async {
        let channel = stage.grpc(Way::Unix).await;
        let slow: Vec<_> = (0..8)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move { call(&channel, "WrapKey", &wrapping(GCP)).await })
            })
            .collect();
        asked(&fake).await;
        let begun = Instant::now();
        stage.wrap(Way::Tls, TEAM).await.unwrap();
        assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
        slow.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn a_caller_has_its_exchanges_of_an_hour_whichever_way_it_comes_and_no_more() {
    let user = user_with("[server]\nexchanges-per-hour = 4\n");
    let stage = Stage::new(&user);
    runtime().block_on(async {
        for way in [Way::Unix, Way::Ttrpc, Way::Unix, Way::Ttrpc] {
            stage.wrap(way, TEAM).await.unwrap();
        }
        for way in [Way::Unix, Way::Ttrpc] {
            let status = stage.wrap(way, TEAM).await.unwrap_err();
            assert!(status.code() == Code::ResourceExhausted && status.message().contains("`exchanges-per-hour`"), "{status}");
        }
        let refused = stage.server.wait_for("an exchange is refused");
        assert!(refused["caller"].as_str().unwrap().starts_with("uid:"), "{refused}");
        let annotation = annotation_of(&stage.wrap(Way::Tls, TEAM).await.unwrap());
        let answer = call(&stage.grpc(Way::Tls).await, "UnWrapKey", &unwrapping(&[], &annotation)).await.unwrap();
        assert_eq!(opts_data_of(&answer), OPTS_DATA);
    });
    let (_, text) = get(&stage.metrics, "/metrics");
    assert!(text.contains("ocicrypt_kms_exchanges_refused_total{reason=\"quota\"} 2"), "{text}");
}

#[test]
fn a_ttrpc_connection_has_an_age_too() {
    let user = user_with(&format!("{IMPATIENT}connection-seconds = 1\n"));
    let stage = Stage::new(&user);
    runtime().block_on(async {
        let mut stream = stage.connect(Way::Ttrpc).await.unwrap();
        stream.write_all(&ttrpc_request(0, TEAM)).await.unwrap();
        let time = closed(&mut stream).await;
        assert!(time > Duration::from_millis(500), "{time:?}");
        // One that goes on asking and never leaves.
        let mut stream = stage.connect(Way::Ttrpc).await.unwrap();
        let (mut number, begun) = (0, Instant::now());
        while stream.write_all(&ttrpc_request(number, TEAM)).await.is_ok() {
            number += 1;
            assert!(begun.elapsed() < SOON, "it is still served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn readers_of_metrics_have_few_places_and_a_short_request() {
    let user = user_with(IMPATIENT);
    let stage = Stage::new(&user);
    runtime().block_on(async {
        let before = stage.descriptors();
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(stage.connect(Way::Metrics).await.unwrap());
        }
        stage.serves_the_honest().await;
        let now = stage.descriptors();
        assert!(now <= before + 40, "{before} descriptors, then {now}");
        let mut stream = stage.connect(Way::Metrics).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(64 << 10));
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains("200 OK"), "{answer}");
        stage.serves_the_honest().await;
    });
}

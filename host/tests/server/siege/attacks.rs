//! What attackers do to a server, each at a pace that leaves this machine to the server.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ocicrypt_kms_testing::certificates::{Authority, Issued};
use ocicrypt_kms_testing::messages::{OPTS_DATA, keywrap, wrapping};
use ocicrypt_kms_testing::scripted::{Reply, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::super::client::{Protocol, call, connect, over_tls, ttrpc_request};
use super::{GCP, OTHER, Siege};

/// How long an attacker holds on to what it has.
const HOLD: Duration = Duration::from_secs(20);
const BRIEFLY: Duration = Duration::from_millis(50);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// More than any limit on names; less than what a message may have.
const HUGE: usize = 3 << 20;

/// Attackers at work.
pub struct Attackers {
    tasks: JoinSet<()>,
    attempts: BTreeMap<&'static str, Arc<AtomicUsize>>,
}

/// Where a listener is reached.
#[derive(Clone)]
enum Place {
    Unix(PathBuf),
    Tcp(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Place {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => Box::new(TcpStream::connect(address.replace("localhost", "127.0.0.1")).await?),
        })
    }
}

impl Attackers {
    /// So many that do this again and again, with a pause. What it comes to is the server's business.
    fn add<A: Future<Output = io::Result<()>> + Send>(
        &mut self,
        name: &'static str,
        number: usize,
        pause: Duration,
        attack: impl Fn() -> A + Clone + Send + 'static,
    ) {
        let attempts = self.attempts.entry(name).or_default();
        for _ in 0..number {
            let (attempts, attack) = (attempts.clone(), attack.clone());
            self.tasks.spawn(async move {
                loop {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    let _ = attack().await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    }

    /// Ends all attacks, and says how often each took place.
    pub async fn end(mut self) -> BTreeMap<&'static str, usize> {
        self.tasks.shutdown().await;
        self.attempts.into_iter().map(|(name, attempts)| (name, attempts.load(Ordering::Relaxed))).collect()
    }
}

/// Begins all attacks.
pub fn begin(siege: &Siege) -> Attackers {
    let mut attackers = Attackers { tasks: JoinSet::new(), attempts: BTreeMap::new() };
    let places = [
        Place::Unix(siege.stage.unix.clone()),
        Place::Unix(siege.stage.ttrpc.clone()),
        Place::Tcp(siege.stage.tcp.clone()),
        Place::Tcp(siege.stage.metrics.clone()),
    ];
    for place in places {
        let (silent, slow, churning) = (place.clone(), place.clone(), place);
        attackers.add("silent", 20, BRIEFLY, move || say_nothing(silent.clone()));
        attackers.add("slow", 5, BRIEFLY, move || say_it_slowly(slow.clone()));
        attackers.add("churning", 1, BRIEFLY, move || come_and_go(churning.clone()));
    }
    let grpc = siege.stage.unix.clone();
    attackers.add("half a message, gRPC", 5, BRIEFLY, move || say_half(grpc.clone()));
    let grpc = siege.stage.unix.clone();
    attackers.add("never reading, gRPC", 1, BRIEFLY, move || read_nothing(grpc.clone()));
    let grpc = siege.stage.unix.clone();
    attackers.add("huge names", 1, BRIEFLY * 4, move || name_hugely(grpc.clone()));
    let grpc = siege.stage.unix.clone();
    attackers.add("absurd KMS", 2, BRIEFLY, move || ask_the_absurd(grpc.clone()));
    let ttrpc = siege.stage.ttrpc.clone();
    attackers.add("half a message, ttrpc", 5, BRIEFLY, move || say_half_by_ttrpc(ttrpc.clone()));
    let ttrpc = siege.stage.ttrpc.clone();
    attackers.add("never reading, ttrpc", 1, BRIEFLY, move || pipeline(ttrpc.clone()));
    let (address, authority) = (siege.stage.tcp.clone(), siege.stage.authority.certificate());
    let stranger = Arc::new((address, authority, Authority::new("other").client("stranger", &[])));
    attackers.add("another authority", 1, BRIEFLY, move || show_anothers(stranger.clone()));
    let scrape = siege.stage.metrics.clone();
    attackers.add("health checks", 2, BRIEFLY / 5, move || ask_for_health(scrape.clone()));
    let renewed = Arc::new((siege.stage.authority.server("localhost"), siege.user.home().to_owned()));
    attackers.add("certificates replaced", 1, Duration::from_secs(1), move || renew(renewed.clone()));
    attackers
}

/// Connects and waits until it is sent away.
async fn say_nothing(place: Place) -> io::Result<()> {
    until_closed(&mut place.connect().await?).await
}

/// One byte of a greeting at a time.
async fn say_it_slowly(place: Place) -> io::Result<()> {
    let mut stream = place.connect().await?;
    for byte in PREFACE {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(BRIEFLY * 10).await;
    }
    Ok(())
}

/// Ten connections, one after the other.
async fn come_and_go(place: Place) -> io::Result<()> {
    for _ in 0..10 {
        drop(place.connect().await?);
    }
    Ok(())
}

/// A request whose message never ends.
async fn say_half(path: PathBuf) -> io::Result<()> {
    let channel = connect(&path).await.map_err(io::Error::other)?;
    let never = tokio_stream::pending::<Protocol>();
    let mut grpc = client(&channel).await?;
    let codec = tonic_prost::ProstCodec::<Protocol, Protocol>::default();
    let asked = grpc.client_streaming(tonic::Request::new(never), wrap_key(), codec);
    let _ = tokio::time::timeout(HOLD, asked).await;
    Ok(())
}

/// Eighty requests, whose answers it has no room for.
async fn read_nothing(path: PathBuf) -> io::Result<()> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).map_err(io::Error::other)?;
    let channel =
        endpoint.initial_stream_window_size(1).initial_connection_window_size(65_535).connect().await.map_err(io::Error::other)?;
    let mut unread = Vec::new();
    for _ in 0..80 {
        let codec = tonic_prost::ProstCodec::<Protocol, Protocol>::default();
        let request = tonic::Request::new(Protocol { message: wrapping(OTHER) });
        unread.push(client(&channel).await?.server_streaming(request, wrap_key(), codec).await);
    }
    tokio::time::sleep(HOLD).await;
    Ok(())
}

/// Messages that are long where nobody expects it.
async fn name_hugely(path: PathBuf) -> io::Result<()> {
    let channel = connect(&path).await.map_err(io::Error::other)?;
    let (provider, key) = ("p".repeat(HUGE), format!("local://{}", "k".repeat(HUGE)));
    let many: Vec<String> = (0..50_000).map(|number| format!("local://k{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for message in [keywrap(&[(&provider, OTHER)], OPTS_DATA), wrapping(&[&key]), wrapping(&many)] {
        let _ = call(&channel, "WrapKey", &message).await;
        tokio::time::sleep(BRIEFLY * 4).await;
    }
    Ok(())
}

/// Exchanges whose KMS answers what no KMS would.
async fn ask_the_absurd(path: PathBuf) -> io::Result<()> {
    let channel = connect(&path).await.map_err(io::Error::other)?;
    for _ in 0..8 {
        call(&channel, "WrapKey", &wrapping(GCP)).await.expect_err("there is no right answer");
    }
    Ok(())
}

/// What a KMS answers, by turns.
pub fn absurd_answer(_: &Request, before: usize) -> Reply {
    const MOST: &str = "18446744073709551615";
    match before % 8 {
        0 => Reply::new(503, "{}").header("Retry-After", MOST),
        1 => Reply::new(429, "{}").header("Retry-After", "-1").header("Date", "Thu, 31 Dec 9999 23:59:60 GMT"),
        2 => Reply::new(200, format!("{{\"ciphertext\":\"{}\"}}", "A".repeat(600 << 10))),
        3 => Reply::new(200, format!("{{\"ciphertext\":\"AA==\",\"ciphertextCrc32c\":\"{MOST}{MOST}\"}}")),
        4 => Reply::new(200, "[".repeat(100_000)),
        5 => Reply::new(999, "\u{1b}[2J"),
        6 => Reply::new(302, "").header("Location", "http://169.254.169.254/"),
        _ => Reply::new(200, "{\"ciphertext\":\"AA==\"").of_unknown_length(),
    }
}

/// A frame that says it is long and isn't.
async fn say_half_by_ttrpc(path: PathBuf) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(&[0, 0, 4, 0, 0, 0, 0, 1, 1, 0]).await?;
    stream.write_all(b"half").await?;
    until_closed(&mut stream).await
}

/// Requests as fast as the server takes them, and not an answer read.
async fn pipeline(path: PathBuf) -> io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    for number in 0..5_000_u32 {
        // A server that takes no more is as it should be.
        if tokio::time::timeout(Duration::from_secs(2), stream.write_all(&ttrpc_request(number, OTHER))).await.is_err() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// A certificate of an authority that the server doesn't trust.
async fn show_anothers(stranger: Arc<(String, String, Issued)>) -> io::Result<()> {
    let (address, trusted, certificate) = &*stranger;
    over_tls(address, trusted, Some(certificate)).await.map(drop).map_err(io::Error::other)
}

/// A hundred bytes for a look at the audit log.
async fn ask_for_health(address: String) -> io::Result<()> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    until_closed(&mut stream).await
}

/// Writes a certificate of the server's, over and over: read anew each time.
async fn renew(renewed: Arc<(Issued, PathBuf)>) -> io::Result<()> {
    let (issued, home) = &*renewed;
    issued.write(home, "server");
    Ok(())
}

async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut answer = Vec::new();
    tokio::time::timeout(HOLD, stream.take(1 << 20).read_to_end(&mut answer)).await.map_or(Ok(0), |read| read).map(drop)
}

async fn client(channel: &Channel) -> io::Result<Grpc<Channel>> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(io::Error::other)?;
    Ok(grpc)
}

fn wrap_key() -> PathAndQuery {
    PathAndQuery::from_static("/keyprovider.KeyProviderService/WrapKey")
}

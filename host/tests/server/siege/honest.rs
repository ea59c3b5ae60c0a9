//! Clients that use the server as they should: by each of its protocols, and from time to time with a new connection.

use std::fmt;
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates::Issued;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use tonic::transport::Channel;

use super::super::client::{call, connect, over_tls, ttrpc_call};
use super::{Siege, TEAM};

/// The wait between two exchanges of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// How many exchanges a connection lives for, two by two.
const EXCHANGES: usize = 200;
/// What no exchange takes, attacked or not.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long exchanges took.
pub struct Figures {
    median: Duration,
    pub p99: Duration,
    exchanges: usize,
}

impl Figures {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        Self { median: at(0.5), p99: at(0.99), exchanges: times.len() }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, p99, exchanges } = self;
        write!(f, "{exchanges} exchanges, median {median:.1?}, 99th percentile {p99:.1?}")
    }
}

/// A connection.
enum Client {
    Grpc(Channel),
    Ttrpc(ttrpc::r#async::Client),
}

/// How to get one.
enum Way {
    Unix,
    Ttrpc,
    Tls(Issued),
}

impl Way {
    async fn connect(&self, siege: &Siege) -> Client {
        match self {
            Self::Unix => Client::Grpc(connect(&siege.stage.unix).await.unwrap()),
            Self::Ttrpc => {
                Client::Ttrpc(ttrpc::r#async::Client::connect(&format!("unix://{}", siege.stage.ttrpc.display())).await.unwrap())
            }
            Self::Tls(client) => {
                Client::Grpc(over_tls(&siege.stage.tcp, &siege.stage.authority.certificate(), Some(client)).await.unwrap())
            }
        }
    }
}

impl Client {
    async fn call(&self, method: &str, message: &[u8]) -> Vec<u8> {
        let answered = async {
            match self {
                Self::Grpc(channel) => call(channel, method, message).await.unwrap(),
                Self::Ttrpc(client) => ttrpc_call(client, method, message, PATIENCE).await.unwrap(),
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("an honest client is answered")
    }
}

/// Uses the server for so long, and returns how long each exchange took. Each has to succeed, with the right answer.
pub async fn serve(siege: &Siege, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let (unix, ttrpc, tls) = (Way::Unix, Way::Ttrpc, Way::Tls(siege.stage.authority.client("honest", &[])));
    let (unix, ttrpc, tls) = tokio::join!(until(end, siege, &unix), until(end, siege, &ttrpc), until(end, siege, &tls));
    [unix, ttrpc, tls].concat()
}

async fn until(end: Instant, siege: &Siege, way: &Way) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let client = way.connect(siege).await;
        for _ in 0..EXCHANGES / 2 {
            let annotation = annotation_of(&timed(&mut times, client.call("WrapKey", &wrapping(TEAM))).await);
            let answer = timed(&mut times, client.call("UnWrapKey", &unwrapping(&[], &annotation))).await;
            assert_eq!(opts_data_of(&answer), OPTS_DATA);
            tokio::time::sleep(PAUSE).await;
            if Instant::now() >= end {
                break;
            }
        }
    }
    times
}

async fn timed<T>(times: &mut Vec<Duration>, exchange: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = exchange.await;
    times.push(begun.elapsed());
    answer
}

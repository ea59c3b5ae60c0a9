//! The key provider as a service: gRPC and ttrpc, on Unix sockets and behind mutual TLS.
//!
//! A [`Server`] lends only the keys that its policy allows, whoever names them, and knows of each caller what the kernel (a Unix
//! socket) or a certificate (TLS) says; see [`Caller`](crate::caller::Caller).

mod address;
mod admission;
mod connection;
mod connections;
mod corked;
mod exchanges;
mod frames;
mod gate;
mod grpc;
mod http2;
mod http2_frames;
mod identity;
mod listener;
mod memory;
mod metrics;
mod newcomers;
mod party;
mod protocol;
mod quota;
mod refresh;
mod refused_streams;
mod seldom;
mod status;
mod telemetry;
mod tls;
mod ttrpc;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

pub use self::address::{Address, AddressError};
use self::admission::Limits;
use self::connection::Times;
use self::connections::Connections;
use self::exchanges::Exchanges;
use self::gate::{Door, Gate, Refusals};
use self::listener::{Acceptor, Listener};
use self::memory::Memory;
pub use self::metrics::Metrics;
use self::protocol::Protocol;
use self::refresh::Refreshed;
pub use self::telemetry::SPANS;
use self::tls::{Files, Tls};
use crate::{Error, KeyProvider, config};

/// The name of this provider where neither the configuration nor the message tells it: the original server's.
pub const DEFAULT_NAME: &str = "grpc-keyprovider";
/// The Unix socket that a server listens on which isn't told where to.
pub const DEFAULT_SOCKET: &str = "/run/ocicrypt-kms/kms.sock";
/// An annotation that can be listed.
const READY: &[u8] = br#"{"key_url":"local://ready","wrapped_key":"AA==","wrap_type":"AES"}"#;
/// How many accepted connections may wait to be served.
const BACKLOG: usize = 64;

/// A server that listens and does not yet serve.
pub struct Server {
    provider: KeyProvider,
    listeners: Vec<Listener>,
    metrics: Option<(Metrics, std::net::TcpListener)>,
    tls: Option<Arc<Tls>>,
    settings: config::Server,
    control: Control,
}

/// Stops a server, and tells it to read files anew.
#[derive(Clone)]
pub struct Control {
    stop: watch::Sender<bool>,
    reload: Arc<tokio::sync::Notify>,
}

impl Control {
    /// Accepts no more, waits for what is under way, and ends [`Server::serve`].
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Reads the files of TLS and of the policy anew, even if they seem to be as before.
    pub fn reload(&self) {
        self.reload.notify_one();
    }
}

impl Server {
    /// Listens: on the sockets that systemd handed over, if there are any, else where `settings` say.
    ///
    /// # Errors
    /// If a setting is wrong, a file of TLS can't be read, the audit log can't be written, TCP would be served without TLS and nobody said that
    /// it may, or an address can't be listened on.
    pub fn bind(provider: KeyProvider, settings: &config::Server, metrics: Option<Metrics>) -> Result<Self, Error> {
        settings.check()?;
        let tls = tls(settings)?;
        provider.audit().map_or(Ok(()), |audit| audit.begin())?;
        let check = |is_tcp: bool, address: &str| match is_tcp && tls.is_none() {
            true if settings.insecure_tcp => {
                tracing::warn!(address, "TCP without TLS: whoever reaches it is a caller, and messages and answers can be read on the way");
                Ok(())
            }
            true => Err(open_to_all(address)),
            false => Ok(()),
        };
        let mut listeners = Listener::handed_over()?;
        listeners.iter().try_for_each(|listener| check(listener.is_tcp(), &listener.name))?;
        if listeners.is_empty() {
            for address in addresses(settings)? {
                check(matches!(address, Address::Tcp { .. }), &address.to_string())?;
                listeners.push(Listener::bind(&address, settings.group.as_deref())?);
            }
        }
        if tls.is_some() && !listeners.iter().any(Listener::is_tcp) {
            tracing::warn!("the files of TLS are for TCP, and no listener is: they are not used");
        }
        let metrics = match (metrics, &settings.metrics) {
            (Some(metrics), Some(address)) => Some((metrics, listener::tcp(address)?)),
            _ => None,
        };
        let control = Control { stop: watch::channel(false).0, reload: Arc::default() };
        Ok(Self { provider, listeners, metrics, tls: tls.map(Arc::new), settings: settings.clone(), control })
    }

    /// Checks what [`Server::bind`] needs of `settings`, and listens nowhere: limits, addresses, and whether the files of TLS fit together.
    ///
    /// # Errors
    /// The same as those of [`Server::bind`].
    pub fn check(settings: &config::Server) -> Result<(), Error> {
        settings.check()?;
        tls(settings)?;
        addresses(settings).map(drop)
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|listener| listener.name.as_str())
    }

    /// Where its metrics are.
    #[must_use]
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.metrics.as_ref().and_then(|(_, listener)| listener.local_addr().ok())
    }

    /// What stops it.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until it is stopped, and then as long as exchanges are under way, up to the configured time.
    ///
    /// # Errors
    /// If a socket can't be used.
    pub async fn serve(self) -> Result<(), Error> {
        let Self { provider, listeners, metrics, tls, settings, control: Control { stop, reload } } = self;
        let failed = |error: std::io::Error| Error::Internal { reason: format!("a socket can't be used: {error}") };
        // The first instance opens files that all later ones share: now, and not when clients have taken the last descriptors.
        provider.inspect(READY).await?;
        let audit = provider.audit().cloned();
        if let Some(tls) = &tls {
            refresh::count_ends(&tls.current());
        }
        let times = times(&settings, provider.deadline());
        let connections = Arc::new(Connections::new(settings.max_connections, settings.max_connections_per_caller()));
        let memory = Memory::new(settings.message_memory_mib as usize * (1 << 20));
        let mut refreshed = vec![Refreshed::Policy(provider.policy().clone())];
        refreshed.extend(tls.clone().map(|tls| Refreshed::Certificates(tls, connections.clone())));
        let limits = Limits {
            at_a_time: settings.max_exchanges,
            at_a_time_of_one: settings.max_exchanges_per_caller(),
            waiting: settings.max_waiting,
        };
        let exchanges = Arc::new(Exchanges::new(provider, limits, settings.exchanges_per_hour));
        let refusals = Arc::new(Refusals::new());
        let (grpc, grpc_connections) = mpsc::channel(BACKLOG);
        let (ttrpc, ttrpc_connections) = mpsc::channel(BACKLOG);
        let mut tasks = JoinSet::new();
        let mut accepting = Vec::new();
        for listener in listeners {
            let protocol = listener.protocol;
            let to = match protocol {
                Protocol::Grpc => grpc.clone(),
                Protocol::Ttrpc => ttrpc.clone(),
            };
            let tls = tls.clone().filter(|_| listener.is_tcp());
            let (connections, memory, refusals) = (connections.clone(), memory.clone(), refusals.clone());
            let door = Arc::new(Door { tls, protocol, connections, memory, times, to, refusals });
            let gate = Gate { acceptor: Acceptor::new(listener).map_err(failed)?, door };
            accepting.push(tasks.spawn(gate.accept()));
        }
        tasks.spawn(refresh::keep_fresh(refreshed, reload));
        if let Some((metrics, listener)) = metrics {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            tasks.spawn(metrics::serve(metrics, listener, stop.subscribe(), audit, times.greeting));
        }
        let serving = async {
            tokio::join!(
                grpc::serve(exchanges.clone(), grpc_connections, stop.subscribe(), times),
                ttrpc::serve(exchanges, ttrpc_connections, stop.subscribe(), times)
            )
            .0
        };
        let draining = async {
            stopped(&mut stop.subscribe()).await;
            accepting.iter().for_each(AbortHandle::abort);
            tokio::time::sleep(Duration::from_secs(settings.drain_seconds.into())).await;
            tracing::warn!(seconds = settings.drain_seconds, "exchanges that were not done in time are given up");
        };
        // They end when they are aborted, or by a panic. A server that accepts nobody, or reads no new certificates, is none: its manager starts another.
        let disabled = async {
            while let Some(ended) = tasks.join_next().await {
                if ended.is_err_and(|error| error.is_panic()) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            served = serving => served,
            () = draining => Ok(()),
            () = disabled => Err(Error::defect()),
        }
    }
}

fn tls(settings: &config::Server) -> Result<Option<Tls>, Error> {
    let (client_crl, client_crl_required) = (settings.client_crl.clone(), settings.client_crl_required);
    let files = |[certificate, key, client_ca]: [_; 3]| Files { certificate, key, client_ca, client_crl, client_crl_required };
    settings.tls()?.map(|named| Tls::load(files(named))).transpose()
}

/// How long clients are waited for, beside the longest time of an exchange.
fn times(settings: &config::Server, deadline: Duration) -> Times {
    let seconds = |number: u32| Duration::from_secs(number.into());
    Times {
        greeting: seconds(settings.greeting_seconds),
        message: deadline + seconds(settings.message_seconds),
        age: seconds(settings.connection_seconds),
    }
}

fn addresses(settings: &config::Server) -> Result<Vec<Address>, Error> {
    if settings.listen.is_empty() {
        return Ok(vec![Address::Grpc(DEFAULT_SOCKET.into())]);
    }
    let parse = |text: &String| {
        text.parse().map_err(|error: AddressError| Error::Configuration { place: "server.listen".into(), reason: error.to_string() })
    };
    settings.listen.iter().map(parse).collect()
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can stop it any more, because it has ended.
    let _ = stop.wait_for(|&stop| stop).await;
}

fn open_to_all(address: &str) -> Error {
    let reason = "without TLS anybody who reaches it could use the keys, on loopback too; give --tls-cert, --tls-key and --client-ca, \
                  listen on a Unix socket, or allow it with --insecure-tcp";
    Error::Configuration { place: address.to_owned(), reason: reason.into() }
}

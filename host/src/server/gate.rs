//! What stands between a listener and a protocol: places for connections, TLS, and patience with a system that is out of descriptors.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::connection::{Connection, Transport};
use super::connections::Connections;
use super::listener::Acceptor;
use super::protocol::Protocol;
use super::tls::{Client, Tls};
use crate::caller::Caller;
use crate::count;

/// How long accepting pauses when the system can't give another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Accepts one listener's connections.
pub(super) struct Gate {
    pub acceptor: Acceptor,
    pub tls: Option<Arc<Tls>>,
    pub protocol: Protocol,
    pub places: Arc<Semaphore>,
    pub connections: Arc<Connections>,
    pub to: mpsc::Sender<Connection>,
}

impl Gate {
    /// Accepts until the task is aborted. Greeting a client takes a task of its own, so that a slow one holds up nobody.
    pub async fn accept(self) {
        loop {
            let place = self.places.clone().acquire_owned().await.expect("it is never closed");
            match self.acceptor.accept().await {
                Ok((transport, caller)) => {
                    let (tls, connections, to) = (self.tls.clone(), self.connections.clone(), self.to.clone());
                    tokio::spawn(greet(tls, transport, caller, self.protocol, place, connections, to));
                }
                Err(error) => {
                    tracing::warn!(listener = self.acceptor.name, error = error.to_string(), "a connection can't be accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }
}

async fn greet(
    tls: Option<Arc<Tls>>,
    transport: Transport,
    caller: Caller,
    protocol: Protocol,
    place: OwnedSemaphorePermit,
    connections: Arc<Connections>,
    to: mpsc::Sender<Connection>,
) {
    let (transport, caller, shown) = match (tls, transport) {
        (Some(tls), Transport::Tcp(stream)) => {
            let from = stream.peer_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
            match tls.accept(stream).await {
                Ok(Client { stream, identity, shown }) => {
                    (Transport::Tls(Box::new(stream)), Caller::Certificate(Box::new(identity)), Some(shown))
                }
                Err(error) => {
                    // Who goes away before a word, as checks of load balancers do, was not refused.
                    if error.kind() != std::io::ErrorKind::UnexpectedEof {
                        count::tls_refusal();
                    }
                    return tracing::info!(from, error = error.to_string(), "no TLS with a client");
                }
            }
        }
        (_, transport) => (transport, caller, None),
    };
    let open = connections.enter(caller.clone(), shown);
    // Nobody takes it any more when the server has stopped.
    let _ = to.send(Connection::new(transport, caller, protocol, open, place)).await;
}

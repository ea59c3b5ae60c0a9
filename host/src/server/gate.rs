//! What stands between a listener and a protocol: greetings, places for connections, and patience with a system that is out of descriptors.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::connection::{Connection, Greeting, Times, Transport};
use super::connections::{Connections, Full};
use super::listener::Acceptor;
use super::memory::Memory;
use super::newcomers::Newcomers;
use super::protocol::Protocol;
use super::refused_streams::Refused;
use super::seldom::Seldom;
use super::tls::{Client, Shown, Tls};
use crate::caller::Caller;
use crate::count;

/// How long accepting pauses when the system can't give another connection.
pub(super) const EXHAUSTED: Duration = Duration::from_millis(100);
/// How many clients of one listener may have connected without having said who they are or what they speak. They have no place yet, so that they
/// take none of those that have, on this listener or another one.
const MAX_GREETINGS: usize = 256;

/// Accepts one listener's connections.
pub(super) struct Gate {
    pub acceptor: Acceptor,
    pub door: Arc<Door>,
}

/// How clients of one listener get in.
pub(super) struct Door {
    pub tls: Option<Arc<Tls>>,
    pub protocol: Protocol,
    pub connections: Arc<Connections>,
    pub memory: Arc<Memory>,
    pub times: Times,
    pub to: mpsc::Sender<Connection>,
    pub refusals: Arc<Refusals>,
}

/// What is logged of those who don't get in, and of what they ask for in vain before it is an exchange.
pub(super) struct Refusals {
    greeting: Seldom,
    full: Seldom,
    protocol: Seldom,
    tls: Seldom,
    http2: Seldom,
}

/// How many refusals of a kind are logged in a second: each may have another reason.
const LOGGED: u32 = 10;
/// The same for TLS, whose refusals have the most reasons.
const LOGGED_OF_TLS: u32 = 20;

impl Gate {
    /// Accepts until the task is aborted. Greeting a client takes a task of its own, so that a slow one holds up nobody.
    pub async fn accept(self) {
        let mut greetings = Newcomers::new(MAX_GREETINGS);
        loop {
            match self.acceptor.accept().await {
                Ok((transport, caller)) => {
                    // The one that has said nothing for longest makes way: who means it is through in milliseconds.
                    if greetings.begin(self.door.clone().greet(transport, caller)) {
                        self.door.refusals.unheard(&self.acceptor.name);
                    }
                }
                Err(error) => {
                    tracing::warn!(listener = self.acceptor.name, error = error.to_string(), "a connection can't be accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }
}

impl Door {
    async fn greet(self: Arc<Self>, transport: Transport, caller: Caller) {
        let Some((mut transport, caller, shown)) = self.secure(transport, caller).await else { return };
        let greeting = match Greeting::read(&mut transport, self.protocol, self.times.greeting).await {
            Ok(greeting) => greeting,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return self.refusals.protocol(&caller, self.protocol),
            Err(error) => return tracing::debug!(caller = caller.to_string(), error = error.to_string(), "a client without a greeting"),
        };
        match self.connections.enter(caller.clone(), shown) {
            // Nobody takes it any more when the server has stopped.
            Ok(open) => {
                let share = self.memory.share(&caller);
                let connection = Connection::new(transport, greeting, self.protocol, open, share, self.times, self.refusals.clone());
                drop(self.to.send(connection).await);
            }
            Err(full) => self.refusals.full(&caller, full),
        }
    }

    /// TLS, where the listener has it. It says who the caller is.
    async fn secure(&self, transport: Transport, caller: Caller) -> Option<(Transport, Caller, Option<Shown>)> {
        let (tls, stream) = match (&self.tls, transport) {
            (Some(tls), Transport::Tcp(stream)) => (tls, stream),
            (_, transport) => return Some((transport, caller, None)),
        };
        let from = stream.peer_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
        let accepted = tokio::time::timeout(self.times.greeting, tls.accept(stream)).await;
        match accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Client { stream, identity, shown }) => {
                Some((Transport::Tls(Box::new(stream)), Caller::Certificate(Box::new(identity)), Some(shown)))
            }
            Err(error) => {
                // Who goes away before a word, as checks of load balancers do, was not refused.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    count::tls_refusal();
                }
                self.refusals.tls(&from, &error);
                None
            }
        }
    }
}

impl Refusals {
    pub fn new() -> Self {
        let [protocol, http2] = std::array::from_fn(|_| Seldom::up_to(LOGGED));
        Self { greeting: Seldom::default(), full: Seldom::default(), protocol, tls: Seldom::up_to(LOGGED_OF_TLS), http2 }
    }

    /// A request, or a connection, that the library of HTTP/2 has refused.
    pub fn by_http2(&self, caller: &Caller, refused: Refused) {
        if let Some(times) = self.http2.happened() {
            let Refused { what, code } = refused;
            tracing::info!(
                caller = caller.to_string(),
                times,
                what,
                code,
                "refused by HTTP/2; a client that names the path of a Unix socket as authority needs an option (grpc.default_authority): docs/clients.md"
            );
        }
    }

    fn protocol(&self, caller: &Caller, expected: Protocol) {
        if let Some(times) = self.protocol.happened() {
            tracing::info!(caller = caller.to_string(), %expected, times, "a client speaks another protocol than its listener");
        }
    }

    fn tls(&self, from: &str, error: &io::Error) {
        // What a client's first bytes are if it speaks without TLS.
        let is_plain = error.to_string().contains("InvalidContentType");
        let advice = if is_plain { "; it speaks without TLS, as clients do that pass over `grpc-tls`: see docs/server.md" } else { "" };
        if let Some(times) = self.tls.happened() {
            tracing::info!(from, times, error = format!("{error}{advice}"), "no TLS with a client");
        }
    }

    fn unheard(&self, listener: &str) {
        count::connection_refused("greeting");
        if let Some(times) = self.greeting.happened() {
            tracing::warn!(listener, times, "too many clients have connected and say nothing; the first of them are sent away");
        }
    }

    fn full(&self, caller: &Caller, full: Full) {
        count::connection_refused(if full == Full::Share { "share" } else { "all" });
        if let Some(times) = self.full.happened() {
            tracing::warn!(caller = caller.to_string(), times, reason = full.to_string(), "a connection is refused");
        }
    }
}

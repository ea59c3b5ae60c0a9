//! One accepted connection: bytes in and out, and who is at the other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::connections::Open;
use super::protocol::Protocol;
use crate::caller::Caller;

/// How long a client may take until it has said what protocol it speaks; TLS has the same again.
pub(super) const GREETING: Duration = Duration::from_secs(10);

/// What bytes travel by.
pub(super) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One accepted connection.
pub(super) struct Connection {
    transport: Transport,
    caller: Caller,
    protocol: Protocol,
    greeting: Option<Greeting>,
    closed: Option<oneshot::Sender<()>>,
    open: Open,
    _place: OwnedSemaphorePermit,
}

/// A client that connects and then is silent would hold its place for ever: neither HTTP/2 nor ttrpc pings before the first frame.
struct Greeting {
    missing: usize,
    ends: Pin<Box<Sleep>>,
}

impl Connection {
    /// `place` is given back when the connection ends.
    pub fn new(transport: Transport, caller: Caller, protocol: Protocol, open: Open, place: OwnedSemaphorePermit) -> Self {
        let greeting = Greeting { missing: protocol.greeting(), ends: Box::pin(tokio::time::sleep(GREETING)) };
        Self { transport, caller, protocol, greeting: Some(greeting), closed: None, open, _place: place }
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Turns true when somebody else than its client wants it closed.
    pub fn close(&self) -> watch::Receiver<bool> {
        self.open.close()
    }

    /// Resolves when the connection has been closed.
    pub fn closed(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.closed = Some(sender);
        receiver
    }

    /// Notes what has been read of a greeting. Who speaks another protocol would wait for an answer that its own could read.
    fn heed_greeting(&mut self, read: &[u8]) -> io::Result<()> {
        let Some(greeting) = &mut self.greeting else { return Ok(()) };
        let is_first = greeting.missing == self.protocol.greeting();
        if let Some(&first) = read.first()
            && is_first
            && !self.protocol.begins_with(first)
        {
            tracing::info!(caller = self.caller.to_string(), expected = %self.protocol, "a client speaks another protocol than its listener");
            return Err(io::ErrorKind::InvalidData.into());
        }
        greeting.missing = greeting.missing.saturating_sub(read.len());
        if greeting.missing == 0 {
            self.greeting = None;
        }
        Ok(())
    }

    fn transport(&mut self) -> Pin<&mut dyn Stream> {
        match &mut self.transport {
            Transport::Unix(stream) => Pin::new(stream),
            Transport::Tcp(stream) => Pin::new(stream),
            Transport::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.transport().poll_read(context, buffer)?.is_pending() {
            if let Some(greeting) = &mut self.greeting {
                ready!(greeting.ends.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        }
        Poll::Ready(self.heed_greeting(&buffer.filled()[before..]))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.transport().poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.transport().poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Unix(stream) => stream.is_write_vectored(),
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_shutdown(context)
    }
}

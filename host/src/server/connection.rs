//! One accepted connection: bytes in and out, who is at the other end, and what its client can't draw out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::connections::Open;
use super::frames::Frames;
use super::gate::Refusals;
use super::memory::Share;
use super::protocol::Protocol;
use super::refused_streams::RefusedStreams;
use crate::caller::Caller;

/// What bytes travel by.
pub(super) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long things take that wait for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// TLS, and again the first bytes of its protocol.
    pub greeting: Duration,
    /// A message on its way in, with its exchange; an answer on its way out, which nobody takes.
    pub message: Duration,
    /// After so long the connection takes no more requests.
    pub age: Duration,
}

/// One accepted connection, whose client has said what protocol it speaks.
pub(super) struct Connection {
    transport: Transport,
    /// What was read of the client's greeting, and is not yet given to the protocol.
    greeting: Greeting,
    open: Open,
    share: Share,
    /// For ttrpc, whose library bounds nothing; HTTP/2 has its own bounds.
    frames: Option<Frames>,
    /// For HTTP/2.
    refused: Option<RefusedStreams>,
    refusals: Arc<Refusals>,
    stall: Stall,
    closed: Option<oneshot::Sender<()>>,
}

/// The first bytes that a client has sent.
pub(super) struct Greeting {
    bytes: Vec<u8>,
    given: usize,
}

impl Greeting {
    /// Reads what a client of this protocol begins with. Who speaks another one would wait for an answer that its own could read.
    ///
    /// # Errors
    /// That of the system, or [`io::ErrorKind::InvalidData`] if it is another protocol.
    pub async fn read(transport: &mut Transport, protocol: Protocol, time: Duration) -> io::Result<Self> {
        let mut bytes = vec![0; protocol.greeting()];
        let read = async {
            let mut known = 0;
            while known < bytes.len() {
                let count = transport.read(&mut bytes[known..]).await?;
                known += count;
                if count == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                if !protocol.begins_with(&bytes[..known]) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Ok(())
        };
        tokio::time::timeout(time, read).await??;
        Ok(Self { bytes, given: 0 })
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let left = &self.bytes[self.given..];
        let number = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..number]);
        self.given += number;
    }

    fn is_given(&self) -> bool {
        self.given == self.bytes.len()
    }
}

/// A write that makes no progress: its client doesn't read, and would have the server keep the answer for ever.
struct Stall {
    time: Duration,
    ends: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// What was polled, or an error if it has been pending for too long.
    fn bound<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.ends = None;
            return polled;
        }
        let time = self.time;
        ready!(self.ends.get_or_insert_with(|| Box::pin(tokio::time::sleep(time))).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connection {
    /// `open` ends when the connection does; its messages are held in `share`.
    pub fn new(
        transport: Transport,
        greeting: Greeting,
        protocol: Protocol,
        open: Open,
        share: Share,
        times: Times,
        refusals: Arc<Refusals>,
    ) -> Self {
        let is_ttrpc = protocol == Protocol::Ttrpc;
        Self {
            transport,
            greeting,
            open,
            frames: is_ttrpc.then(|| Frames::new(share.clone(), times)),
            share,
            refused: (!is_ttrpc).then(RefusedStreams::new),
            refusals,
            stall: Stall { time: times.message, ends: None },
            closed: None,
        }
    }

    /// Notes what has left.
    fn wrote(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            frames.wrote(bytes);
        }
        if let Some(refused) = &mut self.refused {
            refused.sent(bytes, |refused| self.refusals.by_http2(self.open.caller(), refused));
        }
    }

    pub fn caller(&self) -> &Caller {
        self.open.caller()
    }

    /// Where its messages are held.
    pub fn share(&self) -> &Share {
        &self.share
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
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { transport, greeting, frames, .. } = &mut *self;
        let read = |context: &mut Context<'_>, buffer: &mut ReadBuf<'_>| {
            if greeting.is_given() {
                return Pin::new(transport).poll_read(context, buffer);
            }
            greeting.give(buffer);
            Poll::Ready(Ok(()))
        };
        match frames {
            Some(frames) => frames.poll_read(context, buffer, read),
            None => read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write(context, bytes);
        if let Poll::Ready(Ok(number)) = &polled {
            self.wrote(&bytes[..*number]);
        }
        self.stall.bound(polled, context)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let first = buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[][..], |buffer| buffer);
        self.poll_write(context, first)
    }

    /// What is written is looked at, one part at a time.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.transport).poll_flush(context);
        self.stall.bound(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.transport).poll_shutdown(context);
        self.stall.bound(polled, context)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Transport {
    fn stream(&mut self) -> Pin<&mut dyn Stream> {
        match self {
            Self::Unix(stream) => Pin::new(stream),
            Self::Tcp(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

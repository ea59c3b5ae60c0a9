//! Fewer, larger writes: HTTP/2 flushes after each of its frames, which makes three system calls of one answer (the acknowledged ping of Go's
//! clients, headers with data, trailers), and three wake-ups of its client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::{Zeroize, Zeroizing};

/// So many bytes are written at once without waiting for more.
const FULL: usize = 16 << 10;

/// A stream whose flush waits until its task comes round again. What other tasks of the same connection have written by then leaves with it.
pub(super) struct Corked<S> {
    stream: S,
    written: Zeroizing<Vec<u8>>,
    sent: usize,
    /// Whether a flush has been put off already.
    put_off: bool,
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, written: Zeroizing::default(), sent: 0, put_off: false }
    }

    /// Hands over what was written.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.written.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.written[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        // Answers hold keys of layers.
        self.written.zeroize();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.written.len() >= FULL {
            ready!(self.poll_drain(context))?;
        }
        slices.iter().for_each(|slice| self.written.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written.is_empty() {
            return Pin::new(&mut self.stream).poll_flush(context);
        }
        if !std::mem::replace(&mut self.put_off, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drain(context))?;
        self.put_off = false;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_before_a_flush_is_done_leaves_together() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut corked = Corked::new(near);
        corked.write_all(b"one ").await.unwrap();
        let mut flush = std::pin::pin!(corked.flush());
        let first = std::future::poll_fn(|context| Poll::Ready(flush.as_mut().poll(context).is_pending())).await;
        assert!(first, "it waits for its next turn");
        let mut buffer = [0; 8];
        let nothing =
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut far).poll_read(context, &mut ReadBuf::new(&mut buffer)).is_pending()));
        assert!(nothing.await);
        flush.await.unwrap();
        assert_eq!(far.read(&mut buffer).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn much_is_handed_over_without_a_flush_and_all_of_it_on_shutdown() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut corked = Corked::new(near);
        for _ in 0..9 {
            corked.write_all(&[7; 4 << 10]).await.unwrap();
        }
        assert!(corked.written.len() < 9 * (4 << 10), "the first part is gone");
        corked.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 9 * (4 << 10));
    }
}

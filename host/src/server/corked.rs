//! One write for all that a connection has to say at a time: HTTP/2 flushes in the middle of an answer, between its data and its trailers, which
//! makes two system calls of it, and two wake-ups of its client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::{Zeroize, Zeroizing};

/// So many bytes are handed over at once without waiting for more.
const FULL: usize = 16 << 10;

/// A stream that keeps what is written, also when it is flushed, until [`Corked::drain`]: whoever polls what writes to it calls that afterwards.
/// Copies are the same stream.
pub(super) struct Corked<S>(Arc<Mutex<Bottle<S>>>);

struct Bottle<S> {
    stream: S,
    written: Zeroizing<Vec<u8>>,
    sent: usize,
    flushed: bool,
    /// What happened when nobody was there to be told.
    error: Option<io::Error>,
}

impl<S> Clone for Corked<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Corked<S> {
    pub fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Bottle { stream, written: Zeroizing::default(), sent: 0, flushed: true, error: None })))
    }

    /// Hands over what was written, now or when the stream takes it: then the task is woken. If it never will, the next read or write says so.
    pub fn drain(&self, context: &mut Context<'_>) {
        let mut bottle = self.bottle();
        if let Poll::Ready(Err(error)) = bottle.poll_flush(context) {
            bottle.error = Some(error);
            context.waker().wake_by_ref();
        }
    }

    /// Nobody waits for it: all that has the stream is in one task.
    fn bottle(&self) -> MutexGuard<'_, Bottle<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self) -> io::Result<MutexGuard<'_, Bottle<S>>> {
        let mut bottle = self.bottle();
        bottle.error.take().map_or(Ok(bottle), Err)
    }
}

impl<S: AsyncWrite + Unpin> Bottle<S> {
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

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.flushed {
            ready!(self.poll_drain(context))?;
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut bottle = self.checked()?;
        if bottle.written.len() >= FULL {
            ready!(bottle.poll_drain(context))?;
        }
        slices.iter().for_each(|slice| bottle.written.extend_from_slice(slice));
        bottle.flushed = false;
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.checked().map(drop))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bottle = self.checked()?;
        ready!(bottle.poll_drain(context))?;
        Pin::new(&mut bottle.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.checked()?.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    async fn drain<S: AsyncRead + AsyncWrite + Unpin>(corked: &Corked<S>) {
        poll_fn(|context| {
            corked.drain(context);
            Poll::Ready(())
        })
        .await;
    }

    async fn is_silent(far: &mut DuplexStream) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *far).poll_read(context, &mut ReadBuf::new(&mut [0])).is_pending())).await
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_in_one_turn_leaves_together_at_its_end() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut corked = Corked::new(near);
        for part in ["an answer's data ", "and its trailers"] {
            corked.write_all(part.as_bytes()).await.unwrap();
            corked.flush().await.unwrap();
        }
        assert!(is_silent(&mut far).await);
        drain(&corked).await;
        let mut buffer = [0; 64];
        let count = far.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"an answer's data and its trailers");
        assert!(corked.bottle().written.is_empty());
    }

    #[tokio::test]
    async fn what_a_slow_client_does_not_take_leaves_when_it_does() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut corked = Corked::new(near);
        corked.write_all(b"more than four").await.unwrap();
        let writer = tokio::spawn(poll_fn(move |context| {
            corked.drain(context);
            if corked.bottle().flushed { Poll::Ready(()) } else { Poll::Pending }
        }));
        let mut buffer = [0; 14];
        far.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"more than four");
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn who_writes_to_a_client_that_is_gone_learns_it() {
        let (near, far) = tokio::io::duplex(4);
        let mut corked = Corked::new(near);
        drop(far);
        corked.write_all(b"an answer").await.unwrap();
        drain(&corked).await;
        assert_eq!(corked.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn much_is_handed_over_without_a_flush_and_all_of_it_on_shutdown() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut corked = Corked::new(near);
        for _ in 0..9 {
            corked.write_all(&[7; 4 << 10]).await.unwrap();
        }
        assert!(corked.bottle().written.len() < 9 * (4 << 10), "the first part is gone");
        corked.shutdown().await.unwrap();
        drop(corked);
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 9 * (4 << 10));
    }
}

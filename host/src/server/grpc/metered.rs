//! Bodies of gRPC on their way in and out: no message is collected for which there is no room, and an answer stays counted until it leaves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

use super::super::memory::Held;
use super::super::status;

/// What stands before each message (gRPC over HTTP/2, Length-Prefixed-Message): whether it is compressed, and its length.
const PREFIX: usize = 5;
/// How much of an answer is handed to HTTP/2 at a time. What it has, it keeps until the client opens its window, and nobody counts it.
const PORTION: usize = 1 << 10;

/// A request's body. A message counts as soon as its length is known, since that much memory is made ready for it.
pub(super) struct Metered<B = Incoming> {
    body: B,
    held: Arc<Held>,
    /// Longer messages are refused by who collects them.
    limit: usize,
    prefix: [u8; PREFIX],
    /// How much of the prefix is known.
    known: usize,
    /// How much of the message is missing.
    missing: usize,
}

impl<B> Metered<B> {
    pub fn new(body: B, held: Arc<Held>, limit: usize) -> Self {
        Self { body, held, limit, prefix: [0; PREFIX], known: 0, missing: 0 }
    }

    /// Counts the messages that begin in these bytes.
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let part = self.missing.min(bytes.len());
                self.missing -= part;
                bytes.advance(part);
                continue;
            }
            self.prefix[self.known] = bytes.get_u8();
            self.known += 1;
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length <= self.limit {
                    self.held.take(length).map_err(|full| Status::from(status::Status::from(full)))?;
                }
                (self.known, self.missing) = (0, length);
            }
        }
        Ok(())
    }
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::from_error(error.into()))?;
            frame.data_ref().map_or(Ok(()), |data| self.count(data))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, in portions.
pub(super) struct Portions<B = tonic::body::Body> {
    body: B,
    rest: Bytes,
    _held: Arc<Held>,
}

impl<B> Portions<B> {
    pub fn new(body: B, held: Arc<Held>) -> Self {
        Self { body, rest: Bytes::new(), _held: held }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Portions<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let portion = PORTION.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(portion)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::Memory;
    use super::*;
    use crate::caller::Caller;

    /// A body that arrives in these parts.
    struct Parts(Vec<Bytes>);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready((!self.0.is_empty()).then(|| Ok(Frame::data(self.0.remove(0)))))
        }
    }

    fn message(length: u32, there: usize) -> Vec<u8> {
        [&[0][..], &length.to_be_bytes(), &vec![7; there]].concat()
    }

    /// Reads a body to its end, and gives the lengths of its parts.
    async fn read(body: &mut (impl Body<Data = Bytes, Error = Status> + Unpin)) -> Result<Vec<usize>, Status> {
        let mut lengths = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            lengths.extend(frame?.data_ref().map(Bytes::len));
        }
        Ok(lengths)
    }

    #[tokio::test]
    async fn a_message_counts_as_soon_as_its_length_is_known_however_its_bytes_are_cut() {
        let whole = [message(40, 40), message(0, 0), message(20, 0)].concat();
        for cut in 1..whole.len() {
            let memory = Memory::new(80);
            let held = Arc::new(memory.share(&Caller::Anonymous).begin());
            let parts = Parts(whole.chunks(cut).map(Bytes::copy_from_slice).collect());
            read(&mut Metered::new(parts, held.clone(), 60)).await.unwrap();
            assert!(memory.share(&Caller::Anonymous).begin().take(1).is_err(), "three quarters of 80 are held: {cut}");
            drop(held);
        }
    }

    #[tokio::test]
    async fn a_message_for_which_there_is_no_room_is_refused_and_one_that_nobody_collects_is_not_counted() {
        let memory = Memory::new(80);
        let body = |length| Metered::new(Parts(vec![message(length, 1).into()]), Arc::new(memory.share(&Caller::Anonymous).begin()), 100);
        let status = read(&mut body(61)).await.unwrap_err();
        assert!(status.code() == tonic::Code::ResourceExhausted && status.message().contains("`message-memory-mib`"), "{status}");
        assert!(read(&mut body(60)).await.is_ok() && read(&mut body(u32::MAX)).await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_leaves_in_portions() {
        let held = Arc::new(Memory::new(80).share(&Caller::Anonymous).begin());
        let mut answer = Portions::new(Parts(vec![Bytes::from(vec![1; 2 * PORTION + 1]), Bytes::from_static(b"x")]), held);
        assert_eq!(read(&mut answer).await.unwrap(), [PORTION, PORTION, 1, 1]);
    }
}

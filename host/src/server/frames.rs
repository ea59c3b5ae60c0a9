//! Frames of ttrpc on their way in and out: how many requests wait for an answer, how long a message takes to arrive, and when there are no more.
//! The library that reads them bounds none of it.
//!
//! A frame has a header of ten bytes (length of the body, stream, type, flags) and a body
//! ([protocol](https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md)).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Sleep;
use ttrpc::proto::{MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, MessageHeader};

use super::connection::Times;
use super::http2::MAX_STREAMS;
use super::memory::{Held, Share};

/// The frames of one connection.
pub(super) struct Frames {
    incoming: Position,
    outgoing: Position,
    /// The requests without an answer, by their streams, and what they hold.
    unanswered: Vec<(u32, Held)>,
    share: Share,
    /// Who reads, while there are as many requests as there may be.
    paused: Option<Waker>,
    message_time: Duration,
    /// When the message that is arriving has to be here.
    message: Option<Pin<Box<Sleep>>>,
    /// When the connection is old: what is under way may end.
    age: Pin<Box<Sleep>>,
}

/// Where in its frames a direction is.
#[derive(Default)]
struct Position {
    header: [u8; MESSAGE_HEADER_LENGTH],
    /// How much of the header is known.
    known: usize,
    /// How much of the body is missing.
    missing: u64,
}

impl Frames {
    pub fn new(share: Share, times: Times) -> Self {
        Self {
            incoming: Position::default(),
            outgoing: Position::default(),
            unanswered: Vec::new(),
            share,
            paused: None,
            message_time: times.message,
            message: None,
            age: Box::pin(tokio::time::sleep(times.age)),
        }
    }

    /// Reads by `read`, no further than the end of a header or body.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        read: impl FnOnce(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if self.incoming.is_between() {
            let is_old = self.age.as_mut().poll(context).is_ready();
            if is_old && self.unanswered.is_empty() {
                // The end, for the library.
                return Poll::Ready(Ok(()));
            }
            if is_old || self.unanswered.len() >= MAX_STREAMS as usize {
                self.paused = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let wanted = self.incoming.wanted().min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(wanted));
        if read(context, &mut part)?.is_pending() {
            if let Some(message) = &mut self.message {
                ready!(message.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        }
        let number = part.filled().len();
        let arrived = self.arrived(part.filled());
        buffer.advance(number);
        Poll::Ready(arrived)
    }

    fn arrived(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.message.is_none() {
            self.message = Some(Box::pin(tokio::time::sleep(self.message_time)));
        }
        if let Some(header) = self.incoming.advance(bytes) {
            // Streams, which the service has none of, and whatever there will be.
            if header.type_ != MESSAGE_TYPE_REQUEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let held = self.share.begin();
            // A longer one is not collected: the library says so to the client.
            let length = usize::try_from(header.length).ok().filter(|length| *length <= MESSAGE_LENGTH_MAX);
            held.take(length.unwrap_or_default()).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.unanswered.push((header.stream_id, held));
        }
        if self.incoming.is_between() {
            self.message = None;
        }
        Ok(())
    }

    /// Notes what was written.
    pub fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.outgoing.wanted()));
            if let Some(header) = self.outgoing.advance(part)
                && header.type_ == MESSAGE_TYPE_RESPONSE
            {
                if let Some(number) = self.unanswered.iter().position(|(stream, _)| *stream == header.stream_id) {
                    self.unanswered.swap_remove(number);
                }
                self.paused.take().into_iter().for_each(Waker::wake);
            }
            bytes = rest;
        }
    }
}

impl Position {
    /// How many bytes there are until the end of the header or of the body.
    fn wanted(&self) -> usize {
        let header = MESSAGE_HEADER_LENGTH - self.known;
        if header > 0 { header } else { usize::try_from(self.missing).unwrap_or(usize::MAX) }
    }

    /// Whether a frame has ended, and none has begun.
    fn is_between(&self) -> bool {
        self.known == 0
    }

    /// Goes on by bytes that are no more than what is wanted, and returns the header if they complete it.
    fn advance(&mut self, bytes: &[u8]) -> Option<MessageHeader> {
        if self.known == MESSAGE_HEADER_LENGTH {
            self.missing = self.missing.saturating_sub(bytes.len() as u64);
            self.end_if_whole();
            return None;
        }
        self.header[self.known..self.known + bytes.len()].copy_from_slice(bytes);
        self.known += bytes.len();
        if self.known < MESSAGE_HEADER_LENGTH {
            return None;
        }
        let header = MessageHeader::from(self.header);
        self.missing = header.length.into();
        self.end_if_whole();
        Some(header)
    }

    fn end_if_whole(&mut self) {
        if self.missing == 0 {
            self.known = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::Memory;
    use super::*;
    use crate::caller::Caller;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    fn frame(kind: u8, length: u32) -> Vec<u8> {
        [&length.to_be_bytes()[..], &1_u32.to_be_bytes(), &[kind, 0], &vec![7; length as usize]].concat()
    }

    fn frames(message: Duration, age: Duration) -> Frames {
        let share = Memory::new(1 << 30).share(&Caller::Anonymous);
        Frames::new(share, Times { greeting: LONG, message, age })
    }

    /// Reads what there is, as far as it is let, and says how much that was.
    async fn read(frames: &mut Frames, mut bytes: &[u8]) -> io::Result<usize> {
        let before = bytes.len();
        std::future::poll_fn(|context| {
            loop {
                let mut buffer = [0; 4096];
                let mut buffer = ReadBuf::new(&mut buffer);
                let polled = frames.poll_read(context, &mut buffer, |_, part| {
                    if bytes.is_empty() {
                        return Poll::Pending;
                    }
                    let (taken, rest) = bytes.split_at(bytes.len().min(part.remaining()));
                    part.put_slice(taken);
                    bytes = rest;
                    Poll::Ready(Ok(()))
                });
                match polled {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(ended) => return Poll::Ready(ended),
                    Poll::Pending => return Poll::Ready(Ok(())),
                }
            }
        })
        .await?;
        Ok(before - bytes.len())
    }

    #[tokio::test]
    async fn requests_are_read_until_as_many_wait_for_an_answer_as_may() {
        let mut frames = frames(LONG, LONG);
        let request = frame(MESSAGE_TYPE_REQUEST, 5);
        let many = request.repeat(150);
        let read_first = read(&mut frames, &many).await.unwrap();
        assert_eq!(read_first, request.len() * MAX_STREAMS as usize);
        // An answer in two writes.
        let answer = frame(MESSAGE_TYPE_RESPONSE, 20);
        frames.wrote(&answer[..7]);
        assert_eq!(read(&mut frames, &many[read_first..]).await.unwrap(), 0);
        frames.wrote(&answer[7..]);
        assert_eq!(read(&mut frames, &many[read_first..]).await.unwrap(), request.len());
        frames.wrote(&answer.repeat(3));
        assert_eq!(read(&mut frames, &many[read_first + request.len()..]).await.unwrap(), 3 * request.len());
    }

    #[tokio::test]
    async fn a_message_that_does_not_arrive_in_time_is_an_error_and_an_idle_connection_is_not() {
        let mut frames = frames(SHORT, LONG);
        let request = frame(MESSAGE_TYPE_REQUEST, 5);
        assert_eq!(read(&mut frames, &request).await.unwrap(), request.len());
        tokio::time::sleep(2 * SHORT).await;
        assert_eq!(read(&mut frames, &request[..1]).await.unwrap(), 1);
        tokio::time::sleep(2 * SHORT).await;
        assert_eq!(read(&mut frames, b"").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_old_connection_takes_no_more_requests_and_ends_with_its_last_answer() {
        let mut frames = frames(LONG, SHORT);
        let request = frame(MESSAGE_TYPE_REQUEST, 5);
        read(&mut frames, &request).await.unwrap();
        tokio::time::sleep(2 * SHORT).await;
        assert_eq!(read(&mut frames, &request).await.unwrap(), 0);
        frames.wrote(&frame(MESSAGE_TYPE_RESPONSE, 0));
        let mut buffer = [0; 16];
        let mut buffer = ReadBuf::new(&mut buffer);
        let ended = std::future::poll_fn(|context| frames.poll_read(context, &mut buffer, |_, _| panic!("nothing is read"))).await;
        assert!(ended.is_ok() && buffer.filled().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_request_is_an_error() {
        for kind in [0, MESSAGE_TYPE_RESPONSE, 3, 255] {
            let error = read(&mut frames(LONG, LONG), &frame(kind, 5)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn a_position_finds_each_header_however_the_bytes_are_cut(lengths in prop::collection::vec(0_u32..40, 1..8), cut in 1_usize..50) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|&length| frame(MESSAGE_TYPE_RESPONSE, length)).collect();
            let mut position = Position::default();
            let mut found = Vec::new();
            for mut part in bytes.chunks(cut) {
                while !part.is_empty() {
                    let (now, rest) = part.split_at(part.len().min(position.wanted()));
                    found.extend(position.advance(now).map(|header| header.length));
                    part = rest;
                }
            }
            prop_assert!(position.is_between());
            prop_assert_eq!(found, lengths);
        }
    }
}

//! How many exchanges run at a time, and how many wait for their turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Lets so many exchanges in, in the order in which they came.
#[derive(Debug)]
pub(super) struct Admission {
    turns: Semaphore,
    at_a_time: u32,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// Why an exchange was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turned {
    /// As many wait as may wait.
    Away,
    /// Its turn did not come in time.
    Late,
}

impl Admission {
    pub fn new(at_a_time: u32, max_waiting: u32) -> Self {
        Self { turns: Semaphore::new(at_a_time as usize), at_a_time, waiting: AtomicUsize::new(0), max_waiting: max_waiting as usize }
    }

    /// Waits for a turn, which lasts until what this returns is dropped.
    pub async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Turned> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _place = Place::take(self).ok_or(Turned::Away)?;
        match tokio::time::timeout_at(deadline.into(), self.turns.acquire()).await {
            Ok(turn) => Ok(turn.expect("it is never closed")),
            Err(_) => Err(Turned::Late),
        }
    }

    /// Waits until nobody has a turn or waits for one.
    pub async fn idle(&self) {
        let _all = self.turns.acquire_many(self.at_a_time).await;
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(admission: &'a Admission) -> Option<Self> {
        let place = Self(&admission.waiting);
        (admission.waiting.fetch_add(1, Ordering::Relaxed) < admission.max_waiting).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn one_waits_for_its_turn_and_the_next_is_turned_away() {
        let admission = Admission::new(1, 1);
        let turn = admission.turn(soon()).await.unwrap();
        let later = Instant::now() + Duration::from_secs(10);
        let mut waits = Box::pin(admission.turn(later));
        assert!(poll_once(&mut waits).await.is_none());
        assert_eq!(admission.turn(later).await.unwrap_err(), Turned::Away);
        drop(turn);
        assert!(waits.await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_in_vain_leaves_the_queue() {
        let admission = Admission::new(1, 1);
        let _turn = admission.turn(soon()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(admission.turn(soon()).await.unwrap_err(), Turned::Late);
        }
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_queue() {
        let admission = Admission::new(1, 1);
        let _turn = admission.turn(soon()).await.unwrap();
        let later = Instant::now() + Duration::from_secs(10);
        for _ in 0..3 {
            assert!(poll_once(&mut Box::pin(admission.turn(later))).await.is_none());
        }
    }

    /// Polls once.
    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}

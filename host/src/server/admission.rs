//! How many exchanges run at a time, how many wait for their turn, and what share of both one caller has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::party::Party;
use crate::config::three_quarters;

/// Lets so many exchanges in, in the order in which they came.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    turns: Arc<Semaphore>,
    parties: Mutex<Parties>,
}

/// How many exchanges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub at_a_time: u32,
    pub at_a_time_of_one: u32,
    pub waiting: u32,
}

impl Limits {
    /// The places to wait that one caller may have: three quarters.
    fn waiting_of_one(self) -> u32 {
        three_quarters(self.waiting)
    }
}

#[derive(Debug, Default)]
struct Parties {
    of: HashMap<Party, Share>,
    waiting: u32,
}

/// What one party has.
#[derive(Debug)]
struct Share {
    turns: Arc<Semaphore>,
    waiting: u32,
    /// How many exchanges of it are running or waiting.
    present: u32,
}

/// Why an exchange was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turned {
    /// As many wait as may wait.
    Away,
    /// As many of its caller's wait as may.
    Share,
    /// Its turn did not come in time.
    Late,
}

/// A turn, which lasts until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _permits: [OwnedSemaphorePermit; 2],
    _presence: Presence<'a>,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        Self { limits, turns: Arc::new(Semaphore::new(limits.at_a_time as usize)), parties: Mutex::default() }
    }

    /// Waits for a turn.
    pub async fn turn(&self, party: Party, deadline: Instant) -> Result<Turn<'_>, Turned> {
        let (presence, own) = Presence::begin(self, party);
        if let Ok(own) = own.clone().try_acquire_owned()
            && let Ok(all) = self.turns.clone().try_acquire_owned()
        {
            return Ok(Turn { _permits: [own, all], _presence: presence });
        }
        let _place = Place::take(self, presence.party.clone())?;
        // First of its caller's turns, so that the others of that caller don't stand before everybody else's.
        let both =
            async { [own.acquire_owned().await, self.turns.clone().acquire_owned().await].map(|turn| turn.expect("it is never closed")) };
        match tokio::time::timeout_at(deadline.into(), both).await {
            Ok(permits) => Ok(Turn { _permits: permits, _presence: presence }),
            Err(_) => Err(Turned::Late),
        }
    }

    /// Waits until nobody has a turn or waits for one.
    pub async fn idle(&self) {
        let _all = self.turns.acquire_many(self.limits.at_a_time).await;
    }

    fn parties(&self) -> MutexGuard<'_, Parties> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange that runs or waits: its party is known as long as there is one.
#[derive(Debug)]
struct Presence<'a> {
    admission: &'a Admission,
    party: Party,
}

impl<'a> Presence<'a> {
    fn begin(admission: &'a Admission, party: Party) -> (Self, Arc<Semaphore>) {
        let mut parties = admission.parties();
        let new = || Share { turns: Arc::new(Semaphore::new(admission.limits.at_a_time_of_one as usize)), waiting: 0, present: 0 };
        let share = parties.of.entry(party.clone()).or_insert_with(new);
        share.present += 1;
        let turns = share.turns.clone();
        drop(parties);
        (Self { admission, party }, turns)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        let mut parties = self.admission.parties();
        if let Some(share) = parties.of.get_mut(&self.party) {
            share.present -= 1;
            if share.present == 0 {
                parties.of.remove(&self.party);
            }
        }
    }
}

/// A place in the queue.
struct Place<'a> {
    admission: &'a Admission,
    party: Party,
}

impl<'a> Place<'a> {
    fn take(admission: &'a Admission, party: Party) -> Result<Self, Turned> {
        let mut parties = admission.parties();
        let (waiting, limits) = (parties.waiting, admission.limits);
        let share = parties.of.get_mut(&party).ok_or(Turned::Away)?;
        if waiting >= limits.waiting {
            return Err(Turned::Away);
        }
        if share.waiting >= limits.waiting_of_one() {
            return Err(Turned::Share);
        }
        share.waiting += 1;
        parties.waiting += 1;
        Ok(Self { admission, party })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut parties = self.admission.parties();
        parties.waiting -= 1;
        if let Some(share) = parties.of.get_mut(&self.party) {
            share.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    const ONE: Party = Party::User(1);
    const OTHER: Party = Party::User(2);

    fn admission(at_a_time: u32, at_a_time_of_one: u32, waiting: u32) -> Admission {
        Admission::new(Limits { at_a_time, at_a_time_of_one, waiting })
    }

    #[tokio::test]
    async fn one_waits_for_its_turn_and_the_next_is_turned_away() {
        let admission = admission(1, 1, 1);
        let turn = admission.turn(ONE, soon()).await.unwrap();
        let mut waits = Box::pin(admission.turn(ONE, later()));
        assert!(poll_once(&mut waits).await.is_none());
        assert_eq!(admission.turn(ONE, later()).await.unwrap_err(), Turned::Away);
        drop(turn);
        assert!(waits.await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_in_vain_leaves_the_queue() {
        let admission = admission(1, 1, 1);
        let _turn = admission.turn(ONE, soon()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(admission.turn(ONE, soon()).await.unwrap_err(), Turned::Late);
        }
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_queue() {
        let admission = admission(1, 1, 1);
        let _turn = admission.turn(ONE, soon()).await.unwrap();
        for _ in 0..3 {
            assert!(poll_once(&mut Box::pin(admission.turn(ONE, later()))).await.is_none());
        }
    }

    #[tokio::test]
    async fn one_caller_can_have_neither_all_turns_nor_all_places_to_wait() {
        let admission = admission(4, 3, 4);
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(admission.turn(ONE, soon()).await.unwrap());
        }
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(admission.turn(ONE, later()))).collect();
        for wait in &mut waiting {
            assert!(poll_once(wait).await.is_none(), "its own share is used up");
        }
        assert_eq!(admission.turn(ONE, later()).await.unwrap_err(), Turned::Share);
        // The other comes at once, though three came before.
        let others = admission.turn(OTHER, soon()).await.unwrap();
        let mut other = Box::pin(admission.turn(OTHER, later()));
        assert!(poll_once(&mut other).await.is_none());
        drop(others);
        assert!(poll_once(&mut other).await.is_some_and(|turn| turn.is_ok()));
        drop((turns, waiting, other));
        assert!(admission.parties().of.is_empty() && admission.parties().waiting == 0, "nobody is remembered");
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

//! How many bytes of messages and answers a server holds: of all its callers, and of one.
//!
//! Limits of connections, streams and single messages multiply to more than a machine has. This one is of their sum.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::party::Party;
use super::seldom::Seldom;
use super::status::Status;
use crate::caller::Caller;
use crate::count;

/// The memory for messages and answers of one server.
pub(super) struct Memory {
    max: usize,
    max_of_one: usize,
    used: Mutex<Used>,
    refused: Seldom,
}

#[derive(Default)]
struct Used {
    /// Of each party no more than its share: answers beyond that are not at the cost of others.
    all: usize,
    of: HashMap<Party, usize>,
}

/// There is no room for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

/// The part of a server's memory that one connection's requests are held in.
#[derive(Clone)]
pub(super) struct Share {
    memory: Arc<Memory>,
    party: Party,
}

/// What one request and its answer hold, until this is dropped.
pub(super) struct Held {
    share: Share,
    bytes: AtomicUsize,
}

impl Memory {
    /// Room for `max` bytes, three quarters of them of one caller.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, max_of_one: max - max / 4, used: Mutex::default(), refused: Seldom::default() })
    }

    /// The share of this caller.
    pub fn share(self: &Arc<Self>, caller: &Caller) -> Share {
        Share { memory: self.clone(), party: Party::from(caller) }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// A request that holds nothing yet.
    pub fn begin(&self) -> Held {
        Held { share: self.clone(), bytes: AtomicUsize::new(0) }
    }
}

impl Held {
    /// Takes room for a message, if there is any.
    pub fn take(&self, bytes: usize) -> Result<(), Full> {
        let Share { memory, party } = &self.share;
        let mut used = memory.used();
        let of_party = used.of.get(party).copied().unwrap_or_default();
        if bytes > memory.max.saturating_sub(used.all) || bytes > memory.max_of_one.saturating_sub(of_party) {
            drop(used);
            count::exchange_refused("memory");
            if let Some(times) = memory.refused.happened() {
                tracing::warn!(caller = party.to_string(), times, "a message is refused: too many bytes of messages and answers are held");
            }
            return Err(Full);
        }
        used.change(party, memory.max_of_one, |of_party| of_party + bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts an answer, which is there already. There are no more of them than exchanges.
    pub fn owe(&self, bytes: usize) {
        let Share { memory, party } = &self.share;
        memory.used().change(party, memory.max_of_one, |of_party| of_party + bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Used {
    fn change(&mut self, party: &Party, max_of_one: usize, change: impl FnOnce(usize) -> usize) {
        let before = self.of.get(party).copied().unwrap_or_default();
        let after = change(before);
        self.all = self.all - before.min(max_of_one) + after.min(max_of_one);
        if after == 0 {
            self.of.remove(party);
        } else {
            self.of.insert(party.clone(), after);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        let Share { memory, party } = &self.share;
        memory.used().change(party, memory.max_of_one, |of_party| of_party - bytes);
    }
}

impl From<Full> for Status {
    fn from(Full: Full) -> Self {
        Self::out_of_memory()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Caller {
        Caller::Peer { uid, gid: 0, pid: None }
    }

    #[test]
    fn one_caller_can_not_hold_all_memory_and_what_is_dropped_is_given_back() {
        let memory = Memory::new(100);
        let [one, other] = [1, 2].map(|uid| memory.share(&user(uid)).begin());
        assert_eq!(one.take(75), Ok(()));
        assert_eq!(one.take(1), Err(Full));
        assert_eq!(other.take(26), Err(Full));
        assert_eq!(other.take(25), Ok(()));
        drop(one);
        assert_eq!(memory.share(&user(1)).begin().take(75), Ok(()));
        assert_eq!(other.take(usize::MAX), Err(Full));
        drop(other);
        assert!(memory.used().of.is_empty() && memory.used().all == 0);
    }

    #[test]
    fn an_answer_counts_although_there_is_no_room_and_its_caller_gets_no_message_in_then() {
        let memory = Memory::new(100);
        let share = memory.share(&user(1));
        let held = share.begin();
        held.owe(200);
        assert_eq!(share.begin().take(1), Err(Full));
        assert_eq!(memory.share(&user(2)).begin().take(25), Ok(()), "the others have what is not the share of one");
        drop(held);
        assert_eq!(share.begin().take(1), Ok(()));
        assert_eq!(memory.used().all, 0);
    }
}

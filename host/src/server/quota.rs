//! How many exchanges each caller may have in an hour, if an operator wants that bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::party::Party;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// How many callers are remembered at a time. Where there are more, those who have used up nothing are forgotten, and if that doesn't help, nobody new
/// gets in.
const MAX_PARTIES: usize = 16_384;

/// What each caller has left, in this process alone. It comes back evenly: a sixtieth of it each minute.
#[derive(Debug)]
pub(super) struct Quota {
    an_hour: u32,
    left: Mutex<HashMap<Party, Left>>,
}

/// What one caller had left, and when.
#[derive(Clone, Copy, Debug)]
struct Left {
    exchanges: f64,
    at: Instant,
}

impl Quota {
    pub fn new(an_hour: u32) -> Self {
        Self { an_hour, left: Mutex::default() }
    }

    /// Takes one exchange of this caller's, if it has one left.
    pub fn take(&self, party: &Party, now: Instant) -> bool {
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(party) && all.len() >= MAX_PARTIES {
            all.retain(|_, left| self.exchanges(*left, now) < f64::from(self.an_hour));
            if all.len() >= MAX_PARTIES {
                return false;
            }
        }
        let left = all.entry(party.clone()).or_insert(Left { exchanges: self.an_hour.into(), at: now });
        *left = Left { exchanges: self.exchanges(*left, now), at: now };
        if left.exchanges < 1.0 {
            return false;
        }
        left.exchanges -= 1.0;
        true
    }

    /// What there is now of what was left.
    fn exchanges(&self, left: Left, now: Instant) -> f64 {
        let an_hour = f64::from(self.an_hour);
        let regained = an_hour * now.saturating_duration_since(left.at).as_secs_f64() / HOUR.as_secs_f64();
        (left.exchanges + regained).min(an_hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Party = Party::User(1);

    #[test]
    fn a_caller_has_so_many_exchanges_an_hour_and_the_next_has_as_many() {
        let (quota, now) = (Quota::new(3), Instant::now());
        assert_eq!((0..5).filter(|_| quota.take(&ONE, now)).count(), 3);
        assert!(quota.take(&Party::User(2), now));
        assert!(!quota.take(&ONE, now + HOUR / 4), "a third of an hour gives one back");
        assert!(quota.take(&ONE, now + HOUR / 2));
        assert_eq!((0..5).filter(|_| quota.take(&ONE, now + 10 * HOUR)).count(), 3, "never more than an hour's");
    }

    #[test]
    fn who_has_used_up_nothing_is_forgotten_where_there_are_too_many_and_else_nobody_new_gets_in() {
        let (quota, now) = (Quota::new(1), Instant::now());
        let users = |from: u32| (from..from + MAX_PARTIES as u32).map(Party::User);
        assert!(users(0).all(|party| quota.take(&party, now)));
        assert!(!quota.take(&Party::Anonymous, now));
        assert!(users(1_000_000).all(|party| quota.take(&party, now + 2 * HOUR)));
        assert!(quota.left.lock().unwrap().len() <= MAX_PARTIES);
    }
}

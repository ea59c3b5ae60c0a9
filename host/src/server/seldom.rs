//! Log lines of what strangers can make happen as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one kind of thing is logged at most: [`Seldom::up_to`] times in this.
const INTERVAL: Duration = Duration::from_secs(1);

/// One kind of thing.
pub(super) struct Seldom {
    most: u32,
    since: Mutex<Since>,
}

#[derive(Default)]
struct Since {
    /// When the interval began, and how often it was logged since.
    begun: Option<Instant>,
    logged: u32,
    times: u64,
}

impl Default for Seldom {
    /// One that is logged once in an interval.
    fn default() -> Self {
        Self::up_to(1)
    }
}

impl Seldom {
    /// One that is logged so many times in an interval: each may be of another client.
    pub fn up_to(most: u32) -> Self {
        Self { most, since: Mutex::default() }
    }

    /// Notes that it happened, and returns how often it did since it was last logged, if it is to be logged now.
    pub fn happened(&self) -> Option<u64> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.times += 1;
        if since.begun.is_none_or(|begun| begun.elapsed() >= INTERVAL) {
            (since.begun, since.logged) = (Some(Instant::now()), 0);
        }
        if since.logged == self.most {
            return None;
        }
        since.logged += 1;
        Some(std::mem::take(&mut since.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_a_thousand_times_in_a_moment_is_logged_once_and_then_with_the_number() {
        let seldom = Seldom::default();
        assert_eq!(seldom.happened(), Some(1));
        assert!((0..999).all(|_| seldom.happened().is_none()));
        seldom.since.lock().unwrap().begun = Instant::now().checked_sub(INTERVAL);
        assert_eq!(seldom.happened(), Some(1000));
    }

    #[test]
    fn what_may_be_logged_some_times_in_a_moment_is_logged_no_oftener() {
        let seldom = Seldom::up_to(3);
        assert_eq!((0..10).filter_map(|_| seldom.happened()).collect::<Vec<_>>(), [1, 1, 1]);
        seldom.since.lock().unwrap().begun = Instant::now().checked_sub(INTERVAL);
        assert_eq!(seldom.happened(), Some(8));
    }
}

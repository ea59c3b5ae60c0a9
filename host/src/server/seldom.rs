//! Log lines of what strangers can make happen as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one kind of thing is logged at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// One kind of thing.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Since>);

#[derive(Default)]
struct Since {
    logged: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// Notes that it happened, and returns how often it did since it was last logged, if it is to be logged now.
    pub fn happened(&self) -> Option<u64> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.times += 1;
        if since.logged.is_some_and(|logged| logged.elapsed() < INTERVAL) {
            return None;
        }
        since.logged = Some(Instant::now());
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
        seldom.0.lock().unwrap().logged = Instant::now().checked_sub(INTERVAL);
        assert_eq!(seldom.happened(), Some(1000));
    }
}

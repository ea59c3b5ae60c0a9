//! A panic, a library's too, ends what it happened in and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::{Error, ErrorKind};

/// It ended by a panic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panicked;

impl From<Panicked> for Error {
    fn from(Panicked: Panicked) -> Self {
        Self::defect()
    }
}

/// The outcome of a future, unless it panics, which is logged as the end of `what`. What it held is given up, as where a client goes away: of an
/// exchange, its instance, its keys and its turn.
///
/// Nothing that exchanges share is left half changed: what they change under a lock is checked anew by whoever takes it next.
pub(crate) async fn contained<T>(what: &'static str, future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(polled) => polled.map(Ok),
        // What it says may hold anything; the program's hook has logged where it was.
        Err(_) => {
            tracing::error!(what, "ended by a panic");
            Poll::Ready(Err(Panicked))
        }
    })
    .await
}

/// The outcome of what is dropped before it was done: it panicked, or nobody waited for it any more.
pub(crate) fn outcome_of_dropped() -> &'static str {
    if std::thread::panicking() { ErrorKind::Internal.as_str() } else { "cancelled" }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::policy::{Denial, Permit, Policy, Request};
    use crate::{Config, ErrorKind, Instances, KeyProvider};

    const OPTS_DATA: &[u8] = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;

    /// Panics when it is asked for the first time, deep below the component's call.
    #[derive(Default)]
    struct Startled(AtomicBool);

    impl Policy for Startled {
        fn decide(&self, _: &Request<'_>) -> Result<Permit, Denial> {
            assert!(self.0.swap(true, Ordering::Relaxed), "a secret");
            Err(Denial::default())
        }
    }

    #[test]
    fn a_panic_in_an_exchange_is_an_error_of_that_exchange_and_not_of_the_next() {
        let builder = KeyProvider::builder(Config::default()).policy(Arc::new(Startled::default()));
        // One place: it has to be free again.
        let provider = builder.instances(Instances::Pooled(1)).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let wrap = || runtime.block_on(provider.wrap(OPTS_DATA, &["local://team"])).unwrap_err();
        let error = wrap();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.line().starts_with("a defect of this program") && !error.line().contains("a secret"), "{}", error.line());
        assert_eq!(wrap().kind(), ErrorKind::Denied);
    }
}

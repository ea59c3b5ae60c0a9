//! A panic in an exchange, a library's too, ends that exchange and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::Error;

/// The outcome of an exchange, or an error if it panics. What it held is given up, as where a client goes away: its instance, its keys and its turn.
///
/// Nothing that exchanges share is left half changed: what they change under a lock is checked anew by whoever takes it next.
pub(super) async fn contained<T>(exchange: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut exchange = pin!(exchange);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(context))) {
        Ok(polled) => polled,
        // What it says may hold anything; the program's hook has logged where it was.
        Err(_) => Poll::Ready(Err(Error::defect())),
    })
    .await
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

//! What a service calls the request that it answered last: for finding a use in the service's own log.
//!
//! The id belongs to the use that is under way, not to a key: so neither keys nor services have to hand it on.

use std::cell::RefCell;

use crate::error::printable;

/// The longest id that is kept.
const MAX_LENGTH: usize = 128;
/// Where answers have it, by HTTP: AWS KMS, Azure, Google's load balancers. Vault has it in its JSON.
#[cfg(feature = "http")]
pub(crate) const HEADERS: [&str; 4] = ["x-amzn-requestid", "x-ms-request-id", "x-goog-request-id", "x-cloud-trace-context"];

tokio::task_local! {
    static LAST: RefCell<Option<String>>;
}

/// Runs the use of a key that ids can be noted for.
pub(crate) async fn noting<T>(using: impl Future<Output = T>) -> T {
    LAST.scope(RefCell::default(), using).await
}

/// Notes the id of an answer.
#[cfg_attr(not(feature = "http"), allow(dead_code))]
pub(crate) fn note(id: &str) {
    // Outside of a use nobody wants to know.
    let _ = LAST.try_with(|last| last.replace(Some(printable(id, MAX_LENGTH))));
}

/// The id that was noted last, once.
pub(crate) fn take() -> Option<String> {
    LAST.try_with(RefCell::take).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_one_use_and_is_taken_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            note("nobody's");
            let first = noting(async {
                let before = take();
                note("earlier");
                note("a\n");
                (before, take(), take())
            });
            assert_eq!(first.await, (None, Some("a".into()), None));
            assert_eq!(noting(async { take() }).await, None);
        });
    }
}

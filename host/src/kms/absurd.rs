//! Answers of token services that no library of a cloud was written for.
//!
//! Such a library adds the lifetime of a token to a clock and does not look whether there is such a time: it panics. Some do so in tasks of their own,
//! and panic once more where somebody waits for those. Who uses one therefore awaits it here, and then makes it anew.

use crate::panics::{Panicked, contained};

/// A cloud's library panicked at what its token service answered.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the token service's answer is absurd, such as a lifetime that no clock holds: the cloud's library panicked at it")]
pub(crate) struct AbsurdAnswer;

/// Awaits a library that asks a token service.
pub(crate) async fn read_by_library<T>(asking: impl Future<Output = T>) -> Result<T, AbsurdAnswer> {
    contained("asking a token service", asking).await.map_err(|Panicked| AbsurdAnswer)
}

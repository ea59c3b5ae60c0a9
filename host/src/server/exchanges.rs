//! What both protocols do with a message: wait for a turn, exchange it, and tell the outcome.

use std::time::{Duration, Instant};

use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::admission::{Admission, Turned};
use super::status::Status;
use super::telemetry;
use crate::caller::Caller;
use crate::{Call, ErrorKind, KeyProvider};

/// The exchanges of one server.
pub(super) struct Exchanges {
    provider: KeyProvider,
    admission: Admission,
}

impl Exchanges {
    pub fn new(provider: KeyProvider, at_a_time: u32, max_waiting: u32) -> Self {
        Self { provider, admission: Admission::new(at_a_time, max_waiting) }
    }

    /// One exchange. `timeout` is what the client gives it; the configured deadline holds anyhow. If the future is dropped, because the
    /// client went away, whatever it waits for is given up.
    pub async fn exchange(
        &self,
        message: &[u8],
        caller: Caller,
        timeout: Option<Duration>,
        trace: &telemetry::Parent,
    ) -> Result<Zeroizing<Vec<u8>>, Status> {
        let deadline = Instant::now() + timeout.map_or(self.deadline(), |timeout| timeout.min(self.deadline()));
        let _turn = self.admission.turn(deadline).await.map_err(|turned| match turned {
            Turned::Away => Status::overloaded(),
            Turned::Late => Status::late("the exchange's turn did not come before its deadline"),
        })?;
        let span = trace.span(&caller);
        let outcome = self.provider.exchange_for(message, Call { caller, deadline: Some(deadline) }).instrument(span).await;
        outcome.map_err(|error| match error.kind() {
            ErrorKind::Unavailable if Instant::now() >= deadline => Status::late(error.to_string().trim_end_matches('.')),
            _ => Status::of(&error),
        })
    }

    /// The longest time that an exchange may take.
    pub fn deadline(&self) -> Duration {
        self.provider.deadline()
    }

    /// Waits until no exchange is under way.
    pub async fn idle(&self) {
        self.admission.idle().await;
    }
}

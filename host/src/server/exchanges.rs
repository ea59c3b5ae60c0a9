//! What both protocols do with a message: wait for a turn, exchange it, and tell the outcome.

use std::time::{Duration, Instant};

use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::admission::{Admission, Limits, Turned};
use super::party::Party;
use super::quota::Quota;
use super::seldom::Seldom;
use super::status::Status;
use super::telemetry;
use crate::caller::Caller;
use crate::{Call, ErrorKind, KeyProvider, count};

/// The exchanges of one server.
pub(super) struct Exchanges {
    provider: KeyProvider,
    admission: Admission,
    quota: Option<Quota>,
    refused: Seldom,
}

impl Exchanges {
    /// `an_hour` is how many exchanges each caller may have in one.
    pub fn new(provider: KeyProvider, limits: Limits, an_hour: Option<u32>) -> Self {
        Self { provider, admission: Admission::new(limits), quota: an_hour.map(Quota::new), refused: Seldom::default() }
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
        let party = Party::from(&caller);
        if self.quota.as_ref().is_some_and(|quota| !quota.take(&party, Instant::now())) {
            return Err(self.refused(&caller, "quota", Status::over_quota()));
        }
        let _turn = self.admission.turn(party, deadline).await.map_err(|turned| match turned {
            Turned::Away => self.refused(&caller, "waiting", Status::overloaded()),
            Turned::Share => self.refused(&caller, "share", Status::over_share()),
            Turned::Late => self.refused(&caller, "late", Status::late("the exchange's turn did not come before its deadline")),
        })?;
        let span = trace.span(&caller);
        let outcome = self.provider.exchange_for(message, Call { caller, deadline: Some(deadline) }).instrument(span).await;
        outcome.map_err(|error| match error.kind() {
            ErrorKind::Unavailable if Instant::now() >= deadline => Status::late(error.to_string().trim_end_matches('.')),
            _ => Status::of(&error),
        })
    }

    /// Counts an exchange that was not begun, and logs it, though not each of many.
    fn refused(&self, caller: &Caller, reason: &'static str, status: Status) -> Status {
        count::exchange_refused(reason);
        if let Some(times) = self.refused.happened() {
            tracing::warn!(caller = caller.to_string(), times, reason = status.message, "an exchange is refused");
        }
        status
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

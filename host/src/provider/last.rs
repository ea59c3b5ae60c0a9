//! The one exchange of a process that a container tool starts.

use zeroize::Zeroizing;

use super::KeyProvider;
use crate::Error;
use crate::embedding::Call;
use crate::exchange::Exchange;
use crate::key_uri::Service;
use crate::panics::contained;
use crate::sandbox::End;

/// An exchange that is the last thing its process does but to write the answer. [`KeyProvider::last_exchange`] makes it.
pub struct LastExchange {
    provider: KeyProvider,
    read: Result<(Exchange, Zeroizing<Vec<u8>>), Error>,
}

impl LastExchange {
    pub(super) fn new(provider: KeyProvider, message: &[u8]) -> Self {
        Self { read: provider.host.read(message), provider }
    }

    /// The services whose keys it could open, each once; none if its message can't be read. A key elsewhere that only an image names counts
    /// if the policy could allow it ([`Policy::could_allow`](crate::policy::Policy::could_allow)).
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        self.read.as_ref().map(|(exchange, _)| self.provider.host.lender.services_of(exchange)).unwrap_or_default()
    }

    /// Runs it, as [`KeyProvider::exchange`] does, and takes nothing apart that the end of the process takes apart.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn run(self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Self { provider, read } = self;
        let exchange = async {
            let begun = provider.host.begin_with(|| read, Call::default()).await?;
            provider.run(begun, End::Process).await
        };
        let outcome = contained("an exchange", exchange).await;
        std::mem::forget(provider);
        outcome?
    }
}

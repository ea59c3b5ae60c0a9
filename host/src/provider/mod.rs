//! The key provider as a library: a message in, an answer out.

mod builder;
mod last;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicrypt_kms_protocol::{Answer, Operation, compose};
use zeroize::Zeroizing;

pub use self::builder::Builder;
pub use self::last::LastExchange;
#[cfg(feature = "server")]
use crate::audit::Audit;
use crate::config::Config;
use crate::embedding::{Begun, Call, Host};
use crate::panics::contained;
#[cfg(feature = "server")]
use crate::policy::Policy;
use crate::sandbox::{End, Sandbox};
use crate::{Digest, Error, PacketInfo};

/// A key provider: a sandboxed component, and the keys, policy and services that it is lent from.
///
/// [The crate's page](crate#a-provider) has an example. Its [`Builder`] takes other services, policies, audit logs and components than those of the
/// configuration.
pub struct KeyProvider {
    sandbox: Arc<Sandbox>,
    host: Host,
}

impl fmt::Debug for KeyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyProvider").field("host", &self.host).finish_non_exhaustive()
    }
}

impl KeyProvider {
    /// A provider with this configuration.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// Answers one message of the key provider protocol. Runs on a tokio runtime with time (and, for services that are reached by HTTP,
    /// with I/O) enabled; all exchanges of one provider on the same one, where its connections and tokens live.
    ///
    /// # Errors
    /// If the message is malformed, a key is not lent or can't be used, or the component fails. A panic (of a service that the embedding program
    /// brings along, say) is an error of this exchange, [`ErrorKind::Internal`](crate::ErrorKind::Internal), where the program is built to unwind.
    pub async fn exchange(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.exchange_for(message, Call::default()).await
    }

    /// Wraps opts data, the key of an image layer as container tools spell it (a JSON object with a `symkey`), for these keys; without any, for
    /// the configured default recipients. Answers the decoded annotation: in base64, it stands in the manifest.
    ///
    /// Opts data is a JSON object in which `symkey` stands once and is a string with something in it (base64 of the layer's key); other
    /// members may stand beside it. Nothing else is wrapped, since an unwrap gives out nothing else.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn wrap(&self, opts_data: &[u8], recipients: &[&str]) -> Result<Vec<u8>, Error> {
        Ok(std::mem::take(&mut *self.call(Operation::Wrap, recipients, opts_data).await?))
    }

    /// Unwraps one decoded annotation with one of these keys; without any, with a key that the annotation names, as far as the policy
    /// allows images to choose.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn unwrap(&self, annotation: &[u8], keys: &[&str]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.call(Operation::Unwrap, keys, annotation).await
    }

    async fn call(&self, operation: Operation, keys: &[&str], payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let name = self.host.name.as_deref().unwrap_or(self.host.default_name);
        let answer = self.exchange(&compose(operation, name, keys, payload)).await?;
        let answer = Answer::parse(operation, &answer).map_err(|error| Error::Component { reason: error.to_string() })?;
        Ok(answer.result)
    }

    /// The same as [`KeyProvider::exchange`], for somebody else than this process.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn exchange_for(&self, message: &[u8], call: Call) -> Result<Zeroizing<Vec<u8>>, Error> {
        let exchange = async {
            let begun = self.host.begin(message, call).await?;
            self.run(begun, End::Instance).await
        };
        contained("an exchange", exchange).await?
    }

    /// The longest time that an exchange may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.host.deadline
    }

    /// Reads a message whose exchange is the last thing of this process but to write the answer.
    #[must_use]
    pub fn last_exchange(self, message: &[u8]) -> LastExchange {
        LastExchange::new(self, message)
    }

    async fn run(&self, begun: Begun, end: End) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (ctx, returned) = self.sandbox.exchange(begun, end).await;
        ctx.conclude(returned).await
    }

    /// The component that this provider runs.
    #[must_use]
    pub fn component(&self) -> Digest {
        self.host.component()
    }

    /// Where it is written down, if somewhere.
    #[cfg(feature = "server")]
    pub(crate) fn audit(&self) -> Option<&Arc<Audit>> {
        self.host.lender.audit.as_ref()
    }

    /// Who may use which key.
    #[cfg(feature = "server")]
    pub(crate) fn policy(&self) -> &Arc<dyn Policy> {
        &self.host.lender.policy
    }

    /// Lists the packets of one decoded annotation. Needs no key.
    ///
    /// # Errors
    /// If the annotation is malformed, or the component fails.
    pub async fn inspect(&self, annotation: &[u8]) -> Result<Vec<PacketInfo>, Error> {
        self.sandbox.inspect(annotation, Instant::now() + self.host.deadline).await
    }
}

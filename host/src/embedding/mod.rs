//! Lending for hosts that run components themselves: with an [`Engine`](wasmtime::Engine), [`Linker`](wasmtime::component::Linker) and
//! [`Store`](wasmtime::Store) of their own. Who only wants a provider takes [`KeyProvider`](crate::KeyProvider), which is one such host.
//!
//! [`add_to_linker`] links a guest to the keys of the exchange that its store holds, wherever in the store's data a [`KmsView`] finds it. A
//! [`Host`] begins the exchange: it reads the message, and gives what the guest gets to see of it. [`KmsCtx::conclude`] ends it:
//!
//! ```
//! # #[cfg(feature = "compile")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ocicrypt_kms::embedding::{GuestPre, KmsCtx, KmsCtxView, KmsView, add_random_to_linker, add_to_linker};
//! use ocicrypt_kms::{Call, Config, KeyProvider, sandbox::BUILT_IN};
//! use wasmtime::component::{Component, Linker, ResourceTable};
//! use wasmtime::{Engine, Store};
//!
//! struct State {
//!     kms: KmsCtx,
//!     table: ResourceTable,
//!     // … and what else the program keeps for a guest.
//! }
//!
//! impl KmsView for State {
//!     fn kms(&mut self) -> KmsCtxView<'_> {
//!         KmsCtxView { ctx: &mut self.kms, table: &mut self.table }
//!     }
//! }
//!
//! // Once:
//! let engine = Engine::default();
//! let mut linker = Linker::<State>::new(&engine);
//! add_to_linker(&mut linker)?;
//! add_random_to_linker(&mut linker)?;
//! let component = Component::new(&engine, BUILT_IN)?;
//! let guest = GuestPre::new(linker.instantiate_pre(&component)?)?;
//! # let folder = tempfile::tempdir()?;
//! # use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
//! # Keystore::new(folder.path().into()).create("team", Existing::Refuse, &Jwk::generate_symmetric()?)?;
//! # let config = Config { keystore: Some(folder.path().into()), ..Config::default() };
//! let host = KeyProvider::builder(config).build_host()?;
//!
//! // For each message:
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # let message = br#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"kmscrypt":["bG9jYWw6Ly90ZWFt"]}},"optsdata":"eyJzeW1rZXkiOiJhIn0="}}"#;
//! let begun = host.begin(message, Call::default()).await?;
//! let mut store = Store::new(&engine, State { kms: begun.ctx, table: ResourceTable::new() });
//! let instance = guest.instantiate_async(&mut store).await?;
//! let provider = instance.ocicrypt_keyprovider_provider();
//! let returned = provider.call_exchange(&mut store, &begun.settings, &begun.message).await;
//! let answer = store.into_data().kms.conclude(returned).await?;
//! # assert!(answer.starts_with(br#"{"keywrapresults":{"annotation":["#));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })
//! # }
//! # #[cfg(not(feature = "compile"))]
//! # fn main() {}
//! ```
//!
//! # What holds, and what the host has to do
//!
//! For a guest that is linked so, all that the crate says of keys holds: it opens only keys that the exchange is about and the policy
//! permits, within the budget of [`lending`](crate::lending), each for one use; every open and use is on record before what it gave leaves;
//! an answer leaves only through [`KmsCtx::conclude`], which checks it, and an error only in the host's own words. What a
//! [`Sandbox`](crate::sandbox::Sandbox) does besides is the host's own job here:
//!
//! - **One instance, one exchange.** A guest's memory holds the opts data. Who runs a second exchange in the same instance lets the first
//!   one's leave in its answer.
//! - **Memory**: [`Store::limiter`](wasmtime::Store::limiter), and
//!   [`ResourceTable::set_max_capacity`](wasmtime::component::ResourceTable::set_max_capacity) for what a guest holds on to.
//! - **Time**: a guest that computes is interrupted by epochs or fuel, one that waits is left at [`Begun::deadline`]. An error of this
//!   crate ([`Error::Unavailable`]) that is made a [`wasmtime::Error`] is what [`KmsCtx::conclude`] tells.
//! - **Nothing else.** The world `key-provider` has keys and random numbers. Whatever else a host links (files, sockets, environment, clocks,
//!   logs) is a way out for the opts data. Guests in other languages import WASI: link it with nothing granted.
//! - **Which component**: [`Builder::component`](crate::Builder::component) says which one to [`Host`], for its policy and its records;
//!   that this one is run is up to whoever instantiates it.
//!
//! The types of wasmtime in here are those of its version 48.

mod answer;
mod bindings;
#[cfg(feature = "http-kms")]
mod http_bindings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use zeroize::Zeroizing;

#[cfg(feature = "compile")]
pub(crate) use self::bindings::MAX_RANDOM;
pub use self::bindings::{
    Attempt, Guest, GuestError, GuestPre, KmsFailure, PacketInfo, Provider, Settings, add_random_to_linker, add_to_linker,
};
#[cfg(feature = "http-kms")]
pub use self::http_bindings::add_http_to_linker;
use crate::audit::Ledger;
use crate::caller::Caller;
use crate::count::Counted;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::exchange::{self, Exchange};
use crate::key_uri::KeyUri;
use crate::lending::{Lender, Lending, Reported};
use crate::{Digest, Error, ErrorKind};

/// How much later a guest is given up than a service, which can say what it waited for.
const GRACE: Duration = Duration::from_millis(200);

/// What the store of one guest holds: the keys of one exchange, as far as they are lent.
///
/// The default lends nothing: for listing packets ([`Provider::call_inspect`]). An exchange whose context is dropped without having been
/// concluded is on record as cancelled.
#[derive(Default)]
pub struct KmsCtx(Option<Lending>);

/// Where a store's data has what [`add_to_linker`] needs.
pub struct KmsCtxView<'a> {
    /// The exchange.
    pub ctx: &'a mut KmsCtx,
    /// Where the guest's keys are; what else it holds may be in there, too.
    pub table: &'a mut ResourceTable,
}

/// The data of a store whose guest is lent keys.
pub trait KmsView: Send {
    /// Where they are.
    fn kms(&mut self) -> KmsCtxView<'_>;
}

/// Begins exchanges: what a [`KeyProvider`](crate::KeyProvider) is without the sandbox.
///
/// [`Builder::build_host`](crate::Builder::build_host) makes it.
pub struct Host {
    pub(crate) lender: Arc<Lender>,
    pub(crate) name: Option<String>,
    pub(crate) default_name: &'static str,
    pub(crate) key: Option<KeyUri>,
    pub(crate) default_recipients: Vec<KeyUri>,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) deadline: Duration,
}

/// Who asks for an exchange, and until when.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// When it must be done; the configured deadline holds anyhow.
    pub deadline: Option<Instant>,
}

/// An exchange that has begun: what a guest is given.
#[non_exhaustive]
pub struct Begun {
    /// For its store.
    pub ctx: KmsCtx,
    /// For [`Provider::call_exchange`].
    pub settings: Settings,
    /// The message, likewise: written anew, with nothing in it but what this provider needs.
    pub message: Zeroizing<Vec<u8>>,
    /// When a guest that isn't done is given up. Services stop earlier, so that it can still say which one didn't answer.
    pub deadline: Instant,
}

impl Host {
    /// Reads a message, and gives what a guest needs for it. Runs where [`KeyProvider::exchange`](crate::KeyProvider::exchange) runs.
    ///
    /// # Errors
    /// If the message is malformed or for several providers, or if the audit log can't be written. That is on record.
    pub async fn begin(&self, message: &[u8], call: Call) -> Result<Begun, Error> {
        self.begin_with(|| self.read(message), call).await
    }

    /// [`Host::begin`] with how the message is read, which is done at the right time.
    pub(crate) async fn begin_with(&self, read: impl FnOnce() -> Result<Exchange, Error>, call: Call) -> Result<Begun, Error> {
        let Call { caller, deadline } = call;
        let configured = Instant::now() + self.deadline;
        let deadline = deadline.map_or(configured, |deadline| deadline.min(configured));
        let mut counted = Counted::begin();
        let mut ledger = Ledger::new(self.lender.audit.as_ref(), &caller, self.lender.component, deadline);
        let exchange = match self.ready().and_then(|()| read()) {
            Ok(exchange) => exchange,
            Err(error) => {
                counted.finish::<()>(None, &Err(error.clone()));
                tracing::warn!(%caller, error = error.line(), "refused");
                return ledger.conclude(Err(error), |_| None).await;
            }
        };
        let operation = exchange.operation;
        counted.operation(operation);
        ledger.about(operation, &exchange.name, || exchange.annotation_digest());
        tracing::debug!(%operation, provider = exchange.name, named = exchange.named.len(), origin = exchange.origin.as_str(), "exchange");
        let default_recipients = self.default_recipients.iter().map(|key| key.canonical().to_owned()).collect();
        let settings = Settings { name: exchange.name.clone(), default_recipients, options: self.options.clone() };
        let message = exchange.message.clone();
        let lending = Lending::new(self.lender.clone(), exchange, caller, deadline, ledger, counted);
        Ok(Begun { ctx: KmsCtx(Some(lending)), settings, message, deadline: deadline + GRACE })
    }

    /// The component that keys are lent to, as policy and records have it.
    #[must_use]
    pub fn component(&self) -> Digest {
        self.lender.component
    }

    /// Whether an exchange can be written down, where it has to be.
    fn ready(&self) -> Result<(), Error> {
        self.lender.audit.as_ref().map_or(Ok(()), |audit| audit.ready())
    }

    pub(crate) fn read(&self, message: &[u8]) -> Result<Exchange, Error> {
        let settings = exchange::Settings {
            name: self.name.as_deref(),
            default_name: self.default_name,
            key: self.key.as_ref(),
            default_recipients: &self.default_recipients,
            addresses: &self.lender.addresses,
        };
        Exchange::read(message, &settings)
    }
}

impl KmsCtx {
    /// Ends the exchange with what the guest's `exchange` returned, and gives the answer for the client: written anew, and only if the record
    /// of the exchange is on the disk. Drop the store before: this may wait for the disk.
    ///
    /// # Errors
    /// What the guest failed of, by the host's own account; that the answer is none, or that it unwraps what isn't opts data; that the record
    /// can't be written; and if no exchange was begun.
    pub async fn conclude(self, returned: wasmtime::Result<Result<Vec<u8>, GuestError>>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Some(lending) = self.0 else { return Err(Error::Internal { reason: "no exchange was begun".into() }) };
        let outcome = match returned.map(|returned| returned.map(Zeroizing::new)) {
            Ok(Ok(answer)) => answer::check(lending.operation(), &answer),
            Ok(Err(error)) => Err(lending.explain(reported(error))),
            Err(error) => Err(stopped(&error)),
        };
        lending.conclude(outcome).await.map(|answer| answer.write())
    }
}

/// A guest that stopped, or was stopped by its host, which may have said why.
pub(crate) fn stopped(error: &wasmtime::Error) -> Error {
    match (error.downcast_ref::<Error>(), error.downcast_ref::<wasmtime::Trap>()) {
        (Some(error), _) => error.clone(),
        (None, Some(trap)) => Error::Component { reason: format!("it stopped: {trap}") },
        (None, None) => Error::Component { reason: format!("it was stopped: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)) },
    }
}

pub(crate) fn reported(error: GuestError) -> Reported {
    let one = |kind, text| Reported::One(Some(kind), text);
    match error {
        GuestError::InvalidInput(text) => one(ErrorKind::InvalidInput, text),
        GuestError::NoMatchingKey(text) => one(ErrorKind::NoMatchingKey, text),
        GuestError::Denied(text) => one(ErrorKind::Denied, text),
        GuestError::Kms(failure) => one(ErrorKind::Kms, failure.message),
        GuestError::Unavailable(text) => one(ErrorKind::Unavailable, text),
        GuestError::Corrupt(text) => one(ErrorKind::Corrupt, text),
        GuestError::AllFailed(attempts) => {
            let kinds = [
                ErrorKind::InvalidInput,
                ErrorKind::NoMatchingKey,
                ErrorKind::Denied,
                ErrorKind::Kms,
                ErrorKind::Unavailable,
                ErrorKind::Corrupt,
            ];
            let kind = |name: &str| kinds.into_iter().find(|kind| kind.as_str() == name);
            Reported::AllFailed(attempts.into_iter().map(|attempt| (attempt.key_uri, kind(&attempt.kind), attempt.message)).collect())
        }
    }
}

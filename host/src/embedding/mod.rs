//! Lending for hosts that run components themselves: with an [`Engine`], [`Linker`] and [`Store`] of their own. Who only wants a provider takes
//! [`KeyProvider`](crate::KeyProvider), which is one such host.
//!
//! [`add_to_linker`] links a guest to the keys of the exchange that its store holds, wherever in the store's data a [`KmsView`] finds it. A
//! [`Host`] begins the exchange: it reads the message, and gives what the guest gets to see of it. [`KmsCtx::conclude`] ends it. `Cargo.toml`
//! has, besides what [the crate's page](crate#a-provider) says,
//!
//! ```toml
//! wasmtime = { version = "48", default-features = false, features = ["async", "component-model", "cranelift", "runtime", "std"] }
//! zeroize = "1"
//! ```
//!
//! and the program is:
//!
//! ```
//! # #[cfg(feature = "compile")]
//! # mod program {
//! use std::error::Error;
//! use std::time::Duration;
//!
//! use ocicrypt_kms::embedding::{self, Begun, GuestPre, Host, KmsCtx, KmsCtxView, KmsView};
//! use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
//! use ocicrypt_kms::protocol::{Answer, Operation, compose};
//! use ocicrypt_kms::sandbox::BUILT_IN;
//! use ocicrypt_kms::{Call, Config, DEFAULT_NAME, KeyProvider};
//! use wasmtime::component::{Component, Linker, ResourceTable};
//! use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
//! use zeroize::Zeroizing;
//!
//! /// What a store holds.
//! struct State {
//!     kms: KmsCtx,
//!     table: ResourceTable,
//!     limits: StoreLimits,
//!     // … and what else the program keeps for a guest.
//! }
//!
//! impl KmsView for State {
//!     fn kms(&mut self) -> KmsCtxView<'_> {
//!         KmsCtxView { ctx: &mut self.kms, table: &mut self.table }
//!     }
//! }
//!
//! impl State {
//!     fn new(kms: KmsCtx) -> Self {
//!         let mut table = ResourceTable::new();
//!         table.set_max_capacity(1024);
//!         Self { kms, table, limits: StoreLimitsBuilder::new().memory_size(64 << 20).build() }
//!     }
//! }
//!
//! /// What there is once.
//! struct Program {
//!     engine: Engine,
//!     guest: GuestPre<State>,
//!     host: Host,
//! }
//!
//! impl Program {
//!     fn new(config: Config) -> Result<Self, Box<dyn Error>> {
//!         let engine = Engine::new(wasmtime::Config::new().epoch_interruption(true))?;
//!         let mut linker = Linker::<State>::new(&engine);
//!         embedding::add_to_linker(&mut linker)?;
//!         embedding::add_random_to_linker(&mut linker)?;
//!         let guest = GuestPre::new(linker.instantiate_pre(&Component::new(&engine, BUILT_IN)?)?)?;
//!
//!         // The clock, by which guests that compute are interrupted.
//!         let weak = engine.weak();
//!         std::thread::spawn(move || {
//!             while let Some(engine) = weak.upgrade() {
//!                 engine.increment_epoch();
//!                 drop(engine);
//!                 std::thread::sleep(Duration::from_millis(10));
//!             }
//!         });
//!         Ok(Self { engine, guest, host: KeyProvider::builder(config).build_host()? })
//!     }
//!
//!     /// A store for one exchange, bounded in memory and in time on the CPU.
//!     fn store(&self, kms: KmsCtx) -> Store<State> {
//!         let mut store = Store::new(&self.engine, State::new(kms));
//!         store.limiter(|state| &mut state.limits);
//!         store.set_epoch_deadline(1);
//!         // Called once a tick, and only while the guest runs: waiting for a KMS doesn't count.
//!         let mut ticks = 0;
//!         store.epoch_deadline_callback(move |_| {
//!             ticks += 1;
//!             Ok(if ticks > 100 { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
//!         });
//!         store
//!     }
//!
//!     /// A message in, an answer out.
//!     async fn exchange(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, ocicrypt_kms::Error> {
//!         let Begun { ctx, settings, message, deadline, .. } = self.host.begin(message, Call::default()).await?;
//!         let mut store = self.store(ctx);
//!         let run = async {
//!             let instance = self.guest.instantiate_async(&mut store).await?;
//!             instance.ocicrypt_keyprovider_provider().call_exchange(&mut store, &settings, &message).await
//!         };
//!         let returned = tokio::time::timeout_at(deadline.into(), run).await.unwrap_or_else(|_| Err(embedding::late()));
//!         store.into_data().kms.conclude(returned).await
//!     }
//! }
//!
//! # pub
//! async fn wraps() -> Result<(), Box<dyn Error>> {
//!     let keystore = std::env::temp_dir().join(format!("keys-of-host-{}", std::process::id()));
//!     Keystore::new(keystore.clone()).create("team", Existing::Refuse, &Jwk::generate_symmetric()?)?;
//! #   let remove = keystore.clone();
//!     let program = Program::new(Config { keystore: Some(keystore), ..Config::default() })?;
//!
//!     let opts_data = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;
//!     let message = compose(Operation::Wrap, DEFAULT_NAME, &["local://team"], opts_data);
//!     let annotation = Answer::parse(Operation::Wrap, &program.exchange(&message).await?)?.result;
//!
//!     let message = compose(Operation::Unwrap, DEFAULT_NAME, &["local://team"], &annotation);
//!     let unwrapped = Answer::parse(Operation::Unwrap, &program.exchange(&message).await?)?.result;
//!     assert_eq!(unwrapped.as_slice(), opts_data);
//! #   std::fs::remove_dir_all(remove)?;
//!     Ok(())
//! }
//! # }
//! # #[cfg(feature = "compile")]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(program::wraps())?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # The names
//!
//! wasmtime's `bindgen!` made some of the types here, whose pages speak of the world and the interface by the names it gave them:
//!
//! | here | there | |
//! |---|---|---|
//! | [`GuestPre`] | `KeyProviderPre` | a component, linked: take its `instantiate_async` |
//! | [`Guest`] | `KeyProvider` | an instance: take its `ocicrypt_keyprovider_provider` |
//! | [`Provider`] | `exports::…::provider::Guest` | what a component exports: take `call_exchange` and `call_inspect` |
//! | [`GuestError`] | `types::Error` | what a component answers when it fails |
//!
//! The rest of what these have is not for this use: `Guest::add_to_linker` wants traits of the bindings that only this crate implements (take
//! this module's [`add_to_linker`]), and `instantiate` is for linkers without async functions, of which keys have some.
//!
//! # What holds, and what the host has to do
//!
//! For a guest that is linked so, all that the crate says of keys holds: it opens only keys that the exchange is about and the policy
//! permits, within the budget of [`lending`](crate::lending), each for one use; every open and use is on record before what it gave leaves;
//! an answer leaves only through [`KmsCtx::conclude`], which checks it and that a key was used for it, and an error only in the host's own words. What a
//! [`Sandbox`](crate::sandbox::Sandbox) does besides is the host's own job, as above:
//!
//! - **One instance, one exchange.** A guest's memory holds the opts data. Who runs a second exchange in the same instance lets the first
//!   one's leave in its answer.
//! - **Memory**: the store's limiter, and the table's capacity for what a guest holds on to.
//! - **Time**: a guest that computes is interrupted by epochs or fuel, one that waits is left at [`Begun::deadline`], for which [`late`] is
//!   what it returned. Any error of this crate that is made a wasmtime error is what [`KmsCtx::conclude`] tells.
//! - **Nothing else.** The world `key-provider` has keys and random numbers. Whatever else a host links (files, sockets, environment, clocks,
//!   logs) is a way out for the opts data. Guests in other languages import WASI: link it with nothing granted.
//! - **Which component**: [`Builder::component`](crate::Builder::component) says which one to [`Host`], for its policy and its records;
//!   that this one is run is up to whoever instantiates it.
//!
//! The types of wasmtime in here are those of its version 48.
//!
//! [`Engine`]: https://docs.rs/wasmtime/48/wasmtime/struct.Engine.html
//! [`Linker`]: https://docs.rs/wasmtime/48/wasmtime/component/struct.Linker.html
//! [`Store`]: https://docs.rs/wasmtime/48/wasmtime/struct.Store.html

mod answer;
mod bindings;
#[cfg(feature = "http-kms")]
mod http_bindings;

use std::fmt;
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

impl fmt::Debug for KmsCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsCtx").field("lends", &self.0.is_some()).finish_non_exhaustive()
    }
}

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
    /// Multi-Region keys of AWS KMS that the configuration names.
    pub(crate) multi_region: Vec<KeyUri>,
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

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, deadline, .. } = self;
        f.debug_struct("Host").field("name", name).field("component", &self.component()).field("deadline", deadline).finish_non_exhaustive()
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Host {
    /// Reads a message, and gives what a guest needs for it. Runs where [`KeyProvider::exchange`](crate::KeyProvider::exchange) runs.
    ///
    /// # Errors
    /// If the message is malformed or for several providers, if the deadline has passed, or if the audit log can't be written. That is on
    /// record.
    pub async fn begin(&self, message: &[u8], call: Call) -> Result<Begun, Error> {
        self.begin_with(|| self.read(message), call).await
    }

    /// [`Host::begin`] with how the message is read, which is done at the right time.
    pub(crate) async fn begin_with(
        &self,
        read: impl FnOnce() -> Result<(Exchange, Zeroizing<Vec<u8>>), Error>,
        call: Call,
    ) -> Result<Begun, Error> {
        let Call { caller, deadline } = call;
        let configured = Instant::now() + self.deadline;
        let deadline = deadline.map_or(configured, |deadline| deadline.min(configured));
        let mut counted = Counted::begin();
        let mut ledger = Ledger::new(self.lender.audit.as_ref(), &caller, self.lender.component, deadline);
        let in_time = || if deadline > Instant::now() { Ok(()) } else { Err(not_in_time()) };
        let (exchange, message) = match in_time().and_then(|()| self.ready()).and_then(|()| read()) {
            Ok(exchange) => exchange,
            Err(error) => {
                counted.finish::<()>(None, &Err(error.clone()));
                tracing::warn!(caller = caller.to_string(), error = error.line(), "refused");
                return ledger.conclude(Err(error), |_| None).await;
            }
        };
        let operation = exchange.operation;
        counted.operation(operation);
        ledger.about(operation, &exchange.name, || exchange.annotation_digest());
        tracing::debug!(%operation, provider = exchange.name, named = exchange.named.len(), origin = exchange.origin.as_str(), "exchange");
        let default_recipients = self.default_recipients.iter().map(|key| key.canonical().to_owned()).collect();
        let settings = Settings { name: exchange.name.clone(), default_recipients, options: self.options.clone() };
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

    pub(crate) fn read(&self, message: &[u8]) -> Result<(Exchange, Zeroizing<Vec<u8>>), Error> {
        let settings = exchange::Settings {
            name: self.name.as_deref(),
            default_name: self.default_name,
            key: self.key.as_ref(),
            default_recipients: &self.default_recipients,
            multi_region: &self.multi_region,
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
    /// What the guest failed of, by the host's own account; that the answer is none, that no key was used for it, or that it unwraps what isn't
    /// opts data; that the record can't be written; and if no exchange was begun.
    pub async fn conclude(self, returned: wasmtime::Result<Result<Vec<u8>, GuestError>>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Some(mut lending) = self.0 else { return Err(Error::Internal { reason: "no exchange was begun".into() }) };
        let spelling = lending.spelling();
        let outcome = match returned.map(|returned| returned.map(Zeroizing::new)) {
            Ok(Ok(answer)) => answer::check(lending.operation(), &answer).and_then(|answer| lending.check_used(answer)),
            Ok(Err(error)) => Err(lending.explain(reported(error))),
            Err(error) => Err(stopped(&error)),
        };
        lending.conclude(outcome).await.map(|answer| answer.write(spelling))
    }
}

/// What a guest returned that was not done at [`Begun::deadline`], for [`KmsCtx::conclude`].
#[must_use]
pub fn late() -> wasmtime::Error {
    not_in_time().into()
}

fn not_in_time() -> Error {
    Error::Unavailable { key: "the exchange".into(), reason: "it was not done before its deadline".into() }
}

/// A guest that stopped, or was stopped by its host, which may have said why.
pub(crate) fn stopped(error: &wasmtime::Error) -> Error {
    match (error.downcast_ref::<Error>(), error.downcast_ref::<wasmtime::Trap>()) {
        (Some(error), _) => error.clone(),
        (None, Some(trap)) => Error::Stopped { reason: format!("it stopped: {trap}") },
        (None, None) => Error::Stopped { reason: format!("it was stopped: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)) },
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

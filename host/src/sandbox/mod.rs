//! The sandbox: where a guest runs.
//!
//! Each exchange gets a fresh instance with nothing but lent keys and random numbers. Its memory, its time on the CPU and the number of its
//! calls are bounded, and it dies with the exchange.

mod bindings;
mod built_in;
#[cfg(feature = "compile")]
mod cache;
mod engine_config;
#[cfg(feature = "http-kms")]
mod http_bindings;
mod limits;
mod ticker;
#[cfg(feature = "compile")]
mod wasi;

use std::sync::OnceLock;
use std::time::Instant;

pub use bindings::exports::ocicrypt::keyprovider::provider::PacketInfo;
use bindings::exports::ocicrypt::keyprovider::provider::Settings;
use bindings::ocicrypt::keyprovider::types::Error as GuestError;
use bindings::{KeyProviderPre, State};
pub use built_in::BUILT_IN;
#[cfg(feature = "compile")]
pub use cache::CodeCache;
pub use limits::Limits;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};
use zeroize::Zeroizing;

use self::ticker::{Ticker, Ticking};
use crate::digest::Digest;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::lending::{Lending, Reported};
use crate::{Error, ErrorKind};

/// The most bytes of one answer to `get-random-bytes`.
const MAX_RANDOM: u64 = 4096;
/// The most things that a guest may hold at a time: keys, streams, what it waits for.
const MAX_RESOURCES: usize = 1024;

/// How instances get their memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Instances {
    /// On demand: for a process that makes one exchange.
    #[default]
    OneShot,
    /// From a pool with room for so many at a time: for a process that makes many.
    Pooled(u32),
}

/// What ends when an exchange ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The instance, which is taken apart.
    Instance,
    /// The process. It takes everything apart at once; piece by piece that would take as long as the exchange did.
    Process,
}

/// A component, ready to run.
pub struct Sandbox {
    engine: Engine,
    component: KeyProviderPre<State>,
    digest: Digest,
    limits: Limits,
    ticker: OnceLock<Ticker>,
}

impl Sandbox {
    /// The built-in component.
    ///
    /// # Errors
    /// If the system can't provide what the engine needs.
    pub fn built_in(instances: Instances) -> Result<Self, Error> {
        let limits = Limits::BUILT_IN;
        let (engine, component) = built_in::load(config(instances, &limits)).map_err(|error| set_up(&error))?;
        let linker = linker(&engine).map_err(|error| set_up(&error))?;
        Self::new(engine, &linker, &component, built_in::DIGEST, limits)
    }

    /// The digest of the built-in component's file.
    #[must_use]
    pub fn built_in_digest() -> Digest {
        built_in::DIGEST
    }

    /// Another component, which is compiled now, within the limits of the built-in one. What that means for the images that it wraps keys for is in
    /// SECURITY.md.
    ///
    /// # Errors
    /// Those of [`Sandbox::compile_within`].
    #[cfg(feature = "compile")]
    pub fn compile(component: &[u8], instances: Instances) -> Result<Self, Error> {
        Self::compile_within(component, Digest::of(component), instances, Limits::BUILT_IN, None)
    }

    /// The same within these limits, and with the compiled code from a cache if it is there. The digest is the component's own.
    ///
    /// # Errors
    /// If it isn't a component, or imports anything but what the world `key-provider` (with the feature `http-kms`, `key-provider-http`) and WASI 0.2
    /// have.
    #[cfg(feature = "compile")]
    pub fn compile_within(
        component: &[u8],
        digest: Digest,
        instances: Instances,
        limits: Limits,
        cache: Option<&CodeCache>,
    ) -> Result<Self, Error> {
        let set_up = |error| set_up(&error);
        let engine = Engine::new(&config(instances, &limits)).map_err(set_up)?;
        let compiled = match cache {
            Some(cache) => cache.component(&engine, component, digest),
            None => Component::new(&engine, component),
        };
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker).and_then(|()| bindings::add_to_linker(&mut linker)).map_err(set_up)?;
        #[cfg(feature = "http-kms")]
        http_bindings::add_to_linker(&mut linker).map_err(set_up)?;
        Self::new(engine, &linker, &compiled.map_err(set_up)?, digest, limits)
    }

    fn new(engine: Engine, linker: &Linker<State>, component: &Component, digest: Digest, limits: Limits) -> Result<Self, Error> {
        let component = linker.instantiate_pre(component).and_then(KeyProviderPre::new).map_err(|error| set_up(&error))?;
        Ok(Self { engine, component, digest, limits, ticker: OnceLock::new() })
    }

    /// The digest of the component's file.
    #[must_use]
    pub fn component_digest(&self) -> Digest {
        self.digest
    }

    /// Runs one exchange in an instance of its own, and gives back its record. What a guest lets out is its answer, or a failure in the
    /// host's own words.
    pub(crate) async fn exchange(
        &self,
        lending: Lending,
        defaults: &[String],
        options: &[(String, String)],
        deadline: Instant,
        end: End,
    ) -> (Lending, Result<Zeroizing<Vec<u8>>, Error>) {
        let settings = Settings { name: lending.exchange().name.clone(), default_recipients: defaults.to_vec(), options: options.to_vec() };
        let message = lending.exchange().message.clone();
        let _ticking = match self.ticking() {
            Ok(ticking) => ticking,
            Err(error) => return (lending, Err(error)),
        };
        let mut store = self.store(Some(lending));
        let run = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            instance.ocicrypt_keyprovider_provider().call_exchange(&mut store, &settings, &message).await
        };
        let outcome = within(deadline, run).await;
        let lending = store.data_mut().lending.take().expect("it was put there above");
        if end == End::Process {
            std::mem::forget(store);
        }
        let outcome = outcome.and_then(|returned| match returned {
            Ok(Ok(answer)) => Ok(Zeroizing::new(answer)),
            Ok(Err(error)) => Err(lending.explain(reported(error))),
            Err(trap) => Err(self.stopped(&trap)),
        });
        (lending, outcome)
    }

    /// Lists the packets of a decoded annotation. No key can be opened.
    pub(crate) async fn inspect(&self, annotation: &[u8], deadline: Instant) -> Result<Vec<PacketInfo>, Error> {
        let _ticking = self.ticking()?;
        let mut store = self.store(None);
        let run = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            instance.ocicrypt_keyprovider_provider().call_inspect(&mut store, annotation).await
        };
        match within(deadline, run).await? {
            Ok(Ok(packets)) => Ok(packets),
            Ok(Err(error)) => Err(match reported(error) {
                Reported::One(Some(ErrorKind::InvalidInput), text) => {
                    Error::InvalidInput { reason: printable(&text, MAX_OUTSIDE_TEXT), hint: String::new() }
                }
                _ => Error::Component { reason: "it could not list the packets".into() },
            }),
            Err(trap) => Err(self.stopped(&trap)),
        }
    }

    /// The clock's thread starts with the first exchange: until then this process has one thread, which can give up rights for all.
    fn ticking(&self) -> Result<Ticking<'_>, Error> {
        if let Some(ticker) = self.ticker.get() {
            return Ok(ticker.ticking());
        }
        let started = Ticker::start(&self.engine).map_err(|error| set_up(&error.into()))?;
        // Of two that start at once, one ends.
        Ok(self.ticker.get_or_init(|| started).ticking())
    }

    fn store(&self, lending: Option<Lending>) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(lending, self.limits));
        store.limiter(|state| &mut state.used);
        store.set_epoch_deadline(1);
        // Called at most once per tick, and only while the guest runs: so this counts time on the CPU.
        let (mut ticks, limit) = (0, self.limits.ticks());
        store.epoch_deadline_callback(move |_| {
            ticks += 1;
            if ticks > limit { Ok(UpdateDeadline::Interrupt) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        store
    }

    /// A guest that was stopped by its limits, or stopped itself.
    fn stopped(&self, error: &wasmtime::Error) -> Error {
        let reason = match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::Interrupt) => format!("it ran for more than {} ms", self.limits.time().as_millis()),
            Some(trap) => format!("it stopped: {trap}"),
            None => format!("it was stopped: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)),
        };
        Error::Component { reason }
    }
}

fn config(instances: Instances, limits: &Limits) -> Config {
    let mut config = engine_config::engine_config();
    if let Instances::Pooled(count) = instances {
        config.allocation_strategy(limits.pool(count));
    }
    config
}

/// What the built-in component is linked to.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    bindings::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Waits until the deadline, and says so if it passes.
async fn within<T>(deadline: Instant, run: impl Future<Output = T>) -> Result<T, Error> {
    let late = |_| Error::Unavailable { key: "the exchange".into(), reason: "it was not done before its deadline".into() };
    tokio::time::timeout_at(deadline.into(), run).await.map_err(late)
}

fn set_up(error: &wasmtime::Error) -> Error {
    Error::Internal { reason: format!("the sandbox can't be set up: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)) }
}

fn reported(error: GuestError) -> Reported {
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

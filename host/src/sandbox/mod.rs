//! The sandbox: where a guest runs.
//!
//! Each exchange gets a fresh instance with nothing but lent keys and random numbers. Its memory, its time on the CPU and the number of its
//! calls are bounded, and it dies with the exchange.

mod bindings;
mod built_in;
mod engine_config;
mod ticker;

use std::time::Instant;

pub use bindings::exports::ocicrypt::keyprovider::provider::PacketInfo;
use bindings::exports::ocicrypt::keyprovider::provider::Settings;
use bindings::ocicrypt::keyprovider::types::Error as GuestError;
use bindings::{KeyProviderPre, State};
pub use built_in::BUILT_IN;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, PoolingAllocationConfig, Store, UpdateDeadline};
use zeroize::Zeroizing;

use self::ticker::Ticker;
use crate::digest::Digest;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::lending::{Lending, Reported};
use crate::{Error, ErrorKind};

/// The most memory of one instance: a 4 MiB message, spelled as numbers, and what it is read into.
pub const MAX_MEMORY: usize = 64 << 20;
/// The longest time that one exchange may spend on the CPU inside the sandbox, in ticks; waiting for a KMS doesn't count.
pub const MAX_CPU_TICKS: u32 = 100;
/// The most bytes of one answer to `get-random-bytes`.
const MAX_RANDOM: u64 = 4096;
/// Memory of an instance that is reset by copying instead of by system calls: the built-in component's data, stack and arena.
const KEEP_RESIDENT: usize = 256 << 10;

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
    ticker: Ticker,
}

impl Sandbox {
    /// The built-in component.
    ///
    /// # Errors
    /// If the system can't provide what the engine needs.
    pub fn built_in(instances: Instances) -> Result<Self, Error> {
        let (engine, component) = built_in::load(config(instances)).map_err(|error| set_up(&error))?;
        Self::new(engine, component, built_in::DIGEST)
    }

    /// Another component, which is compiled now. What that means for the images that it wraps keys for is in SECURITY.md.
    ///
    /// # Errors
    /// If it isn't a component, or imports anything but `kms` and `wasi:random/random`.
    #[cfg(feature = "compile")]
    pub fn compile(component: &[u8], instances: Instances) -> Result<Self, Error> {
        let engine = Engine::new(&config(instances)).map_err(|error| set_up(&error))?;
        let compiled = Component::new(&engine, component).map_err(|error| set_up(&error))?;
        Self::new(engine, compiled, Digest::of(component))
    }

    fn new(engine: Engine, component: Component, digest: Digest) -> Result<Self, Error> {
        let link = || {
            let mut linker = Linker::new(&engine);
            bindings::add_to_linker(&mut linker)?;
            KeyProviderPre::new(linker.instantiate_pre(&component)?)
        };
        let component = link().map_err(|error| set_up(&error))?;
        let ticker = Ticker::start(&engine).map_err(|error| set_up(&error.into()))?;
        Ok(Self { engine, component, digest, ticker })
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
        let _ticking = self.ticker.ticking();
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
            Err(trap) => Err(stopped(&trap)),
        });
        (lending, outcome)
    }

    /// Lists the packets of a decoded annotation. No key can be opened.
    pub(crate) async fn inspect(&self, annotation: &[u8], deadline: Instant) -> Result<Vec<PacketInfo>, Error> {
        let _ticking = self.ticker.ticking();
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
            Err(trap) => Err(stopped(&trap)),
        }
    }

    fn store(&self, lending: Option<Lending>) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(lending));
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        // Called at most once per tick, and only while the guest runs: so this counts time on the CPU.
        let mut ticks = 0;
        store.epoch_deadline_callback(move |_| {
            ticks += 1;
            if ticks > MAX_CPU_TICKS { Ok(UpdateDeadline::Interrupt) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        store
    }
}

fn config(instances: Instances) -> Config {
    let mut config = engine_config::engine_config();
    if let Instances::Pooled(count) = instances {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(count);
        pool.total_core_instances(count * 4);
        pool.total_memories(count);
        pool.total_tables(count * 2);
        pool.total_stacks(count);
        pool.max_memory_size(MAX_MEMORY);
        pool.linear_memory_keep_resident(KEEP_RESIDENT);
        pool.table_keep_resident(KEEP_RESIDENT);
        pool.async_stack_keep_resident(KEEP_RESIDENT);
        config.allocation_strategy(pool);
    }
    config
}

/// Waits until the deadline, and says so if it passes.
async fn within<T>(deadline: Instant, run: impl Future<Output = T>) -> Result<T, Error> {
    let late = |_| Error::Unavailable { key: "the exchange".into(), reason: "it was not done before its deadline".into() };
    tokio::time::timeout_at(deadline.into(), run).await.map_err(late)
}

fn set_up(error: &wasmtime::Error) -> Error {
    Error::Internal { reason: format!("the sandbox can't be set up: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)) }
}

/// A guest that was stopped by its limits, or stopped itself.
fn stopped(error: &wasmtime::Error) -> Error {
    let reason = match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::Interrupt) => format!("it ran for more than {} ms", MAX_CPU_TICKS * ticker::TICK_MILLISECONDS),
        Some(trap) => format!("it stopped: {trap}"),
        None => format!("it was stopped: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)),
    };
    Error::Component { reason }
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

//! The sandbox: where a guest runs.
//!
//! Each exchange gets a fresh instance with nothing but lent keys and random numbers. Its memory, its time on the CPU and the number of its
//! calls are bounded, and it dies with the exchange.

mod built_in;
#[cfg(feature = "compile")]
mod cache;
mod engine_config;
mod limits;
mod reservation;
mod state;
mod ticker;
#[cfg(feature = "compile")]
mod wasi;

use std::time::Instant;

pub use built_in::BUILT_IN;
#[cfg(feature = "compile")]
pub use cache::CodeCache;
pub use limits::Limits;
use ocicrypt_kms_protocol::MAX_ANNOTATION;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

use self::state::State;
use self::ticker::Ticking;
use crate::Error;
use crate::digest::Digest;
use crate::embedding::{self, Begun, GuestError, GuestPre, KmsCtx, PacketInfo, add_random_to_linker, add_to_linker};
use crate::error::{MAX_OUTSIDE_TEXT, printable};

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
    component: GuestPre<State>,
    digest: Digest,
    limits: Limits,
}

impl Sandbox {
    /// The built-in component.
    ///
    /// # Errors
    /// If the system can't provide what the engine needs.
    pub fn built_in(instances: Instances) -> Result<Self, Error> {
        let limits = Limits::BUILT_IN;
        let (engine, component) =
            built_in::load(config(instances, &limits)).map_err(|error| reservation::begin(&error, instances, limits))?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(|error| set_up(&error))?;
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
        let mut config = config(instances, &limits);
        // One that holds an interpreter has megabytes of data, which is copied for each instance otherwise. It takes a file in memory, which the
        // process of one exchange may not make.
        config.memory_init_cow(matches!(instances, Instances::Pooled(_)));
        let engine = Engine::new(&config).map_err(|error| reservation::begin(&error, instances, limits))?;
        let compiled = match cache {
            Some(cache) => cache.component(&engine, component, digest),
            None => Component::new(&engine, component),
        };
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker).and_then(|()| link(&mut linker)).map_err(set_up)?;
        #[cfg(feature = "http-kms")]
        crate::embedding::add_http_to_linker(&mut linker).map_err(set_up)?;
        Self::new(engine, &linker, &compiled.map_err(set_up)?, digest, limits)
    }

    fn new(engine: Engine, linker: &Linker<State>, component: &Component, digest: Digest, limits: Limits) -> Result<Self, Error> {
        let component = linker.instantiate_pre(component).and_then(GuestPre::new).map_err(|error| set_up(&error))?;
        ticker::register(&engine);
        Ok(Self { engine, component, digest, limits })
    }

    /// The digest of the component's file.
    #[must_use]
    pub fn component_digest(&self) -> Digest {
        self.digest
    }

    /// Runs one exchange in an instance of its own, and gives back its context and what the guest returned.
    pub(crate) async fn exchange(&self, begun: Begun, end: End) -> (KmsCtx, wasmtime::Result<Result<Vec<u8>, GuestError>>) {
        let Begun { ctx, settings, message, deadline } = begun;
        let _ticking = match ticking() {
            Ok(ticking) => ticking,
            Err(error) => return (ctx, Err(error.into())),
        };
        let mut store = self.store(ctx);
        let run = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            instance.ocicrypt_keyprovider_provider().call_exchange(&mut store, &settings, &message).await
        };
        let returned = self.within(deadline, run).await;
        let ctx = std::mem::take(&mut store.data_mut().kms);
        if end == End::Process {
            std::mem::forget(store);
        }
        (ctx, returned.map_err(Into::into))
    }

    /// Lists the packets of a decoded annotation. No key can be opened.
    pub(crate) async fn inspect(&self, annotation: &[u8], deadline: Instant) -> Result<Vec<PacketInfo>, Error> {
        if annotation.len() > MAX_ANNOTATION {
            let reason = format!("the annotation is longer than {MAX_ANNOTATION} bytes");
            return Err(Error::InvalidInput { reason, hint: String::new() });
        }
        let _ticking = ticking()?;
        let mut store = self.store(KmsCtx::default());
        let run = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            instance.ocicrypt_keyprovider_provider().call_inspect(&mut store, annotation).await
        };
        self.within(deadline, run).await?.map_err(|error| match error {
            GuestError::InvalidInput(text) => Error::InvalidInput { reason: printable(&text, MAX_OUTSIDE_TEXT), hint: String::new() },
            _ => Error::Component { reason: "it could not list the packets".into() },
        })
    }

    fn store(&self, kms: KmsCtx) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(kms, self.limits));
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

    /// Waits until a guest has returned, and says so if that is not before the deadline, or never because of its limits.
    async fn within<T>(&self, deadline: Instant, run: impl Future<Output = wasmtime::Result<T>>) -> Result<T, Error> {
        match tokio::time::timeout_at(deadline.into(), run).await {
            Ok(Ok(returned)) => Ok(returned),
            Ok(Err(error)) if matches!(error.downcast_ref(), Some(wasmtime::Trap::Interrupt)) => {
                Err(Error::Stopped { reason: format!("it ran for more than {} ms", self.limits.time().as_millis()) })
            }
            Ok(Err(error)) => Err(reservation::exhausted(&error, self.limits).unwrap_or_else(|| embedding::stopped(&error))),
            Err(_) => Err(embedding::stopped(&embedding::late())),
        }
    }
}

/// The clock's thread starts with the first exchange: until then this process has one thread, which can give up rights for all.
fn ticking() -> Result<Ticking, Error> {
    ticker::ticking().map_err(|error| set_up(&error.into()))
}

fn config(instances: Instances, limits: &Limits) -> Config {
    let mut config = engine_config::engine_config();
    // As compiled ahead of time for the built-in component's limits; another one is compiled for its own.
    config.memory_reservation(limits.memory() as u64);
    if let Instances::Pooled(count) = instances {
        config.allocation_strategy(limits.pool(count));
    }
    config
}

/// What the built-in component is linked to.
fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    add_to_linker(linker)?;
    add_random_to_linker(linker)
}

fn set_up(error: &wasmtime::Error) -> Error {
    Error::Internal { reason: format!("the sandbox can't be set up: {}", printable(&format!("{error:#}"), MAX_OUTSIDE_TEXT)) }
}

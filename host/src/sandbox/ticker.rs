//! The clock that interrupts guests: a plain thread, so that it also ticks while a guest keeps the executor's thread busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// The length of one tick.
pub(super) const TICK_MILLISECONDS: u32 = 10;
/// The thread parks after so many ticks without an exchange: waking it costs more than an exchange that comes soon.
const IDLE_TICKS: u32 = 100;

/// A thread that ticks while there are exchanges. Ends with its engine.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    exchanges: AtomicU32,
    parked: AtomicBool,
}

/// An exchange for whose time the clock ticks.
pub(super) struct Ticking<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (theirs, engine) = (shared.clone(), engine.weak());
        let thread = thread::Builder::new().name("epoch".into()).spawn(move || tick(&engine, &theirs))?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// Ticks at least until what this returns is dropped.
    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.shared.exchanges.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(&self.shared)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

fn tick(engine: &EngineWeak, shared: &Shared) {
    let mut idle_ticks = 0;
    loop {
        thread::sleep(Duration::from_millis(TICK_MILLISECONDS.into()));
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        drop(engine);
        let busy = || shared.exchanges.load(Ordering::SeqCst) > 0;
        idle_ticks = if busy() { 0 } else { idle_ticks + 1 };
        if idle_ticks > IDLE_TICKS {
            shared.parked.store(true, Ordering::SeqCst);
            // An exchange that began before `parked` was set did not wake this thread, and is seen here.
            if !busy() {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            idle_ticks = 0;
        }
    }
}

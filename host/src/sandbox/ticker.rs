//! The clock that interrupts guests: a plain thread, so that it also ticks while a guest keeps the executor's thread busy.
//!
//! A process has one, for all of its engines. It starts with the first exchange, and rests while there is none.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// The length of one tick.
pub(super) const TICK_MILLISECONDS: u32 = 10;
/// The thread parks after so many ticks without an exchange: waking it costs more than an exchange that comes soon.
const IDLE_TICKS: u32 = 100;

/// The process's clock.
static CLOCK: Clock = Clock {
    engines: Mutex::new(Vec::new()),
    thread: OnceLock::new(),
    starting: Mutex::new(()),
    exchanges: AtomicU32::new(0),
    parked: AtomicBool::new(false),
};

struct Clock {
    /// Those that it ticks for, until they end.
    engines: Mutex<Vec<EngineWeak>>,
    thread: OnceLock<Thread>,
    /// Held by the exchange that starts the thread: of two that begin at once, one does.
    starting: Mutex<()>,
    exchanges: AtomicU32,
    parked: AtomicBool,
}

/// An exchange for whose time the clock ticks.
pub(super) struct Ticking(());

/// From now on the clock ticks for this engine, too, while there are exchanges.
pub(super) fn register(engine: &Engine) {
    let mut engines = lock(&CLOCK.engines);
    engines.retain(|engine| engine.upgrade().is_some());
    engines.push(engine.weak());
}

/// Ticks at least until what this returns is dropped.
pub(super) fn ticking() -> std::io::Result<Ticking> {
    let thread = CLOCK.thread()?;
    CLOCK.exchanges.fetch_add(1, Ordering::SeqCst);
    if CLOCK.parked.load(Ordering::SeqCst) {
        thread.unpark();
    }
    Ok(Ticking(()))
}

impl Drop for Ticking {
    fn drop(&mut self) {
        CLOCK.exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clock {
    fn thread(&'static self) -> std::io::Result<&'static Thread> {
        if let Some(thread) = self.thread.get() {
            return Ok(thread);
        }
        let _one = lock(&self.starting);
        if let Some(thread) = self.thread.get() {
            return Ok(thread);
        }
        let started = thread::Builder::new().name("epoch".into()).spawn(|| self.run())?;
        Ok(self.thread.get_or_init(|| started.thread().clone()))
    }

    fn run(&self) {
        let mut idle_ticks = 0;
        loop {
            thread::sleep(Duration::from_millis(TICK_MILLISECONDS.into()));
            lock(&self.engines).retain(|engine| engine.upgrade().map(|engine| engine.increment_epoch()).is_some());
            let busy = || self.exchanges.load(Ordering::SeqCst) > 0;
            idle_ticks = if busy() { 0 } else { idle_ticks + 1 };
            if idle_ticks > IDLE_TICKS {
                self.parked.store(true, Ordering::SeqCst);
                // An exchange that began before `parked` was set did not wake this thread, and is seen here.
                if !busy() {
                    thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
                idle_ticks = 0;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

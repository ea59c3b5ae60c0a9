//! Where the tasks of Google's library run.
//!
//! For each credential that it keeps a token of, it spawns a task that sleeps until the token has to be renewed, and only then looks whether anybody
//! still wants one. Credentials that are given up would leave their tasks behind, for as long as a token service says that its tokens last.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A thread for the tasks of one credential. They end with it.
pub(super) struct Tasks(Option<Runtime>);

impl Tasks {
    pub fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("google-tokens").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// What this spawns runs here.
    pub fn run<T>(&self, spawning: impl FnOnce() -> T) -> T {
        let _entered = self.0.as_ref().map(Runtime::enter);
        spawning()
    }
}

impl Drop for Tasks {
    /// Waits for nothing, since an exchange must not block its thread.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_sleeps_ends_where_it_is_dropped_within_an_exchange() {
        let held = Arc::new(());
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let tasks = Tasks::new().unwrap();
            let theirs = held.clone();
            let sleep = async move {
                tokio::time::sleep(Duration::MAX).await;
                drop(theirs);
            };
            tasks.run(|| tokio::spawn(sleep));
            assert_eq!(Arc::strong_count(&held), 2);
            drop(tasks);
        });
        let begun = Instant::now();
        while Arc::strong_count(&held) > 1 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the task is still there");
            std::thread::yield_now();
        }
    }
}

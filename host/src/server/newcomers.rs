//! Tasks for those whom anybody can send: only so many run at a time.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// Tasks, of which the one that was begun first makes way for one too many.
pub(super) struct Newcomers {
    tasks: VecDeque<AbortHandle>,
    max: usize,
}

impl Newcomers {
    pub fn new(max: usize) -> Self {
        Self { tasks: VecDeque::new(), max }
    }

    /// Begins one more, and says whether another one had to make way.
    pub fn begin(&mut self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        self.tasks.retain(|task| !task.is_finished());
        let is_full = self.tasks.len() >= self.max;
        if is_full {
            self.tasks.pop_front().iter().for_each(AbortHandle::abort);
        }
        self.tasks.push_back(tokio::spawn(task).abort_handle());
        is_full
    }
}

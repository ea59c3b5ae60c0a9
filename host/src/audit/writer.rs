//! The thread that writes: exchanges that end together wait for the disk together.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::chain::{Appended, Chain};
use super::checkpoint::{self, Checkpoint};
use super::obstacle::Obstacle;
use super::record::{self, Entry, Position};
use super::{Checkpoints, Settings, Sink};
use crate::Error;

/// How long the signature of the chain's end may take when all else has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// Takes records from many exchanges, and writes them one batch after the other.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Started with the first record, and anew if it should have ended.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Batch>,
    closed: bool,
}

/// The records of one exchange, and who waits for them.
struct Batch {
    entries: Vec<Entry>,
    deadline: Instant,
    done: oneshot::Sender<Result<(), Error>>,
}

/// What is written to.
struct Log {
    place: PathBuf,
    chain: Option<Chain>,
    /// Without a file, the chain's end is here alone.
    last: Position,
    /// The last record that was signed by this process, or stood before its first one.
    signed: Option<Position>,
    checkpoints: Option<Checkpoints>,
    sinks: Vec<Arc<dyn Sink>>,
}

impl Writer {
    pub fn new(Settings { file, rotate_at, checkpoints, sinks }: Settings) -> Self {
        let place = file.clone().unwrap_or_else(|| "the audit log".into());
        let chain = file.map(|file| Chain::new(file, rotate_at));
        let log = Log { place, chain, last: Position::GENESIS, signed: None, checkpoints, sinks };
        let shared = Shared { queue: Mutex::default(), wake: Condvar::new(), log: Mutex::new(log) };
        Self { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Hands records over. What becomes of them, the receiver is told.
    pub fn send(&self, entries: Vec<Entry>, deadline: Instant) -> oneshot::Receiver<Result<(), Error>> {
        let (done, written) = oneshot::channel();
        let mut thread = lock(&self.thread);
        if thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = self.shared.clone();
            *thread = std::thread::Builder::new().name("audit".into()).spawn(move || shared.write()).ok();
        }
        // Without a thread the sender is dropped here, and whoever waits is told.
        if thread.is_some() {
            lock(&self.shared.queue).waiting.push(Batch { entries, deadline, done });
            self.shared.wake.notify_one();
        }
        written
    }

    pub fn begin(&self, deadline: Instant) -> Result<(), Error> {
        lock(&self.shared.log).append(&mut [], deadline)
    }

    pub fn rotate(&self, deadline: Instant) -> Result<PathBuf, Error> {
        lock(&self.shared.log).rotate(deadline)
    }

    pub fn check(&self, deadline: Instant) -> Result<(), Error> {
        lock(&self.shared.log).check(deadline)
    }

    pub fn checkpoint(&self, deadline: Instant) -> Result<Checkpoint, Error> {
        lock(&self.shared.log).sign_end(deadline)
    }
}

impl Drop for Writer {
    /// What waits is written, and the chain's end is signed.
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // It has nothing to tell; a panic in it has printed itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn write(&self) {
        while let Some(mut batches) = self.next() {
            let deadline = batches.iter().map(|batch| batch.deadline).max().unwrap_or_else(Instant::now);
            let outcome = lock(&self.log).append(&mut batches, deadline);
            for batch in batches {
                // Who has gone away can't be told.
                if let (Err(_), Err(error)) = (batch.done.send(outcome.clone()), &outcome) {
                    tracing::error!(error = error.line(), "the record of an exchange that was given up is lost");
                }
            }
        }
        lock(&self.log).farewell();
    }

    /// All that waits; `None` when nothing does and nothing will.
    fn next(&self) -> Option<Vec<Batch>> {
        let queue = lock(&self.queue);
        let mut queue =
            self.wake.wait_while(queue, |queue| queue.waiting.is_empty() && !queue.closed).unwrap_or_else(PoisonError::into_inner);
        (!queue.waiting.is_empty()).then(|| std::mem::take(&mut queue.waiting))
    }
}

impl Log {
    fn append(&mut self, batches: &mut [Batch], deadline: Instant) -> Result<(), Error> {
        let entries: Vec<_> = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.entries)).collect();
        let appended = match &mut self.chain {
            Some(chain) => chain.append(&entries, deadline).map_err(|obstacle| obstacle.at(&self.place))?,
            None => appended_to(self.last, &entries),
        };
        self.last = appended.last;
        self.hand_on(&appended.lines, deadline)?;
        let before = *self.signed.get_or_insert(appended.before);
        match &self.checkpoints {
            Some(checkpoints) if before.sequence / checkpoints.every < self.last.sequence / checkpoints.every => {
                self.sign(deadline).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn hand_on(&self, lines: &[String], deadline: Instant) -> Result<(), Error> {
        for sink in &self.sinks {
            for line in lines {
                sink.take(line, deadline).map_err(|reason| Obstacle::Sink(reason).at(Path::new(sink.name())))?;
            }
        }
        Ok(())
    }

    /// Whether a record could be written and signed.
    fn check(&self, deadline: Instant) -> Result<(), Error> {
        if let Some(chain) = &self.chain {
            chain.check(deadline).map_err(|obstacle| obstacle.at(&self.place))?;
        }
        self.checkpoints.as_ref().map_or(Ok(()), |Checkpoints { key, file, .. }| checkpoint::check(key, file))
    }

    /// Signs the last record that this process wrote.
    fn sign(&mut self, deadline: Instant) -> Result<Checkpoint, Error> {
        let Some(Checkpoints { key, file, .. }) = &self.checkpoints else {
            let reason = "no key is configured that signs; make one with `ocicrypt-kms audit keygen FILE` and name it".into();
            return Err(Error::Configuration { place: "audit.checkpoint-key".into(), reason });
        };
        let checkpoint = checkpoint::sign(key, self.last)?;
        checkpoint::append(file, &checkpoint)?;
        self.hand_on(std::slice::from_ref(&checkpoint.line), deadline)?;
        self.signed = Some(self.last);
        Ok(checkpoint)
    }

    /// Signs the file's last record, whoever wrote it.
    fn sign_end(&mut self, deadline: Instant) -> Result<Checkpoint, Error> {
        if let Some(chain) = &mut self.chain {
            self.last = chain.last(deadline).map_err(|obstacle| obstacle.at(&self.place))?;
        }
        match self.last {
            Position::GENESIS => Err(Obstacle::Empty.at(&self.place)),
            _ => self.sign(deadline),
        }
    }

    fn rotate(&mut self, deadline: Instant) -> Result<PathBuf, Error> {
        let no_file = || Error::Configuration { place: "audit.file".into(), reason: "no file is configured that could be rotated".into() };
        let chain = self.chain.as_mut().ok_or_else(no_file)?;
        let (old, appended) = chain.rotate(deadline).map_err(|obstacle| obstacle.at(&self.place))?;
        self.last = appended.last;
        self.hand_on(&appended.lines, deadline)?;
        Ok(old)
    }

    /// The last thing that is done: what has been written since the last signature is signed.
    fn farewell(&mut self) {
        let anything_new = self.signed.is_some_and(|signed| signed != self.last);
        if self.checkpoints.is_some()
            && anything_new
            && let Err(error) = self.sign(Instant::now() + FAREWELL)
        {
            tracing::error!(error = error.line(), "the end of the audit log is not signed");
        }
    }
}

/// A chain that is in no file.
fn appended_to(before: Position, entries: &[Entry]) -> Appended {
    let mut last = before;
    let chained = |entry| {
        let (line, position) = record::write(entry, last);
        last = position;
        line
    };
    let lines = entries.iter().map(chained).collect();
    Appended { lines, before, last }
}

/// A lock that somebody panicked with is as good as any: what it guards is checked anew where it matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

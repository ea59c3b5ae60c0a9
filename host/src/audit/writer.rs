//! The thread that writes: exchanges that end together wait for the disk together.
//!
//! What waits for it is bounded. While a sink or the disk hangs, further records are refused, and no key is released; the next record that is written
//! says how many are missing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::chain::{Appended, Chain};
use super::checkpoint::{self, Checkpoint};
use super::obstacle::{NO_FILE, Obstacle};
use super::record::{self, Entry, Event, Position};
use super::{Checkpoints, Settings, Sink, blank};
use crate::{Error, count};

/// How long the signature of the chain's end may take when all else has ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long what waits may take to be written when all else has ended; a sink that hangs doesn't keep the process.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// The most records that wait: more than as many exchanges make as a server may have under way.
const MAX_WAITING: usize = 16 << 10;
/// The most bytes of the records that wait.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// The pause between two looks at what another thread has.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes records from many exchanges, and writes them one batch after the other.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Started with the first record, and anew if it should have ended.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// What errors name.
    place: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Batch>,
    /// How many records wait, and their bytes.
    records: usize,
    bytes: usize,
    /// How many records could not be written, and aren't told of yet.
    lost: u64,
    closed: bool,
    /// Whether what is lost was tried to be told of at the end.
    said_last: bool,
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
        let place = file.clone().unwrap_or_else(|| NO_FILE.into());
        let chain = file.map(|file| Chain::new(file, rotate_at));
        let log = Log { place: place.clone(), chain, last: Position::GENESIS, signed: None, checkpoints, sinks };
        let shared = Shared { place, queue: Mutex::default(), wake: Condvar::new(), log: Mutex::new(log) };
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
        let mut queue = lock(&self.shared.queue);
        if thread.is_none() {
            // The sender is dropped here, and whoever waits is told.
            queue.lose(entries.len());
            return written;
        }
        if let Some((batch, full)) = queue.push(Batch { entries, deadline, done }) {
            // Who has gone away can't be told.
            let _ = batch.done.send(Err(full.at(&self.shared.place)));
        }
        self.shared.wake.notify_one();
        written
    }

    /// Says no if so many records wait that no further one may.
    pub fn ready(&self) -> Result<(), Error> {
        lock(&self.shared.queue).room().map_err(|full| full.at(&self.shared.place))
    }

    pub fn begin(&self, deadline: Instant) -> Result<(), Error> {
        let mut log = self.log(deadline)?;
        let appended = log.write(&[], deadline)?;
        log.publish(&appended, deadline)
    }

    pub fn rotate(&self, deadline: Instant) -> Result<PathBuf, Error> {
        self.log(deadline)?.rotate(deadline)
    }

    pub fn check(&self, deadline: Instant) -> Result<(), Error> {
        self.ready().and_then(|()| self.log(deadline)?.check(deadline))
    }

    pub fn checkpoint(&self, deadline: Instant) -> Result<Checkpoint, Error> {
        self.log(deadline)?.sign_end(deadline)
    }

    /// The log, once it isn't written to. A sink that hangs is not waited for longer than until the deadline.
    fn log(&self, deadline: Instant) -> Result<MutexGuard<'_, Log>, Error> {
        loop {
            match self.shared.log.try_lock() {
                Ok(log) => return Ok(log),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(Obstacle::Busy.at(&self.shared.place)),
            }
        }
    }
}

impl Drop for Writer {
    /// What waits is written, and the chain's end is signed.
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.wake.notify_one();
        let Some(thread) = lock(&self.thread).take() else { return };
        let deadline = Instant::now() + LAST_WRITES;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        if thread.is_finished() {
            // It has nothing to tell; a panic in it has printed itself.
            let _ = thread.join();
        } else {
            let records = lock(&self.shared.queue).records;
            tracing::error!(records, "the audit log is still being written: what waits is lost");
        }
    }
}

impl Queue {
    fn room(&self) -> Result<(), Obstacle> {
        if self.records >= MAX_WAITING || self.bytes >= MAX_WAITING_BYTES { Err(Obstacle::Behind(self.records)) } else { Ok(()) }
    }

    /// Gives the batch back if there is no room for it.
    fn push(&mut self, batch: Batch) -> Option<(Batch, Obstacle)> {
        if let Err(full) = self.room() {
            self.lose(batch.entries.len());
            return Some((batch, full));
        }
        self.records += batch.entries.len();
        self.bytes += batch.entries.iter().map(Entry::size).sum::<usize>();
        self.waiting.push(batch);
        None
    }

    /// Notes that so many records were not written.
    fn lose(&mut self, records: usize) {
        self.lost += records as u64;
        count::lost_records(records as u64);
    }

    /// All that waits, and how many records are lost and not told of.
    fn take(&mut self) -> (Vec<Batch>, u64) {
        (self.records, self.bytes) = (0, 0);
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.lost))
    }
}

impl Shared {
    fn write(&self) {
        while let Some((mut batches, lost)) = self.next() {
            let deadline = batches.iter().map(|batch| batch.deadline).max().unwrap_or_else(|| Instant::now() + FAREWELL);
            let told = (lost > 0).then(|| Entry { event: Event::Lost, records: Some(lost), ..blank() });
            let entries = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.entries));
            let entries: Vec<_> = told.into_iter().chain(entries).collect();
            let mut log = lock(&self.log);
            let written = log.write(&entries, deadline);
            if written.is_err() {
                let mut queue = lock(&self.queue);
                queue.lose(entries.len() - usize::from(lost > 0));
                queue.lost += lost;
            }
            let outcome = written.and_then(|appended| log.publish(&appended, deadline));
            drop(log);
            for batch in batches {
                // Who has gone away can't be told.
                if let (Err(_), Err(error)) = (batch.done.send(outcome.clone()), &outcome) {
                    tracing::error!(error = error.line(), "the record of an exchange that was given up is lost");
                }
            }
        }
        lock(&self.log).farewell();
    }

    /// All that waits, and how many records are lost; `None` when nothing waits and nothing will. What is lost is told of with the next record, or
    /// once, at the end.
    fn next(&self) -> Option<(Vec<Batch>, u64)> {
        let queue = lock(&self.queue);
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let mut queue = self.wake.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() && (queue.lost == 0 || std::mem::replace(&mut queue.said_last, true)) {
            return None;
        }
        Some(queue.take())
    }
}

impl Log {
    /// Appends records to the chain.
    fn write(&mut self, entries: &[Entry], deadline: Instant) -> Result<Appended, Error> {
        let appended = match &mut self.chain {
            Some(chain) => chain.append(entries, deadline).map_err(|obstacle| obstacle.at(&self.place))?,
            None => appended_to(self.last, entries),
        };
        self.last = appended.last;
        Ok(appended)
    }

    /// Hands what was appended to the sinks, and signs the chain's end if that is due.
    fn publish(&mut self, appended: &Appended, deadline: Instant) -> Result<(), Error> {
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

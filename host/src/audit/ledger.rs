//! The ledger of one exchange: what is written down of it, and when.
//!
//! The record of an unwrapped key is on the disk before the guest gets the key. All else is kept until the exchange ends, and is on the
//! disk before its answer leaves: only then is it known which annotation a wrap made. An exchange that is given up writes what is known
//! when it is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicrypt_kms_protocol::Operation;

use super::record::{Entry, Event, Who};
use super::{Audit, blank};
use crate::caller::Caller;
use crate::digest::Digest;
use crate::lending::{MAX_OPENS, MAX_USES};
use crate::panics::outcome_of_dropped;
use crate::policy::Origin;
use crate::printable::{on_one_line, printable};
use crate::{Error, ErrorKind};

/// The longest name of a provider or a rule in a record.
const MAX_NAME: usize = 256;
/// The longest name of a caller: that of a SPIFFE id.
const MAX_CALLER: usize = 2048;
/// The most rules that a record names.
const MAX_RULES: usize = 32;
/// How long a record may take at least, also after the exchange's deadline.
const GRACE: Duration = Duration::from_millis(500);
/// The most failures about keys that are written down of one exchange: all within the budget, and that it was spent. A component that
/// goes on must not fill the disk.
const MAX_FAILURES: u32 = MAX_OPENS + MAX_USES + 1;
/// What is written down of a key that nobody named, in place of what the component called it: that may hold anything, opts data too.
const NOT_NAMED: &str = "the component asked for what this exchange is not about, or more than it may";
/// The longest text of an error in a record.
const MAX_ERROR: usize = 4096;

/// The ledger of one exchange. Without an audit log there is nothing in it.
pub(crate) struct Ledger(Option<Box<Book>>);

/// What policy said of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decided {
    /// Who named it; `None` if nobody did who may.
    pub origin: Option<Origin>,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// The digest of the policy that they stand in.
    pub policy: Option<Digest>,
}

struct Book {
    audit: Arc<Audit>,
    /// What all records of the exchange say.
    common: Entry,
    deadline: Instant,
    began: Instant,
    /// What is to be written.
    kept: Vec<Entry>,
    /// Keys that were lent, and whether they were used.
    lent: Vec<(Entry, bool)>,
    under_way: Option<UnderWay>,
    failures: u32,
    concluded: bool,
}

/// The use that is under way.
struct UnderWay {
    /// The key's number.
    number: usize,
    began: Instant,
    /// What is asked of an endpoint, and how that was answered.
    request: Option<String>,
    status: Option<u16>,
}

impl Ledger {
    /// The ledger of an exchange that `caller` asks for.
    pub fn new(audit: Option<&Arc<Audit>>, caller: &Caller, component: Digest, deadline: Instant) -> Self {
        Self(audit.map(|audit| {
            let mut id = [0; 8];
            // Without random numbers, records are still told apart by process and time.
            let _ = getrandom::fill(&mut id);
            let exchange = Some(format!("{:016x}", u64::from_be_bytes(id)));
            let common = Entry { exchange, caller: Some(who(caller)), component: Some(component.to_string()), ..blank() };
            Box::new(Book::new(audit.clone(), common, deadline))
        }))
    }

    /// Notes what the message asks for. `annotation` is looked at only if somebody wants to know.
    pub fn about(&mut self, operation: Operation, provider: &str, annotation: impl FnOnce() -> Option<Digest>) {
        if let Some(book) = &mut self.0 {
            book.common.operation = Some(operation.as_str().to_owned());
            book.common.provider = Some(printable(provider, MAX_NAME));
            book.common.annotation = annotation().map(|digest| digest.to_string());
        }
    }

    /// A key was asked for and not lent.
    pub fn refused(&mut self, key: &str, decided: Decided, began: Instant, error: &Error) {
        let Some(book) = &mut self.0 else { return };
        let named = decided.origin.is_some();
        let entry = Entry { event: Event::Open, ..book.about_key(key, decided, error.kind() != ErrorKind::Denied) };
        match named {
            true => book.keep_failure(entry, error, error.line(), began.elapsed()),
            false => book.keep_failure(Entry { key: None, ..entry }, error, NOT_NAMED.into(), began.elapsed()),
        }
    }

    /// A key was lent. Gives its number.
    pub fn lent(&mut self, key: &str, decided: Decided) -> usize {
        let Some(book) = &mut self.0 else { return 0 };
        let entry = book.about_key(key, decided, true);
        book.lent.push((entry, false));
        book.lent.len() - 1
    }

    /// A use of a lent key begins.
    pub fn begin(&mut self, number: usize) {
        if let Some(book) = &mut self.0 {
            book.under_way = Some(UnderWay { number, began: Instant::now(), request: None, status: None });
        }
    }

    /// The use is this request to an endpoint, in the words of the rule that allows it.
    #[cfg(feature = "http-kms")]
    pub fn requesting(&mut self, request: &str) {
        if let Some(use_) = self.0.as_mut().and_then(|book| book.under_way.as_mut()) {
            use_.request = Some(request.to_owned());
        }
    }

    /// The endpoint has answered, with this status of HTTP if with any.
    #[cfg(feature = "http-kms")]
    pub fn answered(&mut self, status: Option<u16>) {
        if let Some(use_) = self.0.as_mut().and_then(|book| book.under_way.as_mut()) {
            use_.status = status;
        }
    }

    /// The use has ended. The key that it unwrapped is given out only if that is on record.
    pub async fn used<T>(&mut self, outcome: Result<T, Error>, request_id: Option<String>) -> Result<T, Error> {
        let Some(book) = &mut self.0 else { return outcome };
        book.end_use(outcome.as_ref().map_or_else(Ended::Failed, |_| Ended::Well), request_id);
        match (&outcome, book.common.operation.as_deref()) {
            (Ok(_), Some("unwrap")) => book.write().await.and(outcome),
            _ => outcome,
        }
    }

    /// The exchange has ended. Its answer is given out only if that is on record. `wrapped` tells the annotation that a wrap made.
    pub async fn conclude<T>(&mut self, outcome: Result<T, Error>, wrapped: impl FnOnce(&T) -> Option<Digest>) -> Result<T, Error> {
        let Some(book) = &mut self.0 else { return outcome };
        let made = outcome.as_ref().ok().and_then(wrapped).map(|digest| digest.to_string());
        book.conclude(outcome.as_ref().err(), made);
        match (book.write().await, outcome) {
            (Err(unwritten), Err(error)) => {
                tracing::error!(error = unwritten.line(), "a failed exchange is not in the audit log");
                Err(error)
            }
            (written, outcome) => written.and(outcome),
        }
    }
}

/// How a use ended.
enum Ended<'a> {
    Well,
    Failed(&'a Error),
    /// Whoever waited for it went away, or the exchange was over.
    Cancelled,
}

impl Book {
    fn new(audit: Arc<Audit>, common: Entry, deadline: Instant) -> Self {
        let (kept, lent, began) = (Vec::new(), Vec::new(), Instant::now());
        Self { audit, common, deadline, began, kept, lent, under_way: None, failures: 0, concluded: false }
    }

    fn about_key(&self, key: &str, Decided { origin, rules, policy }: Decided, allowed: bool) -> Entry {
        // A key that nobody may name was never decided about, unless that is why it was denied.
        let decision = if !allowed { Some("deny") } else { origin.map(|_| "allow") };
        Entry {
            key: Some(key.to_owned()),
            origin: origin.map(|origin| origin.as_str().to_owned()),
            decision: decision.map(str::to_owned),
            rules: rules.iter().take(MAX_RULES).map(|rule| printable(rule, MAX_NAME)).collect(),
            policy: policy.map(|digest| digest.to_string()),
            ..self.common.clone()
        }
    }

    fn keep(&mut self, entry: Entry, outcome: &str, took: Duration) {
        self.kept.push(Entry { outcome: Some(outcome.into()), ..timed(entry, took) });
    }

    fn keep_failure(&mut self, entry: Entry, error: &Error, text: String, took: Duration) {
        self.failures += 1;
        if self.failures <= MAX_FAILURES {
            self.keep(Entry { error: Some(printable(&text, MAX_ERROR)), ..entry }, error.kind().as_str(), took);
        }
    }

    fn end_use(&mut self, ended: Ended<'_>, request_id: Option<String>) {
        let Some(UnderWay { number, began, request, status }) = self.under_way.take() else { return };
        let Some((entry, used)) = self.lent.get_mut(number) else { return };
        *used = true;
        let entry = Entry { event: Event::Use, request, status, request_id, ..entry.clone() };
        match ended {
            Ended::Well => self.keep(entry, "ok", began.elapsed()),
            Ended::Failed(error) => self.keep_failure(entry, error, error.line(), began.elapsed()),
            Ended::Cancelled => self.keep(entry, outcome_of_dropped(), began.elapsed()),
        }
    }

    /// Writes down what is left to say: of keys that were lent in vain, and of the exchange.
    fn conclude(&mut self, error: Option<&Error>, made: Option<String>) {
        self.close();
        let exchange = Entry { error: error.and_then(|error| self.own_words(error)), ..self.common.clone() };
        self.keep(exchange, error.map_or("ok", |error| error.kind().as_str()), self.began.elapsed());
        if made.is_some() {
            self.kept.iter_mut().for_each(|entry| entry.annotation.clone_from(&made));
        }
    }

    /// What the host itself says of a failed exchange: once a component ran, only of those failures that it has no words for.
    fn own_words(&self, error: &Error) -> Option<String> {
        let before_it_ran = self.common.operation.is_none();
        let of_the_host = matches!(error, Error::Component { .. } | Error::Stopped { .. } | Error::Audit { .. } | Error::Internal { .. });
        (before_it_ran || of_the_host).then(|| printable(&error.line(), MAX_ERROR))
    }

    fn close(&mut self) {
        self.concluded = true;
        self.end_use(Ended::Cancelled, None);
        let unused = self.lent.drain(..).filter(|(_, used)| !used);
        let unused = unused.map(|(entry, _)| Entry { event: Event::Open, outcome: Some("unused".into()), ..timed(entry, Duration::ZERO) });
        self.kept.extend(unused);
    }

    async fn write(&mut self) -> Result<(), Error> {
        // That an exchange was not done in time is to be on record, too.
        let deadline = self.deadline.max(Instant::now() + GRACE);
        self.audit.append(std::mem::take(&mut self.kept), deadline).await
    }
}

impl Drop for Book {
    /// An exchange that was given up, or panicked.
    fn drop(&mut self) {
        if !self.concluded {
            self.close();
            self.keep(self.common.clone(), outcome_of_dropped(), self.began.elapsed());
        }
        if !self.kept.is_empty() {
            self.audit.leave(std::mem::take(&mut self.kept));
        }
    }
}

/// An entry of now, about what took so long.
fn timed(entry: Entry, took: Duration) -> Entry {
    Entry { time: super::record::now(), microseconds: Some(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)), ..entry }
}

fn who(caller: &Caller) -> Who {
    // Not trimmed: `CN=a\\ ` and `CN=a\\` are two names.
    let name = on_one_line(&caller.to_string(), MAX_CALLER);
    match caller {
        Caller::Process => {
            let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            Who { name, uid: Some(uid), gid: Some(gid), pid: None }
        }
        Caller::Peer { uid, gid, pid } => Who { name, uid: Some(*uid), gid: Some(*gid), pid: *pid },
        _ => Who { name, ..Who::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Identity;

    #[test]
    fn callers_whose_names_differ_by_a_space_at_the_end_are_two_in_the_log() {
        let named = |subject: &str| who(&Caller::Certificate(Box::new(Identity { subject: subject.into(), ..Identity::default() }))).name;
        assert_eq!([named(r"CN=a\ "), named(r"CN=a\ \ ")], [r"subject:CN=a\ ", r"subject:CN=a\ \ "]);
    }
}

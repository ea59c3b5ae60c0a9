//! Lending: what stands between a guest and a key.
//!
//! A [`Lending`] is the host's side of one exchange. A guest asks for a key by URI; it gets one only if the exchange is about that key, the
//! budget isn't spent and the [`Policy`] agrees, and it may use it once. Everything is written down in the [`Lending`]'s own record, which decides
//! what the caller is told: a guest's word about a denial or a KMS counts for nothing.
//!
//! Where a guest brings the knowledge of a KMS along, it is lent an endpoint in place of a key, under the same rules: [`Lending::open_endpoint`].

#[cfg(feature = "http-kms")]
mod endpoint;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Answer, MAX_PACKETS, Operation, Spelling};
use zeroize::Zeroizing;

use crate::audit::{Audit, Decided, Ledger};
use crate::caller::Caller;
use crate::count::{self, Counted};
use crate::digest::Digest;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::exchange::Exchange;
use crate::key_uri::{Addresses, Algorithm, KeyUri, KeyUriError, Service};
use crate::kms::{Header, MAX_CIPHERTEXT, MAX_PLAINTEXT, OpenKey, Services, WrappedKey, request_id};
use crate::policy::{Denial, Origin, Policy, Request};
use crate::{Error, ErrorKind};

#[cfg(feature = "http-kms")]
pub use self::endpoint::LentEndpoint;

/// The most keys that one exchange may try to open, failures counted.
pub const MAX_OPENS: u32 = 16;
/// The most uses that one exchange may try, failures counted.
pub const MAX_USES: u32 = 16;
/// The most failures that are remembered: all within the budget, and that the budget was spent.
const MAX_FAILURES: usize = (MAX_OPENS + MAX_USES) as usize + 1;
/// The one content encryption that keys are wrapped for, and the length of its key.
const ENC: &str = "A256GCM";
const CEK_LENGTH: usize = 32;
/// The longest text of an `epk`, and of an `apu` or `apv`: several times what they need.
const MAX_AGREEMENT_MEMBER: usize = 1024;
/// The longest text of an `ek`: X-Wing's needs 1496 bytes.
const MAX_ENCAPSULATED: usize = 2048;

/// What every exchange of a host lends from.
#[derive(Clone)]
pub struct Lender {
    /// Where keys are.
    pub services: Services,
    /// Endpoints of services that only a component knows.
    #[cfg(feature = "http-kms")]
    pub endpoints: crate::kms::endpoint::Endpoints,
    /// Who may use them.
    pub policy: Arc<dyn Policy>,
    /// For parsing key URIs.
    pub addresses: Addresses,
    /// The component that keys are lent to.
    pub component: Digest,
    /// Where it is written down, if somewhere.
    pub audit: Option<Arc<Audit>>,
}

impl Lender {
    /// The services of all keys that could be lent to an exchange of this process, before it begins.
    pub(crate) fn services_of(&self, exchange: &Exchange) -> Vec<Service> {
        let policy = self.policy.current().unwrap_or_else(|| self.policy.clone());
        let could_be_lent = |uri: &KeyUri| {
            policy.could_allow(&Request {
                key: uri,
                operation: exchange.operation,
                origin: exchange.origin,
                caller: &Caller::Process,
                provider: &exchange.name,
                component: self.component,
                opened: &[],
                time: SystemTime::now(),
            })
        };
        exchange.services(&self.addresses, could_be_lent)
    }
}

/// One exchange's side of the host.
pub struct Lending {
    lender: Arc<Lender>,
    policy: Arc<dyn Policy>,
    exchange: Exchange,
    caller: Caller,
    deadline: Instant,
    opens: u32,
    uses: u32,
    /// Whether one of them succeeded.
    used: bool,
    failures: Vec<Failure>,
    /// Whether the client is told something in the component's words. They may hold opts data, so no log gets them.
    quotes_component: bool,
    opened: Vec<KeyUri>,
    /// The key that was asked for last, of those that the exchange is about.
    asked: Option<KeyUri>,
    decided: Decided,
    ledger: Ledger,
    counted: Counted,
    use_began: Instant,
    /// By which its keys are told from those of others: an embedding program may have several in one place.
    number: u64,
}

/// A failed open or use, with the URI that the guest asked for, in canonical form where it has one.
struct Failure {
    uri: String,
    error: Error,
    /// Whether the exchange is about the key. Otherwise its URI is in the component's words.
    named: bool,
}

/// A key that a guest asks for.
struct Asked {
    /// In canonical form where it has one.
    canonical: String,
    began: Instant,
}

/// A key that was lent.
pub struct LentKey {
    uri: KeyUri,
    key: OpenKey,
    spent: bool,
    loan: Loan,
}

/// In which exchange something was lent, and under which number its ledger has it.
#[derive(Clone, Copy)]
struct Loan {
    lending: u64,
    number: usize,
}

impl LentKey {
    /// The key's URI.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    /// How it wraps: `kms`, or a JWA name.
    #[must_use]
    pub fn wrapping(&self) -> &'static str {
        self.key.wrapping()
    }
}

impl Lending {
    pub(crate) fn new(
        lender: Arc<Lender>,
        exchange: Exchange,
        caller: Caller,
        deadline: Instant,
        ledger: Ledger,
        counted: Counted,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            policy: lender.policy.current().unwrap_or_else(|| lender.policy.clone()),
            lender,
            exchange,
            caller,
            deadline,
            opens: 0,
            uses: 0,
            used: false,
            failures: Vec::new(),
            quotes_component: false,
            opened: Vec::new(),
            asked: None,
            decided: Decided::default(),
            ledger,
            counted,
            use_began: Instant::now(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn operation(&self) -> Operation {
        self.exchange.operation
    }

    /// How the client reads the answer's bytes.
    pub(crate) fn spelling(&self) -> Spelling {
        self.exchange.spelling
    }

    /// What a guest answered, unless it can't come from a key: none was used.
    pub(crate) fn check_used(&self, answer: Answer) -> Result<Answer, Error> {
        match self.used {
            true => Ok(answer),
            false => Err(Error::Component { reason: "it answered without having used a key".into() }),
        }
    }

    /// The key that was opened last.
    fn last_key(&self) -> Option<&KeyUri> {
        self.opened.last()
    }

    /// The key that the exchange was about, as far as one can be told: the one that was opened last, else the one that was asked for last, else
    /// the only one that was named. What a component asks for otherwise may hold anything.
    fn told_key(&self) -> Option<&KeyUri> {
        let only = || if let [key] = self.exchange.named.as_slice() { Some(key) } else { None };
        self.last_key().or(self.asked.as_ref()).or_else(only)
    }

    /// Writes down how the exchange ended. Its answer is given out only if that is on record.
    pub(crate) async fn conclude(mut self, outcome: Result<Answer, Error>) -> Result<Answer, Error> {
        let (operation, elapsed) = (self.exchange.operation, self.counted.elapsed());
        let wrapped = |answer: &Answer| (operation == Operation::Wrap).then(|| Digest::of(&answer.result));
        let outcome = self.ledger.conclude(outcome, wrapped).await;
        self.log(&outcome, elapsed);
        let service = self.told_key().map(KeyUri::service);
        self.counted.finish(service, &outcome);
        outcome
    }

    fn log<T>(&self, outcome: &Result<T, Error>, elapsed: Duration) {
        let (operation, provider, caller) = (self.exchange.operation, &self.exchange.name, self.caller.to_string());
        let key = self.told_key().map(KeyUri::canonical);
        let seconds = elapsed.as_secs_f64();
        match outcome {
            Ok(_) => tracing::info!(%operation, provider, caller, key, seconds, "done"),
            Err(error) => tracing::warn!(%operation, provider, caller, key, seconds, error = self.logged(error), "failed"),
        }
    }

    /// What the log has of a failure.
    fn logged(&self, error: &Error) -> String {
        if self.quotes_component {
            format!("{}; the client was told why, in the component's words, which are not logged", error.kind().as_str())
        } else {
            error.line()
        }
    }

    /// The canonical form of a key URI: of the key that this exchange uses for it, which is another one for related multi-Region keys of AWS KMS alone.
    ///
    /// # Errors
    /// If it is none.
    pub fn canonical_uri(&self, uri: &str) -> Result<String, Error> {
        Ok(self.parse(uri)?.canonical().to_owned())
    }

    /// Lends a key for one use.
    ///
    /// # Errors
    /// If the budget is spent, the exchange isn't about the key, the policy says no, or the key can't be opened.
    pub async fn open(&mut self, uri: &str, operation: Operation) -> Result<LentKey, Error> {
        let (parsed, asked) = self.asked(uri);
        let outcome = self.try_open(parsed, operation).await;
        self.end_open("open", &asked, outcome)
    }

    async fn try_open(&mut self, uri: Result<KeyUri, Error>, operation: Operation) -> Result<LentKey, Error> {
        let uri = self.admit(uri, operation)?;
        let key = self.lender.services.open(&uri, operation, self.deadline).await?;
        let loan = self.lend(&uri);
        Ok(LentKey { uri, key, spent: false, loan })
    }

    /// Most of what a guest asks for was read already: it was named, and a canonical spelling reads as itself.
    fn parse(&self, uri: &str) -> Result<KeyUri, KeyUriError> {
        let named = self.exchange.named.iter().find(|named| named.canonical() == uri);
        named.map_or_else(|| Ok(self.exchange.used_for(KeyUri::parse(uri, &self.lender.addresses)?)), |named| Ok(named.clone()))
    }

    fn asked(&self, uri: &str) -> (Result<KeyUri, Error>, Asked) {
        let parsed = self.parse(uri).map_err(Error::from);
        let canonical = parsed.as_ref().map_or_else(|_| printable(uri, 256), |uri| uri.canonical().to_owned());
        (parsed, Asked { canonical, began: Instant::now() })
    }

    /// Whether a key may be lent: by the budget, by what the exchange is about, and by the policy.
    fn admit(&mut self, uri: Result<KeyUri, Error>, operation: Operation) -> Result<KeyUri, Error> {
        self.opens += 1;
        let uri = uri?;
        if self.opens > MAX_OPENS {
            return Err(self.budget(&uri, format!("this exchange has asked for more than {MAX_OPENS} keys")));
        }
        if operation != self.exchange.operation {
            return Err(self.budget(&uri, format!("this exchange may {}, not {operation}", self.exchange.operation)));
        }
        let Some(origin) = self.exchange.origin_of(&uri, &self.lender.addresses) else {
            return Err(self.budget(&uri, "this exchange is not about it".into()));
        };
        self.asked = Some(uri.clone());
        self.decide(&uri, operation, origin)?;
        Ok(uri)
    }

    /// Notes that a key was lent.
    fn lend(&mut self, uri: &KeyUri) -> Loan {
        self.opened.push(uri.clone());
        Loan { lending: self.number, number: self.ledger.lent(uri.canonical(), std::mem::take(&mut self.decided)) }
    }

    fn end_open<T>(&mut self, step: &'static str, asked: &Asked, outcome: Result<T, Error>) -> Result<T, Error> {
        let Err(error) = outcome else { return self.record(step, &asked.canonical, outcome) };
        let decided = std::mem::take(&mut self.decided);
        // A guest can spell what it knows, opts data too, into the name of a key that nobody asked it about.
        let ours = decided.origin.is_some();
        self.ledger.refused(&asked.canonical, decided, asked.began, &error);
        match ours {
            true => self.record(step, &asked.canonical, Err(error)),
            false => {
                tracing::debug!(step, kind = error.kind().as_str(), "refused a key that is not lent, whose name is not logged");
                self.note_failure(&asked.canonical, &error, false);
                Err(error)
            }
        }
    }

    /// Asks the policy, and keeps what it decided by.
    fn decide(&mut self, uri: &KeyUri, operation: Operation, origin: Origin) -> Result<(), Error> {
        let request = Request {
            key: uri,
            operation,
            origin,
            caller: &self.caller,
            provider: &self.exchange.name,
            component: self.lender.component,
            opened: &self.opened,
            time: SystemTime::now(),
        };
        let decision = self.policy.decide(&request);
        let (rules, outcome) = match decision {
            Ok(permit) => (permit.rules, Ok(())),
            Err(mut denial) => (std::mem::take(&mut denial.rules), Err(denied(uri, operation, denial))),
        };
        self.decided = Decided { origin: Some(origin), rules, policy: self.policy.digest() };
        outcome
    }

    /// Encrypts with a key whose service makes its own ciphertext.
    ///
    /// # Errors
    /// If the key was lent for something else or is spent, or those of the service.
    pub async fn encrypt(&mut self, key: &mut LentKey, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let allowed = self.begin(key, Operation::Wrap).and_then(|()| bounded(key, plaintext, MAX_PLAINTEXT));
        let outcome = match (allowed, &key.key) {
            (Ok(()), OpenKey::Cipher(cipher)) => cipher.encrypt(plaintext).await,
            (Ok(()), OpenKey::KeyWrap(_)) => Err(self.other_method(key)),
            (Err(error), _) => Err(error),
        };
        self.finish("encrypt", key, outcome).await
    }

    /// Decrypts what [`Lending::encrypt`] answered.
    ///
    /// # Errors
    /// If the key was lent for something else or is spent, or those of the service.
    pub async fn decrypt(&mut self, key: &mut LentKey, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let allowed = self.begin(key, Operation::Unwrap).and_then(|()| bounded(key, ciphertext, MAX_CIPHERTEXT));
        let outcome = match (allowed, &key.key) {
            (Ok(()), OpenKey::Cipher(cipher)) => cipher.decrypt(ciphertext).await,
            (Ok(()), OpenKey::KeyWrap(_)) => Err(self.other_method(key)),
            (Err(error), _) => Err(error),
        };
        self.finish("decrypt", key, outcome).await
    }

    /// Wraps a content-encryption key for `enc`, which must be `A256GCM`.
    ///
    /// # Errors
    /// If the key was lent for something else or is spent, or those of the service.
    pub async fn wrap_key(&mut self, key: &mut LentKey, cek: &[u8], enc: &str) -> Result<WrappedKey, Error> {
        let allowed = self.begin(key, Operation::Wrap).and_then(|()| match (enc, cek.len()) {
            (ENC, CEK_LENGTH) => Ok(()),
            _ => Err(invalid(key, "only 32-byte keys for A256GCM are wrapped")),
        });
        let outcome = match (allowed, &key.key) {
            (Ok(()), OpenKey::KeyWrap(wrap)) => wrap.wrap(cek).await,
            (Ok(()), OpenKey::Cipher(_)) => Err(self.other_method(key)),
            (Err(error), _) => Err(error),
        };
        self.finish("wrap-key", key, outcome).await
    }

    /// Unwraps a content-encryption key. `header` is the decoded protected header of the JWE; its `alg` must be the key's.
    ///
    /// # Errors
    /// If the key was lent for something else or is spent, if the header isn't for this key, or those of the service.
    pub async fn unwrap_key(&mut self, key: &mut LentKey, encrypted_key: &[u8], header: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let allowed = self
            .begin(key, Operation::Unwrap)
            .and_then(|()| bounded(key, encrypted_key, MAX_CIPHERTEXT))
            .and_then(|()| read_header(key, header));
        let outcome = match (allowed, &key.key) {
            (Ok(header), OpenKey::KeyWrap(wrap)) => wrap.unwrap(encrypted_key, &header).await.and_then(|cek| check_cek(key, cek)),
            (Ok(_), OpenKey::Cipher(_)) => Err(self.other_method(key)),
            (Err(error), _) => Err(error),
        };
        self.finish("unwrap-key", key, outcome).await
    }

    /// Whether a key may be used (once more).
    fn begin(&mut self, key: &LentKey, operation: Operation) -> Result<(), Error> {
        self.begin_use(&key.uri, key.loan)?;
        if operation != self.exchange.operation {
            return Err(self.budget(&key.uri, format!("it was lent to {}, not to {operation}", self.exchange.operation)));
        }
        match key.spent {
            true => Err(self.budget(&key.uri, "it was lent for one use, which it has had".into())),
            false => Ok(()),
        }
    }

    /// One more use of what was lent for a key begins, if the budget has it.
    fn begin_use(&mut self, uri: &KeyUri, loan: Loan) -> Result<(), Error> {
        self.uses += 1;
        self.use_began = Instant::now();
        if loan.lending != self.number {
            let error = self.budget(uri, "it was lent in another exchange".into());
            self.ledger.refused(uri.canonical(), Decided::default(), self.use_began, &error);
            return Err(error);
        }
        self.ledger.begin(loan.number);
        // What was asked before, such as a token, is another request.
        request_id::take();
        match self.uses <= MAX_USES {
            true => Ok(()),
            false => Err(self.budget(uri, format!("this exchange has used keys more than {MAX_USES} times"))),
        }
    }

    async fn finish<T>(&mut self, step: &'static str, key: &mut LentKey, outcome: Result<T, Error>) -> Result<T, Error> {
        key.spent |= outcome.is_ok();
        count::key_use(self.exchange.operation, key.uri.service(), self.use_began, &outcome);
        let outcome = self.ledger.used(outcome, request_id::take()).await;
        self.used |= outcome.is_ok();
        self.record(step, key.uri.canonical(), outcome)
    }

    /// Writes one step down.
    fn record<T>(&mut self, step: &'static str, uri: &str, outcome: Result<T, Error>) -> Result<T, Error> {
        match &outcome {
            Ok(_) => tracing::debug!(step, key = uri, "lent"),
            Err(error) => {
                tracing::debug!(step, key = uri, kind = error.kind().as_str(), error = error.line(), "refused");
                self.note_failure(uri, error, true);
            }
        }
        outcome
    }

    fn note_failure(&mut self, uri: &str, error: &Error, named: bool) {
        // Past the budget every step fails alike; a guest that goes on must not fill the host's memory.
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(Failure { uri: uri.to_owned(), error: error.clone(), named });
        }
    }

    /// A denial by the rules of lending itself.
    fn budget(&self, key: &KeyUri, reason: String) -> Error {
        let hint = "a well-behaved component doesn't ask for this; check which component is running".to_owned();
        denied(key, self.exchange.operation, Denial { reason, hint, rules: Vec::new() })
    }

    fn other_method(&self, key: &LentKey) -> Error {
        invalid(key, &format!("the key wraps by {}, which needs the other pair of methods", key.wrapping()))
    }

    /// The host's own account of a failure that a guest reported. Where the record has the failure, it is told; what only a guest
    /// can find out (a malformed packet, a tag that doesn't verify) is taken from it, as text of outside origin.
    pub(crate) fn explain(&mut self, reported: Reported) -> Error {
        match reported {
            Reported::AllFailed(attempts) if !attempts.is_empty() => Error::AllFailed(
                attempts.into_iter().take(MAX_PACKETS).map(|(uri, kind, text)| self.explain_attempt(&uri, kind, text)).collect(),
            ),
            Reported::AllFailed(_) => Error::Component { reason: "it reported failures without saying which".into() },
            Reported::One(kind, text) => {
                let recorded = self.failures.iter().rposition(|failure| Some(failure.error.told_kind()) == kind);
                let last = self.last_key().map(|key| key.canonical().to_owned());
                self.account(recorded, last.as_deref(), kind, text)
            }
        }
    }

    fn explain_attempt(&mut self, uri: &str, kind: Option<ErrorKind>, text: String) -> Error {
        let canonical = self.canonical_uri(uri).unwrap_or_else(|_| printable(uri, 256));
        let recorded = self.failures.iter().position(|failure| failure.uri == canonical && Some(failure.error.told_kind()) == kind);
        self.account(recorded, Some(&canonical), kind, text)
    }

    /// The failure with this number, or else what the guest claims.
    fn account(&mut self, recorded: Option<usize>, key: Option<&str>, kind: Option<ErrorKind>, text: String) -> Error {
        let recorded = recorded.map(|number| &self.failures[number]);
        self.quotes_component |= recorded.is_none_or(|failure| !failure.named);
        recorded.map_or_else(|| claim(key, kind, text), |failure| failure.error.clone())
    }
}

/// What a guest said of a failure.
pub(crate) enum Reported {
    /// The case of the WIT error, and its text.
    One(Option<ErrorKind>, String),
    /// Each attempt's key URI, kind and text.
    AllFailed(Vec<(String, Option<ErrorKind>, String)>),
}

/// What a guest says of a failure that the host knows nothing of.
fn claim(key: Option<&str>, kind: Option<ErrorKind>, text: String) -> Error {
    let reason = printable(&text, MAX_OUTSIDE_TEXT);
    let at_key = |reason: String| key.map_or_else(|| reason.clone(), |key| format!("{key}: {reason}"));
    match kind {
        Some(ErrorKind::InvalidInput) => {
            let hint = "check the annotation, or wrap the image anew; if another component wrote it, name that one (`--component`)";
            Error::InvalidInput { reason: at_key(reason), hint: hint.into() }
        }
        Some(ErrorKind::NoMatchingKey) => Error::NoMatchingKey {
            reason,
            hint: "name a key, with the context, that the image was encrypted for; `ocicrypt-kms inspect` lists them".into(),
        },
        Some(ErrorKind::Corrupt) => Error::Corrupt { key: key.unwrap_or("the annotation").to_owned(), reason },
        Some(kind) => Error::Component { reason: format!("it reported `{}`, of which the host knows nothing", kind.as_str()) },
        None => Error::Component { reason: "it reported an error of an unknown kind".into() },
    }
}

fn denied(key: &KeyUri, operation: Operation, denial: Denial) -> Error {
    Error::Denied { key: key.canonical().to_owned(), operation: operation.as_str(), reason: denial.reason, hint: denial.hint }
}

fn invalid(key: &LentKey, reason: &str) -> Error {
    Error::InvalidInput { reason: format!("{}: {reason}", key.uri), hint: "check the annotation, or wrap the image anew".into() }
}

fn bounded(key: &LentKey, bytes: &[u8], limit: usize) -> Result<(), Error> {
    match bytes.len() <= limit {
        true => Ok(()),
        false => Err(invalid(key, &format!("more than {limit} bytes can't be given to it"))),
    }
}

/// Reads what matters to the host in a JWE's protected header: `alg` must be exactly the lent key's, `enc` the one that is supported.
fn read_header(key: &LentKey, header: &str) -> Result<Header, Error> {
    let members = Object::parse(header.as_bytes()).map_err(|error| invalid(key, &format!("the JWE's header is {error}")))?;
    let member = |name| members.get(name).and_then(string);
    if member("alg").is_none_or(|alg| alg != key.wrapping()) {
        return Err(invalid(key, &format!("the JWE's `alg` is not {}, which this key wraps by", key.wrapping())));
    }
    if member("enc").is_none_or(|enc| enc != ENC) {
        return Err(invalid(key, &format!("the JWE's `enc` is not {ENC}")));
    }
    let header = Header { kid: member("kid").map(|kid| printable(&kid, 256)), ..Header::default() };
    let wraps_by = |algorithm: Algorithm| key.wrapping() == algorithm.as_str();
    match () {
        () if wraps_by(Algorithm::EcdhEsA256Kw) => read_agreement(key, &members, header),
        () if wraps_by(Algorithm::Hpke9Ke) || wraps_by(Algorithm::Hpke12Ke) => read_encapsulated(key, &members, header),
        () => Ok(header),
    }
}

/// Reads what a key agreement needs (RFC 7518 section 4.6.1).
fn read_agreement(key: &LentKey, members: &Object<'_>, header: Header) -> Result<Header, Error> {
    check_length(key, members, "epk", MAX_AGREEMENT_MEMBER)?;
    let epk = members.get("epk").map(|epk| epk.text().to_owned());
    let party = |name| member_bytes(key, members, name, MAX_AGREEMENT_MEMBER);
    Ok(Header { epk, apu: party("apu")?, apv: party("apv")?, ..header })
}

/// Reads what HPKE needs (draft-ietf-jose-hpke-encrypt section 6).
fn read_encapsulated(key: &LentKey, members: &Object<'_>, header: Header) -> Result<Header, Error> {
    match members.get("psk_id") {
        Some(_) => Err(invalid(key, "the JWE's `psk_id` is not supported")),
        None => Ok(Header { ek: member_bytes(key, members, "ek", MAX_ENCAPSULATED)?, ..header }),
    }
}

/// A header member that is bytes in base64url; empty if it isn't there.
fn member_bytes(key: &LentKey, members: &Object<'_>, name: &str, limit: usize) -> Result<Vec<u8>, Error> {
    check_length(key, members, name, limit)?;
    let Some(value) = members.get(name) else { return Ok(Vec::new()) };
    let bytes = string(value).and_then(|text| BASE64URL.decode(text.as_bytes()).ok());
    bytes.ok_or_else(|| invalid(key, &format!("the JWE's `{name}` is not base64url")))
}

fn check_length(key: &LentKey, members: &Object<'_>, name: &str, limit: usize) -> Result<(), Error> {
    match members.get(name).is_some_and(|value| value.text().len() > limit) {
        true => Err(invalid(key, &format!("the JWE's `{name}` is longer than {limit} bytes"))),
        false => Ok(()),
    }
}

fn check_cek(key: &LentKey, cek: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Error> {
    match cek.len() {
        CEK_LENGTH => Ok(cek),
        _ => Err(Error::Corrupt { key: key.uri.canonical().to_owned(), reason: "the packet does not verify with this key".into() }),
    }
}

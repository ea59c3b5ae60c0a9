//! HTTP, once for all services: bounded in size and time, retried, never redirected, in plain text only to loopback.

mod client;
mod failure;
mod proxy;
mod trust;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

pub(crate) use self::client::Parts;
use self::failure::{Journey, causes};
pub(crate) use self::failure::{Settings, Unreached};
pub(crate) use self::proxy::Proxies;
pub(crate) use self::trust::Identity;
pub use super::answer::Answer;
use super::answer::retry_after;
use super::way::{ClientCertificate, Way};
use crate::kms::request_id;
use crate::{Environment, Error, count, shown};

/// The most bytes of an answer: several times what any service answers.
pub const MAX_ANSWER: usize = 512 << 10;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How often a call is repeated after its first failure.
const RETRIES: usize = 4;
/// The wait before the first repetition; doubles, with jitter of up to the same again.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Room for the answer of a service that doesn't say how long it is.
const USUAL_ANSWER: u64 = 16 << 10;

/// What servers of Go, nginx and Apache say to who speaks plain http at their TLS port, each with status 400.
const SPEAK_TLS: [&str; 3] =
    ["HTTP request to an HTTPS server", "HTTP request was sent to HTTPS port", "plain HTTP to an SSL-enabled server port"];

/// The clients of one service, or of several. Made, with their TLS roots, when they are first used.
#[derive(Debug)]
pub struct Http {
    /// What proxies and certificate authorities are looked for in.
    environment: Environment,
    /// Whom to trust in place of the system's roots.
    authorities: Option<PathBuf>,
    settings: Settings,
    way: Way,
    proxies: OnceLock<Arc<Proxies>>,
    kept: Clients,
    /// For what is tried again: a NAT or a firewall may have dropped each connection that was kept.
    fresh: Clients,
}

#[derive(Debug, Default)]
struct Clients {
    /// For `https`: by way of a proxy, if the environment names one. It sees only what is encrypted.
    tls: OnceLock<Client>,
    /// For `http` to loopback: a proxy would see credentials and keys.
    plain: OnceLock<Client>,
}

/// One call to a service, for one key.
pub struct Call<'a> {
    /// The key's URI, for errors.
    pub key: &'a str,
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to.
    pub url: &'a Url,
    /// Credentials among them. A body is `application/json` unless they say otherwise.
    pub headers: HeaderMap,
    /// A JSON text, or nothing.
    pub body: Zeroizing<Vec<u8>>,
    /// When the exchange must have ended.
    pub deadline: Instant,
    /// After which failures it is made again.
    pub repeat: Repeat,
}

/// After which failures a call is made again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// After each that may pass: the call changes nothing.
    Freely,
    /// Only if nobody can have acted upon the call: it may use something up, such as a secret that is good for one login.
    IfNotActedUpon,
}

/// Why an attempt gave nothing to return.
enum Failure {
    /// The service asks to try again: its answer, and when it asks for that.
    Busy(Answer, Option<Duration>),
    /// It could not be reached.
    Unreached(Unreached),
    /// It stopped in the middle, or did not answer in time: it may have acted upon the call.
    Broken(Unreached),
    /// It answered what no repetition will mend.
    Final(Error),
}

impl Default for Http {
    /// With the environment of this process, and the system's certificate authorities or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    fn default() -> Self {
        Self::new(&Environment::process())
    }
}

impl Http {
    /// Clients that look for proxies and certificate authorities in this environment.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
            authorities: None,
            settings: Settings::default(),
            way: Way::default(),
            proxies: OnceLock::new(),
            kept: Clients::default(),
            fresh: Clients::default(),
        }
    }

    /// Clients that trust the certificate authorities in `file` (PEM), which is read when one is first used, and no others.
    #[must_use]
    pub fn trusting(file: PathBuf) -> Self {
        Self::default().with_authorities(Some(file))
    }

    /// The same clients, trusting only the certificate authorities in a file, if there is one.
    #[must_use]
    pub fn with_authorities(self, file: Option<PathBuf>) -> Self {
        Self { authorities: file, ..self }
    }

    /// The same clients, by another way.
    #[cfg(feature = "vault")]
    pub(crate) fn by(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// The same clients, whose errors name these settings.
    #[cfg_attr(not(any(feature = "aws", feature = "vault")), allow(dead_code))]
    pub(crate) fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Makes a call and reads the answer. A call is repeated after 429, 5xx and broken connections, if it may be, with growing waits, as long
    /// as the deadline allows; the seconds of a `Retry-After` are heeded.
    ///
    /// # Errors
    /// If the service can't be reached before the deadline, redirects, or answers too much.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, Error> {
        self.send_while(call, Answer::is_busy).await
    }

    /// [`Http::send`] for a service that says in a way of its own that it is busy.
    ///
    /// # Errors
    /// Those of [`Http::send`].
    pub async fn send_while(&self, call: Call<'_>, is_busy: fn(&Answer) -> bool) -> Result<Answer, Error> {
        let body = Bytes::from_owner(call.body);
        let Call { key, method, url, mut headers, deadline, repeat, .. } = call;
        if !body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        let client = self.client(url)?;
        let is_dropped = AtomicBool::new(false);
        let attempt = || {
            let client = if is_dropped.load(Ordering::Relaxed) { self.fresh_client(url).unwrap_or(client) } else { client };
            let request = client.request(method.clone(), url.clone()).headers(headers.clone()).body(body.clone());
            self.attempt(request, key, url, deadline, is_busy)
        };
        let waits = ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_times(RETRIES).with_jitter();
        let outcome = attempt
            .retry(waits)
            .when(|failure| failure.may_be_repeated(repeat))
            .adjust(|failure, wait| within(deadline, asked(failure).max(wait?)))
            .notify(|failure, wait| {
                is_dropped.fetch_or(matches!(failure, Failure::Unreached(_) | Failure::Broken(_)), Ordering::Relaxed);
                tracing::debug!(key, ?wait, reason = failure.reason(), "trying again");
            })
            .await;
        match outcome {
            Ok(answer) | Err(Failure::Busy(answer, _)) => Ok(answer),
            Err(Failure::Unreached(unreached) | Failure::Broken(unreached)) => Err(unreached.error(key)),
            Err(Failure::Final(error)) => Err(error),
        }
    }

    /// The client for calls to `url`: for libraries that make their own, to get credentials.
    ///
    /// # Errors
    /// If its proxy can't be used, or there is nobody to be trusted.
    pub(crate) fn client(&self, url: &Url) -> Result<&Client, Error> {
        self.client_of(&self.kept, url, Parts::client)
    }

    fn fresh_client(&self, url: &Url) -> Result<&Client, Error> {
        self.client_of(&self.fresh, url, Parts::fresh_client)
    }

    fn client_of<'a>(
        &'a self,
        clients: &'a Clients,
        url: &Url,
        make: impl FnOnce(Parts<'a>, &Environment) -> Result<Client, Error>,
    ) -> Result<&'a Client, Error> {
        let encrypted = url.scheme() == "https";
        self.proxies().of(url)?;
        let place = if encrypted { &clients.tls } else { &clients.plain };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let parts = Parts {
            encrypted,
            authorities: self.authorities.as_deref(),
            identity: self.way.certificate.iter().filter(|_| encrypted).map(ClientCertificate::read).next().transpose()?,
            proxies: self.proxies().clone(),
            socket: self.way.socket.as_deref(),
        };
        let client = make(parts, &self.environment)?;
        Ok(place.get_or_init(|| client))
    }

    fn proxies(&self) -> &Arc<Proxies> {
        self.proxies.get_or_init(|| {
            Arc::new(match &self.way.proxy {
                Some((variable, url)) => Proxies::only(variable.clone(), url.clone()),
                None => Proxies::new(&self.environment),
            })
        })
    }

    /// What an error of a call to `url` is about, and what to do about it.
    pub(crate) fn unreached(&self, url: &Url, error: &reqwest::Error) -> Unreached {
        unreached(url, self.proxies(), &self.settings, error)
    }

    async fn attempt(
        &self,
        request: RequestBuilder,
        key: &str,
        url: &Url,
        deadline: Instant,
        is_busy: fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        let time = ATTEMPT.min(deadline.saturating_duration_since(Instant::now()));
        let exchange = async {
            let response = request.send().await.map_err(|error| self.failure(key, url, &error))?;
            let (answer, wait) = self.read(key, url, response).await?;
            if is_busy(&answer) { Err(Failure::Busy(answer, wait)) } else { Ok(answer) }
        };
        let host = url.host_str().unwrap_or_default();
        let late = || Unreached::network(format!("{host} did not answer within {:.1} seconds", time.as_secs_f32()));
        let outcome = tokio::time::timeout(time, exchange).await.unwrap_or_else(|_| Err(Failure::Broken(late())));
        let answer = outcome.as_ref().map_or_else(|failure| failure.answer(), Some);
        count::request(key, answer.map(|answer| answer.status.as_u16()));
        outcome
    }

    /// The failure of a request that was not answered.
    fn failure(&self, key: &str, url: &Url, error: &reqwest::Error) -> Failure {
        match self.unreached(url, error) {
            unreached if unreached.lasts => Failure::Final(unreached.error(key)),
            unreached if error.is_connect() => Failure::Unreached(unreached),
            unreached => Failure::Broken(unreached),
        }
    }

    /// An answer, and when the service asks to be asked again.
    async fn read(&self, key: &str, url: &Url, mut response: reqwest::Response) -> Result<(Answer, Option<Duration>), Failure> {
        let status = response.status();
        let host = address(url);
        let wrong = |reason: String| Failure::Final(Error::Unavailable { key: key.to_owned(), reason });
        if status.is_redirection() && !(self.way.tells_redirects && status == StatusCode::TEMPORARY_REDIRECT) {
            return Err(wrong(format!("{host} answered with a redirect ({status}), which is never followed")));
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.as_bytes()));
        note_request_id(response.headers());
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (challenge, location) = (header(WWW_AUTHENTICATE), header(LOCATION));
        let body = read_body(&mut response).await.map_err(|error| self.failure(key, url, &error))?;
        let body = body.ok_or_else(|| wrong(format!("{host} answered more than {MAX_ANSWER} bytes")))?;
        let answer = Answer { status, challenge, location, body };
        if url.scheme() == "http" && speaks_tls(&answer) {
            let journey = Journey { url, proxy: None, settings: &self.settings };
            return Err(Failure::Final(journey.plain_to_tls().error(key)));
        }
        Ok((answer, wait))
    }
}

impl Failure {
    fn may_be_repeated(&self, repeat: Repeat) -> bool {
        match self {
            Self::Final(_) => false,
            Self::Unreached(_) => true,
            // Both say that the call was turned away; 5xx may come from a proxy that had passed it on.
            Self::Busy(answer, _) => {
                repeat == Repeat::Freely || matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::PRECONDITION_FAILED)
            }
            Self::Broken(_) => repeat == Repeat::Freely,
        }
    }

    fn answer(&self) -> Option<&Answer> {
        if let Self::Busy(answer, _) = self { Some(answer) } else { None }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Busy(answer, _) => answer.status.as_str(),
            Self::Unreached(unreached) | Self::Broken(unreached) => &unreached.reason,
            Self::Final(_) => "",
        }
    }
}

fn asked(failure: &Failure) -> Duration {
    match failure {
        Failure::Busy(_, Some(wait)) => *wait,
        _ => Duration::ZERO,
    }
}

/// A wait that ends before the deadline, with a little time for the attempt itself; else none, and the last failure is the outcome.
fn within(deadline: Instant, wait: Duration) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (wait < left.saturating_sub(FIRST_WAIT)).then_some(wait)
}

/// What an error of the HTTP library is about: never its own text, which would repeat the URL.
pub(crate) fn unreached(url: &Url, proxies: &Proxies, settings: &Settings, error: &reqwest::Error) -> Unreached {
    let proxy = proxies.of(url).ok().flatten();
    let what = if error.is_connect() { "can't be reached" } else { "broke the connection" };
    Journey { url, proxy, settings }.explain(what, error)
}

/// Whether a server was spoken to in plain http that speaks TLS.
fn speaks_tls(answer: &Answer) -> bool {
    let says = |text: &&str| answer.body.windows(text.len()).any(|window| window == text.as_bytes());
    answer.status == StatusCode::BAD_REQUEST && SPEAK_TLS.iter().any(says)
}

/// Notes what the service calls its answer.
pub(crate) fn note_request_id(headers: &HeaderMap) {
    if let Some(id) = request_id::HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok()) {
        request_id::note(id);
    }
}

/// Host and, unless it is the scheme's own, port.
pub(crate) fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The body of an answer, or nothing if it has more than [`MAX_ANSWER`] bytes.
pub(crate) async fn read_body(response: &mut reqwest::Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    read_at_most(MAX_ANSWER, response).await
}

/// The body of an answer, or nothing if it has more than so many bytes.
pub(crate) async fn read_at_most(limit: usize, response: &mut reqwest::Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    // Sized beforehand, so that no copy of a key is left behind by a buffer that grew.
    let length = response.content_length().unwrap_or(USUAL_ANSWER).min(limit as u64);
    let mut body = Zeroizing::new(Vec::with_capacity(length as usize));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What stands at the end of an error's chain of causes.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// Reads the address of a service that overrides the built-in one: `https`, or `http` to loopback; no user, query or fragment.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse_endpoint(text: &str) -> Result<Url, String> {
    let shown = shown::address(text);
    if text.starts_with(['"', '\'']) {
        return Err(
            "it begins with a quotation mark; leave the quotes out, which `docker --env-file` and systemd's files do not remove".into()
        );
    }
    let url = Url::parse(text).map_err(|error| format!("{shown} is not an address ({error}); write https:// and the host"))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err(format!("{shown} names no host; write https:// in front of it")),
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("the address has a user, a query or a fragment".into());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(format!("{shown} is plain http, which is allowed only to loopback; use https")),
        _ => Err(format!("{shown} has another scheme than https; use https")),
    }
}

/// The address of `path` at a service whose address may have a path of its own, which stays in front.
#[must_use]
pub fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_address_stays_in_front() {
        for (base, whole) in [
            ("https://kms.example", "https://kms.example/v1/k:encrypt"),
            ("https://kms.example/", "https://kms.example/v1/k:encrypt"),
            ("https://kms.example/base", "https://kms.example/base/v1/k:encrypt"),
            ("https://kms.example/base/", "https://kms.example/base/v1/k:encrypt"),
        ] {
            assert_eq!(below(&Url::parse(base).unwrap(), "v1/k:encrypt").as_str(), whole);
        }
    }

    #[test]
    fn plain_http_is_allowed_only_to_loopback() {
        for good in
            ["https://cloudkms.googleapis.com", "https://kms.example/base/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"]
        {
            assert!(parse_endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "http://kms.example",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "\"https://kms.example\"",
            "kms.example",
            "",
            "https://u:p@kms.example",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wait_that_would_pass_the_deadline_is_not_begun() {
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(within(soon, Duration::from_millis(500)), Some(Duration::from_millis(500)));
        assert_eq!(within(soon, Duration::from_secs(2)), None);
        assert_eq!(within(soon, Duration::MAX), None);
    }

    #[test]
    fn what_may_have_been_acted_upon_is_repeated_only_if_it_changes_nothing() {
        let busy = |status| Failure::Busy(Answer { status, challenge: None, location: None, body: Zeroizing::default() }, None);
        let told = |status: u16| busy(StatusCode::from_u16(status).unwrap());
        for failure in [told(500), told(502), told(503), told(504), Failure::Broken(Unreached::network(String::new()))] {
            assert!(failure.may_be_repeated(Repeat::Freely) && !failure.may_be_repeated(Repeat::IfNotActedUpon), "{}", failure.reason());
        }
        for failure in [told(412), told(429), Failure::Unreached(Unreached::network(String::new()))] {
            assert!(failure.may_be_repeated(Repeat::Freely) && failure.may_be_repeated(Repeat::IfNotActedUpon), "{}", failure.reason());
        }
    }

    /// A server that answers the first request of its first connection, closes that when the second one comes, as a NAT does that has forgotten
    /// it, and answers all that comes by later ones. It counts connections.
    async fn forgetful(connections: Arc<std::sync::atomic::AtomicUsize>) -> Url {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
                tokio::spawn(async move {
                    let mut answers = 0;
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) && !(is_first && answers > 0) {
                        stream.write_all(b"HTTP/1.1 200 Done\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                        answers += 1;
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn a_kept_connection_that_is_gone_is_replaced_by_a_new_one_unless_the_call_may_have_been_acted_upon() {
        for (repeat, works) in [(Repeat::Freely, true), (Repeat::IfNotActedUpon, false)] {
            let connections = Arc::default();
            let (http, url) = (Http::new(&Environment::empty()), forgetful(Arc::clone(&connections)).await);
            let call = || {
                let (headers, deadline) = (HeaderMap::new(), Instant::now() + Duration::from_secs(9));
                http.send(Call { key: "k", method: Method::POST, url: &url, headers, body: Zeroizing::default(), deadline, repeat })
            };
            assert_eq!(call().await.unwrap().status, 200);
            assert_eq!(call().await.is_ok(), works, "{repeat:?}");
            assert_eq!(connections.load(Ordering::SeqCst), if works { 2 } else { 1 }, "{repeat:?}");
        }
    }
}

//! HTTP, once for all services: bounded in size and time, retried, never redirected, in plain text only to loopback.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Certificate, Client, ClientBuilder, Method, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

pub use super::answer::Answer;
use super::answer::retry_after;
use super::way::Way;
use crate::kms::request_id;
use crate::trusted_file::{self, Trust};
use crate::{Error, count, shown};

/// The most bytes of an answer: several times what any service answers.
pub const MAX_ANSWER: usize = 512 << 10;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How often a call is repeated after its first failure.
const RETRIES: usize = 4;
/// The wait before the first repetition; doubles, with jitter of up to the same again.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The most bytes of a file of certificate authorities.
const MAX_AUTHORITIES: usize = 1 << 20;
/// What errors call such a file.
const AUTHORITIES: &str = "the certificate authorities in";
/// Room for the answer of a service that doesn't say how long it is.
const USUAL_ANSWER: u64 = 16 << 10;

/// The clients of one service, or of several. Made, with their TLS roots, when they are first used.
#[derive(Debug, Default)]
pub struct Http {
    /// For `https`: by way of a proxy, if the environment names one. It sees only what is encrypted.
    tls: OnceLock<Client>,
    /// For `http` to loopback: a proxy would see credentials and keys.
    plain: OnceLock<Client>,
    /// Whom to trust in place of the system's roots.
    authorities: Option<PathBuf>,
    way: Way,
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
    Unreached(String),
    /// It stopped in the middle, or did not answer in time: it may have acted upon the call.
    Broken(String),
    /// It answered what no repetition will mend.
    Final(Error),
}

impl Http {
    /// Clients that trust the certificate authorities in `file` (PEM), which is read when one is first used, and no others.
    #[must_use]
    pub fn trusting(file: PathBuf) -> Self {
        Self { authorities: Some(file), ..Self::default() }
    }

    /// The same clients, by another way.
    #[must_use]
    pub fn by(self, way: Way) -> Self {
        Self { way, ..self }
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
        let client = self.client(call.url)?;
        let body = Bytes::from_owner(call.body);
        let Call { key, method, url, mut headers, deadline, repeat, .. } = call;
        if !body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        let request = || client.request(method.clone(), url.clone()).headers(headers.clone()).body(body.clone());
        let tells_redirects = self.way.tells_redirects;
        let attempt = || attempt(request(), key, url, deadline, is_busy, tells_redirects);
        let waits = ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_times(RETRIES).with_jitter();
        let outcome = attempt
            .retry(waits)
            .when(|failure| failure.may_be_repeated(repeat))
            .adjust(|failure, wait| within(deadline, asked(failure).max(wait?)))
            .notify(|failure, wait| tracing::debug!(key, ?wait, reason = failure.reason(), "trying again"))
            .await;
        match outcome {
            Ok(answer) | Err(Failure::Busy(answer, _)) => Ok(answer),
            Err(Failure::Unreached(reason) | Failure::Broken(reason)) => Err(Error::Unavailable { key: key.to_owned(), reason }),
            Err(Failure::Final(error)) => Err(error),
        }
    }

    /// The client for calls to `url`: for libraries that make their own, to get credentials.
    pub(crate) fn client(&self, url: &Url) -> Result<&Client, Error> {
        let encrypted = url.scheme() == "https";
        let place = if encrypted { &self.tls } else { &self.plain };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let client = client_of(encrypted, self.authorities.as_deref(), &self.way)?;
        Ok(place.get_or_init(|| client))
    }
}

/// A client that follows no redirect, for `https` or for `http` to loopback.
pub(crate) fn client_of(encrypted: bool, authorities: Option<&Path>, way: &Way) -> Result<Client, Error> {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(ATTEMPT);
    let builder = if encrypted { builder.https_only(true) } else { builder.no_proxy() };
    let builder = way.take(builder, encrypted)?;
    match authorities {
        Some(file) if encrypted => trusting(builder, file),
        _ => builder.build().map_err(|error| Error::Internal { reason: format!("HTTP can't be set up: {}", root_cause(&error)) }),
    }
}

/// A client for which only the certificates in `file` are roots.
fn trusting(builder: ClientBuilder, file: &Path) -> Result<Client, Error> {
    let unusable = |reason: String| Error::Configuration { place: format!("{AUTHORITIES} {}", shown::path(file)), reason };
    let text = trusted_file::read(file, Trust::Decides, MAX_AUTHORITIES).map_err(|untrusted| untrusted.error(AUTHORITIES, file))?;
    let certificates = Certificate::from_pem_bundle(&text).map_err(|error| unusable(root_cause(&error)))?;
    if certificates.is_empty() {
        return Err(unusable("the file has no certificate in PEM".into()));
    }
    builder.tls_certs_only(certificates).build().map_err(|error| unusable(root_cause(&error)))
}

async fn attempt(
    request: RequestBuilder,
    key: &str,
    url: &Url,
    deadline: Instant,
    is_busy: fn(&Answer) -> bool,
    tells_redirects: bool,
) -> Result<Answer, Failure> {
    let time = ATTEMPT.min(deadline.saturating_duration_since(Instant::now()));
    let exchange = async {
        let response = request.send().await.map_err(|error| Failure::of(url, &error))?;
        let (answer, wait) = read(key, url, response, tells_redirects).await?;
        if is_busy(&answer) { Err(Failure::Busy(answer, wait)) } else { Ok(answer) }
    };
    let host = url.host_str().unwrap_or_default();
    let outcome = tokio::time::timeout(time, exchange)
        .await
        .unwrap_or_else(|_| Err(Failure::Broken(format!("{host} did not answer within {:.1} seconds", time.as_secs_f32()))));
    let answer = outcome.as_ref().map_or_else(|failure| failure.answer(), Some);
    count::request(key, answer.map(|answer| answer.status.as_u16()));
    outcome
}

/// An answer, and when the service asks to be asked again.
async fn read(key: &str, url: &Url, mut response: reqwest::Response, tells_redirects: bool) -> Result<(Answer, Option<Duration>), Failure> {
    let status = response.status();
    let host = address(url);
    let wrong = |reason: String| Failure::Final(Error::Unavailable { key: key.to_owned(), reason });
    if status.is_redirection() && !(tells_redirects && status == StatusCode::TEMPORARY_REDIRECT) {
        return Err(wrong(format!("{host} answered with a redirect ({status}), which is never followed")));
    }
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.as_bytes()));
    note_request_id(response.headers());
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (challenge, location) = (header(WWW_AUTHENTICATE), header(LOCATION));
    let body = read_body(&mut response).await.map_err(|error| Failure::Broken(unreachable(url, &error)))?;
    let body = body.ok_or_else(|| wrong(format!("{host} answered more than {MAX_ANSWER} bytes")))?;
    if url.scheme() == "http" && wants_tls(status, &body) {
        return Err(wrong(format!(
            "{host} was asked in plain http and speaks TLS at this port; write https:// in place of http:// in its address"
        )));
    }
    Ok((Answer { status, challenge, location, body }, wait))
}

/// Whether a server that speaks TLS says that it was asked in plain HTTP: Go's, nginx's and Apache's have a sentence for it.
fn wants_tls(status: StatusCode, body: &[u8]) -> bool {
    let sentences =
        ["HTTP request to an HTTPS server", "HTTP request was sent to HTTPS port", "speaking plain HTTP to an SSL-enabled server"];
    let text = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    status == StatusCode::BAD_REQUEST && sentences.iter().any(|sentence| text.contains(sentence))
}

impl Failure {
    /// That of a request that was not answered.
    fn of(url: &Url, error: &reqwest::Error) -> Self {
        let reason = unreachable(url, error);
        if error.is_connect() { Self::Unreached(reason) } else { Self::Broken(reason) }
    }

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
            Self::Unreached(reason) | Self::Broken(reason) => reason,
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

/// What reqwest says at the end of its chain of causes; its own text would repeat the URL.
pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> String {
    let host = address(url);
    let what = if error.is_connect() { "can't be reached" } else { "broke the connection" };
    format!("{host} {what}: {}", root_cause(error))
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

pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Reads the address of a service that overrides the built-in one: `https`, or `http` to loopback; no user, query or fragment.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse_endpoint(text: &str) -> Result<Url, String> {
    let shown = shown::address(text);
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
        for failure in [told(500), told(502), told(503), told(504), Failure::Broken(String::new())] {
            assert!(failure.may_be_repeated(Repeat::Freely) && !failure.may_be_repeated(Repeat::IfNotActedUpon), "{}", failure.reason());
        }
        for failure in [told(412), told(429), Failure::Unreached(String::new())] {
            assert!(failure.may_be_repeated(Repeat::Freely) && failure.may_be_repeated(Repeat::IfNotActedUpon), "{}", failure.reason());
        }
    }
}

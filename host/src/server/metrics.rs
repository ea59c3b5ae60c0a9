//! Metrics for Prometheus, and whether the server is up, on a listener of their own.

mod registry;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

use self::registry::Registry;
use super::gate::EXHAUSTED;
use super::newcomers::Newcomers;
use crate::audit::Audit;
use crate::{Error, count};

/// How many readers there may be at a time: the one that came first makes way for one more.
const MAX_CONNECTIONS: usize = 32;
/// The most bytes of a request.
const MAX_REQUEST: usize = 16 << 10;
/// How long a look at the audit log counts: it takes the lock that every record needs, and anybody may ask.
const FRESH: Duration = Duration::from_secs(1);

/// The media type of Prometheus's text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What has been counted in this process.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

impl Metrics {
    /// Begins to count. Once per process: it takes the place of the [`metrics`](https://docs.rs/metrics) facade's recorder.
    ///
    /// # Errors
    /// If another recorder is installed.
    pub fn install() -> Result<Self, Error> {
        let registry = Arc::new(Registry::default());
        metrics::set_global_recorder(registry.clone())
            .map_err(|error| Error::Internal { reason: format!("metrics can't be recorded: {error}") })?;
        count::describe();
        count::begin();
        Ok(Self(registry))
    }
}

/// What is served here.
struct Pages {
    metrics: Metrics,
    stop: watch::Receiver<bool>,
    audit: Option<Arc<Audit>>,
    /// How long a reader has for its request, its answer and its end.
    time: Duration,
    /// Whether the audit log could be written when somebody last looked, and when that was.
    looked: Mutex<Option<(Instant, bool)>>,
}

/// Serves `/metrics` and `/healthz`. While the server drains, it is not healthy any more, and what it still does is counted. Nor is it while no
/// record can be written: it gives out no key then.
pub(super) async fn serve(metrics: Metrics, listener: TcpListener, stop: watch::Receiver<bool>, audit: Option<Arc<Audit>>, time: Duration) {
    let pages = Arc::new(Pages { metrics, stop, audit, time, looked: Mutex::default() });
    let mut readers = Newcomers::new(MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                readers.begin(pages.clone().show(stream));
            }
            Err(error) => {
                tracing::warn!(error = error.to_string(), "a reader of metrics can't be accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

impl Pages {
    /// One request and its answer: scrapers and checks come once in seconds, and may connect anew.
    async fn show(self: Arc<Self>, stream: TcpStream) {
        let page = |request: Request<Incoming>| {
            let pages = self.clone();
            async move { Ok::<_, Infallible>(pages.page(&request).await) }
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.time).keep_alive(false).max_buf_size(MAX_REQUEST);
        let served = http.serve_connection(TokioIo::new(stream), service_fn(page));
        // How it ended is its own business.
        let _ = tokio::time::timeout(self.time, served).await;
    }

    async fn page(&self, request: &Request<Incoming>) -> Response<String> {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, self.metrics.0.text()),
            (&Method::GET | &Method::HEAD, "/healthz") => self.health().await,
            (_, "/metrics" | "/healthz") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
            _ => (StatusCode::NOT_FOUND, String::new()),
        };
        let mut response = Response::new(text);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        response
    }

    async fn health(&self) -> (StatusCode, String) {
        let unhealthy = |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, reason.to_owned());
        if *self.stop.borrow() {
            return unhealthy("stopping\n");
        }
        if !self.can_be_written().await {
            return unhealthy("the audit log can't be written\n");
        }
        (StatusCode::OK, "ok\n".into())
    }

    /// Whether records can be written, as far as the disk tells without one. One looks for all who ask at a time.
    async fn can_be_written(&self) -> bool {
        let Some(audit) = self.audit.clone() else { return true };
        let mut looked = self.looked.lock().await;
        if let Some((at, can)) = *looked
            && at.elapsed() < FRESH
        {
            return can;
        }
        let can = tokio::task::spawn_blocking(move || audit.check()).await.is_ok_and(|checked| {
            // Why not is for the log: it has paths in it.
            checked.inspect_err(|error| tracing::warn!(error = error.line(), "not healthy")).is_ok()
        });
        *looked = Some((Instant::now(), can));
        can
    }
}

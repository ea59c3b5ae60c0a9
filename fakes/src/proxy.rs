//! A proxy in front of any service, real ones among them, that counts calls and disturbs them.
//!
//! ```no_run
//! use ocicrypt_kms_fakes::{Disturbance, Proxy};
//!
//! let proxy = Proxy::start("https://127.0.0.1:8200", Some("-----BEGIN CERTIFICATE-----\n…"));
//! proxy.disturb(Disturbance::Status(429), 1); // the next call is refused, the one after it goes through
//! println!("point the client at {}", proxy.address());
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::TRANSFER_ENCODING;
use axum::response::{IntoResponse, Response};

use crate::server::Server;
use crate::transport;

const MAX_REQUEST: usize = 1024 * 1024;

/// What happens to a call in place of, or besides, being passed on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Disturbance {
    /// An error with this status and an empty JSON object, without asking the service.
    Status(u16),
    /// 503 and an empty JSON object, with this `Retry-After` header, without asking the service.
    RetryAfter(&'static str),
    /// The answer says that it is so long, whatever its length is, and breaks off.
    Length(u64),
    /// The right answer, this much later.
    Slow(Duration),
    /// A well-formed answer of so many MiB, streamed without saying its length first.
    Oversized(usize),
    /// The answer arrives whole, as HTTP goes, but its JSON ends in the middle.
    Truncated,
    /// The connection closes in the middle of the answer.
    BrokenOff,
    /// The connection closes without an answer.
    HangUp,
    /// 307 to this URL.
    Redirect(String),
}

/// A running proxy on a free port of 127.0.0.1. It stops when it is dropped.
pub struct Proxy {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    root: Option<String>,
    // Made on the proxy's own runtime, which its connections live on.
    client: OnceLock<reqwest::Client>,
    state: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    count: usize,
    disturbances: VecDeque<Disturbance>,
}

impl Proxy {
    /// Stands in front of `upstream`, a base URL without a path; if that is `https`, `root` is the certificate (PEM) that it is trusted by.
    pub fn start(upstream: &str, root: Option<&str>) -> Self {
        let upstream = upstream.trim_end_matches('/').to_owned();
        let shared = Shared { upstream, root: root.map(str::to_owned), client: OnceLock::new(), state: Mutex::default() };
        let shared = Arc::new(shared);
        let router = Router::new().fallback(pass_on).with_state(shared.clone());
        Self { server: Server::start(0, None, router), shared }
    }

    /// The base URL that clients of the service are given.
    pub fn address(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The next `times` calls are disturbed so, after those that were asked for before.
    pub fn disturb(&self, disturbance: Disturbance, times: usize) {
        self.shared.lock().disturbances.extend(std::iter::repeat_n(disturbance, times));
    }

    /// How many calls came since this was last asked. Disturbances that have not happened are forgotten.
    pub fn take_calls(&self) -> usize {
        std::mem::take(&mut *self.shared.lock()).count
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.state.lock().expect("no handler panics while it holds the state")
    }

    fn client(&self) -> &reqwest::Client {
        self.client.get_or_init(|| {
            let roots = self.root.iter().map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate in PEM"));
            let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
            builder.tls_certs_only(roots).build().expect("a client")
        })
    }

    async fn forward(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, MAX_REQUEST).await.expect("requests are small");
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // The host header stays the client's: signatures cover it.
        let call = self.client().request(parts.method, format!("{}{path}", self.upstream)).headers(parts.headers).body(body);
        match call.send().await {
            Ok(answer) => {
                let mut answer = axum::http::Response::from(answer).map(Body::new);
                // How the body was framed on the other connection.
                answer.headers_mut().remove(TRANSFER_ENCODING);
                answer
            }
            Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:?}")).into_response(),
        }
    }
}

async fn pass_on(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let disturbance = {
        let mut calls = shared.lock();
        calls.count += 1;
        calls.disturbances.pop_front()
    };
    match disturbance {
        None => shared.forward(request).await,
        Some(Disturbance::Status(status)) => refusal(StatusCode::from_u16(status).expect("an HTTP status")),
        Some(Disturbance::RetryAfter(wait)) => transport::retry_after(wait, refusal(StatusCode::SERVICE_UNAVAILABLE)),
        Some(Disturbance::Length(length)) => transport::of_length(length, shared.forward(request).await).await,
        Some(Disturbance::Slow(delay)) => transport::slow(delay, shared.forward(request)).await,
        Some(Disturbance::Oversized(mebibytes)) => transport::oversized(mebibytes),
        Some(Disturbance::Truncated) => transport::truncated(shared.forward(request).await).await,
        Some(Disturbance::BrokenOff) => transport::broken_off(shared.forward(request).await).await,
        Some(Disturbance::HangUp) => transport::hang_up(),
        Some(Disturbance::Redirect(url)) => transport::redirect(&url),
    }
}

fn refusal(status: StatusCode) -> Response {
    (status, transport::json(Body::from("{}"))).into_response()
}

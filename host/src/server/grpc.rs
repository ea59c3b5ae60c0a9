//! The service on gRPC, with health (grpc.health.v1) and reflection beside it.

mod definition;
mod metered;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use ocicrypt_kms_protocol::MAX_MESSAGE;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as _, http};
use tonic::server::{Grpc, UnaryService};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use self::definition::METHODS;
pub(super) use self::definition::{Input, Output, SERVICE};
use self::metered::{Metered, Portions};
use super::connection::{Connection, Times};
use super::exchanges::Exchanges;
use super::http2::Age;
use super::memory::{Held, Share};
use super::{http2, stopped, telemetry};
use crate::Error;
use crate::caller::Caller;

/// How long the answers of the last exchanges have to leave when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// The longest request, with the protobuf around its message.
const LONGEST: usize = MAX_MESSAGE + 16;

/// Both methods: the message says which operation it asks for.
struct Method(Arc<Exchanges>);

impl Method {
    async fn exchange(self, request: Request<Input>) -> Result<Response<Output>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Anonymous);
        let held = request.extensions().get::<Arc<Held>>().cloned();
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
        let trace = telemetry::Parent::of(|name| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned));
        let message = zeroize::Zeroizing::new(request.into_inner().message);
        let mut answer = self.0.exchange(&message, caller, timeout, &trace).await?;
        held.iter().for_each(|held| held.owe(answer.len()));
        Ok(Response::new(Output { message: std::mem::take(&mut *answer) }))
    }
}

impl UnaryService<Input> for Method {
    type Response = Output;
    type Future = BoxFuture<Response<Output>, Status>;

    fn call(&mut self, request: Request<Input>) -> Self::Future {
        Box::pin(Self(self.0.clone()).exchange(request))
    }
}

/// Answers a request for one of the service's methods.
async fn answer(exchanges: Arc<Exchanges>, request: http::Request<Body>) -> http::Response<Body> {
    // Behind `/` and the service.
    let method = request.uri().path().splitn(3, '/').nth(2);
    if !METHODS.map(Some).contains(&method) {
        return Status::unimplemented("").into_http();
    }
    let mut grpc = Grpc::new(ProstCodec::default()).apply_max_message_size_config(Some(LONGEST), Some(2 * LONGEST));
    grpc.unary(Method(exchanges), request).await
}

/// The services that all connections have.
#[derive(Clone)]
struct Services {
    exchanges: Arc<Exchanges>,
    others: Routes,
    time: Duration,
}

impl Services {
    /// For the requests of this connection.
    fn front(&self, connection: &Connection) -> Front {
        Front { services: self.clone(), caller: connection.caller().clone(), share: connection.share().clone() }
    }
}

/// Takes the requests of one connection to their service: those for keys straight, the few others by their path.
struct Front {
    services: Services,
    caller: Caller,
    share: Share,
}

impl hyper::service::Service<http::Request<Incoming>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let held = Arc::new(self.share.begin());
        let mut request = request.map(|body| Body::new(Metered::new(body, held.clone(), LONGEST)));
        let Services { exchanges, mut others, time } = self.services.clone();
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        if service != Some(SERVICE) {
            let answer = others.call(request);
            return Box::pin(async { Ok(answer.await?.map(|body| Body::new(Portions::new(body, held)))) });
        }
        request.extensions_mut().insert(self.caller.clone());
        request.extensions_mut().insert(held.clone());
        let answer = tokio::time::timeout(time, answer(exchanges, request));
        Box::pin(async {
            let late = |_| Status::deadline_exceeded("the message did not arrive in time").into_http();
            Ok(answer.await.map_or_else(late, with_usual_code).map(|body| Body::new(Portions::new(body, held))))
        })
    }
}

/// tonic says of a message that is too long that it is out of range; gRPC's other servers, and ours where it bounds anything, that a
/// resource is exhausted.
fn with_usual_code(mut answer: http::Response<Body>) -> http::Response<Body> {
    if let Some(code) = answer.headers_mut().get_mut(Status::GRPC_STATUS)
        && code.as_bytes() == b"11"
    {
        *code = http::HeaderValue::from_static("8");
    }
    answer
}

/// Reads the header `grpc-timeout` (gRPC over HTTP/2: at most eight digits and a unit).
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = (digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(value * 60 * 60)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Serves the connections that arrive, until `stop`; then says so to clients and waits for the exchanges that are under way.
pub(super) async fn serve(
    exchanges: Arc<Exchanges>,
    mut connections: mpsc::Receiver<Connection>,
    mut stop: watch::Receiver<bool>,
    times: Times,
) -> Result<(), Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE, tonic_health::ServingStatus::Serving).await;
    let services = services(exchanges.clone(), Routes::new(health_service), times.message)?;
    let protocol = http2::Protocol::new(Age { max: times.age, last_requests: times.message });
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next() => {}
            connection = connections.recv() => match connection {
                Some(connection) => {
                    let (front, close) = (services.front(&connection), connection.close());
                    open.spawn(protocol.serve(connection, front, stop.clone(), close));
                }
                None => break,
            },
        }
    }
    // Those who watch it learn it.
    health.set_service_status(SERVICE, tonic_health::ServingStatus::NotServing).await;
    tokio::select! {
        () = async { while open.join_next().await.is_some() {} } => {}
        // Who watches, or is silent, would hold up the end.
        () = async { exchanges.idle().await; tokio::time::sleep(LAST_ANSWERS).await } => {}
    }
    Ok(())
}

/// All services of this server.
fn services(exchanges: Arc<Exchanges>, others: Routes, time: Duration) -> Result<Services, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Internal { reason: format!("gRPC can't be served: {error}") };
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure();
        builder
            .register_file_descriptor_set(definition::description())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let others = others
        .add_service(reflection().build_v1().map_err(|error| failed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| failed(&error))?)
        .prepare();
    Ok(Services { exchanges, others, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_timeout_is_read() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "m", "1", "1s", "-1S", "+1S", "123456789S", "1é"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }
}

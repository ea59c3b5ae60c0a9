//! The service on gRPC, with health (grpc.health.v1) and reflection beside it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use ocicrypt_kms_protocol::MAX_MESSAGE;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as _, http};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::connection::Connection;
use super::exchanges::Exchanges;
use super::{http2, stopped, telemetry};
use crate::Error;
use crate::caller::Caller;

mod generated {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("keyprovider");
}

use generated::key_provider_service_server::{KeyProviderService, KeyProviderServiceServer};
pub(super) use generated::{KeyProviderKeyWrapProtocolInput as Input, KeyProviderKeyWrapProtocolOutput as Output};

/// The full name of the service, in both protocols.
pub(super) const SERVICE: &str = "keyprovider.KeyProviderService";
/// How much longer than an exchange a request may take, for a message that arrives slowly.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
/// How long the answers of the last exchanges have to leave when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// The protobuf around a message.
const ENVELOPE: usize = 16;

const DESCRIPTION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keyprovider.bin"));

struct Service(Arc<Exchanges>);

impl Service {
    async fn exchange(&self, request: Request<Input>) -> Result<Response<Output>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Anonymous);
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
        let trace = telemetry::Parent::of(|name| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned));
        let message = zeroize::Zeroizing::new(request.into_inner().key_provider_key_wrap_protocol_input);
        let mut answer = self.0.exchange(&message, caller, timeout, &trace).await?;
        Ok(Response::new(Output { key_provider_key_wrap_protocol_output: std::mem::take(&mut *answer) }))
    }
}

#[tonic::async_trait]
impl KeyProviderService for Service {
    async fn wrap_key(&self, request: Request<Input>) -> Result<Response<Output>, Status> {
        self.exchange(request).await
    }

    // The message says which operation it asks for; the two methods are one.
    async fn un_wrap_key(&self, request: Request<Input>) -> Result<Response<Output>, Status> {
        self.exchange(request).await
    }
}

/// Takes the requests of one connection to their service: those for keys straight, the few others by their path.
#[derive(Clone)]
struct Front {
    service: KeyProviderServiceServer<Service>,
    others: Routes,
    caller: Caller,
    time: Duration,
}

impl Front {
    /// The same for a connection of this caller.
    fn of(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }
}

impl hyper::service::Service<http::Request<Incoming>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        if service != Some(SERVICE) {
            return Box::pin(self.others.clone().call(request));
        }
        request.extensions_mut().insert(self.caller.clone());
        let answer = tokio::time::timeout(self.time, self.service.clone().call(request));
        Box::pin(async {
            let late = || Status::deadline_exceeded("the message did not arrive in time").into_http();
            answer.await.map_or_else(|_| Ok(late()), |answer| answer.map(with_usual_code))
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
) -> Result<(), Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE, tonic_health::ServingStatus::Serving).await;
    let front = front(exchanges.clone(), Routes::new(health_service))?;
    let protocol = http2::Protocol::default();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next() => {}
            connection = connections.recv() => match connection {
                Some(connection) => {
                    let front = front.clone().of(connection.caller().clone());
                    open.spawn(protocol.serve(connection, front, stop.clone()));
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
fn front(exchanges: Arc<Exchanges>, others: Routes) -> Result<Front, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Internal { reason: format!("gRPC can't be served: {error}") };
    let reflection = || {
        let services = tonic_reflection::server::Builder::configure();
        services
            .register_encoded_file_descriptor_set(DESCRIPTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let others = others
        .add_service(reflection().build_v1().map_err(|error| failed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| failed(&error))?)
        .prepare();
    let time = exchanges.deadline() + MESSAGE_TIME;
    let limit = MAX_MESSAGE + ENVELOPE;
    let service = KeyProviderServiceServer::new(Service(exchanges)).max_decoding_message_size(limit).max_encoding_message_size(2 * limit);
    Ok(Front { service, others, caller: Caller::Anonymous, time })
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

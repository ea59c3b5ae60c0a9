//! The service on gRPC, with health (grpc.health.v1) and reflection beside it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ocicrypt_kms_protocol::MAX_MESSAGE;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{self, BoxFuture, http};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::connection::Connection;
use super::corked::Corked;
use super::exchanges::Exchanges;
use super::telemetry;
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
/// The bytes of HTTP/2's connection preface (RFC 9113 section 3.4).
pub(super) const PREFACE: usize = 24;
/// The most exchanges that one connection may have under way.
const MAX_STREAMS: u32 = 100;
/// The most bytes of a request's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// After so long without a frame a client is asked whether it is still there, and has [`PONG`] to answer.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);
/// A connection is closed, at a moment that suits it, after so long: a certificate is not looked at again while one stands.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// How much longer than an exchange a request may take, for a message that arrives slowly.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
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

/// Takes requests to their service: those for keys straight, the few others by their path.
#[derive(Clone)]
struct Front {
    service: KeyProviderServiceServer<Service>,
    others: Routes,
}

impl codegen::Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        match service == Some(SERVICE) {
            true => self.service.call(request),
            false => Box::pin(self.others.call(request)),
        }
    }
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
    connections: tokio::sync::mpsc::Receiver<Connection>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Internal { reason: format!("gRPC can't be served: {error}") };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE, tonic_health::ServingStatus::Serving).await;
    let reflection = || {
        let services = tonic_reflection::server::Builder::configure();
        services
            .register_encoded_file_descriptor_set(DESCRIPTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let time = exchanges.deadline() + MESSAGE_TIME;
    let limit = MAX_MESSAGE + ENVELOPE;
    let service = KeyProviderServiceServer::new(Service(exchanges)).max_decoding_message_size(limit).max_encoding_message_size(2 * limit);
    let server = tonic::transport::Server::builder()
        .timeout(time)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .max_connection_age(MAX_AGE);
    let others = Routes::new(health_service)
        .add_service(reflection().build_v1().map_err(|error| failed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| failed(&error))?)
        .prepare();
    let stopping = async {
        stop.await;
        // Those who watch it learn it.
        health.set_service_status(SERVICE, tonic_health::ServingStatus::NotServing).await;
    };
    let connections = ReceiverStream::new(connections).map(|connection| Ok::<_, Infallible>(Corked::new(connection)));
    server.serve_with_incoming_shutdown(Front { service, others }, connections, stopping).await.map_err(|error| failed(&error))
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

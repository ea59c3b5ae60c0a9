//! The service on [ttrpc](https://github.com/containerd/ttrpc): gRPC's methods and codes without HTTP/2, for Unix sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::async_trait;
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};
use zeroize::Zeroizing;

use super::connection::{Connection, Times};
use super::exchanges::Exchanges;
use super::grpc::{Input, Output, SERVICE};
use super::{stopped, telemetry};
use crate::caller::Caller;

/// A method, for one connection: its caller is known.
struct Method {
    exchanges: Arc<Exchanges>,
    caller: Caller,
}

#[async_trait]
impl MethodHandler for Method {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let payload = Zeroizing::new(request.payload);
        let input = Input::decode(payload.as_slice()).map_err(|error| {
            ttrpc::Error::RpcStatus(ttrpc::get_status(
                ttrpc::Code::INVALID_ARGUMENT,
                format!("the request is no protobuf of this service: {error}"),
            ))
        })?;
        let message = Zeroizing::new(input.message);
        let timeout = u64::try_from(context.timeout_nano).ok().filter(|&nanos| nanos > 0).map(Duration::from_nanos);
        let trace = telemetry::Parent::of(|name| context.metadata.get(name).and_then(|values| values.first().cloned()));
        let mut response = Response::new();
        match self.exchanges.exchange(&message, self.caller.clone(), timeout, &trace).await {
            Ok(mut answer) => {
                response.set_status(ttrpc::get_status(ttrpc::Code::OK, ""));
                let output = Output { message: std::mem::take(&mut *answer) };
                response.payload = output.encode_to_vec();
            }
            Err(status) => response.set_status(status.into()),
        }
        Ok(response)
    }
}

fn services(exchanges: &Arc<Exchanges>, caller: &Caller) -> HashMap<String, Service> {
    let method = |name: &str| {
        let method = Method { exchanges: exchanges.clone(), caller: caller.clone() };
        (name.to_owned(), Box::new(method) as Box<dyn MethodHandler + Send + Sync>)
    };
    let methods = HashMap::from([method("WrapKey"), method("UnWrapKey")]);
    HashMap::from([(SERVICE.to_owned(), Service { methods, streams: HashMap::new() })])
}

/// Serves the connections that arrive, until `stop`; then waits for the exchanges that are under way.
pub(super) async fn serve(
    exchanges: Arc<Exchanges>,
    mut connections: mpsc::Receiver<Connection>,
    mut stop: watch::Receiver<bool>,
    times: Times,
) {
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            connection = connections.recv() => match connection {
                Some(connection) => drop(served.spawn(serve_one(exchanges.clone(), connection, stop.clone(), times))),
                None => break,
            },
            Some(_) = served.join_next() => {}
            () = stopped(&mut stop) => break,
        }
    }
    while served.join_next().await.is_some() {}
}

/// A server of its own for each connection, since the caller is the connection's.
async fn serve_one(exchanges: Arc<Exchanges>, mut connection: Connection, mut stop: watch::Receiver<bool>, times: Times) {
    let (closed, mut close) = (connection.closed(), connection.close());
    let services = services(&exchanges, connection.caller());
    let listener = Listener::new(tokio_stream::once(Ok(connection)));
    let mut server = Server::new().register_service(services).add_listener(listener);
    if let Err(error) = server.start().await {
        tracing::warn!(error = error.to_string(), "a ttrpc connection can't be served");
        return;
    }
    tokio::select! {
        _ = closed => {}
        () = stopped(&mut close) => {}
        // Its frames end sooner, if its client lets them.
        () = tokio::time::sleep(times.age + times.message) => {}
        () = stopped(&mut stop) => exchanges.idle().await,
    }
    server.disconnect().await;
}

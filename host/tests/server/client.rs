//! Clients in Rust: gRPC by tonic, ttrpc by its crate.

use std::path::Path;
use std::time::Duration;

use ocicrypt_kms_testing::certificates::Issued;
use ocicrypt_kms_testing::messages::{annotation_of, opts_data_of, wrapping};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The message of the service, in both directions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Protocol {
    #[prost(bytes = "vec", tag = "1")]
    pub message: Vec<u8>,
}

/// A runtime for clients.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A connection to a Unix socket.
pub async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect().await
}

/// A connection by TLS to a server whose certificate this authority signed, with this certificate of the client's own.
pub async fn over_tls(address: &str, trusted: &str, client: Option<&Issued>) -> Result<Channel, tonic::transport::Error> {
    let port = address.rsplit_once(':').unwrap().1;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted)).domain_name("localhost");
    let tls = client.into_iter().fold(tls, |tls, client| tls.identity(Identity::from_pem(&client.certificate, &client.key)));
    Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(tls)?.connect().await
}

/// One call of `WrapKey` or `UnWrapKey`.
pub async fn call(channel: &Channel, method: &str, message: &[u8]) -> Result<Vec<u8>, tonic::Status> {
    call_with(channel, method, tonic::Request::new(Protocol { message: message.to_vec() })).await
}

/// The same with a deadline.
pub async fn call_within(channel: &Channel, message: &[u8], time: Duration) -> Result<Vec<u8>, tonic::Status> {
    let mut request = tonic::Request::new(Protocol { message: message.to_vec() });
    request.set_timeout(time);
    call_with(channel, "WrapKey", request).await
}

pub async fn call_with(channel: &Channel, method: &str, request: tonic::Request<Protocol>) -> Result<Vec<u8>, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(16 << 20);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(format!("/keyprovider.KeyProviderService/{method}")).unwrap();
    let codec = tonic_prost::ProstCodec::<Protocol, Protocol>::default();
    Ok(grpc.unary(request, path, codec).await?.into_inner().message)
}

/// Wraps, and checks that what comes back unwraps to the same.
pub async fn both_ways(channel: &Channel, wrap: &[u8], unwrap: impl Fn(&[u8]) -> Vec<u8>, opts_data: &[u8]) -> Result<(), tonic::Status> {
    let annotation = annotation_of(&call(channel, "WrapKey", wrap).await?);
    let unwrapped = call(channel, "UnWrapKey", &unwrap(&annotation)).await?;
    assert_eq!(opts_data_of(&unwrapped), opts_data);
    Ok(())
}

/// One call by ttrpc.
pub async fn ttrpc_call(client: &ttrpc::r#async::Client, method: &str, message: &[u8], time: Duration) -> Result<Vec<u8>, ttrpc::Error> {
    use prost::Message as _;
    let request = ttrpc::Request {
        service: "keyprovider.KeyProviderService".into(),
        method: method.into(),
        payload: Protocol { message: message.to_vec() }.encode_to_vec(),
        timeout_nano: i64::try_from(time.as_nanos()).unwrap(),
        ..ttrpc::Request::default()
    };
    let response = client.request(request).await?;
    Ok(Protocol::decode(response.payload.as_slice()).unwrap().message)
}

/// A request to wrap, as it is on the wire; its stream has the odd number that this number stands for.
pub fn ttrpc_request(number: u32, uris: &[&str]) -> Vec<u8> {
    use prost::Message as _;
    /// A request, as ttrpc's protocol has it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Request {
        #[prost(string, tag = "1")]
        service: String,
        #[prost(string, tag = "2")]
        method: String,
        #[prost(bytes = "vec", tag = "3")]
        payload: Vec<u8>,
    }
    let payload = Protocol { message: wrapping(uris) }.encode_to_vec();
    let body = Request { service: "keyprovider.KeyProviderService".into(), method: "WrapKey".into(), payload }.encode_to_vec();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &(2 * number + 1).to_be_bytes(), &[1, 0], &body].concat()
}

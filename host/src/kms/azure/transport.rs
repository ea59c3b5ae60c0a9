//! HTTP for `azure_identity`, by the clients that all services share: bounded in size and time, never redirected.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use reqwest::{Method, Url};

use super::super::http::{Http, MAX_ANSWER, read_body, root_cause};

/// How long one attempt may take. The library repeats it inside the exchange's deadline.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The metadata service of virtual machines.
const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// How long it may take to answer at all; what other libraries of Azure wait.
const IMDS_PROBE: Duration = Duration::from_secs(1);

/// The shared clients as an Azure library wants them.
pub(super) struct Transport(pub(super) Arc<Http>);

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let host = request.url().host_str().unwrap_or_default();
        match tokio::time::timeout(ATTEMPT, self.send(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(broken(format!("{host} did not answer within {} seconds", ATTEMPT.as_secs()))),
        }
    }
}

impl Transport {
    async fn send(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let url = request.url();
        if !may_be_asked(url) {
            return Err(wrong("it would be asked in plain http, which is allowed only to this machine and its metadata service".into()));
        }
        let host = url.host_str().unwrap_or_default();
        let client = self.0.client(url).map_err(|error| wrong(error.to_string()))?;
        let method = Method::from_bytes(request.method().as_ref().as_bytes()).map_err(|_| wrong("no such method".into()))?;
        let mut call = client.request(method, url.clone());
        for (name, value) in request.headers().iter() {
            call = call.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            call = call.body(bytes.clone());
        }
        let response = call.send().await.map_err(|error| broken(format!("{host} can't be reached: {}", root_cause(&error))))?;
        read(host, response).await
    }
}

async fn read(host: &str, mut response: reqwest::Response) -> azure_core::Result<AsyncRawResponse> {
    let status = response.status();
    if status.is_redirection() {
        return Err(wrong(format!("{host} answered with a redirect ({status}), which is never followed")));
    }
    let mut headers = Headers::new();
    for (name, value) in response.headers() {
        if let Ok(value) = value.to_str() {
            headers.insert(name.as_str().to_owned(), value.to_owned());
        }
    }
    let body = read_body(&mut response).await.map_err(|error| broken(format!("{host} broke the connection: {}", root_cause(&error))))?;
    let body = body.ok_or_else(|| wrong(format!("{host} answered more than {MAX_ANSWER} bytes")))?;
    Ok(AsyncRawResponse::from_bytes(StatusCode::from(status.as_u16()), headers, bytes::Bytes::from_owner(body)))
}

/// `https`, or `http` to addresses that can't leave the machine or its link: those of managed identities.
fn may_be_asked(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", _) => true,
        ("http", Some(url::Host::Ipv4(address))) => address.is_loopback() || address.is_link_local(),
        ("http", Some(url::Host::Ipv6(address))) => address.is_loopback(),
        ("http", Some(url::Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

/// Whether this machine has Azure's metadata service: it refuses whoever doesn't ask for metadata by name. Others answer at that address on
/// machines of other clouds, and nobody does elsewhere.
pub(super) async fn has_metadata_service(http: &Http) -> bool {
    let url = Url::parse(IMDS).expect("an address");
    let Ok(client) = http.client(&url) else { return false };
    matches!(tokio::time::timeout(IMDS_PROBE, client.get(url).send()).await, Ok(Ok(answer)) if answer.status() == 400)
}

/// A failure that the library tries again.
fn broken(reason: String) -> azure_core::Error {
    azure_core::Error::with_message(ErrorKind::Io, reason)
}

/// A failure that no repetition will mend.
fn wrong(reason: String) -> azure_core::Error {
    azure_core::Error::with_message(ErrorKind::Other, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_no_further_than_the_link() {
        for good in
            [IMDS, "http://127.0.0.1:41741/msi/token", "http://169.254.129.4:8081/msi/token", "http://localhost:1", "https://a.example"]
        {
            assert!(may_be_asked(&Url::parse(good).unwrap()), "{good}");
        }
        for bad in ["http://10.0.0.1", "http://a.example", "http://169.254.169.254.example", "http://localhost.example", "ftp://127.0.0.1"]
        {
            assert!(!may_be_asked(&Url::parse(bad).unwrap()), "{bad}");
        }
    }
}

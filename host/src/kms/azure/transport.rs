//! HTTP for `azure_identity`, by the clients that all services share: bounded in size and time, never redirected.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use super::super::http::{Http, MAX_ANSWER, Unreached, read_body};
use crate::error::{MAX_OUTSIDE_TEXT, printable};

/// How long one attempt may take. The library repeats it inside the exchange's deadline.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The metadata service of virtual machines.
const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// How long it may take to take a connection; what other libraries of Azure wait for all of an answer. Where there is none, nobody does.
const IMDS_CONNECT: Duration = Duration::from_secs(1);
/// How long it may then take to answer. One that is busy, or that stands in for it in a cluster, takes seconds.
const IMDS_ANSWER: Duration = Duration::from_secs(8);

/// The shared clients as an Azure library wants them.
pub(super) struct Transport {
    pub http: Arc<Http>,
    pub last: LastFailure,
}

/// Why the last attempt failed. The library tells it only after its last repetition, for which there may be no time.
#[derive(Clone, Debug, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<Unreached>>>);

impl LastFailure {
    /// The reason, if an attempt has failed since the last call.
    pub(super) fn take(&self) -> Option<Unreached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A failure that the library tries again, unless that won't mend it.
    fn note(&self, unreached: Unreached) -> azure_core::Error {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(unreached.clone());
        azure_core::Error::new(if unreached.lasts { ErrorKind::Other } else { ErrorKind::Io }, unreached)
    }
}

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
            Err(_) => Err(self.last.note(Unreached::network(format!("{host} did not answer within {} seconds", ATTEMPT.as_secs())))),
        }
    }
}

impl Transport {
    async fn send(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let url = request.url();
        if !may_be_asked(url) {
            return Err(wrong("it would be asked in plain http, which is allowed only to this machine and its metadata service".into()));
        }
        let client = self.http.client(url).map_err(|error| self.last.note(error.into()))?;
        let method = Method::from_bytes(request.method().as_ref().as_bytes()).map_err(|_| wrong("no such method".into()))?;
        let mut call = client.request(method, url.clone());
        for (name, value) in request.headers().iter() {
            call = call.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            call = call.body(bytes.clone());
        }
        let response = call.send().await.map_err(|error| self.last.note(self.http.unreached(url, &error)))?;
        self.read(url, response).await
    }

    async fn read(&self, url: &Url, mut response: reqwest::Response) -> azure_core::Result<AsyncRawResponse> {
        let (host, status) = (url.host_str().unwrap_or_default(), response.status());
        if status.is_redirection() {
            return Err(wrong(format!("{host} answered with a redirect ({status}), which is never followed")));
        }
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        let body = read_body(&mut response).await.map_err(|error| self.last.note(self.http.unreached(url, &error)))?;
        let body = body.ok_or_else(|| wrong(format!("{host} answered more than {MAX_ANSWER} bytes")))?;
        if status.is_server_error() || status.as_u16() == 429 {
            // An answer to the library, which asks again.
            drop(self.last.note(Unreached::network(format!("{host} answered {status}"))));
        }
        let body = if status.is_success() { body } else { legible(body) };
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(status.as_u16()), headers, bytes::Bytes::from_owner(body)))
    }
}

/// A refusal as the library can read it: to it, a description in which JSON escapes something, a quote or the end of a line, is not one.
fn legible(body: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    const DESCRIPTION: &str = "error_description";
    let mut answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(text) = answer.get(DESCRIPTION).and_then(serde_json::Value::as_str) else { return body };
    answer[DESCRIPTION] = printable(text, MAX_OUTSIDE_TEXT).replace(['"', '\\'], "'").into();
    Zeroizing::new(serde_json::to_vec(&answer).unwrap_or_default())
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

/// What there is at the address of Azure's metadata service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Metadata {
    /// The service.
    Azure,
    /// Nobody, or another cloud's.
    Absent,
    /// Somebody who took a connection and said nothing in time.
    Silent,
}

impl Metadata {
    /// Looks for the service: it refuses whoever doesn't ask for metadata by name. Others answer at that address on machines of other clouds, and
    /// nobody does elsewhere.
    pub(super) async fn find(http: &Http) -> Self {
        Self::find_at(http, &Url::parse(IMDS).expect("an address")).await
    }

    async fn find_at(http: &Http, url: &Url) -> Self {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Self::Absent };
        let connected = tokio::time::timeout(IMDS_CONNECT, tokio::net::TcpStream::connect((host, port))).await;
        let (Ok(Ok(_)), Ok(client)) = (connected, http.client(url)) else { return Self::Absent };
        match tokio::time::timeout(IMDS_ANSWER, client.get(url.clone()).send()).await {
            Ok(Ok(answer)) if answer.status() == 400 => Self::Azure,
            Ok(_) => Self::Absent,
            Err(_) => Self::Silent,
        }
    }

    /// What was found, if it isn't the service.
    pub(super) fn described(self) -> Option<String> {
        match self {
            Self::Azure => None,
            Self::Absent => Some("no metadata service of Azure answers at 169.254.169.254".to_owned()),
            Self::Silent => {
                let seconds = IMDS_ANSWER.as_secs();
                Some(format!("the metadata service at 169.254.169.254 took a connection and did not answer within {seconds} seconds"))
            }
        }
    }
}

/// A failure that no repetition will mend.
fn wrong(reason: String) -> azure_core::Error {
    azure_core::Error::with_message(ErrorKind::Other, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_legible_to_the_library_whatever_is_in_it() {
        let read = |body: &str| String::from_utf8(legible(Zeroizing::new(body.as_bytes().to_vec())).to_vec()).unwrap();
        let answer = r#"{"error_codes":[7],"error_description":"AADSTS7: \"x\" is\r\nnot \u0027known\u0027 \\"}"#;
        assert_eq!(read(answer), r#"{"error_codes":[7],"error_description":"AADSTS7: 'x' is  not 'known' '"}"#);
        for other in ["", "{", "[]", "7", r#"{"error":"a\"b"}"#, r#"{"error_description":7}"#] {
            assert_eq!(read(other), other);
        }
    }

    #[test]
    fn a_metadata_service_that_takes_a_connection_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = Http::default();
        let find = |answer: &'static str, delay: Duration| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = Url::parse(&format!("http://{}/metadata", listener.local_addr().unwrap())).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    std::thread::spawn(move || {
                        std::thread::sleep(delay);
                        std::io::Write::write_all(&mut stream.unwrap(), answer.as_bytes())
                    });
                }
            });
            runtime.block_on(Metadata::find_at(&http, &url))
        };
        const AZURE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(find(AZURE, Duration::from_secs(2)), Metadata::Azure);
        assert_eq!(find("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Duration::ZERO), Metadata::Absent);
        assert_eq!(runtime.block_on(Metadata::find_at(&http, &Url::parse("http://127.0.0.1:1/").unwrap())), Metadata::Absent);
    }

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

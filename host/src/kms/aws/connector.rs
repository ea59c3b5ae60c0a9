//! This program's HTTP for `aws-config`, which calls STS, SSO and metadata servers to get credentials.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use reqwest::Url;

use crate::kms::http::{Http, MAX_ANSWER, Unreached, read_body};

/// How long one call may take if the library doesn't say.
const USUAL_TIME: Duration = Duration::from_secs(10);

/// Makes connectors.
#[derive(Clone)]
pub(super) struct OurHttp {
    http: Arc<Http>,
    /// Whether EC2's metadata service took a request for a token and gave none.
    silent: Arc<AtomicBool>,
}

impl OurHttp {
    pub fn new(http: Arc<Http>) -> Self {
        Self { http, silent: Arc::default() }
    }

    /// What to do if the metadata service of EC2 did not answer: an addition to a hint.
    pub fn metadata_advice(&self) -> &'static str {
        if self.silent.load(Ordering::Relaxed) { METADATA_ADVICE } else { "" }
    }
}

/// The answer to a request for a token crosses only as many hops as the instance's options say, one by default: a container's network is one more
/// ([`IMDSv2`]).
///
/// [`IMDSv2`]: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-existing-instances.html
const METADATA_ADVICE: &str = "; EC2's metadata service did not answer: in a container on EC2, raise its hop limit (aws ec2 \
                               modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2), elsewhere set \
                               AWS_EC2_METADATA_DISABLED=true";

impl fmt::Debug for OurHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OurHttp")
    }
}

impl HttpClient for OurHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let time = match (settings.connect_timeout(), settings.read_timeout()) {
            (Some(connect), Some(read)) => connect + read,
            (None, Some(read)) => read,
            // The library's time to connect, a few seconds, says nothing of the whole call.
            (_, None) => USUAL_TIME,
        };
        SharedHttpConnector::new(Connector { http: self.clone(), time: time.min(USUAL_TIME) })
    }
}

/// Makes calls.
#[derive(Debug)]
struct Connector {
    http: OurHttp,
    time: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (OurHttp { http, silent }, time) = (self.http.clone(), self.time);
        HttpConnectorFuture::new(async move {
            let url = Url::parse(request.uri()).ok();
            let host = url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned();
            let of_metadata = url.is_some_and(|url| request.method() == "PUT" && url.path() == METADATA_TOKEN);
            let late = || {
                silent.fetch_or(of_metadata, Ordering::Relaxed);
                ConnectorError::timeout(format!("{host} did not answer within {:.1} seconds", time.as_secs_f32()).into())
            };
            tokio::time::timeout(time, exchange(&http, request)).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

/// Where EC2's metadata service gives tokens out.
const METADATA_TOKEN: &str = "/latest/api/token";

async fn exchange(http: &Http, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let url = Url::parse(request.uri()).map_err(|error| ConnectorError::user(format!("a malformed address: {error}").into()))?;
    let host = url.host_str().unwrap_or_default();
    if url.scheme() != "https" && !may_be_plain(&url) {
        let reason = format!("{host} would be asked in plain http, which is allowed only to this machine and to link-local addresses");
        return Err(ConnectorError::user(reason.into()));
    }
    let client = http.client(&url).map_err(|error| failed(error.into()))?;
    let (parts, body) = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?.into_parts();
    let body = body.bytes().map(<[u8]>::to_vec).ok_or_else(|| ConnectorError::user("a body that streams".into()))?;
    let request = client.request(parts.method, url.clone()).headers(parts.headers).body(body);
    let broken = |error: reqwest::Error| failed(http.unreached(&url, &error));
    let mut response = request.send().await.map_err(broken)?;
    let body = read_body(&mut response).await.map_err(broken)?;
    let body = body.ok_or_else(|| ConnectorError::other(format!("{host} answered more than {MAX_ANSWER} bytes").into(), None))?;
    let mut answer = http::Response::new(SdkBody::from(bytes::Bytes::from_owner(body)));
    *answer.status_mut() = response.status();
    std::mem::swap(answer.headers_mut(), response.headers_mut());
    HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
}

/// What the library tries again, unless that won't mend it.
fn failed(unreached: Unreached) -> ConnectorError {
    if unreached.lasts { ConnectorError::other(unreached.into(), None) } else { ConnectorError::io(unreached.into()) }
}

/// Metadata servers speak plain http: EC2's at 169.254.169.254 or `fd00:ec2::254`, those of containers at 169.254.170.2, 169.254.170.23
/// or `fd00:ec2::23`, and agents on this machine.
fn may_be_plain(url: &Url) -> bool {
    let is_v4 = |address: Ipv4Addr| address.is_loopback() || address.is_link_local();
    let is_v6 = |address: Ipv6Addr| address.is_loopback() || address.segments()[..2] == [0xfd00, 0x0ec2];
    match url.host() {
        Some(url::Host::Ipv4(address)) => is_v4(address),
        Some(url::Host::Ipv6(address)) => is_v6(address),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_metadata_servers_and_this_machine() {
        for good in [
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/",
            "http://169.254.170.2/creds",
            "http://[fd00:ec2::23]/",
            "http://127.0.0.1:9911/",
            "http://localhost/",
        ] {
            assert!(may_be_plain(&Url::parse(good).unwrap()), "{good}");
        }
        for bad in ["http://sts.example/", "http://10.0.0.1/", "http://[fd00:ec3::23]/", "http://169.254.169.254.example/"] {
            assert!(!may_be_plain(&Url::parse(bad).unwrap()), "{bad}");
        }
    }
}

//! One server: where it is, and how a request to it looks.

use std::time::Instant;

use ocicrypt_kms_protocol::json::{Object, Value, string};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use zeroize::Zeroizing;

use super::super::http::{Answer, Call, Http, below};
use super::credentials::Token;
use super::settings::{Settings, variable_name};
use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::VaultFlavour;
use crate::kms::request_id;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Asked for by agents that are configured against requests which a browser or another server was led to make.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
/// How an answer with the status 500 begins that is about what was sent: it would be the same each time.
const LASTING: &str = "failed to RSA";

pub(super) struct Server {
    http: Http,
    flavour: VaultFlavour,
    address: Result<Option<Url>, Error>,
    namespace: Result<Option<HeaderValue>, Error>,
    /// The variable that asks not to verify certificates, if one does.
    unverified: Option<String>,
}

/// One request.
pub(super) struct Post<'a> {
    /// The key that it is made for.
    pub key: &'a str,
    /// Below `/v1/`.
    pub path: &'a str,
    /// A JSON text.
    pub body: Zeroizing<Vec<u8>>,
    pub deadline: Instant,
}

impl Server {
    pub fn new(settings: &Settings<'_>) -> Self {
        Self {
            http: settings.authorities().map_or_else(Http::default, Http::trusting),
            flavour: settings.flavour,
            address: settings.address(),
            namespace: settings.namespace(),
            unverified: settings.unverified(),
        }
    }

    /// Whether the settings can be used at all, for `key`.
    pub fn check(&self, key: &str) -> Result<(), Error> {
        self.address(key)?;
        self.namespace.as_ref().map_err(Clone::clone)?;
        Ok(())
    }

    fn address(&self, key: &str) -> Result<&Url, Error> {
        self.address.as_ref().map_err(Clone::clone)?.as_ref().ok_or_else(|| Error::InvalidInput {
            reason: format!("{key}: no address of its server is known"),
            hint: format!("set {}, or `address` below `[vault]` in the configuration", variable_name(self.flavour, "ADDR")),
        })
    }

    pub async fn post(&self, token: Option<&Token>, post: Post<'_>) -> Result<Answer, Error> {
        let url = below(self.address(post.key)?, &format!("v1/{}", post.path));
        let mut headers = HeaderMap::from_iter([(REQUEST, HeaderValue::from_static("true"))]);
        headers.extend(self.namespace.clone()?.map(|namespace| (NAMESPACE, namespace)));
        headers.extend(token.map(|token| (TOKEN, token.header())));
        tracing::debug!(key = post.key, host = url.host_str(), path = post.path, "calling Vault");
        let Post { key, body, deadline, .. } = post;
        let call = Call { key, method: Method::POST, url: &url, headers, body, deadline };
        let answer = self.http.send_while(call, is_busy).await.map_err(|error| self.with_advice(error))?;
        if let Some(id) = Object::parse(&answer.body).ok().and_then(|members| string(members.get("request_id")?)) {
            request_id::note(&id);
        }
        Ok(answer)
    }

    /// A certificate that isn't trusted is a matter of settings, not of the network.
    fn with_advice(&self, error: Error) -> Error {
        let Error::Unavailable { key, reason } = error else { return error };
        if !reason.contains("certificate") {
            return Error::Unavailable { key, reason };
        }
        let refused = self.unverified.iter().map(|name| format!("; {name} is never honoured")).collect::<String>();
        // The second where another authority has the same name.
        let advice = match reason.contains("UnknownIssuer") || reason.contains("BadSignature") {
            true => "; name the authority that signed it in VAULT_CACERT, BAO_CACERT or `ca-file` below `[vault]`",
            false => "",
        };
        Error::Unavailable { key, reason: format!("{reason}{refused}{advice}") }
    }
}

/// Whether the server says that it can't serve now. 412: a standby that hasn't caught up yet.
pub(super) fn is_busy(answer: &Answer) -> bool {
    let lasting = answer.status == StatusCode::INTERNAL_SERVER_ERROR && errors(&answer.body).contains(LASTING);
    answer.status == StatusCode::PRECONDITION_FAILED || (answer.is_busy() && !lasting)
}

/// The texts of `{"errors":[…]}`, as one line.
pub(super) fn errors(body: &[u8]) -> String {
    let object = Object::parse(body).unwrap_or_default();
    let list = object.get("errors").and_then(Value::elements).unwrap_or_default();
    let texts: Vec<_> = list.iter().filter_map(|value| string(value)).map(|text| flat(&text)).filter(|text| !text.is_empty()).collect();
    printable(&texts.join("; "), MAX_OUTSIDE_TEXT)
}

/// Go's lists of errors (`1 error occurred:` and an item on each line) as their items.
fn flat(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("* ")).filter(|line| !line.is_empty());
    lines.filter(|line| !line.ends_with("occurred:")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_without_the_frame_that_go_puts_around_them() {
        let list = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n","again\u001b[2J", 7, ""]}"#;
        assert_eq!(errors(list.as_bytes()), "permission denied; again [2J");
        for other in ["", "<html>", "[]", r#"{"errors":null}"#, r#"{"errors":{}}"#, r#"{"errors":[]}"#] {
            assert_eq!(errors(other.as_bytes()), "", "{other}");
        }
    }
}

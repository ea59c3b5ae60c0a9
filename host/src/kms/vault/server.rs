//! One server: where it is, and how a request to it looks.

use std::time::Instant;

use ocicrypt_kms_protocol::json::{Object, string};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use super::super::http::{Answer, Call, Http, Repeat, below};
use super::credentials::Token;
use super::refusal::is_busy;
use super::settings::{Settings, variable_name};
use crate::Error;
use crate::key_uri::VaultFlavour;
use crate::kms::request_id;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Asked for by agents that are configured against requests which a browser or another server was led to make.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
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
    /// After which failures it is made again.
    pub repeat: Repeat,
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
        let Post { key, body, deadline, repeat, .. } = post;
        let call = Call { key, method: Method::POST, url: &url, headers, body, deadline, repeat };
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

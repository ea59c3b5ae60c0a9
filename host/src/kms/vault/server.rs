//! One server: where it is, and how a request to it looks.

use std::time::Instant;

use ocicrypt_kms_protocol::json::{Object, string};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use zeroize::Zeroizing;

use super::super::http::{self, Answer, Call, Http, Repeat};
use super::super::way::ClientCertificate;
use super::address::{Address, listed};
use super::credentials::Token;
use super::refusal::is_busy;
use super::settings::{Settings, variable_name};
use crate::error::printable;
use crate::key_uri::VaultFlavour;
use crate::kms::request_id;
use crate::{Error, shown};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Asked for by agents that are configured against requests which a browser or another server was led to make.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

pub(super) struct Server {
    http: Http,
    flavour: VaultFlavour,
    address: Result<Option<Address>, Error>,
    namespace: Result<Option<HeaderValue>, Error>,
    /// What else of the settings can't be used.
    unusable: Option<Error>,
    /// What a standby's redirect may name.
    standby_redirects: Vec<Url>,
    /// What this client shows of itself.
    certificate: Option<ClientCertificate>,
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
        let (way, standby_redirects) = (settings.way(), settings.standby_redirects());
        let unusable = way.as_ref().err().or(standby_redirects.as_ref().err()).cloned();
        let way = way.unwrap_or_default();
        Self {
            certificate: way.certificate.clone(),
            http: Http::new(settings.environment)
                .with_authorities(settings.authorities())
                .with_settings(http::Settings {
                    authority: "VAULT_CACERT, BAO_CACERT or `ca-file` below `[vault]`".into(),
                    client_certificate: Some(about_client_certificate(settings.flavour, way.certificate.as_ref()).into()),
                })
                .by(way),
            flavour: settings.flavour,
            address: settings.address(),
            namespace: settings.namespace(),
            unusable,
            standby_redirects: standby_redirects.unwrap_or_default(),
            unverified: settings.unverified(),
        }
    }

    /// Whether the settings can be used at all, for `key`.
    pub fn check(&self, key: &str) -> Result<(), Error> {
        self.address(key)?;
        self.namespace.as_ref().map_err(Clone::clone)?;
        self.unusable.clone().map_or(Ok(()), Err)
    }

    /// Whether what is asked may add a token of its own.
    pub fn may_add_token(&self) -> bool {
        matches!(&self.address, Ok(Some(address)) if address.may_add_token)
    }

    /// What is asked, for errors.
    pub fn shown(&self) -> String {
        self.address.as_ref().ok().and_then(Option::as_ref).map(Address::shown).unwrap_or_default()
    }

    /// Whether this client shows a certificate.
    pub fn has_client_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    fn address(&self, key: &str) -> Result<&Address, Error> {
        self.address.as_ref().map_err(Clone::clone)?.as_ref().ok_or_else(|| Error::InvalidInput {
            reason: format!("{key}: no address of its server is known"),
            hint: format!("set {}, or `address` below `[vault]` in the configuration", variable_name(self.flavour, "ADDR")),
        })
    }

    /// Makes a request, and once more where a standby sends it: to a listed address alone.
    pub async fn post(&self, token: Option<&Token>, post: Post<'_>) -> Result<Answer, Error> {
        let address = self.address(post.key)?;
        address.check(post.key)?;
        let path = format!("v1/{}", post.path);
        let answer = self.send(&address.below(&path), token, &post).await?;
        if answer.status != StatusCode::TEMPORARY_REDIRECT {
            return Ok(answer);
        }
        // A socket's client makes each connection to the socket.
        let target = if address.socket.is_none() { listed(answer.location.as_deref(), &self.standby_redirects, &path) } else { None };
        let target = target.ok_or_else(|| self.not_followed(&post, &address.shown(), answer.location.as_deref()))?;
        tracing::debug!(key = post.key, host = target.host_str(), "a standby names the active server");
        let answer = self.send(&target, token, &post).await?;
        if answer.status == StatusCode::TEMPORARY_REDIRECT {
            let shown = super::super::http::address(&target);
            let reason = format!("{shown} answered with a second redirect ({}), which is never followed", answer.status);
            return Err(Error::Unavailable { key: post.key.to_owned(), reason });
        }
        Ok(answer)
    }

    async fn send(&self, url: &Url, token: Option<&Token>, post: &Post<'_>) -> Result<Answer, Error> {
        let mut headers = HeaderMap::from_iter([(REQUEST, HeaderValue::from_static("true"))]);
        headers.extend(self.namespace.clone()?.map(|namespace| (NAMESPACE, namespace)));
        headers.extend(token.map(|token| (TOKEN, token.header())));
        tracing::debug!(key = post.key, host = url.host_str(), path = post.path, "calling Vault");
        let Post { key, body, deadline, repeat, .. } = post;
        let call = Call { key, method: Method::POST, url, headers, body: body.clone(), deadline: *deadline, repeat: *repeat };
        let answer = self.http.send_while(call, is_busy).await.map_err(|error| self.with_advice(error))?;
        if let Some(id) = Object::parse(&answer.body).ok().and_then(|members| string(members.get("request_id")?)) {
            request_id::note(&id);
        }
        Ok(answer)
    }

    fn not_followed(&self, post: &Post<'_>, host: &str, location: Option<&str>) -> Error {
        let origin = location.and_then(|location| Url::parse(location).ok()).map(|url| url.origin().ascii_serialization());
        let to = origin.map(|origin| format!(" to {}", printable(&shown::address(&origin).to_string(), 256))).unwrap_or_default();
        let which = if self.standby_redirects.is_empty() { "which is never followed" } else { "which is none of `standby-redirects`" };
        let reason = format!(
            "{host} answered with a redirect (307 Temporary Redirect){to}, {which}; a standby does so: name the active server's address, or list \
             it in `standby-redirects` below `[vault]`"
        );
        Error::Unavailable { key: post.key.to_owned(), reason }
    }

    /// A socket is named as it was given; and who asks not to verify certificates is told that they are.
    fn with_advice(&self, error: Error) -> Error {
        match (error, &self.unverified) {
            (Error::Unavailable { key, reason }, _) => self.unavailable(key, reason),
            (Error::NoConnection { key, reason, hint }, Some(variable)) if reason.contains("certificate") => {
                Error::NoConnection { key, reason: format!("{reason}; {variable} is never honoured"), hint }
            }
            (error, _) => error,
        }
    }

    fn unavailable(&self, key: String, reason: String) -> Error {
        let says = |text: &str| reason.contains(text);
        let Ok(Some(address)) = &self.address else { return Error::Unavailable { key, reason } };
        if address.socket.is_some()
            && let Some(rest) = reason.strip_prefix("localhost ")
        {
            let advice = match () {
                () if says("Permission denied") => "; let this user connect: socket_mode, socket_user and socket_group of its listener",
                () if says("Connection refused") => "; nobody listens there any more: start it",
                () => "",
            };
            return Error::Unavailable { key, reason: format!("{} {rest}{advice}", address.shown()) };
        }
        // A server in Go that is asked in plain http at its TLS port says so and closes the connection, which may break off before it is read.
        if says("broke the connection") && address.url.scheme() == "http" {
            let hint = "if it speaks TLS at this port, write https:// in place of http:// in its address; else see its log".into();
            return Error::NoConnection { key, reason, hint };
        }
        Error::Unavailable { key, reason }
    }
}

/// What to do if the server wants a client certificate, or another one than this.
fn about_client_certificate(flavour: VaultFlavour, certificate: Option<&ClientCertificate>) -> String {
    match certificate {
        Some(ClientCertificate { certificate, .. }) => {
            format!(
                "name one that an authority of the server's listener signed and that has not expired, in place of {}",
                shown::path(certificate)
            )
        }
        None => {
            let [certificate, key] = ["CLIENT_CERT", "CLIENT_KEY"].map(|name| variable_name(flavour, name));
            format!("name one in {certificate} and {key}, or in `client-certificate` and `client-key` below `[vault]`")
        }
    }
}

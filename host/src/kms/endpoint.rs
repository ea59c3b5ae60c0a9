//! `http-kms://ENDPOINT/KEY`: endpoints of the configuration, for services that only a component knows.
//!
//! An [`Endpoint`] knows where the service is and with which credential, and lets nothing through but what its [`Rule`]s allow. What a request
//! means it doesn't know: that is between the component and the service. Policy, budget and record are [`crate::lending`]'s.

mod credential;
mod headers;
pub mod path;
mod rule;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ocicrypt_kms_protocol::Operation;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Client, Method, StatusCode, Url};
use zeroize::Zeroizing;

use self::credential::{Credential, Shown};
use self::headers::{RequestHeaders, can_hold_credential, told};
use self::path::Target;
pub use self::rule::Rule;
use crate::config::HttpKms;
use crate::error::printable;
use crate::key_uri::{Key, KeyUri, is_endpoint_name};
use crate::kms::http::{Parts, Proxies, Settings, address, below, note_request_id, parse_endpoint, read_at_most, unreached};
use crate::kms::way::ClientCertificate;
use crate::{Environment, Error, count};

/// The endpoints of a host, by name.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(BTreeMap<String, Arc<Endpoint>>);

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    url: Url,
    authorities: Option<PathBuf>,
    /// The client's certificate chain and its key.
    certificate: Option<(PathBuf, PathBuf)>,
    credential: Credential,
    rules: Vec<Rule>,
    request_headers: RequestHeaders,
    max_requests: u32,
    max_body: usize,
    timeout: Duration,
    environment: Environment,
    proxies: OnceLock<Arc<Proxies>>,
    /// Made, with the files that it is made of, when it is first used.
    client: OnceLock<Client>,
}

/// What a component asks to send.
pub struct Request<'a> {
    /// As the component spells it.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Names and values.
    pub headers: &'a [(String, String)],
    /// What is sent.
    pub body: Zeroizing<Vec<u8>>,
}

/// A request that a rule lets through.
pub struct Allowed {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    /// Method and path as the rule has them, with the key in its place.
    pub shown: String,
}

/// What the service answered: with success.
pub struct Response {
    /// 200 to 299.
    pub status: u16,
    /// Those that a component is told.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub body: Zeroizing<Vec<u8>>,
}

impl Endpoints {
    /// The endpoints of a configuration, with proxies and certificate authorities of an environment.
    ///
    /// # Errors
    /// If one is not right. None of its files is looked at.
    pub fn new(settings: &BTreeMap<String, HttpKms>, environment: &Environment) -> Result<Self, Error> {
        let endpoint = |(name, settings): (&String, &HttpKms)| {
            let wrong = |reason| Error::Configuration { place: format!("http-kms.{}", printable(name, 64)), reason };
            Endpoint::new(name, settings, environment).map(|endpoint| (name.clone(), Arc::new(endpoint))).map_err(wrong)
        };
        settings.iter().map(endpoint).collect::<Result<_, _>>().map(Self)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.values().map(Arc::as_ref)
    }

    /// The endpoint that a key URI names.
    ///
    /// # Errors
    /// If it is another service's key, there is no such endpoint, or nothing may be done with it in this operation.
    pub fn find(&self, uri: &KeyUri, operation: Operation) -> Result<Arc<Endpoint>, Error> {
        let invalid = |reason: String, hint: String| Error::InvalidInput { reason: format!("{uri}: {reason}"), hint };
        let Key::HttpKms(key) = uri.key() else {
            let hint = "keys of other services are opened by the interface `kms`".into();
            return Err(invalid("it is no key behind an endpoint".into(), hint));
        };
        let name = &key.endpoint;
        let endpoint = self.0.get(name).ok_or_else(|| {
            invalid(format!("no endpoint `{name}` is configured"), format!("describe it below `[http-kms.{name}]` in the configuration"))
        })?;
        match endpoint.rules.iter().any(|rule| rule.operation == operation) {
            true => Ok(endpoint.clone()),
            false => Err(invalid(
                format!("the endpoint `{name}` allows no request to {operation}"),
                format!("add one with `usage = \"{operation}\"` to `allow` below `[http-kms.{name}]` in the configuration"),
            )),
        }
    }
}

impl Endpoint {
    fn new(name: &str, settings: &HttpKms, environment: &Environment) -> Result<Self, String> {
        if !is_endpoint_name(name) {
            return Err("the name of an endpoint has to be 1 to 63 lower-case letters, digits and hyphens".into());
        }
        let url = parse_endpoint(&settings.url).map_err(|reason| format!("`url`: {reason}"))?;
        let (credential, certificate) = credential(settings, &url)?;
        let rules = settings.allow.iter().map(Rule::new).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            return Err("`allow` lets nothing through; list what a component may ask for".into());
        }
        let within = |name: &str, value: u32, most: u32| match (1..=most).contains(&value) {
            true => Ok(value),
            false => Err(format!("`{name}` is not from 1 to {most}")),
        };
        Ok(Self {
            name: name.to_owned(),
            authorities: settings.ca_file.clone(),
            certificate,
            request_headers: RequestHeaders::new(&settings.request_headers, credential.header_name())?,
            credential,
            rules,
            max_requests: within("max-requests", settings.max_requests, 16)?,
            max_body: (within("max-body-kib", settings.max_body_kib, 512)? as usize) << 10,
            timeout: Duration::from_secs(within("timeout-seconds", settings.timeout_seconds, 60)?.into()),
            url,
            environment: environment.clone(),
            proxies: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What all paths are below.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Reads the credential and the certificates as a request does, and sends nothing.
    ///
    /// # Errors
    /// If one of them can't be used.
    pub fn check(&self) -> Result<(), Error> {
        self.credential.show()?;
        self.client().map(drop)
    }

    /// How many requests of one lent key may succeed.
    #[must_use]
    pub fn max_requests(&self) -> u32 {
        self.max_requests
    }

    /// Lets a request through, or says why not. Nothing of the request is in the reason.
    ///
    /// # Errors
    /// A sentence about "it", and what would have to be configured.
    pub fn allow(&self, operation: Operation, key: &str, request: Request<'_>) -> Result<Allowed, (String, String)> {
        let section = format!("below `[http-kms.{}]` in the configuration", self.name);
        let unreadable = |reason: String| (reason, "this is the component's mistake".to_owned());
        let target = Target::parse(request.path).map_err(|error| unreadable(error.to_string()))?;
        let rule = self.rules.iter().find(|rule| rule.allows(operation, request.method, &target, key)).ok_or_else(|| {
            let allowed: Vec<_> = self.rules.iter().filter(|rule| rule.operation == operation).map(|rule| rule.shown(key)).collect();
            let reason =
                format!("its method, path or query is none of those allowed to {operation}: {}", printable(&allowed.join(", "), 512));
            (reason, format!("if the component should ask for it, add it to `allow` {section}"))
        })?;
        let headers = self.request_headers.read(request.headers).map_err(|reason| (reason, format!("see `request-headers` {section}")))?;
        if request.body.len() > self.max_body {
            return Err((format!("its body is longer than {} bytes", self.max_body), format!("see `max-body-kib` {section}")));
        }
        let mut url = below(&self.url, target.path.trim_start_matches('/'));
        // An address library that makes something else of it would have it go elsewhere than was compared.
        if !url.path().ends_with(target.path) || url.path().len() != self.url.path().trim_end_matches('/').len() + target.path.len() {
            return Err(unreadable("its path can be read in two ways".into()));
        }
        url.set_query(target.query);
        Ok(Allowed { method: rule.method.clone(), url, headers, body: request.body, shown: rule.shown(key) })
    }

    /// Makes a request, once. The status is that of the answer, if there was one.
    ///
    /// # Errors
    /// If the credential can't be read, the service can't be reached in time, or its answer isn't success, is too long or repeats the credential.
    pub async fn send(&self, uri: &KeyUri, allowed: Allowed, deadline: Instant) -> (Option<u16>, Result<Response, Error>) {
        let key = uri.canonical();
        let time = self.timeout.min(deadline.saturating_duration_since(Instant::now()));
        let mut status = None;
        let outcome = match tokio::time::timeout(time, self.exchange(key, allowed, &mut status)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.unavailable(key, &format!("did not answer within {:.1} seconds", time.as_secs_f32()))),
        };
        count::request(key, status);
        (status, outcome)
    }

    async fn exchange(&self, key: &str, allowed: Allowed, seen: &mut Option<u16>) -> Result<Response, Error> {
        let Allowed { method, url, mut headers, body, shown } = allowed;
        let credential = self.credential.show()?;
        headers.extend(credential.as_ref().map(|shown| (shown.name.clone(), shown.value.clone())));
        tracing::debug!(key, endpoint = self.name, request = shown, "calling an endpoint");
        let broken = |error: &reqwest::Error| unreached(&url, self.proxies(), &self.settings(), error).error(key);
        let request = self.client()?.request(method, url.clone()).headers(headers).body(Bytes::from_owner(body));
        let mut response = request.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        *seen = Some(status.as_u16());
        note_request_id(response.headers());
        if status.is_redirection() {
            return Err(self.unavailable(key, &format!("answered with a redirect ({status}), which is never followed")));
        }
        if !status.is_success() {
            return Err(self.refused(key, status, shown));
        }
        let headers = told(response.headers());
        let body = read_at_most(self.max_body, &mut response).await.map_err(|error| broken(&error))?;
        let body = body.ok_or_else(|| self.unavailable(key, &format!("answered more than {} bytes", self.max_body)))?;
        let is_repeated =
            |credential: &Shown| credential.is_in(&body) || headers.iter().any(|(_, value)| credential.is_in(value.as_bytes()));
        match credential.as_ref().is_some_and(is_repeated) {
            true => Err(Error::Damaged { key: key.to_owned(), reason: format!("the answer to {shown} repeats the credential") }),
            false => Ok(Response { status: status.as_u16(), headers, body }),
        }
    }

    /// The service said no. Its own words may repeat anything that it was sent, so they are told to nobody.
    fn refused(&self, key: &str, status: StatusCode, shown: String) -> Error {
        let name = status.canonical_reason().unwrap_or_default();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return self.unavailable(key, &format!("answered {} {name} to {shown}", status.as_u16()));
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!("check what the credential below `[http-kms.{}]` is allowed to, and the service's log", self.name)
            }
            _ => "see the service's log: its own words are not shown, since they could repeat what it was sent".into(),
        };
        Error::Kms { key: key.to_owned(), status: status.as_u16(), code: name.to_owned(), message: shown, hint }
    }

    fn unavailable(&self, key: &str, what: &str) -> Error {
        Error::Unavailable { key: key.to_owned(), reason: format!("{} {what}", address(&self.url)) }
    }

    fn client(&self) -> Result<&Client, Error> {
        self.proxies().of(&self.url)?;
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let encrypted = self.url.scheme() == "https";
        let certificate = self.certificate.clone().map(|(certificate, key)| ClientCertificate { certificate, key, is_private: true });
        let parts = Parts {
            encrypted,
            authorities: self.authorities.as_deref(),
            identity: certificate.filter(|_| encrypted).map(|certificate| certificate.read()).transpose()?,
            proxies: self.proxies().clone(),
            socket: None,
        };
        let client = parts.client(&self.environment)?;
        Ok(self.client.get_or_init(|| client))
    }

    fn proxies(&self) -> &Arc<Proxies> {
        self.proxies.get_or_init(|| Arc::new(Proxies::new(&self.environment)))
    }

    /// What errors of connections name.
    fn settings(&self) -> Settings {
        let below = |setting: &str| format!("{setting} below `[http-kms.{}]`", self.name).into();
        let certificate = below("name one in `client-certificate` and `client-key`");
        Settings { authority: below("`ca-file`"), client_certificate: Some(certificate) }
    }
}

/// Exactly one credential; a certificate's files are the connection's.
fn credential(settings: &HttpKms, url: &Url) -> Result<(Credential, Option<(PathBuf, PathBuf)>), String> {
    let HttpKms { bearer_file, header, client_certificate, client_key, .. } = settings;
    match (bearer_file, header, client_certificate, client_key) {
        (Some(file), None, None, None) => Ok((Credential::Bearer(file.clone()), None)),
        (None, Some(header), None, None) => {
            let name = header.name.parse::<HeaderName>().ok().filter(can_hold_credential);
            let name = name.ok_or_else(|| format!("`header`: {} can't hold a credential", crate::shown::name(&header.name)))?;
            Ok((Credential::Header { name, file: header.file.clone() }, None))
        }
        (None, None, Some(_), Some(_)) if url.scheme() != "https" => Err("`client-certificate` needs `https` in `url`".into()),
        (None, None, Some(certificate), Some(key)) => Ok((Credential::Certificate, Some((certificate.clone(), key.clone())))),
        _ => Err("it needs exactly one credential: `bearer-file`, `header`, or `client-certificate` with `client-key`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        url = "https://kms.example/base"
        bearer-file = "/nonexistent"
        allow = [{ usage = "wrap", method = "POST", path = "/encrypt/{key}", query = ["version"] }, { usage = "unwrap", method = "GET", path = "/kv/{key}/*" }]
        request-headers = ["X-Tenant"]
        max-body-kib = 1
    "#;

    fn endpoints(name: &str, text: &str) -> Result<Endpoints, String> {
        let settings: HttpKms = toml::from_str(text).map_err(|error| error.to_string())?;
        Endpoints::new(&BTreeMap::from([(name.to_owned(), settings)]), &Environment::empty()).map_err(|error| error.line())
    }

    fn uri(text: &str) -> KeyUri {
        KeyUri::parse(text, &crate::key_uri::Addresses::default()).unwrap()
    }

    fn request<'a>(method: &'a str, path: &'a str, headers: &'a [(String, String)]) -> Request<'a> {
        Request { method, path, headers, body: Zeroizing::new(Vec::new()) }
    }

    #[test]
    fn what_is_not_right_in_the_configuration_is_told_with_its_place() {
        assert!(endpoints("kms", GOOD).is_ok());
        let rule = r#"allow = [{ usage = "wrap", method = "POST", path = "/k" }]"#;
        let with = |text: &str| format!("url = 'https://kms.example'\n{text}");
        let with_rule = |text: &str| with(&format!("bearer-file = 'f'\nallow = [{{ usage = 'wrap', {text} }}]"));
        for (text, reason) in [
            (format!("url = 'http://kms.example'\nbearer-file = 'f'\n{rule}"), "`url`: `http://kms.example` is plain http"),
            (format!("url = 'https://u:p@kms.example'\nbearer-file = 'f'\n{rule}"), "`url`: the address has a user"),
            (with(rule), "exactly one credential"),
            (with(&format!("client-key = 'k'\n{rule}")), "exactly one credential"),
            (with(&format!("bearer-file = 'f'\nheader = {{ name = 'x-token', file = 'f' }}\n{rule}")), "exactly one credential"),
            (format!("url = 'http://127.0.0.1:1'\nclient-certificate = 'c'\nclient-key = 'k'\n{rule}"), "needs `https`"),
            (with(&format!("header = {{ name = 'Host', file = 'f' }}\n{rule}")), "`Host` can't hold a credential"),
            (with(&format!("header = {{ name = 'a b', file = 'f' }}\n{rule}")), "`a b` can't hold a credential"),
            (with("bearer-file = 'f'"), "`allow` lets nothing through"),
            (with_rule("method = 'post', path = '/k'"), "`post` is not a method"),
            (with_rule("method = 'CONNECT', path = '/k'"), "`CONNECT` is not a method"),
            (with_rule("method = 'POST', path = '/k/../x'"), "segment `.` or `..`"),
            (with_rule("method = 'POST', path = '/k?a=b'"), "query"),
            (with_rule("method = 'POST', path = '/k', query = ['a=b']"), "`a=b` is not the name"),
            (with(&format!("bearer-file = 'f'\nrequest-headers = ['Authorization']\n{rule}")), "can't set `Authorization`"),
            (with(&format!("bearer-file = 'f'\nrequest-headers = ['X-Forwarded-For']\n{rule}")), "can't set `X-Forwarded-For`"),
            (with(&format!("header = {{ name = 'x-token', file = 'f' }}\nrequest-headers = ['X-Token']\n{rule}")), "can't set `X-Token`"),
            (with(&format!("bearer-file = 'f'\nmax-requests = 17\n{rule}")), "`max-requests` is not from 1 to 16"),
            (with(&format!("bearer-file = 'f'\nmax-body-kib = 0\n{rule}")), "`max-body-kib` is not from 1 to 512"),
            (with(&format!("bearer-file = 'f'\ntimeout-seconds = 61\n{rule}")), "`timeout-seconds` is not from 1 to 60"),
            (with(&format!("bearer-flie = 'f'\n{rule}")), "unknown field `bearer-flie`"),
        ] {
            let error = endpoints("kms", &text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = endpoints("My_KMS", GOOD).unwrap_err();
        assert!(error.starts_with("http-kms.My_KMS: the name of an endpoint"), "{error}");
    }

    #[test]
    fn only_what_is_configured_is_found() {
        let endpoints = endpoints("kms", GOOD).unwrap();
        let found = uri("http-kms://kms/a/b");
        assert_eq!(endpoints.find(&found, Operation::Wrap).unwrap().name(), "kms");
        let line = endpoints.find(&uri("http-kms://other/k"), Operation::Wrap).err().unwrap().line();
        assert!(line.contains("no endpoint `other` is configured; describe it below `[http-kms.other]`"), "{line}");
        assert!(endpoints.find(&uri("local://k"), Operation::Wrap).err().unwrap().line().contains("`kms`"));
    }

    fn allow(operation: Operation, request: Request<'_>) -> Result<String, String> {
        let endpoint = endpoints("kms", GOOD).unwrap().find(&uri("http-kms://kms/k"), operation).unwrap();
        endpoint
            .allow(operation, "k", request)
            .map(|allowed| format!("{} {}", allowed.method, allowed.url))
            .map_err(|(reason, hint)| format!("{reason}; {hint}"))
    }

    #[test]
    fn a_request_is_let_through_by_a_rule_alone() {
        let wrap = |method, path| allow(Operation::Wrap, request(method, path, &[]));
        assert_eq!(wrap("POST", "/encrypt/k?version=2").unwrap(), "POST https://kms.example/base/encrypt/k?version=2");
        let unwrap = allow(Operation::Unwrap, request("GET", "/kv/k/id", &[]));
        assert_eq!(unwrap.unwrap(), "GET https://kms.example/base/kv/k/id");
        for (method, path) in
            [("GET", "/encrypt/k"), ("post", "/encrypt/k"), ("POST", "/encrypt/other"), ("POST", "/encrypt/k?admin=1"), ("GET", "/kv/k/id")]
        {
            let reason = wrap(method, path).unwrap_err();
            assert!(reason.contains("none of those allowed to wrap: POST /encrypt/k; if"), "{reason}");
        }
        for path in ["/../encrypt/k", "https://evil.example/encrypt/k", "//evil.example/encrypt/k", "/encrypt/k#", "/encrypt/k%2f"] {
            let reason = wrap("POST", path).unwrap_err();
            assert!(reason.starts_with("its path") && !reason.contains("evil"), "{path}: {reason}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_let_through() {
        let long = Request { body: Zeroizing::new(vec![0; 1025]), ..request("POST", "/encrypt/k", &[]) };
        assert!(allow(Operation::Wrap, long).unwrap_err().contains("longer than 1024 bytes; see `max-body-kib` below `[http-kms.kms]`"));
        let header = [("x-other".to_owned(), "x".to_owned())];
        let reason = allow(Operation::Wrap, request("POST", "/encrypt/k", &header)).unwrap_err();
        assert!(reason.contains("can't set here; see `request-headers` below `[http-kms.kms]`"), "{reason}");
    }
}

//! Headers that pass between a component and a service.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::shown;

/// The most headers that a component may set.
const MAX_HEADERS: usize = 16;
/// The most bytes of them together.
const MAX_BYTES: usize = 8 << 10;
/// What a component may always set.
const FREE: [HeaderName; 2] = [ACCEPT, CONTENT_TYPE];
/// What a component is given of an answer's headers.
const TOLD: [HeaderName; 3] = [CONTENT_TYPE, ETAG, RETRY_AFTER];
/// What no configuration lets a component set: whose a request is, where it goes and where it ends, and headers by which servers take it for another.
const NEVER: [&str; 18] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-http-method",
    "x-method-override",
    "x-rewrite-url",
];
/// The same, by how they begin.
const NEVER_BEGINNING: [&str; 4] = ["proxy-", "x-forwarded-", "x-http-method-", "x-original-"];

/// What a component may set of a request.
#[derive(Debug)]
pub(super) struct RequestHeaders(Vec<HeaderName>);

impl RequestHeaders {
    /// The configured names, of which none is what holds the credential.
    ///
    /// # Errors
    /// A sentence that names the one that can't be allowed.
    pub fn new(names: &[String], credential: Option<&HeaderName>) -> Result<Self, String> {
        let allowed = |name: &String| {
            let parsed = name.parse::<HeaderName>().ok().filter(|name| !is_never(name) && credential != Some(name));
            parsed.ok_or_else(|| format!("`request-headers`: a component can't set {}", shown::name(name)))
        };
        names.iter().map(allowed).collect::<Result<_, _>>().map(Self)
    }

    /// Reads what a component asks for.
    ///
    /// # Errors
    /// A sentence about "it", the request, in which nothing of it stands.
    pub fn read(&self, asked: &[(String, String)]) -> Result<HeaderMap, String> {
        if asked.len() > MAX_HEADERS || asked.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_BYTES {
            return Err(format!("it has more than {MAX_HEADERS} headers, or more than {MAX_BYTES} bytes of them"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            let name = name.parse::<HeaderName>().ok().filter(|name| FREE.contains(name) || self.0.contains(name));
            let name = name.ok_or("it has a header that a component can't set here")?;
            let value = HeaderValue::from_str(value).map_err(|_| "it has a header whose value is not printable ASCII")?;
            if headers.insert(name, value).is_some() {
                return Err("it has a header twice".into());
            }
        }
        Ok(headers)
    }
}

/// Whether the host can show a credential by it.
pub(super) fn can_hold_credential(name: &HeaderName) -> bool {
    *name == AUTHORIZATION || (!is_never(name) && !FREE.contains(name))
}

/// What a component is told of an answer's headers.
pub(super) fn told(headers: &HeaderMap) -> Vec<(String, String)> {
    let value = |name: &HeaderName| Some((name.to_string(), headers.get(name)?.to_str().ok()?.to_owned()));
    TOLD.iter().filter_map(value).collect()
}

fn is_never(name: &HeaderName) -> bool {
    NEVER.contains(&name.as_str()) || NEVER_BEGINNING.iter().any(|beginning| name.as_str().starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: HeaderName = HeaderName::from_static("x-token");

    fn read(configured: &[&str], asked: &[(&str, &str)]) -> Result<usize, String> {
        let configured: Vec<_> = configured.iter().map(|name| (*name).to_owned()).collect();
        let asked: Vec<_> = asked.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RequestHeaders::new(&configured, Some(&TOKEN))?.read(&asked).map(|headers| headers.len())
    }

    const DANGEROUS: [&str; 14] = [
        "Authorization",
        "HOST",
        "cookie",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Proxy-Authorization",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Forwarded-Host",
        "x-token",
        "a b",
        "a\r\nb",
        "",
    ];

    #[test]
    fn only_harmless_headers_are_let_through() {
        assert_eq!(read(&["X-Tenant"], &[("Content-Type", "application/json"), ("accept", "*/*"), ("x-tenant", "a")]), Ok(3));
        for name in DANGEROUS.into_iter().chain(["x-other"]) {
            assert!(read(&["x-tenant"], &[(name, "x")]).unwrap_err().contains("a header that a component can't set"), "{name}");
        }
        assert!(read(&[], &[("accept", "a\r\nHost: evil.example")]).unwrap_err().contains("not printable ASCII"));
        assert!(read(&[], &[("accept", "a"), ("Accept", "b")]).unwrap_err().contains("a header twice"));
        assert!(read(&[], &[("accept", &"a".repeat(9000))]).unwrap_err().contains("bytes of them"));
        assert!(read(&[], &[("accept", "a"); 17]).unwrap_err().contains("more than 16 headers"));
    }

    #[test]
    fn no_configuration_lets_a_component_set_a_dangerous_one() {
        for name in DANGEROUS {
            assert!(read(&[name], &[]).unwrap_err().starts_with("`request-headers`: a component can't set"), "{name}");
        }
    }
}

//! Which calls go through a proxy: the variables that curl and Go read, by their rules. `docs/network.md` has them as a table.
//!
//! Only `https` goes through one, in a tunnel that it can't look into. What is asked in plain `http` is on this machine or its link, such as
//! metadata servers, and a proxy would see its tokens.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

use crate::{Environment, Error, shown};

/// Each in capitals, then in small letters.
const FOR_HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const FOR_ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const FOR_NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// What the environment says.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    proxy: Option<Result<Proxy, Error>>,
    exempt: Vec<Exempt>,
}

/// One proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// The variable that names it.
    pub variable: Cow<'static, str>,
    /// Whether it is for one service, which is then reached by it wherever it is.
    pub is_of_service: bool,
    /// User and password among it: never shown.
    url: Url,
}

/// What needs no proxy.
#[derive(Debug, Eq, PartialEq)]
enum Exempt {
    Everything,
    Network(IpNet),
    Host { name: Name, port: Option<u16> },
}

#[derive(Debug, Eq, PartialEq)]
enum Name {
    Address(IpAddr),
    /// In small letters, without dots around it. It stands for what is below it, and for itself unless it was written `*.domain`.
    Domain {
        name: String,
        itself: bool,
    },
}

impl Proxies {
    pub fn new(environment: &Environment) -> Self {
        // One that is set and empty is what curl and Go take for "no proxy": the next variable is not asked then.
        let named = first(environment, FOR_HTTPS).or_else(|| {
            let is_emptied = FOR_HTTPS.iter().any(|name| environment.is_emptied(name));
            if is_emptied { None } else { first(environment, FOR_ALL) }
        });
        let exempt = first(environment, FOR_NONE).map(|(_, list)| exempt(&list)).unwrap_or_default();
        Self { proxy: named.map(|(variable, text)| Proxy::parse(variable, &text)), exempt }
    }

    /// One proxy for all of `https`, that a service's own variable names.
    pub fn only(variable: String, url: Url) -> Self {
        Self { proxy: Some(Ok(Proxy { variable: variable.into(), is_of_service: true, url })), exempt: Vec::new() }
    }

    /// The proxy for calls to `url`, if they go through one.
    ///
    /// # Errors
    /// If they would, and it can't be used.
    pub fn of(&self, url: &Url) -> Result<Option<&Proxy>, Error> {
        match &self.proxy {
            Some(proxy) if url.scheme() == "https" && (proxy.as_ref().is_ok_and(|proxy| proxy.is_of_service) || !self.is_exempt(url)) => {
                proxy.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }

    fn is_exempt(&self, url: &Url) -> bool {
        let (address, domain) = match url.host() {
            Some(url::Host::Ipv4(address)) => (Some(IpAddr::V4(address)), String::new()),
            Some(url::Host::Ipv6(address)) => (Some(address.to_canonical()), String::new()),
            Some(url::Host::Domain(name)) => (None, name.trim_end_matches('.').to_ascii_lowercase()),
            None => return true,
        };
        let is_loopback = address.is_some_and(|address| address.is_loopback()) || is_below(&domain, "localhost", true);
        let is_listed = |exempt: &Exempt| match exempt {
            Exempt::Everything => true,
            Exempt::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Exempt::Host { name, port } => {
                let is_of_port = port.is_none_or(|port| url.port_or_known_default() == Some(port));
                is_of_port
                    && match name {
                        Name::Address(listed) => address == Some(*listed),
                        Name::Domain { name, itself } => address.is_none() && is_below(&domain, name, *itself),
                    }
            }
        };
        is_loopback || self.exempt.iter().any(is_listed)
    }
}

/// The first that has a value.
fn first(environment: &Environment, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, environment.get(name)?.to_string_lossy().trim().to_owned())))
}

/// Whether a host is a domain, if that counts, or below it.
fn is_below(host: &str, domain: &str, itself: bool) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| if rest.is_empty() { itself } else { rest.ends_with('.') })
}

/// The entries of a list, with commas or spaces between them. What is no entry exempts nothing.
fn exempt(list: &str) -> Vec<Exempt> {
    list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty()).filter_map(Exempt::parse).collect()
}

impl Exempt {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = entry.parse() {
            return Some(Self::Network(network));
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Host { name: Name::Address(address.to_canonical()), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        Some(Self::Host { name: Name::parse(host)?, port })
    }
}

impl Name {
    fn parse(host: &str) -> Option<Self> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let (name, itself) = host.strip_prefix("*.").map_or((host, true), |name| (name, false));
        let name = name.trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Domain { name, itself })
    }
}

impl Proxy {
    /// Nothing of the value is in an error: a user and a password may be anywhere in it.
    fn parse(variable: &'static str, text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Configuration { place: variable.to_owned(), reason };
        let form = "write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %XX for special characters of user and password";
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&whole).map_err(|error| wrong(format!("it is not the address of a proxy ({error}); {form}")))?;
        match url.scheme() {
            "http" | "https" => {}
            scheme if scheme.starts_with("socks") => {
                return Err(wrong(
                    "it names a SOCKS proxy, which this program doesn't support; name one for HTTP (http://HOST:PORT), or list the service's \
                     host in NO_PROXY"
                        .into(),
                ));
            }
            _ => return Err(wrong(format!("it has another scheme than http and https; {form}"))),
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(format!("it has more than a host and a port; {form}")));
        }
        Ok(Self { variable: variable.into(), is_of_service: false, url })
    }

    /// User and password among it.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Whether it is spoken to by TLS.
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// Host and port.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.url.port_or_known_default().unwrap_or_default();
        let address = format!("{}:{port}", self.url.host_str().unwrap_or_default());
        shown::address(&address).fmt(f)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}, of {})", self, self.variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(&Environment::of(variables.iter().copied()))
    }

    fn is_proxied(variables: &[(&str, &str)], url: &str) -> bool {
        proxies(variables).of(&Url::parse(url).unwrap()).unwrap().is_some()
    }

    #[test]
    fn a_proxy_is_named_by_the_variables_of_curl_and_go() {
        for (variables, variable) in [
            (&[("HTTPS_PROXY", "http://p:1")][..], Some("HTTPS_PROXY")),
            (&[("https_proxy", "http://p:1")], Some("https_proxy")),
            (&[("ALL_PROXY", "http://p:1")], Some("ALL_PROXY")),
            (&[("all_proxy", "p:1")], Some("all_proxy")),
            (&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://q:1"), ("ALL_PROXY", "http://r:1")], Some("HTTPS_PROXY")),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "http://q:1")], Some("https_proxy")),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://r:1")], None),
            (&[("https_proxy", ""), ("all_proxy", "http://r:1")], None),
            (&[("HTTP_PROXY", "http://p:1"), ("http_proxy", "http://p:1")], None),
            (&[("REQUEST_METHOD", "GET"), ("HTTPS_PROXY", "http://p:1")], Some("HTTPS_PROXY")),
            (&[], None),
        ] {
            let proxies = proxies(variables);
            let proxy = proxies.of(&Url::parse("https://kms.example").unwrap()).unwrap();
            assert_eq!(proxy.map(|proxy| &*proxy.variable), variable, "{variables:?}");
            assert!(!is_proxied(variables, "http://169.254.169.254") && !is_proxied(variables, "http://metadata.google.internal"));
        }
    }

    #[test]
    fn what_needs_no_proxy_is_written_as_curl_and_go_read_it() {
        for (list, direct, proxied) in [
            (
                "",
                &["https://127.0.0.1:1", "https://127.8.8.8", "https://[::1]:1", "https://localhost", "https://[::ffff:127.0.0.1]"][..],
                &["https://kms.example", "https://10.0.0.1", "https://[fd00::1]", "https://localhost.example"][..],
            ),
            ("*", &["https://kms.example", "https://10.0.0.1"], &[]),
            ("other, *", &["https://kms.example"], &[]),
            (
                "kms.example",
                &["https://kms.example", "https://KMS.example:8200", "https://a.kms.example", "https://kms.example."],
                &["https://xkms.example", "https://kms.example.org"],
            ),
            ("KMS.Example.", &["https://kms.example", "https://a.kms.example"], &["https://xkms.example"]),
            (".kms.example", &["https://kms.example", "https://a.kms.example", "https://b.a.kms.example"], &["https://xkms.example"]),
            ("*.kms.example", &["https://a.kms.example", "https://b.a.kms.example"], &["https://kms.example", "https://xkms.example"]),
            ("kms.example:443", &["https://kms.example", "https://kms.example:443"], &["https://kms.example:8200"]),
            ("kms.example:8200", &["https://kms.example:8200", "https://a.kms.example:8200"], &["https://kms.example"]),
            ("10.0.0.1", &["https://10.0.0.1", "https://10.0.0.1:8200"], &["https://10.0.0.11"]),
            ("10.0.0.1:8200", &["https://10.0.0.1:8200"], &["https://10.0.0.1"]),
            ("10.0.0.0/8", &["https://10.1.2.3"], &["https://11.0.0.1", "https://kms.example"]),
            ("fd00::/8", &["https://[fd12::1]:8200"], &["https://[fe80::1]", "https://10.0.0.1"]),
            ("fd00::1", &["https://[fd00::1]"], &["https://[fd00::2]"]),
            ("[fd00::1]:8200", &["https://[fd00::1]:8200"], &["https://[fd00::1]"]),
            ("a.example,kms.example b.example", &["https://a.example", "https://kms.example", "https://b.example"], &["https://c.example"]),
            ("kms.example:port,http://kms.example,/,.,:", &[], &["https://kms.example"]),
        ] {
            for name in FOR_NONE {
                let variables = [("HTTPS_PROXY", "http://p:1"), (name, list)];
                direct.iter().for_each(|url| assert!(!is_proxied(&variables, url), "{list}: {url}"));
                proxied.iter().for_each(|url| assert!(is_proxied(&variables, url), "{list}: {url}"));
            }
        }
        assert!(!is_proxied(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", ""), ("no_proxy", "kms.example")], "https://kms.example"));
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_an_error_for_what_would_go_through_it() {
        for (text, reason) in [
            ("socks5://user:hunter2@p:1080", "HTTPS_PROXY: it names a SOCKS proxy, which this program doesn't support; name one for HTTP"),
            ("socks5h://p", "SOCKS"),
            ("socks4a://p", "SOCKS"),
            ("ftp://hunter2", "another scheme"),
            ("http://user:hunter2@", "not the address of a proxy"),
            ("http://user:hun#ter2@p:1", "not the address of a proxy"),
            ("http://user:1#hunter2@p:1", "more than a host and a port"),
            ("http://p:hunter2", "not the address of a proxy"),
            ("http://p:1/hunter2", "more than a host and a port"),
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", text), ("NO_PROXY", "direct.example")]);
            let line = proxies.of(&Url::parse("https://kms.example").unwrap()).unwrap_err().line();
            assert!(line.contains(reason) && !line.contains("hunter2") && !line.contains("ter2"), "{text}: {line}");
            for direct in ["https://direct.example", "https://localhost", "http://127.0.0.1"] {
                assert!(proxies.of(&Url::parse(direct).unwrap()).unwrap().is_none());
            }
        }
    }

    #[test]
    fn user_and_password_are_sent_and_never_shown() {
        let proxies = proxies(&[("ALL_PROXY", "user:hunter2@proxy.example:3128")]);
        let proxy = proxies.of(&Url::parse("https://kms.example").unwrap()).unwrap().unwrap();
        assert_eq!(proxy.url().password(), Some("hunter2"));
        assert_eq!(proxy.to_string(), "`proxy.example:3128`");
        assert!(!format!("{proxies:?}").contains("hunter2"), "{proxies:?}");
    }
}

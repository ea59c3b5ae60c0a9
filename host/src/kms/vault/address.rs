//! Where a server, an Agent or a Proxy listens: at a host and a port, or at a Unix socket.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::super::http::{address, below, parse_endpoint};
use crate::permissions::check_place;
use crate::{Error, shown};

/// The longest path of a socket that the kernel takes.
const MAX_SOCKET: usize = 107;

/// An address that is asked.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// What requests are made for. With a socket, a host that is only a name.
    pub url: Url,
    /// The socket that connections are made to.
    pub socket: Option<PathBuf>,
    /// Whether it may be an Agent or Proxy, which adds a token of its own to requests that have none.
    pub may_add_token: bool,
}

impl Address {
    /// Reads `https://…`, `http://…` to loopback or `unix:///PATH`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str, is_agent: bool) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            let url = parse_endpoint(text)?;
            // As copied from a browser or from a call of the API.
            let mut names = url.path_segments().into_iter().flatten();
            return match names.find(|name| ["v1", "ui"].contains(name)) {
                Some(name) => Err(format!("its path has Vault's own /{name} in it; leave that out, and what follows it")),
                None => Ok(Self { url, socket: None, may_add_token: is_agent }),
            };
        };
        let path = Path::new(path.strip_prefix("//").unwrap_or_default());
        if !path.is_absolute() || path.as_os_str().len() > MAX_SOCKET || shown::check_path(path).is_err() {
            return Err(format!("it names no Unix socket; write unix:///PATH, an absolute path of at most {MAX_SOCKET} bytes"));
        }
        let url = Url::parse("http://localhost").expect("an address");
        Ok(Self { url, socket: Some(path.to_owned()), may_add_token: true })
    }

    /// Where a path of the API is.
    pub fn below(&self, path: &str) -> Url {
        below(&self.url, path)
    }

    /// Host and port, or the socket's path.
    pub fn shown(&self) -> String {
        self.socket.as_ref().map_or_else(|| address(&self.url), |socket| format!("the socket {}", shown::path(socket)))
    }

    /// Whether there is a socket, for `key`, which no stranger has put there: keys and tokens are sent to whoever listens. The error of a client
    /// of HTTP says less.
    pub fn check(&self, key: &str) -> Result<(), Error> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let wrong = |reason: String| Error::Configuration { place: "the address of Vault".into(), reason };
        match std::fs::metadata(socket) {
            Ok(metadata) if metadata.file_type().is_socket() => check_place(socket).map_err(|reason| {
                wrong(format!("{reason}; let it listen in a folder of its own, which only its user and root may write, such as /run/vault"))
            }),
            Ok(_) => Err(wrong(format!("{} is no socket; name the one that a listener of type unix has", shown::path(socket)))),
            Err(error) => {
                let reason = format!("{}: {error}; start what listens there, or correct the address", self.shown());
                Err(Error::Unavailable { key: key.to_owned(), reason })
            }
        }
    }
}

/// The address that a standby's redirect names, if it is a listed one with the path that was asked for. What is returned is made of the listed
/// address alone: whoever answers can choose among those, and nothing else.
pub(super) fn listed<'a>(location: Option<&str>, listed: impl IntoIterator<Item = &'a Url>, path: &str) -> Option<Url> {
    let named = Url::parse(location?).ok()?;
    listed.into_iter().map(|url| below(url, path)).find(|url| *url == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_an_absolute_path() {
        let read = Address::parse("unix:///run/vault/agent.sock", false).unwrap();
        assert_eq!((read.socket.as_deref(), read.may_add_token), (Some(Path::new("/run/vault/agent.sock")), true));
        assert_eq!(read.shown(), "the socket /run/vault/agent.sock");
        for wrong in ["unix:", "unix://", "unix://run/agent.sock", "unix:/run/agent.sock", &format!("unix:///{}", "x".repeat(107))] {
            assert!(Address::parse(wrong, false).unwrap_err().starts_with("it names no Unix socket; write unix:///PATH"), "{wrong}");
        }
        assert!(!Address::parse("https://vault.example/behind/a/proxy/", false).unwrap().may_add_token);
        assert!(Address::parse("http://127.0.0.1:8100", true).unwrap().may_add_token);
    }

    #[test]
    fn an_address_is_not_one_of_the_api_or_of_a_page() {
        for wrong in [
            "https://vault.example/v1",
            "https://vault.example/v1/",
            "https://vault.example/base/v1/transit",
            "https://vault.example/ui/vault/secrets",
        ] {
            assert!(Address::parse(wrong, false).unwrap_err().contains("leave that out, and what follows it"), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_listed_address_with_the_same_path_or_nowhere() {
        const PATH: &str = "v1/transit/encrypt/k";
        let addresses = ["https://a.example:8200", "https://b.example", "http://127.0.0.1:8200"].map(|text| parse_endpoint(text).unwrap());
        let leads = |location: &str| listed(Some(location), &addresses, PATH).map(|url| url.to_string());
        for good in [
            "https://a.example:8200/v1/transit/encrypt/k",
            "https://b.example/v1/transit/encrypt/k",
            "https://B.example:443/v1/transit/encrypt/k",
            "http://127.0.0.1:8200/v1/transit/encrypt/k",
        ] {
            assert!(leads(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/v1/transit/encrypt/k",
            "//a.example:8200/v1/transit/encrypt/k",
            "http://a.example:8200/v1/transit/encrypt/k",
            "https://a.example/v1/transit/encrypt/k",
            "https://a.example:8201/v1/transit/encrypt/k",
            "https://a.example.evil.example:8200/v1/transit/encrypt/k",
            "https://a.example:8200@evil.example/v1/transit/encrypt/k",
            "https://user@a.example:8200/v1/transit/encrypt/k",
            "https://a.example:8200/v1/transit/decrypt/k",
            "https://a.example:8200/v1/transit/encrypt/k/",
            "https://a.example:8200/v1/transit/encrypt/k?a=b",
            "https://a.example:8200/v1/transit/encrypt/k#a",
            "https://a.example:8200/v1/transit/encrypt/../encrypt/x",
            "https://127.0.0.1:8200/v1/transit/encrypt/k",
            "https://evil.example/v1/transit/encrypt/k",
        ] {
            assert_eq!(leads(bad), None, "{bad}");
        }
        assert_eq!(listed(None, &addresses, PATH), None);
    }
}

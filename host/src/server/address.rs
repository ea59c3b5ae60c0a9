//! Where a server listens, as a URI.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::shown;

/// The longest path of a Unix socket: `sun_path` less its closing zero (unix(7)).
const MAX_PATH: usize = 107;

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// `unix:///PATH`: gRPC on a Unix socket.
    Grpc(PathBuf),
    /// `ttrpc+unix:///PATH`: ttrpc on a Unix socket.
    Ttrpc(PathBuf),
    /// `tcp://HOST:PORT`: gRPC on TCP.
    Tcp {
        /// A name or an IP address.
        host: String,
        /// The port; 0 for one that is free.
        port: u16,
    },
}

/// Why a text isn't an [`Address`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("{} is no address to listen on: write unix:///PATH, ttrpc+unix:///PATH or tcp://HOST:PORT", shown::address(.0))]
    Scheme(String),
    /// A path that can't be a socket's.
    #[error("{}: the path of a Unix socket is absolute and has at most {MAX_PATH} bytes", shown::address(.0))]
    Path(String),
    /// No host, or no port.
    #[error("{}: an address of TCP is HOST:PORT, with a port up to 65535 and an IPv6 address in brackets", shown::address(.0))]
    Port(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let path = |path: &str| match path.starts_with('/') && path.len() <= MAX_PATH && !path.contains('\0') {
            true => Ok(PathBuf::from(path)),
            false => Err(AddressError::Path(text.to_owned())),
        };
        match text.split_once("://") {
            Some(("unix", rest)) => path(rest).map(Self::Grpc),
            Some(("ttrpc+unix", rest)) => path(rest).map(Self::Ttrpc),
            Some(("tcp", rest)) => host_and_port(rest).ok_or_else(|| AddressError::Port(text.to_owned())),
            _ => Err(AddressError::Scheme(text.to_owned())),
        }
    }
}

fn host_and_port(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.is_empty() || host.contains([':', '/', '[', ']', '@']) => return None,
        None => host.to_owned(),
    };
    Some(Address::Tcp { host, port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(path) => write!(f, "unix://{}", path.display()),
            Self::Ttrpc(path) => write!(f, "ttrpc+unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_was_read() {
        for text in ["unix:///run/kms.sock", "ttrpc+unix:///run/kms.ttrpc", "tcp://localhost:50051", "tcp://[::1]:0", "tcp://0.0.0.0:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        for text in ["", "/run/kms.sock", "http://localhost:1", "ttrpc://x", "unix:/run/kms.sock"] {
            assert!(matches!(error(text), AddressError::Scheme(_)), "{text}");
        }
        for text in ["unix://run/kms.sock", "unix://", &format!("unix:///{}", "x".repeat(MAX_PATH))] {
            assert!(matches!(error(text), AddressError::Path(_)), "{text}");
        }
        for text in ["tcp://", "tcp://host", "tcp://:1", "tcp://::1:1", "tcp://host:65536", "tcp://host:+1", "tcp://a/b:1", "tcp://[x]:1"] {
            assert!(matches!(error(text), AddressError::Port(_)), "{text}");
        }
    }
}

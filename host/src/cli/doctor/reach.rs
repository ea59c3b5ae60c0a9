//! Whether somebody listens where clients look for a service: connects, says nothing, and goes away.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use ocicrypt_kms::shown;

/// How long a connection may take, and the look-up of a name before it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What clients and a service speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Grpc,
    Ttrpc,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Ttrpc => "ttrpc",
        }
    }
}

/// Where clients connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Target {
    /// What an address means to clients. `None` for a form that isn't known here, and for what depends on the client.
    pub fn of(protocol: Protocol, address: &str) -> Option<Self> {
        match protocol {
            Protocol::Grpc => Self::of_grpc(address),
            Protocol::Ttrpc => Self::of_ttrpc(address),
        }
    }

    /// Those of [gRPC](https://github.com/grpc/grpc/blob/master/doc/naming.md), and with `http` and `tcp` what ocicrypt-rs takes.
    fn of_grpc(address: &str) -> Option<Self> {
        if let Some(rest) = address.strip_prefix("unix:") {
            return absolute(rest.strip_prefix("//").unwrap_or(rest));
        }
        let schemes = ["dns:///", "dns:", "passthrough:///", "http://", "tcp://"];
        let rest = schemes.iter().find_map(|scheme| address.strip_prefix(scheme)).unwrap_or(address);
        host_and_port(rest.strip_suffix('/').unwrap_or(rest))
    }

    /// Those of the ttrpc library of ocicrypt-rs.
    fn of_ttrpc(address: &str) -> Option<Self> {
        match address.split_once("://")? {
            ("unix", path) => absolute(path),
            ("tcp", rest) => host_and_port(rest),
            _ => None,
        }
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(..))
    }

    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there, or it takes longer than [`PATIENCE`].
    pub fn try_it(&self) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel();
        let target = self.clone();
        // Apart, for neither the look-up of a name nor a Unix socket whose queue is full knows a limit of time.
        std::thread::Builder::new().spawn(move || sender.send(target.connect()))?;
        receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn connect(&self) -> io::Result<()> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(drop),
            Self::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).map(drop),
        }
    }

    /// Why it can't be reached, and what to do about it.
    pub fn explain(&self, protocol: Protocol, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("nobody listens there: {error}; start {}, or correct the address", self.serve(protocol))
            }
            io::ErrorKind::PermissionDenied => format!(
                "this user may not connect: {error}; run doctor as the client's user, and see `group` below `[server]` in the service's configuration, or `SocketGroup` of its socket in systemd"
            ),
            io::ErrorKind::TimedOut => format!(
                "there is no answer within {} seconds; see whether the service is alive and the network leads there, or correct the address",
                PATIENCE.as_secs()
            ),
            _ => format!("it can't be reached: {error}; correct the address"),
        }
    }

    /// The command that listens there.
    fn serve(&self, protocol: Protocol) -> String {
        match (self, protocol) {
            (Self::Unix(path), Protocol::Grpc) => format!("`ocicrypt-kms serve --config FILE --listen unix://{}`", shown::path(path)),
            (Self::Unix(path), Protocol::Ttrpc) => {
                format!("`ocicrypt-kms serve --config FILE --listen ttrpc+unix://{}`", shown::path(path))
            }
            (Self::Tcp(..), _) => "`ocicrypt-kms serve` there".into(),
        }
    }
}

fn absolute(path: &str) -> Option<Target> {
    path.starts_with('/').then(|| Target::Unix(path.into()))
}

fn host_and_port(text: &str) -> Option<Target> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.contains([':', '/', '[', ']', '@']) => return None,
        // As clients in Go read it.
        None if host.is_empty() => "localhost".into(),
        None => host.into(),
    };
    Some(Target::Tcp(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_what_it_means_to_clients() {
        let tcp = |host: &str| Some(Target::Tcp(host.into(), 50051));
        let unix = || Some(Target::Unix("/run/kms.sock".into()));
        for (address, target) in [
            ("unix:///run/kms.sock", unix()),
            ("unix:/run/kms.sock", unix()),
            ("kms.example:50051", tcp("kms.example")),
            ("dns:///kms.example:50051", tcp("kms.example")),
            ("dns:kms.example:50051", tcp("kms.example")),
            ("http://127.0.0.1:50051/", tcp("127.0.0.1")),
            ("tcp://[::1]:50051", tcp("::1")),
            (":50051", tcp("localhost")),
        ] {
            assert_eq!(Target::of(Protocol::Grpc, address), target, "{address}");
        }
        assert_eq!(Target::of(Protocol::Ttrpc, "unix:///run/kms.sock"), unix());
        assert_eq!(Target::of(Protocol::Ttrpc, "tcp://kms.example:50051"), tcp("kms.example"));
    }

    #[test]
    fn what_depends_on_the_client_or_is_not_known_is_no_target() {
        for address in [
            "",
            "unix:kms.sock",
            "unix://host/kms.sock",
            "unix-abstract:kms",
            "kms.example",
            "::1:50051",
            "kms:+1",
            "kms:65536",
            "dns://9.9.9.9/kms:1",
            "a@b:1",
            "https://kms:1",
        ] {
            assert_eq!(Target::of(Protocol::Grpc, address), None, "{address}");
        }
        for address in ["kms.example:50051", "unix:/run/kms.sock", "unix://@kms", "vsock://2:1024", "http://kms:1"] {
            assert_eq!(Target::of(Protocol::Ttrpc, address), None, "{address}");
        }
    }
}

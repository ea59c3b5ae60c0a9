//! Sockets to listen on: made here, or handed over by systemd.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};

use super::address::Address;
use super::connection::Transport;
use super::protocol::Protocol;
use crate::Error;
use crate::caller::Caller;

/// How many clients of a Unix socket may wait to be accepted; the kernel has a limit of its own.
const BACKLOG: i32 = 1024;

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    pub protocol: Protocol,
    socket: Socket,
    /// Where it can be reached.
    pub name: String,
    file: Option<File>,
}

/// The socket itself, not yet in the hands of a runtime.
#[derive(Debug)]
enum Socket {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

/// A socket's file, removed with the listener unless it is another's by then.
#[derive(Debug)]
struct File {
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Listens. A Unix socket is readable and writable by this user only, or also by `group`, from its first moment on.
    pub fn bind(address: &Address, group: Option<&str>) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Internal { reason: format!("{address} can't be listened on: {error}") };
        let (socket, name, file) = match address {
            Address::Grpc(path) | Address::Ttrpc(path) => {
                let group = group.map(group_id).transpose()?;
                let socket = bind_file(path, group).map_err(failed)?;
                let inode = std::fs::metadata(path).map_err(failed)?.ino();
                (Socket::Unix(socket), address.to_string(), Some(File { path: path.clone(), inode }))
            }
            Address::Tcp { host, port } => {
                let socket = std::net::TcpListener::bind((host.as_str(), *port)).map_err(failed)?;
                let name = format!("tcp://{}", socket.local_addr().map_err(failed)?);
                (Socket::Tcp(socket), name, None)
            }
        };
        let protocol = if matches!(address, Address::Ttrpc(_)) { Protocol::Ttrpc } else { Protocol::Grpc };
        Ok(Self { protocol, socket, name, file })
    }

    /// The sockets that systemd hands over (sd_listen_fds(3)). One that is named `ttrpc` speaks that.
    pub fn handed_over() -> Result<Vec<Self>, Error> {
        let failed = |error: io::Error| Error::Internal { reason: format!("a socket that systemd handed over can't be used: {error}") };
        let mut sockets = listenfd::ListenFd::from_env();
        // A name that is no text is that of no protocol here.
        let names = std::env::var_os("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.to_string_lossy();
        let mut names = names.split(':');
        let mut listeners = Vec::new();
        for index in 0..sockets.len() {
            let protocol = if names.next() == Some("ttrpc") { Protocol::Ttrpc } else { Protocol::Grpc };
            let socket = match sockets.take_unix_listener(index) {
                Ok(socket) => socket.map(Socket::Unix),
                Err(_) => sockets.take_tcp_listener(index).map_err(failed)?.map(Socket::Tcp),
            };
            if let (Some(Socket::Tcp(_)), Protocol::Ttrpc) = (&socket, protocol) {
                return Err(failed(io::Error::other("ttrpc has no TLS, so it is served on Unix sockets only")));
            }
            listeners.extend(socket.map(|socket| Self { protocol, name: name_of(&socket, protocol), socket, file: None }));
        }
        Ok(listeners)
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }
}

fn name_of(socket: &Socket, protocol: Protocol) -> String {
    match socket {
        Socket::Unix(socket) => match (socket.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned)), protocol) {
            (Some(path), Protocol::Grpc) => Address::Grpc(path).to_string(),
            (Some(path), Protocol::Ttrpc) => Address::Ttrpc(path).to_string(),
            (None, _) => "unix:".into(),
        },
        Socket::Tcp(socket) => socket.local_addr().map_or_else(|_| "tcp:".into(), |address| format!("tcp://{address}")),
    }
}

fn group_id(name: &str) -> Result<u32, Error> {
    let wrong = |reason: String| Error::Configuration { place: "server.group".into(), reason };
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let group = nix::unistd::Group::from_name(name).map_err(|error| wrong(format!("the groups can't be read: {error}")))?;
    group.map(|group| group.gid.as_raw()).ok_or_else(|| wrong(format!("there is no group {}", crate::shown::name(name))))
}

/// Makes the socket in a folder that nobody else can enter, and moves it to its place when its mode and group are right. What was left
/// there by a process that is gone is replaced.
fn bind_file(path: &Path, group: Option<u32>) -> io::Result<std::os::unix::net::UnixListener> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if !folder.exists() {
        std::fs::DirBuilder::new().mode(0o755).create(folder)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there; stop it, or listen elsewhere"));
    }
    let is_other = std::fs::symlink_metadata(path).is_ok_and(|file| !std::os::unix::fs::FileTypeExt::is_socket(&file.file_type()));
    if is_other {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file which is no socket; remove it, or listen elsewhere"));
    }
    let private = private_folder(folder)?;
    let made = private.path().join("s");
    let socket = bind_unheard(&made, group)?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&made, path)?;
    Ok(socket.into())
}

/// A folder that nobody else gets into, whatever the umask is.
fn private_folder(folder: &Path) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(".").rand_bytes(4).permissions(Permissions::from_mode(0o700)).tempdir_in(folder)
}

/// A socket with its mode and group, which nobody can connect to before it listens.
fn bind_unheard(path: &Path, group: Option<u32>) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }))?;
    Ok(socket)
}

impl Drop for File {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // If it stays, the next server replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens for metrics' readers, who are given no keys.
pub(super) fn tcp(address: &str) -> Result<std::net::TcpListener, Error> {
    let bind = || {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind()
        .map_err(|error: io::Error| Error::Internal { reason: format!("{} can't be listened on: {error}", crate::shown::address(address)) })
}

/// A listener in the hands of a runtime.
pub(super) struct Acceptor {
    socket: AsyncSocket,
    pub name: String,
    _file: Option<File>,
}

enum AsyncSocket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Acceptor {
    pub fn new(listener: Listener) -> io::Result<Self> {
        let socket = match listener.socket {
            Socket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                AsyncSocket::Unix(UnixListener::from_std(socket)?)
            }
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                AsyncSocket::Tcp(TcpListener::from_std(socket)?)
            }
        };
        Ok(Self { socket, name: listener.name, _file: listener.file })
    }

    /// The next connection, and who made it as far as the kernel knows.
    pub async fn accept(&self) -> io::Result<(Transport, Caller)> {
        match &self.socket {
            AsyncSocket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let peer = stream.peer_cred()?;
                let caller = Caller::Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
                Ok((Transport::Unix(stream), caller))
            }
            AsyncSocket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Transport::Tcp(stream), Caller::Anonymous))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_in(folder: &Path) -> Address {
        Address::Grpc(folder.join("kms.sock"))
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_is_its_owners_and_is_removed_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&socket_in(folder.path()), None).unwrap();
        let path = folder.path().join("kms.sock");
        assert_eq!(mode(&path), 0o600);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(listener);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nobody_gets_to_a_socket_before_it_has_its_mode() {
        // The umask is the whole process's.
        ocicrypt_kms_testing::alone::alone("server::listener::tests::nobody_gets_to_a_socket_before_it_has_its_mode", || {
            rustix::process::umask(rustix::fs::Mode::empty());
            let folder = tempfile::tempdir().unwrap();
            let private = private_folder(folder.path()).unwrap();
            assert_eq!(mode(private.path()), 0o700);
            let path = private.path().join("s");
            let socket = bind_unheard(&path, None).unwrap();
            let connect = || std::os::unix::net::UnixStream::connect(&path);
            assert_eq!((mode(&path), connect().unwrap_err().kind()), (0o600, io::ErrorKind::ConnectionRefused));
            rustix::net::listen(&socket, BACKLOG).unwrap();
            assert!(connect().is_ok());
        });
    }

    #[test]
    fn a_group_may_use_the_socket_if_it_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let gid = rustix::process::getgid().as_raw().to_string();
        let _listener = Listener::bind(&socket_in(folder.path()), Some(&gid)).unwrap();
        assert_eq!(mode(&folder.path().join("kms.sock")), 0o660);
        let error = Listener::bind(&socket_in(folder.path()), Some("no-such-group")).unwrap_err();
        assert!(error.to_string().contains("there is no group `no-such-group`"), "{error}");
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = Listener::bind(&socket_in(folder.path()), None).unwrap();
        let error = Listener::bind(&socket_in(folder.path()), None).unwrap_err();
        assert!(error.to_string().contains("another process listens there"), "{error}");
        drop(first);
        std::fs::write(&path, "").unwrap();
        let error = Listener::bind(&socket_in(folder.path()), None).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert!(path.exists());
    }
}

//! A service on loopback that answers as a test says, with and without TLS.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

pub use crate::request::Received as Request;

impl Request {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// What it is told.
pub struct Reply {
    pub status: u16,
    /// Each with its line end.
    pub headers: String,
    pub body: Vec<u8>,
    /// Whether the answer says how long it is.
    pub announced: bool,
    pub delay: Duration,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: String::new(), body: body.into(), announced: true, delay: Duration::ZERO }
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// The service. It stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request as `script` says.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(None, Arc::new(script))
    }

    /// The same, by TLS.
    pub fn with_tls(config: Arc<ServerConfig>, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Some(config), Arc::new(script))
    }

    fn with(tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (requests, stopping) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicBool::new(false)));
        let connections = Arc::new(Mutex::new(0));
        let (seen, stop, count) = (requests.clone(), stopping.clone(), connections.clone());
        let accept = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                *count.lock().unwrap() += 1;
                let (tls, script, seen) = (tls.clone(), script.clone(), seen.clone());
                // A client that leaves early is that client's test.
                std::thread::spawn(move || serve_as(tls, stream?, &*script, &seen));
            }
        };
        Self { address, scheme, requests, connections, stopping, thread: Some(std::thread::spawn(accept)) }
    }

    pub fn address(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve_as(tls: Option<Arc<ServerConfig>>, stream: TcpStream, script: &Script, seen: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    match tls {
        None => serve(stream, script, seen),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            serve(StreamOwned::new(connection, stream), script, seen)
        }
    }
}

fn serve(stream: impl Read + Write, script: &Script, seen: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
    seen.lock().unwrap().push(request.clone());
    let Reply { status, headers, body, announced, delay } = script(&request);
    std::thread::sleep(delay);
    let length = if announced { format!("content-length: {}\r\n", body.len()) } else { String::new() };
    let stream = reader.get_mut();
    stream.write_all(format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n{length}{headers}\r\n").as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

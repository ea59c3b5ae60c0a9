//! A server of HTTP/1.1 on loopback that answers as a test says, with and without TLS: what real services and their fakes can't be made to do.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// Names in lower case, each with its value.
    pub headers: Vec<(String, String)>,
    /// What follows the headers.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one request; `None` if the client has left.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let Some((method, path)) = lines.first().and_then(|line| line.trim_end_matches(" HTTP/1.1").split_once(' ')) else {
            return Ok(None);
        };
        let header = |line: &String| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let headers: Vec<_> = lines[1..].iter().filter_map(header).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().expect("a length"));
        let mut request = Self { method: method.to_owned(), path: path.to_owned(), headers, body: vec![0; length] };
        reader.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    /// The method and the path: `POST /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All headers of this name, which is in lower case.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body, which has to be text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body's JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a client is answered.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    announced: bool,
    delay: Duration,
}

impl Reply {
    /// A reply without headers but the length, at once.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: String::new(), body: body.into(), announced: true, delay: Duration::ZERO }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.headers.push_str(&format!("{name}: {}\r\n", value.as_ref()));
        self
    }

    /// Lets the client wait.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Says nothing of how long the body is: the client reads until the connection ends.
    #[must_use]
    pub fn of_unknown_length(mut self) -> Self {
        self.announced = false;
        self
    }
}

type Script = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A running server. It stops when it is dropped.
pub struct Scripted {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Seen>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

impl Scripted {
    /// Answers each request as `script` says, which is also told how many are kept of those before.
    pub fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, Arc::new(script))
    }

    /// The same, over TLS.
    pub fn with_tls(config: Arc<ServerConfig>, script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Some(config), Arc::new(script))
    }

    /// Answers all requests alike.
    pub fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone())
    }

    fn serve(tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (seen, stopping) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let (all, stop) = (seen.clone(), stopping.clone());
        let accept = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                all.connections.fetch_add(1, Ordering::SeqCst);
                let (tls, script, seen) = (tls.clone(), script.clone(), all.clone());
                // A client that leaves early is that client's test.
                std::thread::spawn(move || answer_over(tls, stream?, &*script, &seen));
            }
        };
        Self { address, scheme, seen, stopping, thread: Some(std::thread::spawn(accept)) }
    }

    /// The URL that it listens at.
    pub fn address(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The paths that were asked for since the last call.
    pub fn take_paths(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.requests.lock().unwrap()).into_iter().map(|request| request.path).collect()
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer_over(tls: Option<Arc<ServerConfig>>, stream: TcpStream, script: &Script, seen: &Seen) -> Result<()> {
    match tls {
        None => answer(stream, script, seen),
        Some(config) => answer(StreamOwned::new(ServerConnection::new(config).map_err(std::io::Error::other)?, stream), script, seen),
    }
}

fn answer(stream: impl Read + Write, script: &Script, seen: &Seen) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
    let before = {
        let mut requests = seen.requests.lock().unwrap();
        requests.push(request.clone());
        requests.len() - 1
    };
    let Reply { status, headers, body, announced, delay } = script(&request, before);
    std::thread::sleep(delay);
    let length = if announced { format!("content-length: {}\r\n", body.len()) } else { String::new() };
    let stream = reader.get_mut();
    stream.write_all(format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n{length}{headers}\r\n").as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

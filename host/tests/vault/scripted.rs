//! A server on loopback that answers as a test says.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::request::Received;

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// In lower case, as `name: value`.
    pub headers: Vec<String>,
    pub body: Value,
}

/// What it is told.
pub struct Reply {
    status: u16,
    headers: String,
    body: String,
    delay: Duration,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: String::new(), body: body.into(), delay: Duration::ZERO }
    }

    /// As Vault tells an error.
    pub fn error(status: u16, text: &str) -> Self {
        Self::new(status, serde_json::json!({ "errors": [text] }).to_string())
    }

    /// As transit answers.
    pub fn data(name: &str, value: &str) -> Self {
        Self::new(200, serde_json::json!({ "data": { name: value }, "warnings": null }).to_string())
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// The server. It stops when it is dropped.
pub struct Scripted {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Answers each request as `script` says, which is also told how many there were before.
    pub fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (requests, stopping) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicBool::new(false)));
        let (script, seen, stop) = (Arc::new(script), requests.clone(), stopping.clone());
        let accept = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (script, seen) = (script.clone(), seen.clone());
                // A client that leaves early is that client's test.
                std::thread::spawn(move || stream.and_then(|stream| serve(stream, &*script, &seen)));
            }
        };
        Self { address, requests, stopping, thread: Some(std::thread::spawn(accept)) }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The paths that were asked for since the last call.
    pub fn take_paths(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap()).into_iter().map(|request| request.path).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, script: &dyn Fn(&Request, usize) -> Reply, seen: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let Some(Received { line, headers, body }) = Received::read(&mut reader)? else { return Ok(()) };
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = headers.into_iter().map(|(name, value)| format!("{name}: {}", value.to_lowercase())).collect();
    let request = Request { path, headers, body: serde_json::from_slice(&body).unwrap_or_default() };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let Reply { status, headers, body, delay } = script(&request, before);
    std::thread::sleep(delay);
    let head = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    (&stream).write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

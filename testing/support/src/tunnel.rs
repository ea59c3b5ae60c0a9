//! A proxy on loopback that writes down what it is asked, and opens tunnels to wherever a test says.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What it does with what it is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Tunnels {
    /// Leads all tunnels to this address.
    To(SocketAddr),
    /// The same, a few bytes at a time.
    ToInPieces(SocketAddr, usize),
    /// Answers with this status.
    Refuses(u16),
}

/// A running proxy. It stops when it is dropped.
pub struct Recording {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recording {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(tunnels: Tunnels) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (heads, stopping) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (all, stop) = (heads.clone(), stopping.clone());
        let accept = move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let heads = all.clone();
                // A client that leaves early is that client's test.
                std::thread::spawn(move || serve(stream?, tunnels, &heads));
            }
        };
        Self { address, heads, stopping, thread: Some(std::thread::spawn(accept)) }
    }

    /// HOST:PORT.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What it was sent since the last call, each time up to the empty line.
    pub fn take_heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, tunnels: Tunnels, heads: &Mutex<Vec<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    heads.lock().unwrap().push(head);
    let mut stream = stream;
    let (upstream, piece) = match tunnels {
        Tunnels::To(upstream) => (upstream, 16 << 10),
        Tunnels::ToInPieces(upstream, piece) => (upstream, piece),
        Tunnels::Refuses(status) => return stream.write_all(format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\n\r\n").as_bytes()),
    };
    let upstream = TcpStream::connect(upstream)?;
    stream.write_all(b"HTTP/1.1 200 Established\r\n\r\n")?;
    let (back, to) = (stream.try_clone()?, upstream.try_clone()?);
    std::thread::spawn(move || copy(upstream, back, piece));
    copy(reader, to, piece)
}

/// Each piece is a segment of its own.
fn copy(mut from: impl Read, mut to: TcpStream, piece: usize) -> Result<()> {
    to.set_nodelay(true)?;
    let mut buffer = vec![0; piece];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.shutdown(Shutdown::Write),
            length => to.write_all(&buffer[..length])?,
        }
    }
}

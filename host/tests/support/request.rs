//! A request of HTTP/1.1, as a server of a test reads it.

use std::io::{BufRead, Result};

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Received {
    /// The first line without the version: `POST /path`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// Reads one request; `None` if the client has left.
    pub fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let Some(first) = lines.first() else { return Ok(None) };
        let header = |line: &String| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let headers: Vec<_> = lines[1..].iter().filter_map(header).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { line: first.trim_end_matches(" HTTP/1.1").to_owned(), headers, body }))
    }
}

//! What HTTP/2 refuses: the library that speaks it tells its client, and nobody else.

use super::http2_frames::{GOAWAY, Piece, Position, RST_STREAM};

/// The bytes of a code.
const CODE_LENGTH: usize = 4;
/// Codes (RFC 9113 section 7) of what was not refused.
const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;
const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// What a server sends.
pub(super) struct RefusedStreams {
    position: Position,
    code: [u8; CODE_LENGTH],
    /// How much of the payload stands before the code, and how much of the code is known.
    before: usize,
    known: usize,
}

/// One that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refused {
    /// A request, or the connection with all of them.
    pub what: &'static str,
    /// The name of the code.
    pub code: &'static str,
}

impl RefusedStreams {
    pub fn new() -> Self {
        Self { position: Position::outgoing(), code: [0; CODE_LENGTH], before: 0, known: CODE_LENGTH }
    }

    /// Goes over what was sent, and gives what was refused by it.
    pub fn sent(&mut self, mut bytes: &[u8], mut refused: impl FnMut(Refused)) {
        while !bytes.is_empty() {
            let (piece, count) = self.position.advance(bytes);
            let (these, rest) = bytes.split_at(count);
            match piece {
                Piece::Begin => self.begin(),
                Piece::Payload => self.payload(these).into_iter().for_each(&mut refused),
                Piece::Header => {}
            }
            bytes = rest;
        }
    }

    fn begin(&mut self) {
        (self.before, self.known) = match self.position.kind() {
            RST_STREAM => (0, 0),
            // The number of the last stream stands before it.
            GOAWAY => (4, 0),
            _ => (0, CODE_LENGTH),
        };
    }

    fn payload(&mut self, bytes: &[u8]) -> Option<Refused> {
        if self.known == CODE_LENGTH {
            return None;
        }
        let before = self.before.min(bytes.len());
        self.before -= before;
        let code = &bytes[before..];
        let count = code.len().min(CODE_LENGTH - self.known);
        self.code[self.known..][..count].copy_from_slice(&code[..count]);
        self.known += count;
        let code = u32::from_be_bytes(self.code);
        if self.known < CODE_LENGTH || matches!(code, NO_ERROR | CANCEL) {
            return None;
        }
        let what = if self.position.kind() == GOAWAY { "a connection" } else { "a request" };
        Some(Refused { what, code: NAMES.get(code as usize).copied().unwrap_or("an unknown code") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_found_however_it_is_written() {
        let ping = b"\0\0\x08\x06\x01\0\0\0\0\0\0\0\x01\0\0\0\x01";
        let reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x01";
        let cancelled = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
        let away = b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0bwhy";
        let going = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
        let all = [&ping[..], reset, cancelled, ping, away, going, reset].concat();
        for size in 1..all.len() {
            let (mut streams, mut found) = (RefusedStreams::new(), Vec::new());
            all.chunks(size).for_each(|part| streams.sent(part, |refused| found.push((refused.what, refused.code))));
            let reset = ("a request", "PROTOCOL_ERROR");
            assert_eq!(found, [reset, ("a connection", "ENHANCE_YOUR_CALM"), reset], "{size}");
        }
    }
}

//! Where in its frames a direction of an HTTP/2 connection is: each has a header of nine bytes and a payload (RFC 9113 section 4.1).

/// What a client sends before its first frame (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (RFC 9113 section 6).
pub(super) const RST_STREAM: u8 = 3;
pub(super) const GOAWAY: u8 = 7;

const HEADER_LENGTH: usize = 9;
/// No type of a frame: the preface.
const NONE: u8 = u8::MAX;

/// A position in a stream of frames.
pub(super) struct Position {
    header: [u8; HEADER_LENGTH],
    /// How much of a header is known.
    known: usize,
    /// How much of a payload is to come.
    left: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Piece {
    /// A part of a header.
    Header,
    /// The rest of a header.
    Begin,
    /// A part of a payload.
    Payload,
}

impl Position {
    /// Of what a server sends.
    pub fn outgoing() -> Self {
        Self { header: [NONE; HEADER_LENGTH], known: 0, left: 0 }
    }

    /// Goes on by one piece, and tells how many of these bytes it has.
    pub fn advance(&mut self, bytes: &[u8]) -> (Piece, usize) {
        if self.left > 0 {
            let count = self.left.min(bytes.len());
            self.left -= count;
            return (Piece::Payload, count);
        }
        let count = (HEADER_LENGTH - self.known).min(bytes.len());
        self.header[self.known..][..count].copy_from_slice(&bytes[..count]);
        self.known += count;
        if self.known < HEADER_LENGTH {
            return (Piece::Header, count);
        }
        self.known = 0;
        self.left = u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]) as usize;
        (Piece::Begin, count)
    }

    /// The type of the frame whose header was last read.
    pub fn kind(&self) -> u8 {
        self.header[3]
    }
}

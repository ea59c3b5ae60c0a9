//! What a listener's clients speak, and how one that speaks something else is told by its first byte.

use std::fmt;

use super::http2_frames::PREFACE;

/// What a listener's clients speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    /// HTTP/2, whose clients begin with a preface (RFC 9113 section 3.4).
    Grpc,
    /// Frames, whose headers begin with a length.
    Ttrpc,
}

impl Protocol {
    /// How many bytes a client sends before it can expect anything.
    pub fn greeting(self) -> usize {
        match self {
            Self::Grpc => PREFACE.len(),
            // The length, the stream's number, type and flags.
            Self::Ttrpc => 4 + 4 + 1 + 1,
        }
    }

    /// Whether a client's first bytes can be those of this protocol.
    pub fn begins_with(self, first: &[u8]) -> bool {
        match self {
            Self::Grpc => PREFACE.starts_with(first),
            // The length has four bytes and is at most 4 MiB.
            Self::Ttrpc => first.starts_with(&[0]),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::Ttrpc => "ttrpc",
        })
    }
}

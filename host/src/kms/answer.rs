//! What a service answered by HTTP, before anybody has read it.

use http::StatusCode;
use zeroize::Zeroizing;

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The status, never one that was to be retried and can still be.
    pub status: StatusCode,
    /// The header `WWW-Authenticate`: what a 401 asks for.
    pub challenge: Option<String>,
    /// At most [`MAX_ANSWER`](super::http::MAX_ANSWER) bytes.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Whether the service says that it can't serve now. (It was asked several times.)
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }
}

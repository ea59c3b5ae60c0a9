//! What a service answered by HTTP, before anybody has read it.

use std::time::Duration;

use http::StatusCode;
use zeroize::Zeroizing;

/// The longest wait that a service can ask for. No exchange has so much time.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The status, never one that was to be retried and can still be.
    pub status: StatusCode,
    /// The header `WWW-Authenticate`: what a 401 asks for.
    pub challenge: Option<String>,
    /// The header `Location` of a redirect, which nothing has followed. Only clients that are told of redirects have such answers.
    pub location: Option<String>,
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

/// The wait of a `Retry-After` in seconds. A date is not looked at.
#[must_use]
pub fn retry_after(value: &[u8]) -> Option<Duration> {
    let digits = std::str::from_utf8(value).ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?;
    // More digits than fit ask for the longest wait, too.
    Some(digits.parse().map_or(MAX_WAIT, Duration::from_secs).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_asks_for_a_wait_that_no_clock_holds() {
        let wait = |text: &str| retry_after(text.as_bytes());
        assert_eq!((wait("0"), wait("60")), (Some(Duration::ZERO), Some(Duration::from_secs(60))));
        for endless in ["86401", "18446744073709551615", "18446744073709551616", &"9".repeat(5000)] {
            assert_eq!(wait(endless), Some(MAX_WAIT), "{endless}");
        }
        for none in ["", "-1", "+1", "1.5", "1e400", "NaN", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}

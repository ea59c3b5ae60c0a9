//! Access tokens, and the answers that hold them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use ocicrypt_kms_protocol::json::{Object, string};
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// The longest that a token is used, however long it lasts: service accounts' tokens last 12 hours at most, others one.
const MAX_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// An access token, and when it ends.
pub(super) struct Token {
    /// As it is sent; wiped when nobody holds it any more.
    header: HeaderValue,
    ends: Instant,
}

impl Token {
    /// A token that lasts so long, if it can be sent in a header.
    pub(super) fn new(text: &str, lifetime: Duration) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        // Sized beforehand, so that no copy is left behind by a buffer that grew.
        let mut value = Zeroizing::new(Vec::with_capacity(text.len() + 8));
        value.extend_from_slice(b"Bearer ");
        value.extend_from_slice(text.as_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).ok()?;
        header.set_sensitive(true);
        Some(Self { header, ends: Instant::now() + lifetime.min(MAX_LIFETIME) })
    }

    /// The token in an answer of an OAuth server ([RFC 6749], section 5.1). One whose lifetime can't be read serves one exchange.
    ///
    /// [RFC 6749]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
    pub(super) fn of_oauth(body: &[u8]) -> Option<Self> {
        let answer = Object::parse(body).ok()?;
        let token = Zeroizing::new(answer.get("access_token").and_then(string)?.into_owned());
        let seconds = answer.get("expires_in").map(|value| string(value).unwrap_or_else(|| value.text().into()));
        Self::new(&token, seconds.map_or(Duration::ZERO, |seconds| lifetime(&seconds)))
    }

    /// The token in an answer of [`generateAccessToken`].
    ///
    /// [`generateAccessToken`]: https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
    pub(super) fn of_impersonation(body: &[u8]) -> Option<Self> {
        let answer = Object::parse(body).ok()?;
        let token = Zeroizing::new(answer.get("accessToken").and_then(string)?.into_owned());
        let ends = answer.get("expireTime").and_then(string).and_then(|time| time.parse::<Timestamp>().ok());
        let left = ends.and_then(|ends| Duration::try_from(ends.duration_since(Timestamp::now())).ok());
        Self::new(&token, left.unwrap_or_default())
    }

    /// Whether it lasts longer than that.
    pub(super) fn lasts(&self, time: Duration) -> bool {
        self.ends.saturating_duration_since(Instant::now()) > time
    }

    /// The value of the header `Authorization`.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

/// Seconds of a token service: what no number holds lasts as long as can be, what is none doesn't last.
fn lifetime(seconds: &str) -> Duration {
    let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { seconds.parse().map_or(MAX_LIFETIME, Duration::from_secs) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn oauth(lifetime: &str) -> Token {
        Token::of_oauth(format!(r#"{{"access_token":"t","expires_in":{lifetime}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_lifetime_is_capped_and_one_that_is_no_number_is_none() {
        for long in ["43200", "18446744073709551615", "18446744073709551616", "\"99999\""] {
            assert!(oauth(long).lasts(11 * HOUR) && !oauth(long).lasts(12 * HOUR), "{long}");
        }
        for none in ["0", "-1", "0.5", "1e400", "[]", "\"\"", "null", "{}"] {
            assert!(!oauth(none).lasts(Duration::ZERO), "{none}");
        }
        assert!(oauth("3600").lasts(HOUR / 2) && !oauth("3600").lasts(HOUR));
        for (time, hours) in [("9999-12-01T23:59:59Z", 11), ("0000-01-01T00:00:00Z", 0), ("10000-01-01T00:00:00Z", 0), ("", 0)] {
            let answer = format!(r#"{{"accessToken":"t","expireTime":"{time}"}}"#);
            let token = Token::of_impersonation(answer.as_bytes()).unwrap();
            assert_eq!((token.lasts(hours * HOUR), token.lasts(12 * HOUR)), (hours > 0, false), "{time}");
        }
    }

    #[test]
    fn what_holds_no_token_that_can_be_sent_gives_none() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"access_token":7}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"a\r\nb: c"}"#,
            r#"{"access_token":"ü"}"#,
        ] {
            assert!(Token::of_oauth(body.as_bytes()).is_none(), "{body}");
            assert!(Token::of_impersonation(body.replace("access_token", "accessToken").as_bytes()).is_none(), "{body}");
        }
    }
}

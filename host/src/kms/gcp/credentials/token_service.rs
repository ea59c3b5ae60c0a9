//! How tokens are asked for: within the exchange's deadline, by the host's one HTTP client.

use std::time::Instant;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::refusal::google_error;
use super::token::Token;
use super::{HINT, SCOPE};
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::kms::http::{Answer, Call, Http, Repeat, address};
use crate::{Environment, Error};

/// How messages begin that say why there is no token.
pub(super) const NO_TOKEN: &str = "no Google access token was given: ";

/// The longest line of plain text that is shown of an answer, in bytes.
const MAX_PLAIN: usize = 256;

/// What it takes to ask for a token for one exchange.
#[derive(Clone, Copy)]
pub(super) struct TokenService<'a> {
    pub http: &'a Http,
    pub environment: &'a Environment,
    /// The key's URI, for errors.
    pub key: &'a str,
    pub deadline: Instant,
}

impl TokenService<'_> {
    /// Makes a request, and returns the answer if it is a good one. `hint` is what to do if it isn't.
    pub async fn send(&self, method: Method, url: &Url, headers: HeaderMap, body: Zeroizing<Vec<u8>>, hint: &str) -> Result<Answer, Error> {
        let Self { http, key, deadline, .. } = *self;
        let call = Call { key, method, url, headers, body, deadline, repeat: Repeat::Freely };
        let answer = http.send(call).await.map_err(|error| match error {
            Error::Unavailable { key, reason } => Error::Unavailable { key, reason: format!("{NO_TOKEN}{reason}") },
            other => other,
        })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let said = said(url, &answer);
        if answer.is_busy() { Err(self.unavailable(&said)) } else { Err(self.refused(&said, &remedy(&answer, hint))) }
    }

    /// Posts a form.
    pub async fn post_form(&self, url: &Url, mut headers: HeaderMap, form: &[(&str, &str)], hint: &str) -> Result<Answer, Error> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.send(Method::POST, url, headers, encoded(form), hint).await
    }

    /// The token in the answer of an OAuth server.
    pub fn token_in(&self, url: &Url, answer: &Answer) -> Result<Token, Error> {
        Token::of_oauth(&answer.body).ok_or_else(|| self.no_token_in(url))
    }

    /// An answer that should hold a token and doesn't.
    pub fn no_token_in(&self, url: &Url) -> Error {
        self.refused(&format!("the answer of {} holds none", address(url)), HINT)
    }

    /// No token will be given unless something is changed.
    pub fn refused(&self, reason: &str, hint: &str) -> Error {
        let message = format!("{NO_TOKEN}{}", printable(reason, MAX_OUTSIDE_TEXT));
        // No KMS has answered: hence no status.
        Error::Kms { key: self.key.to_owned(), status: 0, code: "CREDENTIALS".into(), message, hint: hint.to_owned() }
    }

    /// A token may be given another time.
    pub fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable { key: self.key.to_owned(), reason: format!("{NO_TOKEN}{}", printable(reason, MAX_OUTSIDE_TEXT)) }
    }
}

/// A service account that is impersonated.
pub(super) struct Impersonation {
    /// Its method `generateAccessToken`.
    pub url: Url,
    pub delegates: Vec<String>,
    /// How long tokens shall last, in seconds.
    pub lifetime: u64,
}

#[derive(Serialize)]
struct GenerateAccessToken<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    delegates: &'a [String],
    scope: [&'static str; 1],
    lifetime: String,
}

impl Impersonation {
    /// How long tokens last unless a file says otherwise, in seconds.
    pub const LIFETIME: u64 = 3600;

    /// A token of the account, for whoever has this one.
    pub async fn token(&self, service: &TokenService<'_>, caller: &Token) -> Result<Token, Error> {
        let request = GenerateAccessToken { delegates: &self.delegates, scope: [SCOPE], lifetime: format!("{}s", self.lifetime) };
        let body = serde_json::to_vec(&request).expect("strings serialise");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, caller.header())]);
        let hint = match self.account() {
            Some(account) => format!(
                "let the caller impersonate it: gcloud iam service-accounts add-iam-policy-binding {account} --role \
                 roles/iam.serviceAccountTokenCreator --member CALLER"
            ),
            None => HINT.to_owned(),
        };
        let answer = service.send(Method::POST, &self.url, headers, body.into(), &hint).await?;
        Token::of_impersonation(&answer.body).ok_or_else(|| service.no_token_in(&self.url))
    }

    /// The account's address.
    pub fn account(&self) -> Option<&str> {
        let account = self.url.path().split_once("/serviceAccounts/")?.1.strip_suffix(":generateAccessToken")?;
        account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte)).then_some(account)
    }
}

/// Names and values as a form (`application/x-www-form-urlencoded`).
fn encoded(form: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    // Sized beforehand for the longest spelling, so that no copy of a secret is left behind by a buffer that grew.
    let length = form.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut text = url::form_urlencoded::Serializer::new(String::with_capacity(length));
    Zeroizing::new(text.extend_pairs(form).finish().into_bytes())
}

/// What a token service says: its name of the error and its message, or a line of plain text.
fn said(url: &Url, answer: &Answer) -> String {
    let error = google_error(&answer.body);
    let text = std::str::from_utf8(&answer.body).unwrap_or_default().trim_start();
    let plain = if text.starts_with(['{', '[', '<']) { "" } else { text.lines().next().unwrap_or_default() };
    let parts = [&*error.code, &*error.message, &*printable(plain, MAX_PLAIN)];
    let text = parts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    format!("{} answered {} {text}", address(url), answer.status.as_u16()).trim_end().to_owned()
}

/// What the answer itself says to do, or else the hint.
fn remedy(answer: &Answer, hint: &str) -> String {
    let error = google_error(&answer.body);
    match &*error.reason {
        "SERVICE_DISABLED" => {
            "enable the API that the message names, in the project that it names: gcloud services enable API --project PROJECT".into()
        }
        // The organisation asks users to prove from time to time that they are there.
        "invalid_rapt" => "log in again, as your organisation asks for from time to time: gcloud auth application-default login".into(),
        _ => hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_in_the_buffer_that_was_made_for_it() {
        let form = encoded(&[("a", "x y&ü"), ("b", "1//0=")]);
        assert_eq!(&*form, b"a=x+y%26%C3%BC&b=1%2F%2F0%3D");
        assert!(form.capacity() >= form.len());
    }

    #[test]
    fn an_account_is_named_only_if_it_is_one() {
        let account = |name: &str| {
            let url = format!("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{name}:generateAccessToken");
            Impersonation { url: Url::parse(&url).unwrap(), delegates: Vec::new(), lifetime: 1 }.account().map(str::to_owned)
        };
        assert_eq!(account("a@p.iam.gserviceaccount.com").as_deref(), Some("a@p.iam.gserviceaccount.com"));
        assert_eq!(account("a$(x)"), None);
    }
}

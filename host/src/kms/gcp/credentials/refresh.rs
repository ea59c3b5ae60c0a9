//! Refresh tokens: of users that logged in with gcloud, by Google's own accounts or by those of a workforce identity pool.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use ocicrypt_kms_protocol::bytes;
use ocicrypt_kms_protocol::json::{Object, string};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::HINT;
use super::token::Token;
use super::token_service::TokenService;
use crate::Error;

/// An OAuth client, as it shows that it is itself.
pub(super) struct Client {
    pub id: String,
    pub secret: Zeroizing<String>,
}

impl Client {
    /// The header of HTTP's Basic authentication ([RFC 6749], section 2.3.1).
    ///
    /// [RFC 6749]: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
    pub fn basic(&self) -> HeaderMap {
        let pair = Zeroizing::new(format!("{}:{}", self.id, *self.secret));
        let text = Zeroizing::new(format!("Basic {}", *Zeroizing::new(bytes::encode(pair.as_bytes()))));
        let mut value = HeaderValue::from_str(&text).expect("base64 is ASCII");
        value.set_sensitive(true);
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }
}

/// A refresh token and where it is good.
pub(super) struct RefreshToken {
    pub url: Url,
    pub client: Client,
    /// A service may give another one each time.
    pub token: Mutex<Zeroizing<String>>,
    /// Whose it is.
    pub user: User,
}

/// Whose a refresh token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum User {
    /// An account of Google.
    Google,
    /// Somebody of a workforce identity pool.
    Workforce,
}

impl RefreshToken {
    pub async fn token(&self, service: &TokenService<'_>) -> Result<Token, Error> {
        let refresh = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        let (headers, hint) = match self.user {
            User::Google => {
                form.extend([("client_id", self.client.id.as_str()), ("client_secret", self.client.secret.as_str())]);
                (HeaderMap::new(), HINT)
            }
            User::Workforce => (self.client.basic(), "log in again: gcloud auth application-default login --login-config FILE"),
        };
        let answer = service.post_form(&self.url, headers, &form, hint).await?;
        let next = Object::parse(&answer.body).ok().and_then(|answer| answer.get("refresh_token").and_then(string).map(Cow::into_owned));
        if let Some(next) = next.filter(|next| !next.is_empty()) {
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = next.into();
        }
        service.token_in(&self.url, &answer)
    }
}

//! Requests with a token: one that was given, or one that a login gave, which is kept as long as it lasts.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::super::http::{Answer, Repeat};
use super::credentials::{Credentials, Found, LoggedIn, Login, Token};
use super::refusal::{errors, no_token_sent};
use super::server::{Post, Server};
use super::settings::Settings;
use crate::key_uri::Service;
use crate::{Error, count};

/// How long after a refusal that led to a login others don't. A refusal has other causes than the token, and an image that names a
/// forbidden key must not make a login each time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server and the token for it.
pub(super) struct Session {
    server: Server,
    credentials: Credentials,
    /// Held while logging in, so that one login serves all who wait for it.
    current: Mutex<Option<Current>>,
}

/// A token that a login gave.
struct Current {
    token: Token,
    /// When to log in again. Without: it lasts.
    until: Option<Instant>,
    /// When a refusal last led to a login.
    refused: Option<Instant>,
}

impl Session {
    pub fn new(settings: &Settings<'_>) -> Self {
        Self { server: Server::new(settings), credentials: Credentials::new(settings), current: Mutex::default() }
    }

    /// Whether the settings can be used at all, for `key`.
    pub fn check(&self, key: &str) -> Result<(), Error> {
        self.server.check(key)
    }

    /// Makes a request: once, and once more if a token that was kept is refused and a login gives another.
    pub async fn post(&self, key: &str, path: &str, body: &Zeroizing<Vec<u8>>, deadline: Instant) -> Result<Answer, Error> {
        let post = || Post { key, path, body: body.clone(), deadline, repeat: Repeat::Freely };
        let login = match self.credentials.find(key, self.server.may_add_token())? {
            Found::Token(token) => return self.server.post(Some(&token), post()).await,
            Found::Login(login) => login,
            Found::Nothing => return self.post_without_token(post()).await,
        };
        let (token, kept) = self.kept_or_new(&login, key, deadline).await?;
        let answer = self.server.post(Some(&token), post()).await?;
        if answer.status != StatusCode::FORBIDDEN || !kept {
            return Ok(answer);
        }
        match self.another(&login, &token, key, deadline).await? {
            Some(token) => self.server.post(Some(&token), post()).await,
            None => Ok(answer),
        }
    }

    /// Makes a request to which an Agent or Proxy adds a token.
    async fn post_without_token(&self, post: Post<'_>) -> Result<Answer, Error> {
        let (key, path) = (post.key, post.path);
        let answer = self.server.post(None, post).await?;
        // What a server says to whoever has no token, which is also what it says to a token that may not do this.
        let is_missing = answer.status == StatusCode::FORBIDDEN || errors(&answer.body).contains("missing client token");
        if is_missing { Err(no_token_sent(key, path, &self.server.shown(), &answer)) } else { Ok(answer) }
    }

    /// The token that is kept, or a new one; and whether it was kept.
    async fn kept_or_new(&self, login: &Login, key: &str, deadline: Instant) -> Result<(Token, bool), Error> {
        let mut current = self.lock(key, deadline).await?;
        match &*current {
            Some(kept) if kept.lasts() => Ok((kept.token.clone(), true)),
            _ => self.log_in(&mut current, login, key, deadline).await.map(|token| (token, false)),
        }
    }

    /// A token in place of one that was refused, which may have been revoked before its time. None if there is no other: then the refusal
    /// is what matters, and the token stays, since it may be good for other keys.
    async fn another(&self, login: &Login, refused: &Token, key: &str, deadline: Instant) -> Result<Option<Token>, Error> {
        let mut current = self.lock(key, deadline).await?;
        match &mut *current {
            // Somebody else was quicker.
            Some(kept) if kept.lasts() && kept.token != *refused => return Ok(Some(kept.token.clone())),
            Some(Current { refused: Some(when), .. }) if when.elapsed() < PATIENCE => return Ok(None),
            Some(kept) => kept.refused = Some(Instant::now()),
            None => {}
        }
        let token = self.log_in(&mut current, login, key, deadline).await;
        Ok(token.inspect_err(|error| tracing::debug!(key, error = error.line(), "no other token")).ok())
    }

    async fn lock(&self, key: &str, deadline: Instant) -> Result<tokio::sync::MutexGuard<'_, Option<Current>>, Error> {
        let late = |_| Error::Unavailable { key: key.to_owned(), reason: "another exchange's login to Vault did not end in time".into() };
        tokio::time::timeout_at(deadline.into(), self.current.lock()).await.map_err(late)
    }

    async fn log_in(&self, current: &mut Option<Current>, login: &Login, key: &str, deadline: Instant) -> Result<Token, Error> {
        // Counted from before the request, so that it never seems to last longer than it does.
        let begun = Instant::now();
        login.check(self.server.has_client_certificate())?;
        let path = login.path();
        // A secret id may be good for one login, and one that was acted upon has used it up.
        let post = Post { key, path: &path, body: login.body()?, deadline, repeat: Repeat::IfNotActedUpon };
        let answer = self.server.post(None, post).await;
        let logged_in = answer.and_then(|answer| login.read(key, &answer));
        count::token(Service::Vault, logged_in.is_ok());
        let LoggedIn { token, lease, reusable } = logged_in?;
        tracing::debug!(key, method = login.method(), lease = lease.map(|lease| lease.as_secs()), "logged in to Vault");
        let refused = current.take().and_then(|before| before.refused);
        *current = reusable.then(|| Current { token: token.clone(), until: lease.map(|lease| begun + lease * 9 / 10), refused });
        Ok(token)
    }
}

impl Current {
    fn lasts(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

//! One call of Cloud KMS: where a key is, and how it is asked.

use std::sync::Arc;
use std::time::Instant;

use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use zeroize::Zeroizing;

use super::answer::Asked;
use super::credentials::Credentials;
use super::refusal::Refusal;
use super::verb::Verb;
use crate::Error;
use crate::key_uri::GcpKey;
use crate::kms::MAX_CIPHERTEXT;
use crate::kms::http::{Answer, Call, Http, Repeat, below};

/// A key of Cloud KMS, and what it takes to ask for it.
pub(super) struct Remote {
    pub(super) http: Arc<Http>,
    pub(super) endpoint: Url,
    pub(super) credentials: Arc<Credentials>,
    pub(super) uri: String,
    pub(super) name: GcpKey,
    pub(super) deadline: Instant,
}

impl Remote {
    /// What an answer has to be of.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked { uri: &self.uri, name: &self.name }
    }

    /// Asks `name`, which is this key or its version, with the JSON of `request`.
    pub(super) async fn post(&self, verb: Verb, name: &str, request: &impl Serialize) -> Result<Answer, Error> {
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut body = Zeroizing::new(Vec::with_capacity(2 * MAX_CIPHERTEXT));
        serde_json::to_writer(&mut *body, request).expect("strings serialise");
        self.call(Method::POST, verb, name, body).await
    }

    /// Reads what belongs to `name`.
    #[cfg(feature = "asymmetric")]
    pub(super) async fn get(&self, verb: Verb, name: &str) -> Result<Answer, Error> {
        self.call(Method::GET, verb, name, Zeroizing::default()).await
    }

    async fn call(&self, method: Method, verb: Verb, name: &str, body: Zeroizing<Vec<u8>>) -> Result<Answer, Error> {
        let url = below(&self.endpoint, &format!("v1/{name}{}", verb.suffix()));
        let headers = self.credentials.headers(&self.uri, self.deadline).await?;
        tracing::debug!(key = self.uri, host = url.host_str(), ?verb, "calling Cloud KMS");
        let call = Call { key: &self.uri, method, url: &url, headers, body, deadline: self.deadline, repeat: Repeat::Freely };
        let answer = self.http.send(call).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            self.credentials.forget_token(&self.uri, self.deadline).await;
        }
        Err(Refusal { uri: &self.uri, name: &self.name, verb }.error(&answer))
    }
}

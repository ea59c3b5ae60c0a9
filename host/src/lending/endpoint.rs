//! Lending an endpoint for one key: the same budget, origins, policy and record as for keys, around requests whose meaning the host doesn't know.

use std::sync::Arc;

use ocicrypt_kms_protocol::Operation;

use super::{Lending, Loan, denied};
use crate::key_uri::{Key, KeyUri};
use crate::kms::endpoint::{Allowed, Endpoint, Request, Response};
use crate::kms::request_id;
use crate::policy::Denial;
use crate::{Error, count};

/// An endpoint that was lent for one key.
pub struct LentEndpoint {
    uri: KeyUri,
    endpoint: Arc<Endpoint>,
    /// How many requests have succeeded.
    succeeded: u32,
    loan: Loan,
}

impl LentEndpoint {
    /// The URI of the key that it was lent for.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    /// The key's part of the URI.
    #[must_use]
    pub fn key(&self) -> &str {
        match self.uri.key() {
            Key::HttpKms(key) => &key.key,
            // For others there is no endpoint.
            _ => "",
        }
    }
}

impl Lending {
    /// Lends an endpoint for one key.
    ///
    /// # Errors
    /// If the budget is spent, the exchange isn't about the key, the policy says no, or there is no such endpoint.
    pub async fn open_endpoint(&mut self, uri: &str, operation: Operation) -> Result<LentEndpoint, Error> {
        let (parsed, asked) = self.asked(uri);
        let outcome = self.admit(parsed, operation).and_then(|uri| self.lend_endpoint(uri, operation));
        self.end_open("open-endpoint", &asked, outcome)
    }

    fn lend_endpoint(&mut self, uri: KeyUri, operation: Operation) -> Result<LentEndpoint, Error> {
        let endpoint = self.lender.endpoints.find(&uri, operation)?;
        let loan = self.lend(&uri);
        Ok(LentEndpoint { uri, endpoint, succeeded: 0, loan })
    }

    /// Makes one request of a lent endpoint. What an unwrap is answered is given out only if that is on record.
    ///
    /// # Errors
    /// If the budget is spent, the configuration doesn't allow the request, or those of the service.
    pub async fn request(&mut self, lent: &mut LentEndpoint, request: Request<'_>) -> Result<Response, Error> {
        let outcome = match self.begin_use(&lent.uri, lent.loan).and_then(|()| self.allow(lent, request)) {
            Err(error) => Err(error),
            Ok(allowed) => {
                self.ledger.requesting(&allowed.shown);
                let (status, outcome) = lent.endpoint.send(&lent.uri, allowed, self.deadline).await;
                self.ledger.answered(status);
                outcome
            }
        };
        lent.succeeded += u32::from(outcome.is_ok());
        count::key_use(self.exchange.operation, lent.uri.service(), self.use_began, &outcome);
        let outcome = self.ledger.used(outcome, request_id::take()).await;
        self.used |= outcome.is_ok();
        self.record("request", lent.uri.canonical(), outcome)
    }

    fn allow(&self, lent: &LentEndpoint, request: Request<'_>) -> Result<Allowed, Error> {
        let (operation, most) = (self.exchange.operation, lent.endpoint.max_requests());
        if lent.succeeded >= most {
            let reason = format!("it was lent for {most} successful requests, which it has had");
            let hint = format!("if the component needs more, raise `max-requests` below `[http-kms.{}]`", lent.endpoint.name());
            return Err(denied(&lent.uri, operation, Denial { reason, hint, rules: Vec::new() }));
        }
        let refused = |(reason, hint)| {
            let reason = format!("a request is not let through: {reason}");
            denied(&lent.uri, operation, Denial { reason, hint, rules: Vec::new() })
        };
        lent.endpoint.allow(operation, lent.key(), request).map_err(refused)
    }
}

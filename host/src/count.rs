//! What is counted, by way of the [`metrics`] facade: a program that installs no recorder pays next to nothing. `docs/server.md` lists it.

use std::time::{Duration, Instant};

use ocicrypt_kms_protocol::Operation;

#[cfg(feature = "http")]
use crate::key_uri::Scheme;
use crate::key_uri::Service;
use crate::panics::outcome_of_dropped;
use crate::{Error, ErrorKind};

/// Exchanges, by `operation`, `service` and `outcome`.
pub(crate) const EXCHANGES: &str = "ocicrypt_kms_exchanges_total";
/// How long exchanges take, in seconds, by `operation` and `service`.
pub(crate) const EXCHANGE_SECONDS: &str = "ocicrypt_kms_exchange_duration_seconds";
/// Exchanges that are under way.
pub(crate) const IN_FLIGHT: &str = "ocicrypt_kms_exchanges_in_flight";
/// Uses of lent keys, in seconds, by `operation`, `service` and `outcome`: one round trip to the KMS each, with its repetitions.
pub(crate) const USE_SECONDS: &str = "ocicrypt_kms_key_use_duration_seconds";
/// Exchanges that ended because the component broke its contract or its limits.
pub(crate) const TRAPS: &str = "ocicrypt_kms_sandbox_failures_total";
/// Records that could not be written to the audit log.
pub(crate) const LOST_RECORDS: &str = "ocicrypt_kms_audit_records_lost_total";
/// Times that a file was read anew, by `what` (`policy`, `certificates`) and `outcome` (`ok`, `failed`).
#[cfg(feature = "server")]
pub(crate) const RELOADS: &str = "ocicrypt_kms_reloads_total";
/// Clients that TLS refused.
#[cfg(feature = "server")]
pub(crate) const TLS_REFUSALS: &str = "ocicrypt_kms_tls_refusals_total";
/// When the server's certificate ends to be valid, in seconds since 1970.
#[cfg(feature = "server")]
pub(crate) const CERTIFICATE_END: &str = "ocicrypt_kms_certificate_not_after_timestamp_seconds";
#[cfg(feature = "server")]
pub(crate) const CRL_END: &str = "ocicrypt_kms_crl_next_update_timestamp_seconds";
/// Connections that were refused, by `reason` (`greeting`, `share`, `all`).
#[cfg(feature = "server")]
pub(crate) const CONNECTIONS_REFUSED: &str = "ocicrypt_kms_connections_refused_total";
/// Exchanges that were refused before they began, by `reason` (`quota`, `memory`, `share`, `waiting`, `late`).
#[cfg(feature = "server")]
pub(crate) const EXCHANGES_REFUSED: &str = "ocicrypt_kms_exchanges_refused_total";
/// 1, with the program's `version`.
#[cfg(feature = "server")]
pub(crate) const BUILD: &str = "ocicrypt_kms_build_info";

/// Requests to a KMS, and for tokens where no cloud's library asks for them, repetitions among them, by `service` and `status` (of HTTP; `none` without an answer).
#[cfg(feature = "http")]
pub(crate) const REQUESTS: &str = "ocicrypt_kms_requests_total";
/// Tokens and credentials that were asked for, by `service` and `outcome` (`ok`, `failed`).
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp", feature = "vault", all(feature = "http", feature = "server")))]
pub(crate) const TOKENS: &str = "ocicrypt_kms_tokens_total";

/// What becomes of an exchange. One that is dropped before it is finished was given up by its caller, or panicked.
pub(crate) struct Counted {
    operation: Option<Operation>,
    service: Option<Service>,
    began: Instant,
    outcome: Option<&'static str>,
}

impl Counted {
    pub fn begin() -> Self {
        metrics::gauge!(IN_FLIGHT).increment(1);
        Self { operation: None, service: None, began: Instant::now(), outcome: None }
    }

    /// Notes what was asked for, which the message says.
    pub fn operation(&mut self, operation: Operation) {
        self.operation = Some(operation);
    }

    /// Notes the outcome, and the service of the key that the exchange was about.
    pub fn finish<T>(&mut self, service: Option<Service>, outcome: &Result<T, Error>) {
        self.service = service;
        self.outcome = Some(name(outcome));
        if matches!(outcome, Err(error) if error.kind() == ErrorKind::Component) {
            metrics::counter!(TRAPS).increment(1);
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let operation = self.operation.map_or("none", Operation::as_str);
        let service = self.service.map_or("none", Service::as_str);
        let outcome = self.outcome.unwrap_or_else(outcome_of_dropped);
        metrics::gauge!(IN_FLIGHT).decrement(1);
        metrics::counter!(EXCHANGES, "operation" => operation, "service" => service, "outcome" => outcome).increment(1);
        metrics::histogram!(EXCHANGE_SECONDS, "operation" => operation, "service" => service).record(self.began.elapsed());
    }
}

/// One use of a lent key.
pub(crate) fn key_use<T>(operation: Operation, service: Service, began: Instant, outcome: &Result<T, Error>) {
    let labels = [("operation", operation.as_str()), ("service", service.as_str()), ("outcome", name(outcome))];
    metrics::histogram!(USE_SECONDS, &labels).record(began.elapsed());
}

/// Records that could not be written to the audit log.
pub(crate) fn lost_records(records: u64) {
    metrics::counter!(LOST_RECORDS).increment(records);
}

/// One HTTP request for a key with this URI.
#[cfg(feature = "http")]
pub(crate) fn request(key: &str, status: Option<u16>) {
    let scheme = key.split_once("://").and_then(|(scheme, _)| Scheme::named(scheme));
    let service = scheme.map_or("none", |scheme| scheme.service().as_str());
    let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    metrics::counter!(REQUESTS, "service" => service, "status" => status).increment(1);
}

/// One token that was asked for.
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp", feature = "vault"))]
pub(crate) fn token(service: Service, got: bool) {
    metrics::counter!(TOKENS, "service" => service.as_str(), "outcome" => whether(got)).increment(1);
}

/// A file that was read anew.
#[cfg(feature = "server")]
pub(crate) fn reload(what: &'static str, done: bool) {
    metrics::counter!(RELOADS, "what" => what, "outcome" => whether(done)).increment(1);
}

/// A client that TLS refused.
#[cfg(feature = "server")]
pub(crate) fn tls_refusal() {
    metrics::counter!(TLS_REFUSALS).increment(1);
}

/// A connection that was refused.
#[cfg(feature = "server")]
pub(crate) fn connection_refused(reason: &'static str) {
    metrics::counter!(CONNECTIONS_REFUSED, "reason" => reason).increment(1);
}

/// An exchange that was refused before it began.
#[cfg(feature = "server")]
pub(crate) fn exchange_refused(reason: &'static str) {
    metrics::counter!(EXCHANGES_REFUSED, "reason" => reason).increment(1);
}

/// The certificate that new connections get, by the seconds since 1970 when it ends to be valid.
#[cfg(feature = "server")]
pub(crate) fn certificate(not_after: i64) {
    metrics::gauge!(CERTIFICATE_END).set(not_after as f64);
}

/// The lists of revoked certificates, by the seconds since 1970 when the first of them ends to be valid.
#[cfg(feature = "server")]
pub(crate) fn revocation_list(next_update: i64) {
    metrics::gauge!(CRL_END).set(next_update as f64);
}

/// Shows what can be shown before anything has happened: an alert on a counter's increase misses the first if it begins with it.
#[cfg(feature = "server")]
pub(crate) fn begin() {
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
    metrics::gauge!(IN_FLIGHT).set(0);
    metrics::counter!(TRAPS).increment(0);
    metrics::counter!(LOST_RECORDS).increment(0);
    metrics::counter!(TLS_REFUSALS).increment(0);
    for reason in ["greeting", "share", "all"] {
        metrics::counter!(CONNECTIONS_REFUSED, "reason" => reason).increment(0);
    }
    for reason in ["quota", "memory", "share", "waiting", "late"] {
        metrics::counter!(EXCHANGES_REFUSED, "reason" => reason).increment(0);
    }
    for (what, outcome) in [("policy", "ok"), ("policy", "failed"), ("certificates", "ok"), ("certificates", "failed")] {
        metrics::counter!(RELOADS, "what" => what, "outcome" => outcome).increment(0);
    }
}

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp", feature = "vault", feature = "server"))]
fn whether(done: bool) -> &'static str {
    if done { "ok" } else { "failed" }
}

/// The label of an outcome: `ok`, or the kind of failure.
fn name<T>(outcome: &Result<T, Error>) -> &'static str {
    outcome.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok")
}

/// What the metrics mean, for those who read them.
#[cfg(feature = "server")]
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(EXCHANGES, "Exchanges that ended.");
    describe_histogram!(EXCHANGE_SECONDS, Unit::Seconds, "How long exchanges took.");
    describe_gauge!(IN_FLIGHT, "Exchanges that are under way.");
    describe_histogram!(USE_SECONDS, Unit::Seconds, "How long uses of lent keys took, repetitions of a KMS call included.");
    describe_counter!(TRAPS, "Exchanges that ended because the component broke its contract or its limits.");
    describe_counter!(LOST_RECORDS, "Records that could not be written to the audit log.");
    describe_counter!(RELOADS, "Times that the policy or the certificates were read anew.");
    describe_counter!(TLS_REFUSALS, "Clients that TLS refused.");
    describe_counter!(CONNECTIONS_REFUSED, "Connections that were refused.");
    describe_counter!(EXCHANGES_REFUSED, "Exchanges that were refused before they began.");
    describe_gauge!(CERTIFICATE_END, Unit::Seconds, "When the server's certificate ends to be valid, since 1970.");
    describe_gauge!(CRL_END, Unit::Seconds, "When the first list of revoked client certificates ends to be valid, since 1970.");
    describe_gauge!(BUILD, "1, with the program's version.");
    #[cfg(feature = "http")]
    describe_counter!(REQUESTS, "HTTP requests to a KMS, and for tokens of Google and Vault, repetitions among them.");
    #[cfg(feature = "http")]
    describe_counter!(TOKENS, "Tokens and credentials that were asked for.");
}

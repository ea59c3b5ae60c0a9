//! Metrics for Prometheus, and whether the server is up, on a listener of their own.

mod registry;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::sync::watch;

use self::registry::Registry;
use crate::audit::Audit;
use crate::{Error, count};

/// The media type of Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What has been counted in this process.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

impl Metrics {
    /// Begins to count. Once per process: it takes the place of the [`metrics`](https://docs.rs/metrics) facade's recorder.
    ///
    /// # Errors
    /// If another recorder is installed.
    pub fn install() -> Result<Self, Error> {
        let registry = Arc::new(Registry::default());
        metrics::set_global_recorder(registry.clone())
            .map_err(|error| Error::Internal { reason: format!("metrics can't be recorded: {error}") })?;
        count::describe();
        count::begin();
        Ok(Self(registry))
    }
}

/// Serves `/metrics` and `/healthz`. While the server drains, it is not healthy any more, and what it still does is counted. Nor is it while no
/// record can be written: it gives out no key then.
pub(super) async fn serve(metrics: Metrics, listener: tokio::net::TcpListener, stop: watch::Receiver<bool>, audit: Option<Arc<Audit>>) {
    let text = move || {
        let text = metrics.0.text();
        async move { ([(CONTENT_TYPE, TEXT)], text) }
    };
    let healthy = move || {
        let (stopping, audit) = (*stop.borrow(), audit.clone());
        async move {
            match stopping {
                true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
                false if !can_be_written(audit).await => (StatusCode::SERVICE_UNAVAILABLE, "the audit log can't be written\n"),
                false => (StatusCode::OK, "ok\n"),
            }
        }
    };
    let routes = Router::new().route("/metrics", get(text)).route("/healthz", get(healthy));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(error = error.to_string(), "metrics are not served any more");
    }
}

/// Whether records can be written, as far as the disk tells without one. Why not is for the log: it has paths in it.
async fn can_be_written(audit: Option<Arc<Audit>>) -> bool {
    let Some(audit) = audit else { return true };
    match tokio::task::spawn_blocking(move || audit.check()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(error = error.line(), "not healthy");
            false
        }
        Err(_) => false,
    }
}

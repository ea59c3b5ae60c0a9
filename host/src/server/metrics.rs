//! Metrics for Prometheus, and whether the server is up, on a listener of their own.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::{Error, count};

/// The bounds of the histograms' buckets, in seconds: a local key takes well under a millisecond, a KMS far away a second.
const SECONDS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// The media type of Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What has been counted in this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to count. Once per process: it takes the place of the [`metrics`](https://docs.rs/metrics) facade's recorder.
    ///
    /// # Errors
    /// If another recorder is installed.
    pub fn install() -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Internal { reason: format!("metrics can't be recorded: {error}") };
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS).map_err(|error| failed(&error))?;
        let handle = builder.install_recorder().map_err(|error| failed(&error))?;
        count::describe();
        count::begin();
        Ok(Self(handle))
    }

    fn text(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

/// Serves `/metrics` and `/healthz`. While the server drains, it is not healthy any more, and what it still does is counted. Nor is it while no
/// record can be written: it gives out no key then.
pub(super) async fn serve(metrics: Metrics, listener: tokio::net::TcpListener, stop: watch::Receiver<bool>, audit: Option<Arc<Audit>>) {
    let text = move || {
        let text = metrics.text();
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

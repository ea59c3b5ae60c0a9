//! The server's logs, and its traces where somebody collects them.

use ocicrypt_kms::Error;
use ocicrypt_kms::config::{LogFormat, LogLevel};
use ocicrypt_kms::server::SPANS;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

/// Ends with the server: what has not been sent yet is sent then.
#[must_use]
pub(super) struct Log {
    #[cfg(feature = "opentelemetry")]
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Logs to standard error from now on, and sends traces if OpenTelemetry's variables say where to. Only this program's own events are
/// written: those of HTTP libraries may hold credentials.
pub(super) fn start(format: LogFormat, level: LogLevel) -> Result<Log, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Internal { reason: format!("logs can't be written: {error}") };
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let ours = |level: Level| Targets::new().with_target("ocicrypt_kms", level);
    // Spans are for traces; in lines they would say again what the events say.
    let lines_only = ours(level).with_target(SPANS, tracing::level_filters::LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(lines_only));
    #[cfg(feature = "opentelemetry")]
    let (subscriber, log) = {
        use opentelemetry::trace::TracerProvider as _;
        let traces = traces()?;
        let layer = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer("ocicrypt-kms")));
        (subscriber.with(layer.with_filter(ours(Level::INFO))), Log { traces })
    };
    #[cfg(not(feature = "opentelemetry"))]
    let log = Log {};
    tracing::subscriber::set_global_default(subscriber).map_err(|error| failed(&error))?;
    Ok(log)
}

/// Sends spans by OTLP over HTTP, as the OTEL_ variables say.
#[cfg(feature = "opentelemetry")]
fn traces() -> Result<Option<opentelemetry_sdk::trace::SdkTracerProvider>, Error> {
    const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if ENDPOINTS.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| Error::Configuration { place: ENDPOINTS[0].into(), reason: error.to_string() })?;
    let service = opentelemetry_sdk::Resource::builder().with_service_name("ocicrypt-kms").build();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(service);
    Ok(Some(provider.build()))
}

impl Drop for Log {
    fn drop(&mut self) {
        #[cfg(feature = "opentelemetry")]
        if let Some(Err(error)) = self.traces.as_ref().map(opentelemetry_sdk::trace::SdkTracerProvider::shutdown) {
            tracing::warn!(error = error.to_string(), "the last traces are lost");
        }
    }
}

//! What a client's trace is continued by: the header `traceparent` (W3C Trace Context).

use tracing::Span;

/// The target of the spans, by which a log can leave them out.
pub const SPANS: &str = "ocicrypt_kms::spans";

/// The client's trace, if it sent one.
#[derive(Clone, Debug, Default)]
pub(super) struct Parent {
    #[cfg(feature = "opentelemetry")]
    context: opentelemetry::Context,
}

impl Parent {
    /// Reads it from a request's metadata.
    #[cfg_attr(not(feature = "opentelemetry"), expect(unused_variables, reason = "nothing continues the trace"))]
    pub fn of(metadata: impl Fn(&str) -> Option<String>) -> Self {
        #[cfg(feature = "opentelemetry")]
        return Self { context: propagation::extract(metadata) };
        #[cfg(not(feature = "opentelemetry"))]
        Self::default()
    }

    /// A span for the exchange, below the client's.
    pub fn span(&self, caller: &crate::caller::Caller) -> Span {
        let span = tracing::info_span!(target: SPANS, "exchange", otel.kind = "server", %caller);
        #[cfg(feature = "opentelemetry")]
        propagation::adopt(&span, &self.context);
        span
    }
}

#[cfg(feature = "opentelemetry")]
mod propagation {
    use std::cell::OnceCell;

    use opentelemetry::Context;
    use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    const FIELDS: [&str; 2] = ["traceparent", "tracestate"];

    struct Metadata([OnceCell<String>; 2]);

    impl Extractor for Metadata {
        fn get(&self, key: &str) -> Option<&str> {
            let index = FIELDS.iter().position(|field| *field == key)?;
            self.0[index].get().map(String::as_str)
        }

        fn keys(&self) -> Vec<&str> {
            FIELDS.to_vec()
        }
    }

    pub(super) fn extract(metadata: impl Fn(&str) -> Option<String>) -> Context {
        let fields = FIELDS.map(|field| metadata(field).map_or_else(OnceCell::new, OnceCell::from));
        match fields[0].get() {
            Some(_) => TraceContextPropagator::new().extract_with_context(&Context::new(), &Metadata(fields)),
            None => Context::new(),
        }
    }

    pub(super) fn adopt(span: &tracing::Span, context: &Context) {
        // It fails where no subscriber keeps traces.
        let _ = span.set_parent(context.clone());
    }
}

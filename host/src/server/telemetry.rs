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
    /// The longest of them that is taken over, in bytes: a span keeps it until it was exported. A `traceparent` has 55; of a `tracestate`, W3C asks
    /// to pass on at least 512.
    const MAX_FIELD: usize = 512;

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
        let taken = |field| metadata(field).filter(|value| value.len() <= MAX_FIELD);
        let fields = FIELDS.map(|field| taken(field).map_or_else(OnceCell::new, OnceCell::from));
        match fields[0].get() {
            Some(_) => TraceContextPropagator::new().extract_with_context(&Context::new(), &Metadata(fields)),
            None => Context::new(),
        }
    }

    pub(super) fn adopt(span: &tracing::Span, context: &Context) {
        // It fails where no subscriber keeps traces.
        let _ = span.set_parent(context.clone());
    }

    #[cfg(test)]
    mod tests {
        use opentelemetry::trace::TraceContextExt as _;

        use super::*;

        #[test]
        fn a_clients_trace_is_continued_but_not_at_whatever_length_it_has() {
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let context = |parent: &str, state: &str| {
                let metadata = |field: &str| Some(if field == "traceparent" { parent } else { state }.to_owned());
                let context = extract(metadata);
                let span = context.span().span_context().clone();
                (span.is_valid(), span.trace_state().header().len())
            };
            let state = |length: usize| format!("a={}", "x".repeat(length - 2));
            assert_eq!(context(parent, &state(200)), (true, 200));
            for length in [MAX_FIELD + 1, 4 << 20] {
                assert_eq!(context(parent, &state(length)), (true, 0), "{length}");
            }
            for parent in ["", "00", &format!("{parent}{}", "-x".repeat(1 << 20))] {
                assert_eq!(context(parent, ""), (false, 0));
            }
        }
    }
}

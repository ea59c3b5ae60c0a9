//! What is counted, by name and labels, and its text for Prometheus (version 0.0.4 of the format).

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, GaugeFn as _, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The bounds of a histogram's buckets, in seconds: a local key takes well under a millisecond, a KMS far away a second.
const SECONDS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

#[derive(Default)]
pub(super) struct Registry {
    /// What names mean.
    help: RwLock<BTreeMap<String, SharedString>>,
    counters: Series<AtomicU64>,
    /// The bits of a floating-point number.
    gauges: Series<AtomicU64>,
    histograms: Series<Histogram>,
}

struct Series<T>(RwLock<HashMap<Key, Arc<T>>>);

#[derive(Default)]
struct Histogram {
    /// How many values are in each bucket and in none before it; the last one has no bound.
    buckets: [AtomicU64; SECONDS.len() + 1],
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

impl HistogramFn for Histogram {
    fn record(&self, value: f64) {
        self.buckets[SECONDS.partition_point(|&bound| bound < value)].fetch_add(1, Ordering::Relaxed);
        self.sum.increment(value);
    }
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Default> Series<T> {
    fn one(&self, key: &Key) -> Arc<T> {
        if let Some(one) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return one.clone();
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().clone()
    }

    /// All of them, by name and then by the text of their labels.
    fn sorted(&self) -> BTreeMap<String, BTreeMap<String, Arc<T>>> {
        let mut sorted = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (key, one) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            sorted.entry(name(key.name())).or_default().insert(labels(key), one.clone());
        }
        sorted
    }
}

impl Registry {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.family(&mut text, "counter", &self.counters, |text, name, labels, counter| {
            sample(text, name, labels, counter.load(Ordering::Relaxed));
        });
        self.family(&mut text, "gauge", &self.gauges, |text, name, labels, gauge| {
            sample(text, name, labels, f64::from_bits(gauge.load(Ordering::Relaxed)));
        });
        self.family(&mut text, "histogram", &self.histograms, |text, name, labels, histogram| {
            let bounds = SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let mut count = 0;
            for (bound, bucket) in bounds.zip(&histogram.buckets) {
                count += bucket.load(Ordering::Relaxed);
                let comma = if labels.is_empty() { "" } else { "," };
                sample(text, &format!("{name}_bucket"), &format!("{labels}{comma}le=\"{bound}\""), count);
            }
            sample(text, &format!("{name}_sum"), labels, f64::from_bits(histogram.sum.load(Ordering::Relaxed)));
            sample(text, &format!("{name}_count"), labels, count);
        });
        text
    }

    fn family<T: Default>(&self, text: &mut String, kind: &str, series: &Series<T>, write: impl Fn(&mut String, &str, &str, &T)) {
        let help = self.help.read().unwrap_or_else(PoisonError::into_inner);
        for (name, series) in series.sorted() {
            if let Some(help) = help.get(&name) {
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            series.iter().for_each(|(labels, one)| write(text, &name, labels, one));
            text.push('\n');
        }
    }

    fn describe(&self, key: &KeyName, help: SharedString) {
        self.help.write().unwrap_or_else(PoisonError::into_inner).insert(name(key.as_str()), help);
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.counters.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.gauges.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.histograms.one(key))
    }
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// A name as Prometheus takes it: a program that embeds this library may count by other ones.
fn name(text: &str) -> String {
    let valid = |(at, letter): (usize, char)| match letter {
        'a'..='z' | 'A'..='Z' | '_' | ':' => letter,
        '0'..='9' if at > 0 => letter,
        _ => '_',
    };
    text.chars().enumerate().map(valid).collect()
}

fn labels(key: &Key) -> String {
    let label = |label: &metrics::Label| {
        let value = label.value().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{}=\"{value}\"", name(label.key()).replace(':', "_"))
    };
    key.labels().map(label).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, describe_histogram, gauge, histogram};

    use super::*;

    #[test]
    fn what_is_counted_is_text_for_prometheus() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            describe_counter!("made_total", "What was made,\nby \\kind.");
            describe_histogram!("took_seconds", Unit::Seconds, "How long it took.");
            counter!("made_total", "kind" => "b", "of" => "a \"b\" \\ c\nd").increment(2);
            counter!("made_total", "kind" => "a").increment(1);
            counter!("made_total", "kind" => "a").increment(1);
            counter!("never_total").increment(0);
            gauge!("open").increment(3);
            gauge!("open").decrement(1.5);
            gauge!("2.of-them").set(7);
            for seconds in [0.0001, 0.0002, 2.0, 60.0] {
                histogram!("took_seconds", "service" => "local").record(seconds);
            }
            histogram!("waited_seconds").record(0.5);
        });
        let expected = "\
# HELP made_total What was made,\\nby \\\\kind.
# TYPE made_total counter
made_total{kind=\"a\"} 2
made_total{kind=\"b\",of=\"a \\\"b\\\" \\\\ c\\nd\"} 2

# TYPE never_total counter
never_total 0

# TYPE __of_them gauge
__of_them 7

# TYPE open gauge
open 1.5

# HELP took_seconds How long it took.
# TYPE took_seconds histogram
took_seconds_bucket{service=\"local\",le=\"0.0001\"} 1
took_seconds_bucket{service=\"local\",le=\"0.00025\"} 2
took_seconds_bucket{service=\"local\",le=\"0.0005\"} 2
took_seconds_bucket{service=\"local\",le=\"0.001\"} 2
took_seconds_bucket{service=\"local\",le=\"0.0025\"} 2
took_seconds_bucket{service=\"local\",le=\"0.005\"} 2
took_seconds_bucket{service=\"local\",le=\"0.01\"} 2
took_seconds_bucket{service=\"local\",le=\"0.025\"} 2
took_seconds_bucket{service=\"local\",le=\"0.05\"} 2
took_seconds_bucket{service=\"local\",le=\"0.1\"} 2
took_seconds_bucket{service=\"local\",le=\"0.25\"} 2
took_seconds_bucket{service=\"local\",le=\"1\"} 2
took_seconds_bucket{service=\"local\",le=\"5\"} 3
took_seconds_bucket{service=\"local\",le=\"+Inf\"} 4
took_seconds_sum{service=\"local\"} 62.0003
took_seconds_count{service=\"local\"} 4

# TYPE waited_seconds histogram
";
        let text = registry.text();
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("waited_seconds_bucket{le=\"+Inf\"} 1\nwaited_seconds_sum 0.5\nwaited_seconds_count 1\n\n"), "{text}");
    }
}

//! Prometheus' text format, version 0.0.4.
//!
//! Values of labels may be texts that others have chosen: they are one line, escaped, and bounded.

use std::fmt::{Display, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::config::one_line;
use crate::watch::counters::{BOUNDS_NS, Durations};

/// Maximum length of a label's value, in bytes, before it is escaped. The end of a longer one is a
/// hash of all of it, so that two values stay two.
const VALUE_BYTES_MAX: usize = 160;

/// How a metric behaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The value of a label, as it is written between quotation marks.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct MetricLabelValue(String);

impl MetricLabelValue {
    pub(super) fn new(value: &str) -> Self {
        let mut value = one_line(value);
        if value.len() > VALUE_BYTES_MAX {
            let mut hasher = DefaultHasher::new();
            value.hash(&mut hasher);
            let hash = format!("…{:016x}", hasher.finish());
            value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX - hash.len()));
            value += &hash;
        }
        Self(value.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct MetricsPage {
    text: String,
    /// The metric whose samples follow.
    name: &'static str,
}

impl MetricsPage {
    /// Begins a metric; `help` is one line without a backslash.
    pub(super) fn metric(&mut self, name: &'static str, kind: MetricKind, help: &str) {
        self.name = name;
        let kind = kind.word();
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a value of the metric.
    pub(super) fn sample(&mut self, labels: &[(&str, &MetricLabelValue)], value: impl Display) {
        self.line("", labels, value);
    }

    /// Adds a histogram of the metric, in seconds.
    pub(super) fn histogram(
        &mut self,
        labels: &[(&str, &MetricLabelValue)],
        durations: &Durations,
    ) {
        let (buckets, sum_ns) = durations.get();
        let mut count = 0;
        let bounds = BOUNDS_NS.iter().map(|&ns| MetricLabelValue(seconds(ns).to_string()));
        for (bound, in_bucket) in bounds.chain([MetricLabelValue("+Inf".to_owned())]).zip(buckets) {
            count += in_bucket;
            let labels: Vec<_> = labels.iter().copied().chain([("le", &bound)]).collect();
            self.line("_bucket", &labels, count);
        }
        self.line("_sum", labels, seconds(sum_ns));
        self.line("_count", labels, count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &MetricLabelValue)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (number, (name, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{}\"", value.0);
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

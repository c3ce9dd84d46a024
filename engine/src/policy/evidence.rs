//! The evidence of an alert. [`super::Reporter::alert`] puts it into a record.

use panoptes_sinks::record::detection::Confidence;

use super::techniques::Techniques;

/// Why an alert is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    /// One sentence.
    pub(super) reason: &'a str,
    pub(super) techniques: Techniques,
    pub(super) confidence: Confidence,
    /// When the reason first applied, in nanoseconds since 1970.
    pub(super) since_ns: i64,
    /// Number of scans that have shown it.
    pub(super) scans: u32,
}

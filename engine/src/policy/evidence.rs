//! The evidence of an alert. [`super::Reporter::alert`] puts it into a record.

use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::record::detection::{Confidence, Detection};

use super::techniques::Techniques;
use crate::time::RealTime;

/// Why an alert is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence<'a> {
    /// One sentence.
    pub(super) reason: &'a str,
    pub(super) techniques: Techniques,
    pub(super) confidence: Confidence,
    /// When the reason first applied.
    pub(super) since_ns: RealTime,
    /// Number of scans that have shown it.
    pub(super) scans: u32,
}

impl<'a> Evidence<'a> {
    pub(super) fn detection(self) -> Detection<'a> {
        let Self { reason, techniques, confidence, since_ns, scans } = self;
        let since = Timestamp::from_ns(since_ns.ns());
        Detection::new(reason.into(), techniques, confidence, since, scans)
    }
}

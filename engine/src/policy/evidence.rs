//! The evidence of an alert. [`super::Reporter::alert`] puts it into a record.

use arrayvec::ArrayString;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::{Confidence, Detection};

use super::causes::Cause;
use super::techniques::Techniques;
use crate::time::RealTime;
use crate::walk::MemoryCopyMode;

/// What an alert of a copy of memory adds to its reason, and what follows if it may be torn.
const IN_COPY: &str = "; seen once, in a copy of memory";
const TORN: &str = ", which may be torn";
/// Maximum length of a reason with that in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// Room for the reason of an alert of a copy of memory.
pub(super) type CopyReason = ArrayString<REASON_BYTES_MAX>;

/// Why an alert is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlertEvidence<'a> {
    /// One sentence.
    pub(super) reason: &'a str,
    pub(super) techniques: Techniques,
    pub(super) confidence: Confidence,
    /// When the reason first applied.
    pub(super) since_ns: RealTime,
    /// Number of scans that have shown it.
    pub(super) scans: u32,
    /// What the alert is about. Further ones with the same cause are counted.
    pub(super) cause: Cause,
}

impl<'a> AlertEvidence<'a> {
    /// The evidence that memory gives: a copy shows everything once.
    pub(super) fn of_copy<'r>(
        self,
        copied: MemoryCopyMode,
        reason: &'r mut CopyReason,
    ) -> AlertEvidence<'r>
    where
        'a: 'r,
    {
        let torn = match copied {
            MemoryCopyMode::No => return self,
            MemoryCopyMode::AtOnce => "",
            MemoryCopyMode::PageByPage => TORN,
        };
        let room = REASON_BYTES_MAX - IN_COPY.len() - torn.len();
        let end =
            (0..=room.min(self.reason.len())).rev().find(|&at| self.reason.is_char_boundary(at));
        reason.clear();
        for part in [&self.reason[..end.unwrap_or(0)], IN_COPY, torn] {
            // All of them fit.
            let _ = reason.try_push_str(part);
        }
        let confidence = match self.confidence {
            Confidence::High => Confidence::Medium,
            Confidence::Medium | Confidence::Low => Confidence::Low,
        };
        AlertEvidence { reason, confidence, scans: 1, ..self }
    }

    pub(super) fn detection(self) -> Detection<'a> {
        let Self { reason, techniques, confidence, since_ns, scans, .. } = self;
        let since = Timestamp::from_ns(since_ns.ns());
        Detection::new(reason.into(), techniques, confidence, since, scans)
    }
}

#[cfg(test)]
mod tests {
    use panoptes_tables::HashKey;

    use super::*;
    use crate::policy::techniques::ROOTKIT;

    fn evidence(reason: &str, confidence: Confidence) -> AlertEvidence<'_> {
        AlertEvidence {
            reason,
            techniques: ROOTKIT,
            confidence,
            since_ns: RealTime::default(),
            scans: 1,
            cause: Cause::new(HashKey::new(7)),
        }
    }

    #[test]
    fn an_alert_of_a_copy_has_a_lower_confidence_and_names_it() {
        let mut reason = CopyReason::new();
        let of_copy = evidence("process 7 is hidden", Confidence::High)
            .of_copy(MemoryCopyMode::PageByPage, &mut reason);
        let expected = "process 7 is hidden; seen once, in a copy of memory, which may be torn";
        assert_eq!(of_copy.reason, expected);
        assert_eq!(of_copy.confidence, Confidence::Medium);
        let long = "\u{e4}".repeat(REASON_BYTES_MAX);
        let of_copy =
            evidence(&long, Confidence::Low).of_copy(MemoryCopyMode::PageByPage, &mut reason);
        assert!(of_copy.reason.ends_with(TORN) && of_copy.reason.len() <= REASON_BYTES_MAX);
        assert_eq!(of_copy.confidence, Confidence::Low);
    }
}

//! The alert of a machine that runs although its clock stands still.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::record::detection::Confidence;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sinks::record::{Details, Record};

use super::evidence::Evidence;
use super::reporter::{Reporter, Subject};
use super::techniques::ROOTKIT;
use crate::detect::Accepted;
use crate::state::ScanContext;
use crate::time::RealTime;

/// Maximum length of the reason in bytes: five numbers of 20 digits, and the text between.
const REASON_BYTES: usize = 256;

/// A clock that stands still while the machine runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tampering {
    /// When the clock stopped.
    pub since: RealTime,
    /// For how long it has stood still, in nanoseconds.
    pub still_ns: i64,
    /// Number of scans that showed the machine running meanwhile.
    pub scans: u32,
    /// Forks meanwhile.
    pub forks: u64,
    /// Number of processes that ran meanwhile.
    pub processes: u32,
    /// Their run time in nanoseconds.
    pub runtime_ns: u64,
}

impl Reporter<'_> {
    /// Writes the alert of a clock that stands still while the machine runs.
    pub(crate) fn clock_tampered(
        &mut self,
        cx: &ScanContext<'_>,
        tampering: &Tampering,
    ) -> Accepted {
        let reason = reason(tampering);
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            ..SystemActivityDetails::default()
        };
        let evidence = Evidence {
            reason: &reason,
            techniques: ROOTKIT,
            // A defect of the kernel or of the host can do the same.
            confidence: Confidence::Medium,
            since_ns: tampering.since,
            scans: tampering.scans,
        };
        let record = Record::new(Activity::ClockTampered, Details::SystemActivity(&details));
        self.alert(cx, Subject::default(), &record, evidence)
    }
}

fn reason(tampering: &Tampering) -> ArrayString<REASON_BYTES> {
    let Tampering { still_ns, forks, processes, runtime_ns, .. } = *tampering;
    let milliseconds = |ns: u64| (ns / 1_000_000_000, ns / 1_000_000 % 1000);
    let (still, still_ms) = milliseconds(u64::try_from(still_ns).unwrap_or(0));
    let (ran, ran_ms) = milliseconds(runtime_ns);
    let mut reason = ArrayString::new();
    // The whole sentence fits.
    let _ = write!(
        reason,
        "the kernel's clock has stood still for {still}.{still_ms:03} s; meanwhile {processes} \
         processes ran for {ran}.{ran_ms:03} s, and {forks} processes and threads were started"
    );
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_every_value_and_fits() {
        let tampering = Tampering {
            since: RealTime::default(),
            still_ns: 5_123_000_000,
            scans: 7,
            forks: 4,
            processes: 3,
            runtime_ns: 20_000_000,
        };
        assert_eq!(
            reason(&tampering).as_str(),
            "the kernel's clock has stood still for 5.123 s; meanwhile 3 processes ran for \
             0.020 s, and 4 processes and threads were started"
        );
        let most = Tampering {
            still_ns: i64::MAX,
            forks: u64::MAX,
            processes: u32::MAX,
            runtime_ns: u64::MAX,
            ..tampering
        };
        assert!(reason(&most).ends_with("threads were started"));
    }
}

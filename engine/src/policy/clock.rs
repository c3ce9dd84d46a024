//! The alerts of a machine that runs although its clock stands still, and of one whose count of
//! forks was set back.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_records::activities::Activity;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::causes::Cause;
use super::evidence::AlertEvidence;
use super::techniques::ROOTKIT;
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::state::ScanContext;
use crate::time::RealTime;

/// Maximum length of the reason in bytes: five numbers of 20 digits, and the text between.
const REASON_BYTES: usize = 256;

/// A clock that stands still while the machine runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockTampering {
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

/// A count of forks that was set back while the machine's clock advanced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SetBack {
    /// When it was first lower than before.
    pub since: RealTime,
    /// Number of scans that showed it lower, and the clock further on.
    pub scans: u32,
    /// The count before, and after.
    pub from: u64,
    pub to: u64,
}

impl Reporter<'_> {
    /// Writes the alert of a clock that stands still while the machine runs.
    pub(crate) fn clock_tampered(
        &mut self,
        cx: &ScanContext<'_>,
        tampering: &ClockTampering,
    ) -> Acceptance {
        // A defect of the kernel or of the host can do the same.
        let confidence = Confidence::Medium;
        let cause = self.cause().of_clock(false);
        let seen = (tampering.since, tampering.scans);
        self.tampered(cx, &reason(tampering), seen, confidence, cause)
    }

    /// Writes the alert of a count of forks that was set back.
    pub(crate) fn forks_set_back(
        &mut self,
        cx: &ScanContext<'_>,
        set_back: &SetBack,
    ) -> Acceptance {
        let &SetBack { since, scans, .. } = set_back;
        let cause = self.cause().of_clock(true);
        let reason = reason_of_forks(set_back);
        self.tampered(cx, &reason, (since, scans), Confidence::High, cause)
    }

    fn tampered(
        &mut self,
        cx: &ScanContext<'_>,
        reason: &str,
        (since_ns, scans): (RealTime, u32),
        confidence: Confidence,
        cause: Cause,
    ) -> Acceptance {
        let details =
            SystemActivityDetails { reason: reason.into(), ..SystemActivityDetails::default() };
        let techniques = ROOTKIT;
        let evidence = AlertEvidence { reason, techniques, confidence, since_ns, scans, cause };
        let record = Record::new(Activity::ClockTampered, Details::SystemActivity(&details));
        self.alert(cx, EventSubject::default(), &record, evidence)
    }
}

fn reason(tampering: &ClockTampering) -> ArrayString<REASON_BYTES> {
    let ClockTampering { still_ns, forks, processes, runtime_ns, .. } = *tampering;
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

fn reason_of_forks(set_back: &SetBack) -> ArrayString<REASON_BYTES> {
    let SetBack { from, to, .. } = set_back;
    let mut reason = ArrayString::new();
    let _ = write!(
        reason,
        "the kernel's count of processes and threads that were started went back from {from} to \
         {to}, while its clock went on"
    );
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_count_that_was_set_back_fits() {
        let most = SetBack { since: RealTime::default(), scans: 4, from: u64::MAX, to: u64::MAX };
        assert!(reason_of_forks(&most).ends_with("clock went on"));
        assert_eq!(
            reason_of_forks(&SetBack { from: 900, to: 5, ..most }).as_str(),
            "the kernel's count of processes and threads that were started went back from 900 to \
             5, while its clock went on"
        );
    }

    #[test]
    fn a_reason_has_every_value_and_fits() {
        let tampering = ClockTampering {
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
        let most = ClockTampering {
            still_ns: i64::MAX,
            forks: u64::MAX,
            processes: u32::MAX,
            runtime_ns: u64::MAX,
            ..tampering
        };
        assert!(reason(&most).ends_with("threads were started"));
    }
}

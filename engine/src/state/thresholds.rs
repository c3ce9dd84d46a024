//! Measures of a connection: its bytes, its duration, and the time of its last status.
//!
//! The kernel counts bytes since a connection began, so bytes from before watching count too. The
//! duration is known only from the first scan that showed it: no socket keeps its creation time.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::{TcpCounters, TcpState};

use crate::time::Monotonic;

/// Thresholds beyond which connections and zombies are reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent, retransmissions included.
    pub bytes_out: u64,
    /// Duration in nanoseconds.
    pub duration_ns: u64,
    /// Time between two reports of a status, in nanoseconds; `None` for no reports.
    pub status_period_ns: Option<u64>,
    /// How long a process is a zombie before it is reported, in nanoseconds.
    pub zombie_after_ns: u64,
}

impl Default for Thresholds {
    /// 100 MiB each way and an hour; no status; ten seconds.
    fn default() -> Self {
        Self {
            bytes_in: 100 << 20,
            bytes_out: 100 << 20,
            duration_ns: 3_600_000_000_000,
            status_period_ns: None,
            zombie_after_ns: 10_000_000_000,
        }
    }
}

/// A threshold that a connection exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExceededThreshold {
    /// Bytes received.
    BytesIn { bytes: u64, threshold: u64 },
    /// Bytes sent.
    BytesOut { bytes: u64, threshold: u64 },
    /// Duration since it was first seen.
    Duration { lasted_ns: u64, threshold_ns: u64 },
}

/// The measures of one connection, and which were reported.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measures {
    /// When it was first seen.
    pub(super) first: Monotonic,
    /// When its status was reported last.
    pub(super) status: Monotonic,
    pub(super) reported_bytes_in: bool,
    pub(super) reported_bytes_out: bool,
    pub(super) reported_duration: bool,
}

impl Measures {
    /// Measures of a connection that is seen for the first time.
    #[cfg(test)]
    fn new(now: Monotonic) -> Self {
        Self { first: now, status: now, ..Self::default() }
    }

    /// The exceeded thresholds that were not reported yet: each once, even if the thresholds
    /// change.
    pub(super) fn exceed(
        &mut self,
        thresholds: &Thresholds,
        counters: Option<TcpCounters>,
        is_open: bool,
        now: Monotonic,
    ) -> ArrayVec<ExceededThreshold, 3> {
        let mut all = ArrayVec::new();
        if let Some(TcpCounters { bytes_in, bytes_out, .. }) = counters {
            if bytes_in > thresholds.bytes_in && !self.reported_bytes_in {
                self.reported_bytes_in = true;
                all.push(ExceededThreshold::BytesIn {
                    bytes: bytes_in,
                    threshold: thresholds.bytes_in,
                });
            }
            if bytes_out > thresholds.bytes_out && !self.reported_bytes_out {
                self.reported_bytes_out = true;
                all.push(ExceededThreshold::BytesOut {
                    bytes: bytes_out,
                    threshold: thresholds.bytes_out,
                });
            }
        }
        let threshold_ns = thresholds.duration_ns;
        if is_open && !self.reported_duration {
            let lasted_ns = u64::try_from(now.since(self.first)).unwrap_or(0);
            if lasted_ns > threshold_ns {
                self.reported_duration = true;
                all.push(ExceededThreshold::Duration { lasted_ns, threshold_ns });
            }
        }
        all
    }

    /// Whether its status is due now; notes it as reported if so.
    pub(super) fn is_status_due(&mut self, period_ns: u64, now: Monotonic) -> bool {
        let since = now.since(self.status);
        let is_due = u64::try_from(since).is_ok_and(|since| since >= period_ns);
        if is_due {
            self.status = now;
        }
        is_due
    }
}

/// Whether data can, or still has to, go over a connection in this state, at least one way.
pub(super) fn is_open(state: TcpState) -> bool {
    match state {
        TcpState::Established
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Closing => true,
        TcpState::SynSent
        | TcpState::SynReceived
        | TcpState::TimeWait
        | TcpState::Closed
        | TcpState::Listen => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        bytes_in: 1000,
        bytes_out: 500,
        duration_ns: 100,
        status_period_ns: None,
        zombie_after_ns: 0,
    };

    fn at(now_ns: i64) -> Monotonic {
        Monotonic::from_ns(now_ns)
    }

    fn counted(bytes_in: u64, bytes_out: u64) -> TcpCounters {
        TcpCounters { bytes_in, bytes_out, ..TcpCounters::default() }
    }

    fn exceed(
        measures: &mut Measures,
        counters: impl Into<Option<TcpCounters>>,
        now: Monotonic,
    ) -> Vec<ExceededThreshold> {
        measures.exceed(&THRESHOLDS, counters.into(), true, now).to_vec()
    }

    #[test]
    fn each_direction_and_the_duration_are_reported_once() {
        let mut measures = Measures::new(at(5));
        assert_eq!(exceed(&mut measures, None, at(5)), []);
        assert_eq!(
            exceed(&mut measures, counted(1000, 500), at(105)),
            [],
            "the threshold itself is not exceeded"
        );
        assert_eq!(
            exceed(&mut measures, counted(1001, 500), at(105)),
            [ExceededThreshold::BytesIn { bytes: 1001, threshold: 1000 }]
        );
        assert_eq!(
            exceed(&mut measures, counted(5000, 501), at(106)),
            [
                ExceededThreshold::BytesOut { bytes: 501, threshold: 500 },
                ExceededThreshold::Duration { lasted_ns: 101, threshold_ns: 100 }
            ]
        );
        assert_eq!(exceed(&mut measures, counted(u64::MAX, u64::MAX), at(i64::MAX)), []);
        let other = Thresholds { bytes_in: 10_000, ..THRESHOLDS };
        let all = measures.exceed(&other, Some(counted(20_000, 0)), true, at(200));
        assert!(all.is_empty(), "nor under another threshold");
    }

    #[test]
    fn what_is_not_open_does_not_last() {
        let mut measures = Measures::new(at(0));
        assert!(measures.exceed(&THRESHOLDS, None, false, at(1_000)).is_empty());
        assert_eq!(measures.exceed(&THRESHOLDS, None, true, at(1_000)).len(), 1);
    }

    #[test]
    fn a_status_is_due_every_period() {
        let mut measures = Measures::new(at(1000));
        let mut is_due = |now: i64| measures.is_status_due(30, at(now));
        let due: Vec<i64> = (1000..1100).filter(|&now| is_due(now)).collect();
        assert_eq!(due, [1030, 1060, 1090]);
        assert!(is_due(i64::MAX));
    }
}

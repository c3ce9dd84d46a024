//! What a connection has come to: how much went over it, how long it lasts, and when its status was told last.
//!
//! The kernel counts bytes since a connection began, so what went over it before we came counts too. How long it has
//! lasted is known from its first sight only: no socket keeps when it was made.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::{Counters, TcpState};

/// What a connection must come to for it to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionThresholds {
    /// More bytes than this came in.
    pub bytes_in: u64,
    /// More bytes than this went out, retransmissions included.
    pub bytes_out: u64,
    /// It has lasted longer than this, in nanoseconds.
    pub duration_ns: u64,
    /// From one telling of its status to the next, in nanoseconds; none where nobody wants it.
    pub status_period_ns: Option<u64>,
}

impl Default for ConnectionThresholds {
    /// 100 MiB either way and an hour; no status.
    fn default() -> Self {
        Self {
            bytes_in: 100 << 20,
            bytes_out: 100 << 20,
            duration_ns: 3_600_000_000_000,
            status_period_ns: None,
        }
    }
}

/// A threshold that a connection has gone beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exceeded {
    /// Bytes that came in.
    BytesIn {
        /// How many.
        bytes: u64,
        /// The threshold.
        threshold: u64,
    },
    /// Bytes that went out.
    BytesOut {
        /// How many.
        bytes: u64,
        /// The threshold.
        threshold: u64,
    },
    /// How long it has lasted since it was first seen.
    Duration {
        /// Nanoseconds, by our clock and by the machine's own: the smaller of the two.
        lasted_ns: u64,
        /// The threshold.
        threshold_ns: u64,
    },
}

/// The time of one scan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Clocks {
    /// Ours, in nanoseconds since 1970. It may be set.
    pub(super) now_ns: i64,
    /// The machine's own, in nanoseconds from its boot, if that is known. It may be made up.
    pub(super) boot_ns: Option<i64>,
}

impl Clocks {
    /// How long ago the other was: by both clocks, so that neither alone makes it longer by being set.
    fn since(&self, first: &Self) -> u64 {
        let ours = self.now_ns.saturating_sub(first.now_ns);
        let own = self.boot_ns.zip(first.boot_ns).map(|(now, first)| now.saturating_sub(first));
        u64::try_from(own.map_or(ours, |own| own.min(ours))).unwrap_or(0)
    }
}

/// What one connection has come to, and what was told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measures {
    first: Clocks,
    status_ns: i64,
    told_bytes_in: bool,
    told_bytes_out: bool,
    told_duration: bool,
}

impl Measures {
    /// Those of a connection that is seen first.
    pub(super) fn new(clocks: Clocks) -> Self {
        Self { first: clocks, status_ns: clocks.now_ns, ..Self::default() }
    }

    /// What it has come to that was not told yet: each once, whatever becomes of the thresholds.
    pub(super) fn exceed(
        &mut self,
        thresholds: &ConnectionThresholds,
        counters: Option<Counters>,
        is_open: bool,
        clocks: &Clocks,
    ) -> ArrayVec<Exceeded, 3> {
        let mut all = ArrayVec::new();
        if let Some(Counters { bytes_in, bytes_out, .. }) = counters {
            if bytes_in > thresholds.bytes_in && !self.told_bytes_in {
                self.told_bytes_in = true;
                all.push(Exceeded::BytesIn { bytes: bytes_in, threshold: thresholds.bytes_in });
            }
            if bytes_out > thresholds.bytes_out && !self.told_bytes_out {
                self.told_bytes_out = true;
                all.push(Exceeded::BytesOut { bytes: bytes_out, threshold: thresholds.bytes_out });
            }
        }
        let threshold_ns = thresholds.duration_ns;
        if is_open && !self.told_duration {
            let lasted_ns = clocks.since(&self.first);
            if lasted_ns > threshold_ns {
                self.told_duration = true;
                all.push(Exceeded::Duration { lasted_ns, threshold_ns });
            }
        }
        all
    }

    /// Whether its status is to be told now; then it has been.
    pub(super) fn is_status_due(&mut self, period_ns: u64, now_ns: i64) -> bool {
        let since = now_ns.saturating_sub(self.status_ns);
        // A clock that was set back must not keep it silent.
        let is_due = since < 0 || u64::try_from(since).is_ok_and(|since| since >= period_ns);
        if is_due {
            self.status_ns = now_ns;
        }
        is_due
    }
}

/// Whether something can go over a connection in this state, at least one way, or still has to.
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

    const THRESHOLDS: ConnectionThresholds = ConnectionThresholds {
        bytes_in: 1000,
        bytes_out: 500,
        duration_ns: 100,
        status_period_ns: None,
    };

    fn at(now_ns: i64) -> Clocks {
        Clocks { now_ns, boot_ns: Some(now_ns - 1_000_000) }
    }

    fn counted(bytes_in: u64, bytes_out: u64) -> Counters {
        Counters { bytes_in, bytes_out, ..Counters::default() }
    }

    fn exceed(
        measures: &mut Measures,
        counters: impl Into<Option<Counters>>,
        clocks: Clocks,
    ) -> Vec<Exceeded> {
        measures.exceed(&THRESHOLDS, counters.into(), true, &clocks).to_vec()
    }

    #[test]
    fn each_direction_and_the_duration_are_told_once() {
        let mut measures = Measures::new(at(5));
        assert_eq!(exceed(&mut measures, None, at(5)), []);
        assert_eq!(exceed(&mut measures, counted(1000, 500), at(105)), [], "as much is not more");
        assert_eq!(
            exceed(&mut measures, counted(1001, 500), at(105)),
            [Exceeded::BytesIn { bytes: 1001, threshold: 1000 }]
        );
        assert_eq!(
            exceed(&mut measures, counted(5000, 501), at(106)),
            [
                Exceeded::BytesOut { bytes: 501, threshold: 500 },
                Exceeded::Duration { lasted_ns: 101, threshold_ns: 100 }
            ]
        );
        assert_eq!(exceed(&mut measures, counted(u64::MAX, u64::MAX), at(i64::MAX)), []);
        let other = ConnectionThresholds { bytes_in: 10_000, ..THRESHOLDS };
        let all = measures.exceed(&other, Some(counted(20_000, 0)), true, &at(200));
        assert!(all.is_empty(), "nor when the threshold is another");
    }

    #[test]
    fn what_is_not_open_does_not_last() {
        let mut measures = Measures::new(at(0));
        assert!(measures.exceed(&THRESHOLDS, None, false, &at(1_000)).is_empty());
        assert_eq!(measures.exceed(&THRESHOLDS, None, true, &at(1_000)).len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_last() {
        for far in [
            Clocks { now_ns: i64::MAX, boot_ns: Some(-1_000_000) },
            Clocks { now_ns: 50, boot_ns: Some(i64::MAX) },
            Clocks { now_ns: i64::MIN, boot_ns: Some(i64::MAX) },
            Clocks { now_ns: 50, boot_ns: None },
        ] {
            let mut measures = Measures::new(at(0));
            assert_eq!(exceed(&mut measures, None, far), [], "{far:?}");
            assert_eq!(exceed(&mut measures, None, at(101)).len(), 1);
        }
        // Where the machine's own is not known there is only ours.
        let mut measures = Measures::new(Clocks { now_ns: 0, boot_ns: None });
        assert_eq!(exceed(&mut measures, None, at(101)).len(), 1);
    }

    #[test]
    fn a_status_is_due_every_period() {
        let mut measures = Measures::new(at(1000));
        let due: Vec<i64> = (1000..1100).filter(|&now| measures.is_status_due(30, now)).collect();
        assert_eq!(due, [1030, 1060, 1090]);
        assert!(measures.is_status_due(30, 10), "the clock was set back");
        assert!(!measures.is_status_due(30, 11));
        assert!(measures.is_status_due(30, i64::MAX));
    }
}

//! When it is reported that a system is not scanned: at once, each minute while that lasts, and
//! when it is over.

use std::time::{Duration, Instant};

/// A silence that lasts is reported again after this time.
const AGAIN: Duration = Duration::from_mins(1);

/// One system, as the control thread looks at it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// When it was last scanned by the clock of records, in nanoseconds since 1970, and when that
    /// was reported last.
    reported: Option<(i64, Instant)>,
}

/// A report that is due: the system is not scanned, or is scanned again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SilenceReport {
    /// Since this time it is not scanned, in nanoseconds since 1970.
    Lasts {
        since_ns: i64,
    },
    IsOver {
        since_ns: i64,
    },
}

impl Silence {
    /// `silent_for`: for how long it was not scanned, if it is not scanned now. `real_ns` is the
    /// time in nanoseconds since 1970.
    pub(super) fn look(
        &mut self,
        silent_for: Option<Duration>,
        now: Instant,
        real_ns: i64,
    ) -> Option<SilenceReport> {
        match (silent_for, self.reported) {
            (Some(silent_for), None) => {
                let since = i64::try_from(silent_for.as_nanos()).unwrap_or(i64::MAX);
                let since_ns = real_ns.saturating_sub(since);
                self.reported = Some((since_ns, now));
                Some(SilenceReport::Lasts { since_ns })
            }
            (Some(_), Some((since_ns, last))) => {
                let is_due = now.saturating_duration_since(last) >= AGAIN;
                is_due.then(|| {
                    self.reported = Some((since_ns, now));
                    SilenceReport::Lasts { since_ns }
                })
            }
            (None, Some((since_ns, _))) => {
                self.reported = None;
                Some(SilenceReport::IsOver { since_ns })
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_reported_at_once_each_minute_and_at_its_end() {
        const SECOND_NS: i64 = 1_000_000_000;
        let (start, mut silence, mut all) = (Instant::now(), Silence::default(), Vec::new());
        for second in 0..200_i64 {
            let silent_for = (50..180).contains(&second).then(|| Duration::from_secs(2));
            let now = start + Duration::from_secs(second as u64);
            let report = silence.look(silent_for, now, second * SECOND_NS);
            all.extend(report.map(|report| (second, report)));
        }
        let since_ns = 48 * SECOND_NS;
        let lasts = |second| (second, SilenceReport::Lasts { since_ns });
        let over = (180, SilenceReport::IsOver { since_ns });
        assert_eq!(all, [lasts(50), lasts(110), lasts(170), over]);
    }
}

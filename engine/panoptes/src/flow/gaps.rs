//! What the sensor of flows misses, as records: `coverage_degraded` at once and each minute while
//! it lasts, `coverage_restored` when it is over. Those of `panoptes watch` are the same.

use panoptes_engine::policy::gaps;
use panoptes_engine::time;
use panoptes_records::activities::Activity;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::system_activity::SystemActivityDetails;

const SECOND_NS: u64 = time::SECOND_NS as u64;
/// A gap that lasts is reported again after this time.
const AGAIN_NS: u64 = gaps::AGAIN_NS as u64;
/// A gap is over when nothing was missed for this time.
const OVER_NS: u64 = gaps::OVER_NS as u64;

macro_rules! gaps {
    ($($(#[$docs:meta])* $gap:ident $key:literal $words:literal;)+) => {
        /// A kind of what is missed, in the order of [`GAPS`].
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) enum Gap {
            $($(#[$docs])* $gap,)+
        }

        /// The word in records, and what follows a number.
        const GAPS: &[(&str, &str)] = &[$(($key, $words),)+];

        /// Number of kinds.
        pub(crate) const KINDS: usize = GAPS.len();
    };
}

gaps! {
    Packets "packets" "packets were lost: the ring of an interface, or a port's buffer, was full";
    Mirrors "mirrors" "datagrams held no mirrored packet";
    Links "link_layers" "packets have a link layer that is not read";
    Untracked "untracked_packets" "packets found no room in the table of flows";
    Times "packet_times" "packets had times that cannot be";
    Streams "streams" "beginnings of streams were not read: too many others came in pieces";
    Fallow "idle_connections" "idle connections were forgotten: the table of flows was full";
    Answers "dns_answers" "times, answers of DNS were written early: too many differ";
    UserData "user_data" "bytes of control-plane protocols had no room";
    Exports "exports" "exports of flows could not be read";
    /// Each second counts.
    Interfaces "interfaces" "seconds passed in which an interface was away";
    /// Each second counts.
    System "system" "seconds passed in which the system beside the packets was not scanned";
    TcpSockets "tcp_sockets" "scans did not show all sockets of TCP";
    UdpSockets "udp_sockets" "scans did not tell whose ports of UDP are";
}

/// The state of one gap.
#[derive(Clone, Copy, Debug, Default)]
struct FlowGapState {
    /// The number missed since the start of the program, at the last look.
    total: u64,
    /// The number before the gap began.
    before: u64,
    /// Since when the gap lasts.
    since: Option<Timestamp>,
    /// When something was last missed.
    last_ns: u64,
    reported_ns: u64,
    /// The total that was reported.
    reported: u64,
}

/// Tracks what is missed.
#[derive(Debug, Default)]
pub(super) struct Gaps([FlowGapState; KINDS]);

impl Gaps {
    /// The same at the end of the program: what no record has yet is reported now.
    pub(super) fn finish(
        &mut self,
        missed: &FlowGapTotals,
        real_ns: i64,
        mut report: impl FnMut(Activity, &SystemActivityDetails<'_>),
    ) {
        for ((state, total), (key, words)) in self.0.iter_mut().zip(missed.0).zip(GAPS) {
            let new = total.saturating_sub(state.reported);
            if new > 0 {
                let since = state.since.get_or_insert(Timestamp::from_ns(real_ns));
                let reason = format!("{new} {words}");
                report(Activity::CoverageDegraded, &details(key, &reason, Some(new), Some(*since)));
            }
        }
    }
}

/// The word in records for a kind.
pub(crate) fn key_of(kind: usize) -> &'static str {
    GAPS[kind].0
}

/// What was missed since the start of the program, by [`Gap`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowGapTotals([u64; KINDS]);

impl FlowGapTotals {
    #[must_use]
    pub(super) const fn with(mut self, gap: Gap, count: u64) -> Self {
        self.0[gap as usize] = count;
        self
    }
}

impl Gaps {
    /// What was missed since each gap began; 0 if there is none.
    pub(super) fn missed(&self) -> [u64; KINDS] {
        self.0.each_ref().map(|state| match state.since {
            Some(_) => state.total - state.before,
            None => 0,
        })
    }

    /// Calls `report` with each record that is due. `now_ns` never goes back; `real_ns` is
    /// nanoseconds since 1970.
    pub(super) fn look(
        &mut self,
        missed: &FlowGapTotals,
        (now_ns, real_ns): (u64, i64),
        mut report: impl FnMut(Activity, &SystemActivityDetails<'_>),
    ) {
        for ((state, total), (key, words)) in self.0.iter_mut().zip(missed.0).zip(GAPS) {
            if total > state.total {
                (state.total, state.last_ns) = (total, now_ns);
            }
            let new = state.total - state.reported;
            let is_due = match state.since {
                None => new > 0,
                Some(_) => new > 0 && now_ns - state.reported_ns >= AGAIN_NS,
            };
            let since = state.since;
            if is_due {
                if state.since.is_none() {
                    (state.since, state.before) =
                        (Some(Timestamp::from_ns(real_ns)), state.reported);
                }
                (state.reported_ns, state.reported) = (now_ns, state.total);
                let reason = format!("{new} {words}");
                let details = details(key, &reason, Some(new), state.since);
                report(Activity::CoverageDegraded, &details);
            } else if since.is_some() && now_ns - state.last_ns >= OVER_NS {
                state.since = None;
                let reason = format!("for {} s, no {words}", OVER_NS / SECOND_NS);
                let rest = Some(new).filter(|new| *new > 0);
                state.reported = state.total;
                report(Activity::CoverageRestored, &details(key, &reason, rest, since));
            }
        }
    }
}

fn details<'a>(
    gap: &'static str,
    reason: &'a str,
    missed: Option<u64>,
    since: Option<Timestamp>,
) -> SystemActivityDetails<'a> {
    SystemActivityDetails {
        reason: reason.into(),
        gap: Some(gap),
        missed,
        since_iso_8601_ns: since,
        ..SystemActivityDetails::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second; what each record has.
    fn records(missed: impl Fn(u64) -> u64, seconds: u64) -> Vec<(u64, Activity, Option<u64>)> {
        let (mut gaps, mut all) = (Gaps::default(), Vec::new());
        for second in 0..seconds {
            let missed = FlowGapTotals::default().with(Gap::Streams, missed(second));
            gaps.look(&missed, (second * SECOND_NS, 0), |activity, details| {
                assert_eq!(details.gap, Some("streams"));
                all.push((second, activity, details.missed));
            });
        }
        all
    }

    #[test]
    fn a_gap_is_reported_at_once_each_minute_and_at_its_end() {
        let (degraded, restored) = (Activity::CoverageDegraded, Activity::CoverageRestored);
        // Ten each second, from the fifth to the hundredth.
        let all = records(|second| second.clamp(4, 100) * 10 - 40, 200);
        assert_eq!(
            all,
            [(5, degraded, Some(10)), (65, degraded, Some(600)), (110, restored, Some(350))]
        );
    }

    #[test]
    fn a_gap_that_comes_back_is_reported_at_once() {
        let all = records(|second| u64::from(second >= 3) + u64::from(second >= 40), 60);
        let seconds: Vec<_> = all.iter().map(|(second, ..)| *second).collect();
        assert_eq!(seconds, [3, 13, 40, 50]);
        assert_eq!(all[1], (13, Activity::CoverageRestored, None));
    }

    #[test]
    fn metrics_have_what_was_missed_since_the_gap_began() {
        let mut gaps = Gaps::default();
        let mut look = |second: u64, total: u64| {
            let missed = FlowGapTotals::default().with(Gap::Streams, total);
            gaps.look(&missed, (second * SECOND_NS, 0), |_, _| ());
            gaps.missed()[Gap::Streams as usize]
        };
        let shown = [(0, 0), (1, 5), (2, 9), (8, 9), (12, 9), (13, 9), (40, 12), (41, 12)];
        let shown = shown.map(|(second, total)| look(second, total));
        assert_eq!(shown, [0, 5, 9, 9, 0, 0, 3, 3]);
    }

    #[test]
    fn nothing_missed_is_no_gap() {
        assert_eq!(records(|_| 0, 100), []);
    }
}

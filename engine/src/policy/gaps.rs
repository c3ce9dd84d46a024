//! What is not seen, as records: `coverage_degraded` when something begins to be missed, again each
//! minute while it lasts, and `coverage_restored` when nothing more was missed for a while.
//!
//! Losses are summed over a period. A machine changes while it is read, so an object that one scan
//! cannot read is no gap: the gap is that many scans in a row of some time could not read something
//! ([`Rule::Often`]). What the watcher itself had no room or time for is a gap at once
//! ([`Rule::AtOnce`]).

use crate::detect::Accepted;
use crate::state::Unstable;
use crate::time::{Monotonic, Now, RealTime};
use crate::walk::Losses;

/// When a loss is a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    AtOnce,
    /// If at least half of the scans in [`WINDOW_NS`] had it.
    Often,
}

macro_rules! gaps {
    ($($gap:ident $key:literal $rule:ident $words:literal;)+) => {
        /// What can be missed.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        enum Gap {
            $($gap,)+
        }

        const GAPS: &[(Gap, &str, Rule, &str)] = &[$((Gap::$gap, $key, Rule::$rule, $words),)+];
        const COUNT: usize = GAPS.len();
    };
}

gaps! {
    Events "events" AtOnce "events were not written: the queue to the writer was full";
    Alerts "alerts" AtOnce "alerts were not written: the queue to the writer was full";
    Unreadable "unreadable" Often "objects could not be read";
    Unbounded "unbounded" Often "lists or trees did not end within their bound";
    Unstable "unstable" AtOnce
        "times a process changed its descriptor table or program while it was read";
    Untracked "untracked" Often "objects did not fit within the limits of a scan";
    Contents "file_contents" AtOnce "requests for hashes of files found no room";
    Changes "content_changes" AtOnce "closed files were not checked: there were too many";
    Binaries "binaries" AtOnce "programs or libraries were not checked: there were too many";
    Shells "reverse_shells" AtOnce
        "searches for reverse shells did not follow all pipes and sockets";
    Commands "shell_commands" AtOnce "shells or shell commands did not fit or could not be read";
    Permissions "memory_permissions" AtOnce "changes of permissions were not checked";
}

/// The losses of one scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Missed {
    /// Of this scan alone.
    pub scan: Losses,
    pub unstable: Unstable,
    /// Each since the machine is watched.
    pub contents: u64,
    pub changes: u64,
    pub binaries: u64,
    pub shells: u64,
    pub commands: u64,
    pub permissions: u64,
}

pub(super) const SECOND_NS: i64 = 1_000_000_000;
/// Over this time the scans that lost something are counted.
const WINDOW_NS: i64 = 2 * SECOND_NS;
/// Minimum number of scans in a window.
const SCANS_MIN: u32 = 4;
/// A gap that lasts is reported again after this time.
const AGAIN_NS: i64 = 60 * SECOND_NS;
/// A gap is over when nothing was missed for this time.
pub(super) const OVER_NS: i64 = 10 * SECOND_NS;

/// The state of one gap.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The number at the last scan, of those that only grow.
    total: u64,
    /// Number missed since the last report.
    missed: u64,
    /// Number of scans of the window that missed something.
    scans: u32,
    /// Since when the gap lasts.
    since: Option<RealTime>,
    last: Monotonic,
    reported: Monotonic,
}

/// A report about a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Report {
    /// Its word in records.
    pub(super) key: &'static str,
    /// What is missed; follows the number.
    pub(super) words: &'static str,
    /// Number missed since the last report; `None`: the gap is over.
    pub(super) missed: Option<u64>,
    pub(super) since: RealTime,
    /// A process to blame.
    pub(super) process_id: Option<u32>,
}

/// Tracks what is missed of one machine.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    states: [State; COUNT],
    window_start: Monotonic,
    window_scans: u32,
    /// Events and urgent records that found no room in the queue.
    pub(super) refused: [u64; 2],
}

impl Gaps {
    /// Evaluates one scan; calls `report` for each gap that begins, lasts or ends, in each scan
    /// until the report is accepted.
    pub(super) fn update(
        &mut self,
        missed: &Missed,
        now: Now,
        mut report: impl FnMut(&Report) -> Accepted,
    ) {
        let [events, alerts] = self.refused;
        let Unstable { processes: unstable, process_id } = missed.unstable;
        self.window_scans += 1;
        let ends_window =
            now.monotonic.since(self.window_start) >= WINDOW_NS && self.window_scans >= SCANS_MIN;
        let scans = self.window_scans;
        for ((gap, key, rule, words), state) in GAPS.iter().zip(&mut self.states) {
            let total = match gap {
                Gap::Events => events,
                Gap::Alerts => alerts,
                Gap::Unreadable => state.total + u64::from(missed.scan.unreadable),
                Gap::Unstable => state.total + u64::from(unstable),
                Gap::Unbounded => state.total + u64::from(missed.scan.unbounded),
                Gap::Untracked => state.total + u64::from(missed.scan.dropped),
                Gap::Contents => missed.contents,
                Gap::Changes => missed.changes,
                Gap::Binaries => missed.binaries,
                Gap::Shells => missed.shells,
                Gap::Commands => missed.commands,
                Gap::Permissions => missed.permissions,
            };
            // A detector that begins anew counts from 0.
            let new = total.saturating_sub(state.total);
            state.total = total;
            state.missed += new;
            state.scans += u32::from(new > 0);
            let is_lost = match rule {
                Rule::AtOnce => new > 0,
                Rule::Often => ends_window && state.scans * 2 >= scans,
            };
            if ends_window {
                state.scans = 0;
                if state.since.is_none() && !is_lost {
                    state.missed = 0;
                }
            }
            let before = *state;
            if let Some((missed, since)) = state.follow(is_lost, now) {
                let is_process = *gap == Gap::Unstable && missed.is_some();
                let process_id = is_process.then_some(process_id);
                if report(&Report { key, words, missed, since, process_id }) == Accepted::No {
                    // The next scan reports it.
                    *state = State { last: state.last, ..before };
                }
            }
        }
        if ends_window {
            (self.window_start, self.window_scans) = (now.monotonic, 0);
        }
    }
}

impl State {
    /// Returns what to report: the number missed, or `None` at the end, and since when.
    fn follow(&mut self, is_lost: bool, now: Now) -> Option<(Option<u64>, RealTime)> {
        if is_lost {
            self.last = now.monotonic;
        }
        match self.since {
            None if is_lost => {
                self.since = Some(now.real);
                self.reported = now.monotonic;
                Some((Some(core::mem::take(&mut self.missed)), now.real))
            }
            Some(since) if now.monotonic.since(self.last) >= OVER_NS => {
                self.since = None;
                self.missed = 0;
                Some((None, since))
            }
            Some(since) if now.monotonic.since(self.reported) >= AGAIN_NS => {
                self.reported = now.monotonic;
                Some((Some(core::mem::take(&mut self.missed)), since))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN_NS: i64 = SECOND_NS / 10;

    /// Reports of scans, ten in a second: the number of the scan, the gap's key, and the number
    /// missed.
    fn reports(
        scans: i64,
        missed: impl Fn(i64) -> Missed,
    ) -> Vec<(i64, &'static str, Option<u64>)> {
        let (mut gaps, mut all) = (Gaps::default(), Vec::new());
        for scan in 0..scans {
            gaps.update(&missed(scan), Now::at(scan * SCAN_NS), |report| {
                all.push((scan, report.key, report.missed));
                Accepted::Yes
            });
        }
        all
    }

    fn unreadable(count: u32) -> Missed {
        Missed { scan: Losses { unreadable: count, ..Losses::default() }, ..Missed::default() }
    }

    #[test]
    fn a_loss_by_chance_is_no_gap() {
        assert_eq!(reports(2000, |scan| unreadable(u32::from(scan % 3 == 0))), []);
        assert_eq!(reports(2000, |_| Missed::default()), []);
    }

    /// Adversary D4: who spoils most scans was never mentioned, since one clean scan was enough.
    #[test]
    fn who_spoils_most_scans_is_reported_and_so_is_the_end() {
        let spoilt = |scan: i64| (200..1000).contains(&scan) && scan % 20 != 0;
        let all = reports(1500, |scan| unreadable(if spoilt(scan) { 2 } else { 0 }));
        let kinds: Vec<_> = all.iter().map(|(_, key, missed)| (*key, missed.is_some())).collect();
        assert_eq!(kinds, [("unreadable", true), ("unreadable", true), ("unreadable", false)]);
        let times: Vec<_> = all.iter().map(|(scan, ..)| *scan).collect();
        assert!((201..=240).contains(&times[0]), "{times:?}");
        assert!((600..=620).contains(&(times[1] - times[0])), "each minute: {times:?}");
        assert!((1080..=1120).contains(&times[2]), "{times:?}");
    }

    #[test]
    fn what_found_no_room_is_reported_at_once_with_its_number() {
        let changes = |scan: i64| if scan < 7 { 0 } else { 40 + scan.min(20) as u64 };
        let all = reports(130, |scan| Missed { changes: changes(scan), ..Missed::default() });
        let key = "content_changes";
        assert_eq!(all, [(7, key, Some(47)), (120, key, None)]);
    }

    #[test]
    fn a_detector_that_begins_anew_has_no_negative_losses() {
        let binaries = |scan: i64| if scan < 5 { 9 } else { 1 };
        let all = reports(50, |scan| Missed { binaries: binaries(scan), ..Missed::default() });
        assert_eq!(all, [(0, "binaries", Some(9))]);
    }
}

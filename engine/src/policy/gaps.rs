//! What is not seen, as records: `coverage_degraded` when something begins to be missed, again each
//! minute while it lasts, and `coverage_restored` when nothing more was missed for a while.
//!
//! Losses are summed over a period. A machine changes while it is read, so an object that one scan
//! cannot read is no gap: the gap is that many scans in a row of some time could not read something
//! ([`Rule::Often`]). What the watcher itself had no room or time for is a gap at once
//! ([`Rule::AtOnce`]).

use crate::detect::Accepted;
use crate::limits::{Limit, PerLimit};
use crate::loss::Loss;
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

        /// Number of kinds of gaps.
        pub const GAPS_MAX: usize = GAPS.len();
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
    Budget "budget" Often
        "descriptor tables, address spaces, files or chains were left for the next scan";
    Processes "untracked_processes" AtOnce
        "processes were not tracked, nor their programs checked: there were too many";
    Threads "untracked_threads" AtOnce "threads were not tracked: there were too many";
    Descriptors "untracked_file_descriptors" AtOnce
        "file descriptors were not tracked: there were too many";
    Areas "untracked_memory_areas" AtOnce "memory areas were not tracked: there were too many";
    Connections "untracked_connections" AtOnce
        "connections were not tracked: there were too many";
    Containers "untracked_containers" AtOnce "containers were not tracked: there were too many";
    Names "untracked_names" AtOnce "names and paths were cut or left out: there were too many";
    Contents "file_contents" AtOnce "requests for hashes of files found no room";
    Changes "content_changes" AtOnce "closed files were not checked: there were too many";
    Binaries "binaries" AtOnce "programs or libraries were not checked: there were too many";
    Unjudged "unjudged" AtOnce
        "checks of running programs found nothing of their content in memory";
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
    /// What was not tracked; these and the following each since the machine is watched.
    pub tables: PerLimit<Loss>,
    pub left: Loss,
    pub contents: Loss,
    pub changes: Loss,
    pub binaries: Loss,
    /// Running programs of which no content is known.
    pub unjudged: Loss,
    pub shells: Loss,
    pub commands: Loss,
    pub permissions: Loss,
}

impl Missed {
    /// What the scan had no room for, added to `before`.
    fn dropped_since(&self, before: u64) -> Loss {
        let Losses { dropped, process_id, .. } = self.scan;
        Loss { count: before + u64::from(dropped), process_id }
    }
}

pub(super) const SECOND_NS: i64 = 1_000_000_000;
/// Over this time the scans that lost something are counted.
const WINDOW_NS: i64 = SECOND_NS * 7 / 10;
/// Minimum number of scans in a window.
const SCANS_MIN: u32 = 8;
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
    /// Number reported since the gap began.
    reported_missed: u64,
    /// Number of scans of the window that missed something.
    scans: u32,
    /// Since when the gap lasts.
    since: Option<RealTime>,
    last: Monotonic,
    reported: Monotonic,
    /// A process to blame for what was missed last.
    process_id: Option<u32>,
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
    states: [State; GAPS_MAX],
    window_start: Monotonic,
    window_scans: u32,
    /// Events and urgent records that found no room in the queue.
    pub(super) refused: [u64; 2],
}

/// What the gap of this index misses, in words that follow a number.
pub fn words_of(gap: usize) -> &'static str {
    GAPS.get(gap).map_or("", |(.., words)| words)
}

impl Gaps {
    /// By gap, the number missed since it began; 0 if there is no gap.
    pub(super) fn counts(&self) -> [u64; GAPS_MAX] {
        self.states.map(|state| match state.since {
            Some(_) => (state.reported_missed + state.missed).max(1),
            None => 0,
        })
    }

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
        let unstable = Loss { count: unstable.into(), process_id: Some(process_id) };
        self.window_scans += 1;
        let ends_window =
            now.monotonic.since(self.window_start) >= WINDOW_NS && self.window_scans >= SCANS_MIN;
        let scans = self.window_scans;
        for ((gap, key, rule, words), state) in GAPS.iter().zip(&mut self.states) {
            let scan = |count: u32| Loss::from(state.total + u64::from(count));
            let loss = match gap {
                Gap::Events => events.into(),
                Gap::Alerts => alerts.into(),
                Gap::Unreadable => scan(missed.scan.unreadable),
                Gap::Unstable => Loss { count: state.total + unstable.count, ..unstable },
                Gap::Unbounded => scan(missed.scan.unbounded),
                Gap::Untracked => missed.dropped_since(state.total),
                Gap::Budget => missed.left,
                Gap::Processes => missed.tables[Limit::Processes as usize],
                Gap::Threads => missed.tables[Limit::Threads as usize],
                Gap::Descriptors => missed.tables[Limit::Descriptors as usize],
                Gap::Areas => missed.tables[Limit::Areas as usize],
                Gap::Connections => missed.tables[Limit::Connections as usize],
                Gap::Containers => missed.tables[Limit::Containers as usize],
                Gap::Names => missed.tables[Limit::Strings as usize],
                Gap::Contents => missed.contents,
                Gap::Changes => missed.changes,
                Gap::Binaries => missed.binaries,
                Gap::Unjudged => missed.unjudged,
                Gap::Shells => missed.shells,
                Gap::Commands => missed.commands,
                Gap::Permissions => missed.permissions,
            };
            // A detector that begins anew counts from 0.
            let new = loss.count.saturating_sub(state.total);
            state.total = loss.count;
            state.missed += new;
            if new > 0 {
                state.process_id = loss.process_id;
            }
            state.scans += u32::from(new > 0);
            let is_lost = match rule {
                // Something whose report was refused stays lost until a report is accepted.
                Rule::AtOnce => new > 0 || state.since.is_none() && state.missed > 0,
                Rule::Often => ends_window && state.scans * 2 >= scans,
            };
            if ends_window {
                state.scans = 0;
                if *rule == Rule::Often && state.since.is_none() && !is_lost {
                    state.missed = 0;
                }
            }
            let before = *state;
            if let Some((missed, since)) = state.follow(is_lost, now) {
                let process_id = state.process_id.filter(|_| missed.is_some());
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
        let since = match self.since {
            None if is_lost => *self.since.insert(now.real),
            Some(since) if now.monotonic.since(self.last) >= OVER_NS => {
                (self.since, self.missed, self.reported_missed) = (None, 0, 0);
                return Some((None, since));
            }
            Some(since) if now.monotonic.since(self.reported) >= AGAIN_NS => since,
            _ => return None,
        };
        self.reported = now.monotonic;
        let missed = core::mem::take(&mut self.missed);
        self.reported_missed += missed;
        Some((Some(missed), since))
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
        let all =
            reports(130, |scan| Missed { changes: changes(scan).into(), ..Missed::default() });
        let key = "content_changes";
        assert_eq!(all, [(7, key, Some(47)), (120, key, None)]);
    }

    #[test]
    fn a_detector_that_begins_anew_has_no_negative_losses() {
        let binaries = |scan: i64| if scan < 5 { 9 } else { 1 };
        let all =
            reports(50, |scan| Missed { binaries: binaries(scan).into(), ..Missed::default() });
        assert_eq!(all, [(0, "binaries", Some(9))]);
    }

    #[test]
    fn what_a_scan_had_no_room_for_names_a_process() {
        let (mut gaps, mut blamed) = (Gaps::default(), Vec::new());
        let scan = Losses { dropped: 5, process_id: Some(42), ..Losses::default() };
        for at in 0..20 {
            let missed = Missed { scan, ..Missed::default() };
            gaps.update(&missed, Now::at(at * SCAN_NS), |report| {
                blamed.push((report.key, report.process_id));
                Accepted::Yes
            });
        }
        assert_eq!(blamed, [("untracked", Some(42))]);
    }

    #[test]
    fn a_refused_report_of_a_beginning_gap_is_offered_again() {
        let (mut gaps, mut reports) = (Gaps::default(), Vec::new());
        let changes = Loss { count: 5, process_id: Some(42) };
        for scan in 0..10 {
            let missed = Missed { changes, ..Missed::default() };
            gaps.update(&missed, Now::at(scan * SCAN_NS), |report| {
                reports.push((scan, report.missed, report.process_id));
                if scan < 6 { Accepted::No } else { Accepted::Yes }
            });
        }
        let expected: Vec<_> = (0..=6).map(|scan| (scan, Some(5), Some(42))).collect();
        assert_eq!(reports, expected);
    }
}

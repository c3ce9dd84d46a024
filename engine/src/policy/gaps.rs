//! Records of what is not seen: `coverage_degraded` when something begins to be missed, again each
//! minute while it lasts, and `coverage_restored` when nothing more was missed for a while.
//!
//! Losses are summed over a period. A machine changes while it is read, so an object that one scan
//! cannot read is no gap: the gap is that many scans could not read something
//! ([`GapRule::Often`]). What the watcher itself had no room or time for is a gap at once
//! ([`GapRule::AtOnce`]).
//!
//! The list in this file has what scans, the state and the queue miss. The gaps of detectors follow
//! it ([`Detector::GAPS`](crate::detect::Detector::GAPS)).
//!
//! A gap that others cause hides nobody: while it lasts, a process that causes more of it is named
//! within [`NAMED_NS`].

use arrayvec::ArrayVec;

use super::loss_rate::LossFrequency;
use crate::detect::{DETECTOR_GAPS, DetectorLosses};
use crate::limits::{Limit, PerLimit};
use crate::loss::{BlamedProcess, FrequentStop, GapKind, GapLoss, GapRule, LISTED_MAX, Loss};
use crate::time::{MINUTE_NS, Monotonic, Now, RealTime, SECOND_NS};
use crate::walk::{DeferredWork, Losses};

macro_rules! gaps {
    ($($gap:ident $key:literal $rule:ident $words:literal;)+) => {
        /// What can be missed, besides the gaps of detectors.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        enum Gap {
            $($gap,)+
        }

        const GAPS: &[(Gap, GapKind)] = &[$((
            Gap::$gap,
            GapKind { key: $key, rule: GapRule::$rule, words: $words },
        ),)+];

        /// Number of kinds of gaps: those of the list, then those of [`DETECTOR_GAPS`].
        pub const GAPS_MAX: usize = GAPS.len() + DETECTOR_GAPS.len();
    };
}

gaps! {
    Events "events" AtOnce "events were not written: the queue to the writer was full";
    Alerts "alerts" AtOnce "alerts were not written: the queue to the writer was full";
    Unreadable "unreadable" Often "objects could not be read";
    Unbounded "unbounded" Often "lists or trees did not end within their bound";
    Unstable "unstable" AtOnce
        "processes changed their descriptor tables or programs whenever they were read";
    Modules "kernel_modules" AtOnce
        "kernel modules or their lists were not compared: too many, endless, or locked for long";
    Ebpf "ebpf_programs" AtOnce
        "programs or links of eBPF were not compared: too many, or lists without an end";
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
}

/// What a scan missed.
#[derive(Debug)]
pub struct ScanShortfall<'a> {
    pub scan: &'a Losses,
    /// What the scan left for the next one.
    pub left: DeferredWork,
    /// Processes of which scans show no consistent data.
    pub unstable: &'a mut Loss,
    /// Kernel modules that are not compared, or their views.
    pub modules: &'a mut Loss,
    /// Programs and links of eBPF that are not compared, or their views.
    pub ebpf: &'a mut Loss,
    /// What was not tracked.
    pub tables: &'a mut PerLimit<Loss>,
    pub contents: &'a mut Loss,
    pub detectors: DetectorLosses<'a>,
}

impl ScanShortfall<'_> {
    /// Path of a folder to which the losses of a gap apply; empty if they apply to none.
    pub(super) fn folder_of(&self, gap: usize) -> &[u8] {
        self.of_detector(gap).map(|loss| loss.folder).unwrap_or_default()
    }

    /// The losses of a gap of a detector.
    fn of_detector(&self, gap: usize) -> Option<&GapLoss<'_>> {
        self.detectors.get(gap.checked_sub(GAPS.len())?)
    }
}

/// A gap that lasts is reported again after this time.
pub const AGAIN_NS: i64 = MINUTE_NS;
/// Within this time, a gap that lasts is reported again if another process causes it.
const NAMED_NS: i64 = SECOND_NS;
/// A gap is over when nothing was missed for this time.
pub const OVER_NS: i64 = 10 * SECOND_NS;
const _: () =
    assert!(NAMED_NS < OVER_NS && OVER_NS < AGAIN_NS, "a gap ends before it is due again");

/// The state of one gap.
#[derive(Clone, Copy, Debug, Default)]
struct GapState {
    often: LossFrequency,
    /// Since when the gap lasts.
    since: Option<RealTime>,
    last: Monotonic,
    reported: Monotonic,
    /// What was reported since the gap began: the sum of what was skipped once, and the most that
    /// one scan skipped.
    before: (u64, u64),
    /// Number missed since the gap began.
    count: u64,
}

/// A report about a gap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Report {
    /// Its word in records.
    pub(super) key: &'static str,
    /// Words for what is missed; they follow the number.
    pub(super) words: &'static str,
    /// Number missed since the last report; `None`: the gap is over.
    pub(super) missed: Option<u64>,
    pub(super) since: RealTime,
    /// The processes to blame.
    pub(super) blamed: ArrayVec<BlamedProcess, LISTED_MAX>,
    /// Number of further ones.
    pub(super) unlisted: u32,
    /// The most frequent reason of the last scan that missed something.
    pub(super) stop: Option<FrequentStop>,
}

/// Tracks what is missed of one machine.
#[derive(Debug)]
pub(super) struct Gaps {
    states: [GapState; GAPS_MAX],
    /// Losses of the gaps that nothing else counts.
    events: Loss,
    alerts: Loss,
    unreadable: Loss,
    unbounded: Loss,
    untracked: Loss,
    budget: Loss,
    /// The most frequent reasons of the last scans with unreadable objects, with unbounded lists,
    /// and with objects that found no room.
    frequent_unreadable: Option<FrequentStop>,
    frequent_unbounded: Option<FrequentStop>,
    frequent_dropped: Option<FrequentStop>,
    /// When the last scan was evaluated, and the time before that.
    at: Monotonic,
    after_ns: i64,
    /// Events and urgent records that found no room in the queue.
    pub(super) refused: [u64; 2],
}

/// The kind of the gap of this index.
fn kind_of(gap: usize) -> Option<GapKind> {
    match GAPS.get(gap) {
        Some((_, kind)) => Some(*kind),
        None => DETECTOR_GAPS.get(gap.checked_sub(GAPS.len())?).copied(),
    }
}

/// The word for the gap of this index in records.
pub fn key_of(gap: usize) -> &'static str {
    kind_of(gap).map_or("", |kind| kind.key)
}

/// What the gap of this index misses, in words that follow a number.
pub fn words_of(gap: usize) -> &'static str {
    kind_of(gap).map_or("", |kind| kind.words)
}

impl Gaps {
    pub(super) fn new() -> Self {
        Self {
            states: [GapState::default(); GAPS_MAX],
            events: Loss::default(),
            alerts: Loss::default(),
            unreadable: Loss::default(),
            unbounded: Loss::default(),
            untracked: Loss::new(),
            budget: Loss::new(),
            frequent_unreadable: None,
            frequent_unbounded: None,
            frequent_dropped: None,
            at: Monotonic::default(),
            after_ns: 0,
            refused: [0; 2],
        }
    }

    /// Returns the number missed since each gap began; 0 if there is no gap.
    pub(super) fn counts(&self) -> [u64; GAPS_MAX] {
        self.states.map(|state| state.since.map_or(0, |_| state.count.max(1)))
    }

    /// Counts what one scan missed.
    pub(super) fn begin_scan(&mut self, missed: &ScanShortfall<'_>, now: Monotonic) {
        self.after_ns = now.since(core::mem::replace(&mut self.at, now));
        let [events, alerts] = core::mem::take(&mut self.refused);
        self.events.add(events, None);
        self.alerts.add(alerts, None);
        let ScanShortfall { scan, left, .. } = missed;
        for (loss, count, process_id) in [
            (&mut self.unreadable, scan.unreadable.into(), None),
            (&mut self.unbounded, scan.unbounded.into(), None),
            (&mut self.untracked, scan.dropped.into(), scan.process_id),
            (&mut self.budget, left.total(), left.process_id),
        ] {
            loss.begin_scan();
            loss.stand(count, process_id);
        }
        if scan.unreadable > 0 {
            self.frequent_unreadable = scan.frequent_unreadable();
        }
        if scan.unbounded > 0 {
            self.frequent_unbounded = scan.frequent_unbounded();
        }
        if scan.dropped > 0 {
            self.frequent_dropped = scan.frequent_dropped();
        }
    }

    /// Evaluates one gap after a scan. Returns its report if it begins, lasts or ends, and again
    /// after each scan until the report is accepted.
    pub(super) fn report(
        &mut self,
        gap: usize,
        missed: &mut ScanShortfall<'_>,
        now: Now,
    ) -> Option<Report> {
        let GapKind { key, rule, words } = kind_of(gap)?;
        let after_ns = self.after_ns;
        let stop = match GAPS.get(gap) {
            Some((Gap::Unreadable, _)) => self.frequent_unreadable,
            Some((Gap::Unbounded, _)) => self.frequent_unbounded,
            Some((Gap::Untracked, _)) => self.frequent_dropped,
            Some(_) => None,
            None => missed.of_detector(gap).and_then(|loss| loss.stop),
        };
        let (state, loss) = self.parts_of(gap, missed)?;
        let has_lost = loss.take_added() | (loss.standing() > 0);
        let is_lost = match rule {
            // Something whose report was refused stays lost until a report is accepted.
            GapRule::AtOnce => has_lost || state.since.is_none() && loss.missed() > 0,
            GapRule::Often => state.often.count(has_lost, after_ns, state.since.is_some()),
        };
        if rule == GapRule::Often && state.since.is_none() && state.often.is_empty() {
            loss.forget();
        }
        let (once, most) = loss.parts();
        state.count = (state.before.0 + once).saturating_add(state.before.1.max(most));
        let (is_missed, since) = state.follow(is_lost, loss.names_another(), now)?;
        Some(Report {
            key,
            words,
            missed: is_missed.then(|| loss.missed()),
            since,
            blamed: loss.blamed().iter().copied().filter(|_| is_missed).collect(),
            unlisted: loss.unlisted(),
            stop: stop.filter(|_| is_missed),
        })
    }

    /// Notes that the report of a gap was accepted.
    pub(super) fn accept(
        &mut self,
        gap: usize,
        missed: &mut ScanShortfall<'_>,
        report: &Report,
        now: Monotonic,
    ) {
        let Some((state, loss)) = self.parts_of(gap, missed) else { return };
        if report.missed.is_none() {
            *state = GapState { often: state.often, ..GapState::default() };
            loss.forget();
            return;
        }
        let (once, most) = loss.parts();
        state.before = (state.before.0 + once, state.before.1.max(most));
        state.since = Some(report.since);
        state.reported = now;
        loss.begin_period();
    }

    /// The state of a gap, and where its losses are counted.
    fn parts_of<'a>(
        &'a mut self,
        gap: usize,
        missed: &'a mut ScanShortfall<'_>,
    ) -> Option<(&'a mut GapState, &'a mut Loss)> {
        let Some((kind, _)) = GAPS.get(gap) else {
            let of_detector = missed.detectors.get_mut(gap.checked_sub(GAPS.len())?)?;
            return Some((self.states.get_mut(gap)?, &mut *of_detector.loss));
        };
        let loss = match kind {
            Gap::Events => &mut self.events,
            Gap::Alerts => &mut self.alerts,
            Gap::Unreadable => &mut self.unreadable,
            Gap::Unbounded => &mut self.unbounded,
            Gap::Untracked => &mut self.untracked,
            Gap::Budget => &mut self.budget,
            Gap::Unstable => &mut *missed.unstable,
            Gap::Modules => &mut *missed.modules,
            Gap::Ebpf => &mut *missed.ebpf,
            Gap::Processes => &mut missed.tables[Limit::Processes as usize],
            Gap::Threads => &mut missed.tables[Limit::Threads as usize],
            Gap::Descriptors => &mut missed.tables[Limit::Descriptors as usize],
            Gap::Areas => &mut missed.tables[Limit::Areas as usize],
            Gap::Connections => &mut missed.tables[Limit::Connections as usize],
            Gap::Containers => &mut missed.tables[Limit::Containers as usize],
            Gap::Names => &mut missed.tables[Limit::Strings as usize],
            Gap::Contents => &mut *missed.contents,
        };
        Some((self.states.get_mut(gap)?, loss))
    }
}

impl GapState {
    /// Returns whether to report something missed or the end, and since when the gap lasts; `None`
    /// if there is nothing to report.
    fn follow(&mut self, is_lost: bool, names_another: bool, now: Now) -> Option<(bool, RealTime)> {
        let now_monotonic = now.monotonic;
        if is_lost {
            self.last = now_monotonic;
        }
        let Some(since) = self.since else { return is_lost.then_some((true, now.real)) };
        if now_monotonic.since(self.last) >= OVER_NS {
            return Some((false, since));
        }
        let period = if names_another { NAMED_NS } else { AGAIN_NS };
        (now_monotonic.since(self.reported) >= period).then_some((true, since))
    }
}

/// All that counts losses, for tests.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct LossFixture {
    pub(super) unstable: Loss,
    modules: Loss,
    ebpf: Loss,
    pub(super) tables: PerLimit<Loss>,
    contents: Loss,
    /// One for each of [`DETECTOR_GAPS`].
    detectors: [Loss; DETECTOR_GAPS.len()],
    /// The reason of the gap `unjudged`.
    unjudged_stop: Option<FrequentStop>,
}

#[cfg(test)]
impl LossFixture {
    pub(super) fn new() -> Self {
        Self {
            unstable: Loss::new(),
            modules: Loss::default(),
            ebpf: Loss::default(),
            tables: Limit::ALL.map(|_| Loss::new()),
            contents: Loss::new(),
            detectors: core::array::from_fn(|_| Loss::new()),
            unjudged_stop: None,
        }
    }

    /// The losses of a detector's gap.
    pub(super) fn of(&mut self, key: &str) -> &mut Loss {
        let at = DETECTOR_GAPS.iter().position(|kind| kind.key == key);
        &mut self.detectors[at.expect("the key of a gap")]
    }

    pub(super) fn missed<'a>(&'a mut self, scan: &'a Losses) -> ScanShortfall<'a> {
        let Self { unstable, modules, ebpf, tables, contents, detectors, unjudged_stop } = self;
        let folder_of = |kind: &GapKind| match kind.key {
            "paths" => b"/usr/bin/".as_slice(),
            _ => b"",
        };
        let detectors = detectors.iter_mut().zip(&DETECTOR_GAPS).map(|(loss, kind)| {
            let stop = unjudged_stop.filter(|_| kind.key == "unjudged");
            GapLoss { loss, folder: folder_of(kind), stop }
        });
        let detectors = detectors.collect();
        let left = DeferredWork::default();
        ScanShortfall { scan, left, unstable, modules, ebpf, tables, contents, detectors }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;

    use super::*;

    /// Ten scans in a second.
    const SCAN_NS: i64 = SECOND_NS / 10;

    /// Gaps, and what they lost.
    struct Watch {
        gaps: Gaps,
        lost: LossFixture,
    }

    /// A report of a scan.
    struct Reported {
        scan: i64,
        key: &'static str,
        missed: Option<u64>,
        blamed: Vec<u32>,
        unlisted: u32,
        /// The most frequent reason, in words.
        stop: Option<String>,
    }

    impl Reported {
        fn facts(&self) -> (i64, &'static str, Option<u64>) {
            (self.scan, self.key, self.missed)
        }
    }

    impl Watch {
        fn new() -> Self {
            Self { gaps: Gaps::new(), lost: LossFixture::new() }
        }

        /// The reports of a scan. Those that `accepts` refuses are offered again.
        fn scan(&mut self, scan: i64, losses: &Losses, accepts: bool) -> Vec<Reported> {
            let now = Now::at(scan * SCAN_NS);
            let missed = &mut self.lost.missed(losses);
            self.gaps.begin_scan(missed, now.monotonic);
            let mut all = Vec::new();
            for gap in 0..GAPS_MAX {
                let Some(report) = self.gaps.report(gap, missed, now) else { continue };
                if accepts {
                    self.gaps.accept(gap, missed, &report, now.monotonic);
                }
                let Report { key, missed, blamed, unlisted, stop, .. } = report;
                let blamed = blamed.iter().map(|blamed| blamed.process_id).collect();
                let stop = stop.map(|stop| stop.to_string());
                all.push(Reported { scan, key, missed, blamed, unlisted, stop });
            }
            all
        }

        /// The reports of so many scans; `lose` prepares each of them.
        fn scans(
            &mut self,
            scans: i64,
            mut lose: impl FnMut(i64, &mut LossFixture) -> Losses,
        ) -> Vec<Reported> {
            let scans = 0..scans;
            let reports = scans.map(|scan| {
                let losses = lose(scan, &mut self.lost);
                self.scan(scan, &losses, true)
            });
            reports.flatten().collect()
        }
    }

    fn unreadable(count: u32) -> Losses {
        Losses { unreadable: count, ..Losses::default() }
    }

    #[test]
    fn a_loss_by_chance_is_no_gap() {
        let by_chance = |scan, _: &mut LossFixture| unreadable(u32::from(scan % 20 == 0));
        assert!(Watch::new().scans(20_000, by_chance).is_empty());
        assert!(Watch::new().scans(2000, |_, _| Losses::default()).is_empty());
    }

    /// One clean scan among many must not hide the process that spoils most scans.
    #[test]
    fn who_spoils_most_scans_is_reported_and_so_is_the_end() {
        let spoilt = |scan: i64| (200..1000).contains(&scan) && scan % 20 != 0;
        let lose = |scan, _: &mut LossFixture| unreadable(if spoilt(scan) { 2 } else { 0 });
        let all = Watch::new().scans(1500, lose);
        let facts: Vec<_> = all.iter().map(|it| (it.key, it.missed)).collect();
        let key = "unreadable";
        assert_eq!(facts, [(key, Some(2)), (key, Some(2)), (key, None)], "two at a time");
        let times: Vec<_> = all.iter().map(|it| it.scan).collect();
        assert!((201..=211).contains(&times[0]), "{times:?}");
        assert!((600..=620).contains(&(times[1] - times[0])), "each minute: {times:?}");
        assert!((1080..=1120).contains(&times[2]), "{times:?}");
    }

    #[test]
    fn a_gap_names_the_most_frequent_reason_of_the_last_scan_that_missed_something() {
        let tasks = [0x20, 0x30].map(KernelVa);
        let all = Watch::new().scans(1500, |scan, _| match scan {
            200..500 => Losses::of_tasks(&[KernelVa(0x10)]),
            500..1000 if scan % 2 == 0 => Losses::of_tasks(&tasks),
            _ => Losses::default(),
        });
        let stops: Vec<_> = all.iter().map(|it| (it.missed, it.stop.as_deref())).collect();
        let expected = [
            (Some(1), Some("task: unreadable at 0x10")),
            (Some(2), Some("task: unreadable at 0x20")),
            (None, None),
        ];
        assert_eq!(stops, expected);
    }

    #[test]
    fn programs_that_are_not_judged_have_the_reason_of_their_detector() {
        let mut watch = Watch::new();
        watch.lost.unjudged_stop = Losses::of_tasks(&[KernelVa(0x10)]).frequent_unreadable();
        for key in ["unjudged", "binaries"] {
            watch.lost.of(key).add(1, Some(7));
        }
        let all = watch.scan(0, &Losses::default(), true);
        let stops: Vec<_> = all.iter().map(|it| (it.key, it.stop.as_deref())).collect();
        assert_eq!(stops, [("binaries", None), ("unjudged", Some("task: unreadable at 0x10"))]);
    }

    #[test]
    fn what_found_no_room_is_reported_at_once_with_its_number() {
        let all = Watch::new().scans(130, |scan, lost| {
            let count = if scan == 7 { 47 } else { u64::from((8..20).contains(&scan)) };
            lost.of("content_changes").add(count, None);
            Losses::default()
        });
        let facts: Vec<_> = all.iter().map(Reported::facts).collect();
        let key = "content_changes";
        assert_eq!(facts, [(7, key, Some(47)), (119, key, None)]);
    }

    /// Processes that were not tracked for a minute were counted in each scan.
    #[test]
    fn what_every_scan_skips_is_counted_once_and_lasts_as_long_as_it_does() {
        let mut watch = Watch::new();
        let all = watch.scans(2000, |scan, lost| {
            let table = &mut lost.tables[Limit::Processes as usize];
            table.begin_scan();
            let count = if scan == 300 { 250 } else { 200 };
            table.stand(if scan < 1000 { count } else { 0 }, Some(7));
            Losses::default()
        });
        let facts: Vec<_> = all.iter().map(Reported::facts).collect();
        let key = "untracked_processes";
        assert_eq!(facts, [(0, key, Some(200)), (600, key, Some(250)), (1099, key, None)]);
        assert_eq!(watch.gaps.counts(), [0; GAPS_MAX]);
    }

    #[test]
    fn what_a_scan_had_no_room_for_names_a_process() {
        let scan = Losses { dropped: 5, process_id: Some(42), ..Losses::default() };
        let all = Watch::new().scans(20, |_, _| scan);
        assert_eq!((all.len(), all[0].key, &all[0].blamed[..]), (1, "untracked", &[42][..]));
        assert_eq!(all[0].stop, None);
    }

    #[test]
    fn what_a_scan_cut_has_its_reason() {
        let all = Watch::new().scans(20, |_, _| Losses::of_cut_tables(2));
        let stop = Some("descriptor table: no room among 64");
        assert_eq!((all.len(), all[0].key, all[0].stop.as_deref()), (1, "untracked", stop));
    }

    /// A decoy kept the gap open, and the process behind it was never named.
    #[test]
    fn a_process_that_loses_beside_a_decoy_is_named_within_a_second() {
        for begin in [0, 1, 5, 30, 599, 700] {
            let all = Watch::new().scans(begin + 30, |scan, lost| {
                let changes = lost.of("content_changes");
                changes.add(1, Some(7));
                changes.add(u64::from(scan == begin), Some(42));
                changes.add(1, Some(7));
                Losses::default()
            });
            let names = |it: &&Reported| it.blamed.contains(&42);
            let named: Vec<_> = all.iter().filter(names).map(|it| it.scan).collect();
            assert_eq!(named.len(), 1, "{begin}");
            assert!(named[0] - begin <= 10, "after {} scans", named[0] - begin);
        }
    }

    #[test]
    fn decoys_without_end_cause_one_record_a_second() {
        let mut next = 1000;
        let all = Watch::new().scans(301, |_, lost| {
            for _ in 0..20 {
                next += 1;
                lost.of("content_changes").add(1, Some(next));
            }
            Losses::default()
        });
        assert_eq!(all.len(), 31);
        let last = &all[30];
        assert_eq!((last.missed, last.blamed.len(), last.unlisted), (Some(200), LISTED_MAX, 168));
    }

    #[test]
    fn a_refused_report_of_a_beginning_gap_is_offered_again() {
        let mut watch = Watch::new();
        watch.lost.of("content_changes").add(5, Some(42));
        let mut reports = Vec::new();
        for scan in 0..10 {
            for report in watch.scan(scan, &Losses::default(), scan >= 6) {
                reports.push((scan, report.missed, report.blamed));
            }
        }
        let expected: Vec<_> = (0..=6).map(|scan| (scan, Some(5), vec![42])).collect();
        assert_eq!(reports, expected);
    }
}

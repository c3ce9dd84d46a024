//! Repeated alerts: a number of alerts with the same cause is written in full, further ones are
//! counted, and one record a minute has their number (`alerts_summed_up`).
//!
//! In any 60 s, at most [`WHOLE_MAX`] alerts of a cause are in full, and one record sums up. If one
//! sums up more than that, the cause becomes a flood: nothing more is in full until it pauses for a
//! minute or slows down.
//!
//! Nothing else is held back by that. A cause has whose it is: its container and its user. An alert
//! of which nothing is remembered is written, also if the table is full.
//!
//! A cause ends an hour after its last alert: a later one is a new cause with a new incident.

use core::fmt::Write as _;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::task_struct::TASK_COMM_LEN;
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::value::Uuid;
use panoptes_tables::{HashKey, Key, Row, RowId, ScanNumber, Table};

use super::causes::Cause;
use super::evidence::AlertEvidence;
use super::techniques::Techniques;
use crate::state::container::{CONTAINER_ID_BYTES, ContainerKey};
use crate::time::{MINUTE_NS, Monotonic, Now};

/// Maximum number of causes that are remembered.
const CAUSES_MAX: usize = 256;
/// Maximum number of alerts of one cause that are written in full in [`MINUTE_NS`].
const WHOLE_MAX: usize = 8;
/// A cause without an alert for this time has ended, and with it the incident that its alerts have
/// in common. Jobs that run a few times an hour are one cause.
const CAUSE_NS: i64 = 60 * MINUTE_NS;
/// Time between two looks at all rows.
const ROWS_CHECK_NS: i64 = 1_000_000_000;
/// Maximum number of names of processes in a record.
pub(super) const NAMES_MAX: usize = 8;

/// A cause with its activity and owner, as a hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CauseKey(u64);

#[cfg(test)]
impl CauseKey {
    pub(super) const fn of_test(number: u64) -> Self {
        Self(number)
    }
}

impl Key for CauseKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0])
    }
}

/// What the alerts of a cause have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    key: CauseKey,
    pub(super) activity: Activity,
    pub(super) severity: Severity,
    pub(super) techniques: Techniques,
    pub(super) confidence: Confidence,
    pub(super) container: Option<ContainerKey>,
    /// Whether such alerts begin an incident, to which the further ones belong.
    is_story: bool,
}

impl Common {
    pub(super) const fn key(&self) -> CauseKey {
        self.key
    }

    /// Those of an alert with this evidence. `user` is the real and the effective uid of its
    /// process, if known; `is_story` tells whether it begins an incident.
    pub(super) fn of(
        activity: Activity,
        severity: Severity,
        evidence: &AlertEvidence<'_>,
        container: Option<ContainerKey>,
        user: Option<(u32, u32)>,
        is_story: bool,
    ) -> Self {
        let AlertEvidence { cause, techniques, confidence, .. } = *evidence;
        let container_hash = container.map_or(0, |container| cause.of_key(&container));
        let cause = cause.number(activity as u8).number(severity as u8).number(confidence as u8);
        let cause =
            cause.number(container_hash).number(user.map_or(u64::MAX, |(real, effective)| {
                u64::from(real) << 32 | u64::from(effective)
            }));
        let cause = techniques.iter().fold(cause, |cause, id| cause.text(id.as_bytes()));
        let key = CauseKey(cause.hash());
        Self { key, activity, severity, techniques, confidence, container, is_story }
    }
}

/// A remembered cause, and what is counted of its alerts.
#[derive(Clone, Debug)]
pub(super) struct Repetition {
    pub(super) common: Common,
    /// The incident of its alerts: the first one's; or the one to which all of them belong by their
    /// processes.
    pub(super) incident: Option<Uuid>,
    /// The last alert that was written in full.
    pub(super) last_whole: Uuid,
    /// The id of the container at the first alert: the container may have ended when alerts are
    /// summed up.
    container_id: ArrayVec<u8, CONTAINER_ID_BYTES>,
    /// When the last ones were written in full, the oldest first.
    whole: ArrayVec<Monotonic, WHOLE_MAX>,
    /// When the last alert came.
    last: Monotonic,
    /// Whether more came in the last minute than are written in full.
    is_flood: bool,
    /// When the first alert came that is counted and not written.
    pub(super) since: Now,
    /// Number of those.
    pub(super) count: u32,
    names: ArrayVec<[u8; TASK_COMM_LEN], NAMES_MAX>,
    has_more_names: bool,
}

impl Row for Repetition {
    type Key = CauseKey;

    fn key(&self) -> CauseKey {
        self.common.key
    }
}

impl Repetition {
    /// Whether nothing is counted, and no alert came for a time.
    fn is_idle(&self, now: Monotonic, ns: i64) -> bool {
        self.count == 0 && now.since(self.last) >= ns
    }

    /// The id of the container, if the first alert had one.
    pub(super) fn container_id(&self) -> Option<&[u8]> {
        (!self.container_id.is_empty()).then_some(&self.container_id[..])
    }

    /// Whether the next alert is written in full.
    fn has_room(&self, now: Monotonic) -> bool {
        let is_flood = self.is_flood || self.count as usize > WHOLE_MAX;
        let is_flood = is_flood && now.since(self.last) < MINUTE_NS;
        let oldest = self.whole.first().filter(|_| self.whole.is_full());
        !is_flood && oldest.is_none_or(|&oldest| now.since(oldest) >= MINUTE_NS)
    }

    fn join(&mut self, incident: Option<Uuid>) {
        let is_same = self.incident == incident;
        self.incident = match self.incident {
            first if self.common.is_story => first.or(incident),
            all => all.filter(|_| is_same),
        };
    }

    /// The names of the processes, each once.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(name_of)
    }

    fn add_name(&mut self, name: &[u8]) {
        let mut padded = [0; TASK_COMM_LEN];
        let length = name.len().min(TASK_COMM_LEN);
        padded[..length].copy_from_slice(&name[..length]);
        if length > 0 && !self.names.contains(&padded) {
            self.has_more_names |= self.names.try_push(padded).is_err();
        }
    }
}

/// How an alert is treated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Treatment {
    /// Whether it is written in full.
    pub(super) is_whole: bool,
    /// Whether none of its cause was in the last minute.
    pub(super) is_first: bool,
    /// The incident of earlier alerts of its cause.
    pub(super) incident: Option<Uuid>,
}

/// The causes of the last alerts of one machine.
#[derive(Debug)]
pub(super) struct Repetitions {
    table: Table<Repetition>,
    key: HashKey,
    now: Monotonic,
    /// When all rows were last looked at: for counts that are due, and for room.
    summed: Monotonic,
    searched: Option<Monotonic>,
}

impl Repetitions {
    pub(super) fn new(key: HashKey) -> Self {
        let key = key.derive("causes of alerts");
        Self {
            table: Table::without_scans(CAUSES_MAX, key),
            key,
            now: Monotonic::default(),
            summed: Monotonic::default(),
            searched: None,
        }
    }

    /// The beginning of every cause.
    pub(super) const fn cause(&self) -> Cause {
        Cause::new(self.key)
    }

    /// Notes that a scan begins.
    pub(super) fn note_time(&mut self, now: Monotonic) {
        self.now = now;
    }

    /// Decides whether an alert is written in full.
    pub(super) fn treat(&self, common: &Common) -> Treatment {
        let found = self.table.find(&common.key).and_then(|id| self.table.get(id));
        let found = found.filter(|row| !row.is_idle(self.now, CAUSE_NS));
        Treatment {
            is_whole: found.is_none_or(|row| row.has_room(self.now)),
            is_first: found.is_none_or(|row| row.is_idle(self.now, MINUTE_NS)),
            incident: found.and_then(|row| row.incident).filter(|_| common.is_story),
        }
    }

    /// Notes that an alert was written in full, as the record with this id. `container_id` is the
    /// id of its container, if it is known.
    pub(super) fn note_whole(
        &mut self,
        common: &Common,
        id: Uuid,
        incident: Option<Uuid>,
        container_id: Option<&[u8]>,
    ) {
        let (now, key) = (self.now, common.key);
        let mut found = self.table.find(&key);
        let has_ended = |row: &Repetition| row.is_idle(now, CAUSE_NS);
        if let Some(id) = found.take_if(|id| self.table.get(*id).is_some_and(has_ended)) {
            self.table.remove(id);
        }
        let found = found.or_else(|| {
            if self.table.len() == self.table.capacity() {
                self.make_room();
            }
            let container_id = container_id.unwrap_or_default();
            let row = Repetition {
                common: *common,
                incident,
                last_whole: id,
                container_id: container_id.iter().copied().take(CONTAINER_ID_BYTES).collect(),
                whole: ArrayVec::new(),
                last: now,
                is_flood: false,
                since: Now::default(),
                count: 0,
                names: ArrayVec::new(),
                has_more_names: false,
            };
            self.table.insert(row, ScanNumber::default())
        });
        let Some(row) = found.and_then(|id| self.table.get_mut(id)) else { return };
        if row.whole.is_full() {
            row.whole.remove(0);
        }
        row.whole.push(now);
        row.is_flood = false;
        (row.last_whole, row.last) = (id, now);
        row.join(incident);
    }

    /// Counts an alert that is not written. `name` is that of its process.
    pub(super) fn count(&mut self, common: &Common, now: Now, incident: Option<Uuid>, name: &[u8]) {
        let found = self.table.find(&common.key);
        let Some(row) = found.and_then(|id| self.table.get_mut(id)) else { return };
        if row.count == 0 {
            row.since = now;
        }
        row.count = row.count.saturating_add(1);
        row.last = self.now;
        row.join(incident);
        row.add_name(name);
    }

    /// One more than the number of the last row.
    pub(super) fn rows(&self) -> u32 {
        self.table.end()
    }

    /// Whether it is time to look at all rows.
    pub(super) fn is_time_to_sum_up(&mut self) -> bool {
        let is_time = self.now.since(self.summed) >= ROWS_CHECK_NS && !self.table.is_empty();
        if is_time {
            self.summed = self.now;
        }
        is_time
    }

    /// A row whose count is to be written now; at the end, each that has one.
    pub(super) fn due(&self, row: u32, is_end: bool) -> Option<Repetition> {
        let row = self.table.get(RowId(row)).filter(|row| row.count > 0)?;
        let is_due = is_end || self.now.since(row.since.monotonic) >= MINUTE_NS;
        is_due.then(|| row.clone())
    }

    /// Begins to count anew.
    pub(super) fn accept(&mut self, row: u32) {
        if let Some(row) = self.table.get_mut(RowId(row)) {
            row.is_flood = row.count as usize > WHOLE_MAX;
            row.count = 0;
            row.names.clear();
            row.has_more_names = false;
        }
    }

    /// Forgets the causes that have paused for a minute.
    fn make_room(&mut self) {
        if self.searched.is_some_and(|last| self.now.since(last) < ROWS_CHECK_NS) {
            return;
        }
        self.searched = Some(self.now);
        for number in 0..self.table.end() {
            let id = RowId(number);
            if self.table.get(id).is_some_and(|row| row.is_idle(self.now, MINUTE_NS)) {
                self.table.remove(id);
            }
        }
    }
}

fn name_of(padded: &[u8; TASK_COMM_LEN]) -> &[u8] {
    let end = padded.iter().position(|&byte| byte == 0);
    &padded[..end.unwrap_or(TASK_COMM_LEN)]
}

/// Maximum length of the reason in bytes: the names of processes, an activity, two numbers, and the
/// text between. A byte of a name takes at most four bytes, as in `\x00`.
const REASON_BYTES: usize = NAMES_MAX * (TASK_COMM_LEN * 4 + 2) + 256;

/// One sentence: how many alerts of the cause, in what time, and of which processes.
pub(super) fn reason(repetition: &Repetition, now: Now) -> ArrayString<REASON_BYTES> {
    let Repetition { common, count, since, .. } = repetition;
    let seconds = now.monotonic.since(since.monotonic).max(0) / 1_000_000_000;
    let name = common.activity.name();
    let mut reason = ArrayString::new();
    let alerts = if *count == 1 { "alert" } else { "alerts" };
    // The whole sentence fits.
    let _ = write!(
        reason,
        "{count} more {alerts} {name} with the cause of one that was written: counted for \
         {seconds} s"
    );
    for (at, name) in repetition.names().enumerate() {
        let before = if at == 0 { "; in " } else { ", " };
        let _ = write!(reason, "{before}{}", name.escape_ascii());
    }
    if repetition.has_more_names {
        let _ = reason.write_str(" and others");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::techniques::LIBRARY;
    use crate::time::RealTime;

    const SECOND_NS: i64 = 1_000_000_000;

    struct Watched {
        repetitions: Repetitions,
        now: Now,
        /// When something was written.
        written: Vec<i64>,
    }

    impl Watched {
        fn new() -> Self {
            let repetitions = Repetitions::new(HashKey::new(7));
            Self { repetitions, now: Now::default(), written: Vec::new() }
        }

        fn common(&self, number: u64) -> Common {
            let cause = self.repetitions.cause().number(number);
            let since_ns = RealTime::default();
            let confidence = Confidence::High;
            let evidence = AlertEvidence {
                reason: "",
                techniques: LIBRARY,
                confidence,
                since_ns,
                scans: 1,
                cause,
            };
            let activity = Activity::ForeignLibraryLoaded;
            Common::of(activity, Severity::High, &evidence, None, Some((0, 0)), true)
        }

        /// An alert with a cause; returns whether it is written in full.
        fn alert(&mut self, number: u64, name: &[u8]) -> bool {
            let common = self.common(number);
            let treatment = self.repetitions.treat(&common);
            if treatment.is_whole {
                self.repetitions.note_whole(&common, Uuid([1; 16]), None, None);
                self.written.push(self.now.real.ns());
            } else {
                self.repetitions.count(&common, self.now, None, name);
            }
            treatment.is_whole
        }

        /// The counts that are due.
        fn pass(&mut self, ns: i64) -> Vec<u32> {
            self.now = self.now.after(ns);
            self.repetitions.note_time(self.now.monotonic);
            let mut counts = Vec::new();
            for row in 0..self.repetitions.table.end() {
                if let Some(due) = self.repetitions.due(row, false) {
                    counts.push(due.count);
                    self.written.push(self.now.real.ns());
                    self.repetitions.accept(row);
                }
            }
            counts
        }
    }

    #[test]
    fn eight_are_whole_the_rest_is_counted_once_a_minute() {
        let mut watched = Watched::new();
        let mut counts = Vec::new();
        // Ten a second, for five minutes.
        for tenth in 0..3000 {
            assert_eq!(watched.alert(1, b"sh"), tenth < 8, "{tenth}");
            counts.extend(watched.pass(SECOND_NS / 10));
        }
        // Counting begins with the ninth, and again with the first after each record.
        assert_eq!(counts, [600, 600, 600, 600]);
        // After a pause, alerts are in full again.
        assert_eq!(watched.pass(MINUTE_NS), [3000 - 8 - 2400]);
        assert!(watched.alert(1, b"sh"));
    }

    #[test]
    fn no_sixty_seconds_have_more_than_ten_records_of_a_cause() {
        for gap_ms in [1, 100, 1000, 3000, 6000, 6500, 7000, 7400, 7500, 7600, 20_000, 61_000] {
            let mut watched = Watched::new();
            let mut counted = 0;
            let alerts = 1_000_000 / gap_ms;
            for at in 0..alerts {
                watched.alert(1, b"sh");
                // Bursts, too.
                if at % 100 == 0 {
                    (0..20).for_each(|_| _ = watched.alert(1, b"sh"));
                }
                counted += watched.pass(gap_ms * 1_000_000).len();
            }
            counted += watched.pass(MINUTE_NS).len();
            for (at, &ns) in watched.written.iter().enumerate() {
                let later = watched.written[at..].iter();
                let within = later.filter(|&&later| later < ns + MINUTE_NS).count();
                assert!(within <= 10, "{within} with {gap_ms} ms between them");
            }
            assert!(gap_ms > 60_000 || counted > 0);
        }
    }

    #[test]
    fn another_cause_is_written_at_once() {
        let mut watched = Watched::new();
        (0..100).for_each(|_| _ = watched.alert(1, b"sh"));
        assert!(watched.alert(2, b"sh"));
    }

    #[test]
    fn a_full_table_hides_nothing_and_gets_room_after_a_minute() {
        let mut watched = Watched::new();
        watched.pass(SECOND_NS);
        let most = CAUSES_MAX as u64;
        for number in 0..most + 10 {
            (0..9).for_each(|_| _ = watched.alert(number, b"sh"));
        }
        assert!(watched.alert(most + 5, b"sh"), "there was no room for it");
        assert!(!watched.alert(5, b"sh"));
        // All that were counted are summed up, then they are idle.
        assert_eq!(watched.pass(MINUTE_NS).len(), CAUSES_MAX);
        (0..8).for_each(|_| assert!(watched.alert(most + 5, b"sh")));
        assert!(!watched.alert(most + 5, b"sh"), "it has room now");
    }

    #[test]
    fn a_reason_has_the_count_the_time_and_the_names() {
        let mut watched = Watched::new();
        for number in 0..8 + 12_u32 {
            watched.alert(1, format!("p{}", number.saturating_sub(8) % 10).as_bytes());
        }
        watched.alert(1, b"");
        watched.now = watched.now.after(MINUTE_NS);
        let row = watched.repetitions.due(0, true).unwrap();
        assert_eq!(
            reason(&row, watched.now).as_str(),
            "13 more alerts foreign_library_loaded with the cause of one that was written: counted \
             for 60 s; in p0, p1, p2, p3, p4, p5, p6, p7 and others"
        );
        let names = (0..8_u8).map(|number| [number | 0x80; TASK_COMM_LEN]).collect();
        let activity = Activity::ForeignLibraryLoadedFileSizeMismatch;
        let common = Common { activity, ..row.common };
        let longest = Repetition { count: u32::MAX, names, common, ..row };
        let longest = reason(&longest, Now::at(i64::MAX));
        assert!(longest.ends_with("\\x87 and others"), "{longest}");
    }
}

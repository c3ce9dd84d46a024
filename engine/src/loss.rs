//! Counts of what was not seen or not checked, with the processes to blame.
//!
//! Code that skips something counts it in a [`Loss`]; `policy::gaps` reports it, in the words of a
//! [`GapKind`]. What is skipped once is added ([`Loss::add`]). What every scan skips anew, as long
//! as it exists, has a number at present ([`Loss::stand`]): its sum over scans would mean nothing.
//!
//! A process that was never blamed before is listed even if many others are blamed all the time:
//! who wants to hide may let other processes fill every list.

mod stops;

use arrayvec::ArrayVec;
use panoptes_tables::room;

pub(crate) use stops::StopTallies;
pub use stops::{FREQUENT_STOPS_MAX, FrequentStop};

/// Maximum number of processes that are listed until they are reported.
pub const LISTED_MAX: usize = 32;
/// Number of processes that are remembered as blamed before.
const KNOWN_MAX: usize = BUCKETS * WAYS;
const BUCKETS: usize = 256;
const WAYS: usize = 4;

/// How many things were not seen or not checked since the last report.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Tally {
    /// Those that were skipped once.
    once: u64,
    /// Those that are skipped at present, in each scan.
    standing: u64,
    /// The largest number of those.
    most: u64,
}

impl Tally {
    fn add(&mut self, count: u64) {
        self.once = self.once.saturating_add(count);
    }

    fn stand(&mut self, count: u64) {
        self.standing = self.standing.saturating_add(count);
        self.most = self.most.max(self.standing);
    }

    fn missed(self) -> u64 {
        self.once.saturating_add(self.most)
    }
}

/// A process that caused losses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BlamedProcess {
    pub process_id: u32,
    /// Whether it was not blamed before.
    is_new: bool,
    tally: Tally,
}

impl BlamedProcess {
    /// How much it caused since the last report.
    pub fn missed(&self) -> u64 {
        self.tally.missed()
    }
}

/// A number of things that were not seen or not checked.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    all: Tally,
    /// Whether something was added since the last call of [`Self::take_added`].
    has_added: bool,
    listed: ArrayVec<BlamedProcess, LISTED_MAX>,
    /// Number of new processes that are not listed any more.
    unlisted: u32,
    known: ProcessIdCache,
}

impl Loss {
    /// Allocates what remembers processes. Without that (the default), each process is new.
    pub fn new() -> Self {
        Self { known: ProcessIdCache::new(), ..Self::default() }
    }

    /// Counts `count` more things, which `process_id` caused, if a process did.
    pub fn add(&mut self, count: u64, process_id: Option<u32>) {
        if count > 0 {
            self.has_added = true;
            self.all.add(count);
            if let Some(tally) = self.tally_of(process_id) {
                tally.add(count);
            }
        }
    }

    /// Begins to count anew what scans skip each time.
    pub fn begin_scan(&mut self) {
        self.all.standing = 0;
        for blamed in &mut self.listed {
            blamed.tally.standing = 0;
        }
    }

    /// Counts `count` more things that this scan skips, and the next ones will, too.
    pub fn stand(&mut self, count: u64, process_id: Option<u32>) {
        if count > 0 {
            self.all.stand(count);
            if let Some(tally) = self.tally_of(process_id) {
                tally.stand(count);
            }
        }
    }

    /// How much was missed since the last report: the sum of what was added, and the most that was
    /// skipped in one scan.
    pub fn missed(&self) -> u64 {
        self.all.missed()
    }

    /// The two parts of [`Self::missed`].
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.all.once, self.all.most)
    }

    /// The processes that caused it, those that were not blamed before last.
    pub fn blamed(&self) -> &[BlamedProcess] {
        &self.listed
    }

    /// Number of further processes that were not blamed before.
    pub fn unlisted(&self) -> u32 {
        self.unlisted
    }

    /// The process that was blamed last.
    pub fn process_id(&self) -> Option<u32> {
        self.listed.last().map(|blamed| blamed.process_id)
    }

    /// Whether a process is listed that was not blamed before.
    pub(crate) fn names_another(&self) -> bool {
        self.listed.iter().any(|blamed| blamed.is_new)
    }

    /// How much the scan skips at present.
    pub fn standing(&self) -> u64 {
        self.all.standing
    }

    /// Whether something was added since the last call.
    pub(crate) fn take_added(&mut self) -> bool {
        core::mem::take(&mut self.has_added)
    }

    /// Begins a new period, because a report was accepted.
    pub(crate) fn begin_period(&mut self) {
        let standing = self.all.standing;
        self.all = Tally { once: 0, standing, most: standing };
        self.listed.clear();
        self.unlisted = 0;
    }

    /// Forgets everything, because the gap is over.
    pub(crate) fn forget(&mut self) {
        self.begin_period();
        self.known.clear();
    }

    /// The place where losses of a process are counted, if it is listed.
    fn tally_of(&mut self, process_id: Option<u32>) -> Option<&mut Tally> {
        let process_id = process_id?;
        let is_it = |blamed: &BlamedProcess| blamed.process_id == process_id;
        // Most losses follow others of the same process.
        let last = self.listed.len().checked_sub(1);
        let at = last.filter(|&last| is_it(&self.listed[last]));
        let at = match at.or_else(|| self.listed.iter().position(is_it)) {
            Some(at) => at,
            None => self.list(process_id)?,
        };
        self.listed.get_mut(at).map(|blamed| &mut blamed.tally)
    }

    /// Lists one more process, if there is room. A new one always has room: the oldest of those
    /// that were blamed before goes, or else the oldest.
    #[cold]
    fn list(&mut self, process_id: u32) -> Option<usize> {
        let is_new = self.known.insert(process_id);
        if self.listed.is_full() {
            if !is_new {
                return None;
            }
            let at = self.listed.iter().position(|blamed| !blamed.is_new).unwrap_or(0);
            self.unlisted += u32::from(self.listed.remove(at).is_new);
        }
        self.listed.push(BlamedProcess { process_id, is_new, tally: Tally::default() });
        Some(self.listed.len() - 1)
    }
}

/// When a loss is a gap of `coverage_degraded`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GapRule {
    AtOnce,
    /// If scans have it often (`policy::loss_rate`).
    Often,
}

/// A kind of what can be missed, as records have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GapKind {
    /// Its word in records (`gap`).
    pub key: &'static str,
    pub rule: GapRule,
    /// Words for what is missed; they follow a number.
    pub words: &'static str,
}

impl GapKind {
    /// A gap as soon as something is lost.
    pub const fn at_once(key: &'static str, words: &'static str) -> Self {
        Self { key, rule: GapRule::AtOnce, words }
    }
}

/// The losses of one gap.
#[derive(Debug)]
pub struct GapLoss<'a> {
    pub loss: &'a mut Loss,
    /// Path of a folder to which the loss applies; empty if it applies to none.
    pub folder: &'a [u8],
    /// The most frequent reason of the loss, if one is known.
    pub stop: Option<FrequentStop>,
}

impl<'a> From<&'a mut Loss> for GapLoss<'a> {
    fn from(loss: &'a mut Loss) -> Self {
        Self { loss, folder: &[], stop: None }
    }
}

/// Ids of processes: of those with the same hash, the last few. 0 is no process.
#[derive(Clone, Debug, Default)]
struct ProcessIdCache(Box<[u32]>);

impl ProcessIdCache {
    fn new() -> Self {
        Self(room::copies(0, KNOWN_MAX))
    }

    /// Adds a process; returns whether it was not there.
    fn insert(&mut self, process_id: u32) -> bool {
        let bucket = process_id.wrapping_mul(0x9e37_79b1) as usize >> 24;
        let Some(ways) = self.0.get_mut(bucket * WAYS..(bucket + 1) * WAYS) else { return true };
        if ways.contains(&process_id) {
            return false;
        }
        ways.rotate_right(1);
        ways[0] = process_id;
        true
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(loss: &Loss) -> Vec<(u32, u64)> {
        loss.blamed().iter().map(|blamed| (blamed.process_id, blamed.missed())).collect()
    }

    #[test]
    fn what_every_scan_skips_counts_once() {
        let mut loss = Loss::new();
        for scan in 0..100 {
            loss.begin_scan();
            loss.stand(if scan == 50 { 30 } else { 20 }, Some(7));
            loss.stand(5, Some(8));
        }
        assert_eq!((loss.missed(), named(&loss)), (35, vec![(7, 30), (8, 5)]));
        loss.begin_period();
        assert_eq!((loss.missed(), named(&loss)), (25, vec![]));
        loss.add(3, Some(8));
        loss.add(4, None);
        assert_eq!((loss.missed(), named(&loss)), (32, vec![(8, 3)]));
    }

    /// A crowd of others is blamed in each scan, before and after the one that matters.
    #[test]
    fn a_process_that_was_never_blamed_is_listed_beside_a_crowd() {
        let mut loss = Loss::new();
        for scan in 0..300 {
            loss.begin_scan();
            for decoy in 1000..1200 {
                if scan == 290 && decoy == 1100 {
                    loss.stand(1, Some(42));
                }
                loss.stand(1, Some(decoy));
            }
            if scan % 100 == 0 {
                assert!(loss.names_another() == (scan == 0));
                loss.begin_period();
            }
        }
        assert!(loss.names_another());
        assert!(named(&loss).contains(&(42, 1)), "{:?}", named(&loss));
        assert_eq!(loss.unlisted(), 0);
    }

    #[test]
    fn processes_that_found_no_place_in_the_list_are_counted() {
        let mut loss = Loss::new();
        (1..=40).for_each(|process| loss.add(1, Some(process)));
        let listed: Vec<_> = named(&loss).iter().map(|(id, _)| *id).collect();
        assert_eq!(listed, (9..=40).collect::<Vec<_>>());
        assert_eq!((loss.unlisted(), loss.missed()), (8, 40));
        loss.forget();
        loss.add(1, Some(1));
        assert!(loss.names_another(), "the gap was over");
    }
}

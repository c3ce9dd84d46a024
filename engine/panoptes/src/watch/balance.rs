//! Decides which scanner scans which system: a pure function of measured costs and of time.
//!
//! As long as every system is scanned at the configured interval, nothing moves. If that cannot be
//! held for a while, another scanner is started, if one is allowed, and systems move there. If none
//! is allowed, those that cost more than their share of the interval are scanned less often, and if
//! one scan would delay the others, go to the slow scanner. The shares are max-min fair: who costs
//! less than an equal share leaves the rest to the others, so nobody is seen less often because
//! another costs much.
//!
//! Before and after a move, thresholds differ, and who moves again and again stays in the slow
//! scanner longer and longer. All times are nanoseconds since the program started.
//!
//! Not here: measuring, and passing systems on.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// The part of the interval that scans may use, in percent: hashing, records and the kernel need
/// the rest.
const USABLE_PERCENT: u64 = 80;
/// A scanner is joined with others if they would use at most this part of the interval.
const SPARE_PERCENT: u64 = 50;
/// Scanners must be crowded for this time before anything moves.
const CROWDED_NS: u64 = 1_000_000_000;
/// Scanners must have time to spare for this time before one of them ends.
const SPARE_NS: u64 = 10_000_000_000;
/// A system stays in the slow scanner for this time, doubled with each return up to the maximum.
const STAY_NS: u64 = 1_000_000_000;
const STAY_MOST_NS: u64 = 60_000_000_000;
/// The number of whole scans after which the cost of a system in the slow scanner is known.
const KNOWN_SCANS: u64 = 2;
/// A scan ends early if it costs more than this, and more than twice the fair share.
const LIMIT_LEAST_NS: u64 = 3_000_000;
/// The part of the interval, in percent, by which one scan may delay the others in any case: a
/// system that costs no more need not leave, since it can be scanned less often.
const DELAY_PERCENT: u64 = 20;

/// A scanner.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum ScannerId {
    Quick(usize),
    Slow,
}

/// A system that goes from one scanner to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Move {
    /// Its index in the list of systems.
    pub(super) index: usize,
    pub(super) from: ScannerId,
}

#[derive(Clone, Copy, Debug)]
struct BalancedSystem {
    place: ScannerId,
    /// The cost of a scan in nanoseconds.
    cost: u64,
    scans: u64,
    /// When it came to its place, and its number of scans then.
    since: u64,
    scans_before: u64,
    /// How long it stays in the slow scanner at least.
    stay: u64,
}

/// Costs in nanoseconds around the fair share. They differ, so that no system moves to and fro.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// A system of the slow scanner that costs at most this much returns.
    returns: u64,
    /// A system that costs more may have to go there.
    leaves: u64,
}

/// Where systems are scanned.
#[derive(Debug)]
pub(super) struct Balance {
    /// The number of quick scanners that may be used.
    most: usize,
    /// The number of those that are used.
    used: usize,
    /// Whether scanners that are not needed end: they were not configured one by one.
    shrinks: bool,
    /// Whether there is a slow scanner.
    has_slow: bool,
    systems: BTreeMap<usize, BalancedSystem>,
    /// Since when each quick scanner is crowded.
    crowded: Vec<Option<u64>>,
    /// Since when systems wait in the slow scanner although they could be scanned at the interval
    /// elsewhere.
    waiting: Option<u64>,
    /// Since when one scanner less would do.
    spare: Option<u64>,
    /// The scanners that wait for memory that does not answer: nothing goes there, and nothing that
    /// they have can leave.
    silent: Vec<ScannerId>,
}

impl Balance {
    /// `shrinks`: start with one quick scanner, and use more, up to `most`, only while they are
    /// needed. Else all are used.
    pub(super) fn new(most: usize, shrinks: bool, has_slow: bool) -> Self {
        Self {
            most,
            used: if shrinks { 1 } else { most },
            shrinks,
            has_slow,
            systems: BTreeMap::new(),
            crowded: vec![None; most],
            waiting: None,
            spare: None,
            silent: Vec::new(),
        }
    }

    /// Sets whether a scanner waits for memory that does not answer.
    pub(super) fn set_silent(&mut self, place: ScannerId, is_silent: bool) {
        if is_silent != self.is_silent(place) {
            self.silent.retain(|one| *one != place);
            self.silent.extend(is_silent.then_some(place));
        }
    }

    fn is_silent(&self, place: ScannerId) -> bool {
        self.silent.contains(&place)
    }

    /// Adds a system, and returns its first scanner. Its first scans cost much, and how much is not
    /// known yet, so they must not delay others.
    pub(super) fn add(&mut self, index: usize, now: u64) -> ScannerId {
        let is_alone = self.systems.is_empty();
        let is_quick = is_alone || !self.has_slow || self.is_silent(ScannerId::Slow);
        let place = if is_quick { self.emptiest(self.used) } else { ScannerId::Slow };
        let entry =
            BalancedSystem { place, cost: 0, scans: 0, since: now, scans_before: 0, stay: 0 };
        self.systems.insert(index, entry);
        place
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.systems.remove(&index);
    }

    /// The scanner that has a system, or is about to get it.
    pub(super) fn place(&self, index: usize) -> Option<ScannerId> {
        self.systems.get(&index).map(|entry| entry.place)
    }

    /// The number of systems of a scanner.
    pub(super) fn count(&self, place: ScannerId) -> usize {
        self.at(place).count()
    }

    /// Notes the measured cost of a system, and its number of whole scans.
    pub(super) fn measured(&mut self, index: usize, cost: u64, scans: u64) {
        if let Some(entry) = self.systems.get_mut(&index) {
            (entry.cost, entry.scans) = (cost, scans);
        }
    }

    /// A scan of this system cost more than [`Self::limit`]: its scanner has returned it.
    pub(super) fn overran(&mut self, index: usize, now: u64) {
        if self.has_slow && self.count_quick() > 1 && !self.is_silent(ScannerId::Slow) {
            self.go(index, ScannerId::Slow, now);
        }
    }

    /// What a scan of a scanner's systems may cost while it has several.
    pub(super) fn limit(&self, place: ScannerId, interval: u64) -> u64 {
        let mut costs = self.costs(place);
        level(&mut costs, usable(interval)).saturating_mul(2).max(LIMIT_LEAST_NS)
    }

    /// The time of an interval that a system of the quick scanners may use: its fair share. If its
    /// scans cost more, they follow each other so much more slowly: else the quick scanners would
    /// leave too little to the slow one, and to those that cost less. There is no such bound while
    /// all hold the interval.
    pub(super) fn share(&self, interval: u64) -> u64 {
        let holds = |scanner| self.load(ScannerId::Quick(scanner)) <= usable(interval);
        if self.count(ScannerId::Slow) == 0 && (0..self.used).all(holds) {
            return u64::MAX;
        }
        let all = self.systems.values();
        let mut costs: Vec<u64> = all.map(|entry| entry.cost).collect();
        fair_share(&mut costs, interval.saturating_mul(self.used as u64)).max(1)
    }

    /// The next system that has to move, if any; [`Self::place`] is its new scanner.
    pub(super) fn next_move(&mut self, now: u64, interval: u64) -> Option<Move> {
        let usable = usable(interval);
        self.note_load(now, usable);
        let (index, place) = self
            .back_from_slow(now, usable)
            .or_else(|| self.spread(now, usable))
            .or_else(|| self.to_slow(now, usable))
            .or_else(|| self.together(now, usable))?;
        let from = self.place(index)?;
        if self.is_silent(from) || self.is_silent(place) {
            return None;
        }
        self.go(index, place, now);
        Some(Move { index, from })
    }

    fn note_load(&mut self, now: u64, usable: u64) {
        for scanner in 0..self.most {
            let place = ScannerId::Quick(scanner);
            let is_crowded = self.load(place) > usable && self.count(place) > 1;
            note(&mut self.crowded[scanner], is_crowded, now);
        }
        let is_waiting = self.at(ScannerId::Slow).any(|(_, entry)| is_known(entry, now));
        note(&mut self.waiting, is_waiting, now);
        let all: u64 = self.systems.values().map(|entry| entry.cost).fold(0, u64::saturating_add);
        let rest = (self.used as u64 - 1).saturating_mul(usable) / 100 * SPARE_PERCENT;
        let is_spare = self.shrinks && self.used > 1 && all <= rest && !is_waiting;
        note(&mut self.spare, is_spare, now);
    }

    /// The cheapest system of the slow scanner returns, if it costs no more than its share, or if
    /// it delays nobody.
    fn back_from_slow(&self, now: u64, usable: u64) -> Option<(usize, ScannerId)> {
        let known = self.at(ScannerId::Slow).filter(|(_, entry)| is_known(entry, now));
        let (index, entry) = known.min_by_key(|(_, entry)| entry.cost)?;
        let place = self.emptiest(self.used);
        if self.is_silent(ScannerId::Slow) || self.is_silent(place) {
            return None;
        }
        let bounds = self.bounds(usable);
        // A system that was never elsewhere has not left.
        let most = if entry.stay == 0 { bounds.leaves } else { bounds.returns };
        (self.count(place) == 0 || entry.cost <= most).then_some((index, place))
    }

    /// A system of a crowded scanner, or one that waits in the slow one, goes to a scanner that has
    /// more room, or to a new one.
    fn spread(&mut self, now: u64, usable: u64) -> Option<(usize, ScannerId)> {
        let can_grow = self.used < self.most;
        if can_grow && is_past(self.waiting, now) && !self.is_silent(ScannerId::Slow) {
            self.used += 1;
            let known = self.at(ScannerId::Slow).filter(|(_, entry)| is_known(entry, now));
            let (index, _) = known.min_by_key(|(_, entry)| entry.cost)?;
            return Some((index, ScannerId::Quick(self.used - 1)));
        }
        let crowded = (0..self.used).filter(|&scanner| is_past(self.crowded[scanner], now));
        let crowded = crowded.map(ScannerId::Quick).filter(|&place| !self.is_silent(place));
        let from = crowded.max_by_key(|&place| self.load(place))?;
        let to = if can_grow { ScannerId::Quick(self.used) } else { self.emptiest(self.used) };
        let difference = self.load(from).saturating_sub(self.load(to));
        // Twice its cost is what the difference loses.
        let helps = |entry: &BalancedSystem| {
            entry.cost < difference && entry.cost > usable / 20 && now - entry.since >= CROWDED_NS
        };
        let systems = self.at(from).filter(|(_, entry)| helps(entry));
        let (index, _) = systems.min_by_key(|(_, entry)| (difference / 2).abs_diff(entry.cost))?;
        self.used += usize::from(can_grow);
        Some((index, to))
    }

    /// The costliest system goes to the slow scanner, if it costs more than its share, and another
    /// one cannot have its interval because of it.
    fn to_slow(&self, now: u64, usable: u64) -> Option<(usize, ScannerId)> {
        let can_leave =
            |entry: &BalancedSystem| entry.place != ScannerId::Slow && !self.is_silent(entry.place);
        let quick = self.systems.iter().filter(|(_, entry)| can_leave(entry));
        let (index, entry) = quick.max_by_key(|(_, entry)| entry.cost)?;
        let is_crowded = self.crowded.iter().any(|since| is_past(*since, now));
        let mut known = self.at(ScannerId::Slow).filter(|(_, entry)| is_known(entry, now));
        let is_waited_for =
            is_past(self.waiting, now) && known.any(|(_, other)| other.cost < entry.cost);
        let moves = self.has_slow
            && !self.is_silent(ScannerId::Slow)
            && (is_crowded || is_waited_for)
            && entry.cost > self.bounds(usable).leaves;
        moves.then_some((*index, ScannerId::Slow))
    }

    /// If one scanner less would do, the systems of the last one go to the others.
    fn together(&mut self, now: u64, usable: u64) -> Option<(usize, ScannerId)> {
        let since = self.spare?;
        if now.saturating_sub(since) < SPARE_NS {
            return None;
        }
        let last = ScannerId::Quick(self.used - 1);
        let Some((index, entry)) = self.at(last).next() else {
            self.used -= 1;
            self.spare = None;
            return None;
        };
        let place = self.emptiest(self.used - 1);
        (self.load(place).saturating_add(entry.cost) <= usable).then_some((index, place))
    }

    fn go(&mut self, index: usize, place: ScannerId, now: u64) {
        let Some(entry) = self.systems.get_mut(&index) else { return };
        if place == ScannerId::Slow {
            let has_settled = now.saturating_sub(entry.since) >= STAY_MOST_NS || entry.stay == 0;
            let stay = if has_settled { STAY_NS } else { entry.stay.saturating_mul(2) };
            entry.stay = stay.min(STAY_MOST_NS);
        }
        *entry = BalancedSystem { place, since: now, scans_before: entry.scans, ..*entry };
    }

    fn at(&self, place: ScannerId) -> impl Iterator<Item = (usize, &BalancedSystem)> {
        let systems = self.systems.iter().filter(move |(_, entry)| entry.place == place);
        systems.map(|(index, entry)| (*index, entry))
    }

    fn costs(&self, place: ScannerId) -> Vec<u64> {
        self.at(place).map(|(_, entry)| entry.cost).collect()
    }

    fn load(&self, place: ScannerId) -> u64 {
        self.at(place).map(|(_, entry)| entry.cost).fold(0, u64::saturating_add)
    }

    /// The costs at which systems return from the slow scanner and go there.
    fn bounds(&self, usable: u64) -> Bounds {
        let known = self.systems.values().filter(|entry| entry.scans > 0);
        let mut costs: Vec<u64> = known.map(|entry| entry.cost).collect();
        let level = level(&mut costs, usable.saturating_mul(self.used as u64));
        let delay = usable / USABLE_PERCENT * DELAY_PERCENT;
        let is_tight = costs.first().is_some_and(|least| *least == level);
        let (returns, leaves) = if is_tight {
            // Those that cost about the same share the time.
            (level / 4 * 7, level.saturating_mul(2))
        } else {
            (level / 10 * 11, level / 2 * 3)
        };
        Bounds { returns: returns.max(delay / 4 * 3), leaves: leaves.max(delay) }
    }

    fn count_quick(&self) -> usize {
        self.systems.len() - self.count(ScannerId::Slow)
    }

    /// The quick scanner with the least load, of the first ones.
    fn emptiest(&self, scanners: usize) -> ScannerId {
        let places = (0..scanners).map(ScannerId::Quick);
        let key = |&place: &ScannerId| (self.is_silent(place), self.load(place), self.count(place));
        places.min_by_key(key).unwrap_or(ScannerId::Quick(0))
    }
}

/// Whether the cost of a system in the slow scanner is known, and it may leave.
fn is_known(entry: &BalancedSystem, now: u64) -> bool {
    entry.scans - entry.scans_before.min(entry.scans) >= KNOWN_SCANS
        && now.saturating_sub(entry.since) >= entry.stay
}

fn note(since: &mut Option<u64>, is_so: bool, now: u64) {
    *since = if is_so { since.or(Some(now)) } else { None };
}

fn is_past(since: Option<u64>, now: u64) -> bool {
    since.is_some_and(|since| now.saturating_sub(since) >= CROWDED_NS)
}

fn usable(interval: u64) -> u64 {
    interval / 100 * USABLE_PERCENT
}

/// [`fair_share`], but at least the least of the costs: if nobody can have what it needs, equals
/// stay equal.
fn level(costs: &mut [u64], usable: u64) -> u64 {
    fair_share(costs, usable).max(costs.first().copied().unwrap_or(0))
}

/// The max-min fair share of `usable` for systems that need `costs`: who needs less leaves the rest
/// to the others. Sorts the costs.
fn fair_share(costs: &mut [u64], usable: u64) -> u64 {
    costs.sort_unstable();
    let mut left = usable;
    for (at, &cost) in costs.iter().enumerate() {
        let share = left / (costs.len() - at) as u64;
        if cost >= share {
            return share;
        }
        left -= cost;
    }
    // All have what they need; one of them could have the rest as well.
    left.saturating_add(costs.last().copied().unwrap_or(0))
}

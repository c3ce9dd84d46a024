//! Scanners in simulated time: who is scanned where, and how often.

use proptest::prelude::*;

use super::*;
use crate::watch::scanner::turns::{Cost, ScannerKind, ScannerStep, ScannerTurn, next, pause};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const INTERVAL: u64 = 10 * MS;
/// The period of the control thread.
const TICK: u64 = 20 * MS;
/// The time that a scan may take in a slow scanner that several systems share.
const SLICE: u64 = 10 * MS;

struct System {
    /// The true cost of a scan that begins at a time.
    cost: Box<dyn Fn(u64) -> u64>,
    turn: ScannerTurn,
    measured: Cost,
    /// Remaining cost of a scan that ended early, in nanoseconds; 0 without such a scan.
    left: u64,
    /// When each scan began.
    scans: Vec<u64>,
    moves: u64,
}

/// A machine with a core for each quick scanner. The slow scanner has what the first core leaves,
/// and an eleventh of it at least, as the kernel divides it by nice values.
struct Machine {
    balance: Balance,
    systems: Vec<System>,
    /// Until when each core has work.
    busy: Vec<u64>,
    now: u64,
    /// Delay of scans by the host, in percent of what they cost.
    host_percent: u64,
}

impl Machine {
    fn new(cores: usize, costs: Vec<Box<dyn Fn(u64) -> u64>>) -> Self {
        let mut balance = Balance::new(cores, true, true);
        let new = |(index, cost)| {
            balance.add(index, 0);
            let (turn, measured) = (ScannerTurn::default(), Cost::default());
            System { cost, turn, measured, left: 0, scans: Vec::new(), moves: 0 }
        };
        let systems = costs.into_iter().enumerate().map(new).collect();
        Self { balance, systems, busy: vec![0; cores], now: 0, host_percent: 0 }
    }

    fn run(&mut self, time: u64) {
        let end = self.now + time;
        while self.now < end {
            let mut idle = 0;
            for core in 0..self.busy.len() {
                let used = self.run_quick(core, self.now + TICK);
                if core == 0 {
                    idle = TICK.saturating_sub(used);
                }
            }
            // The kernel leaves it a little time in any case.
            let time =
                if self.members(ScannerId::Slow).is_empty() { 0 } else { idle.max(TICK / 11) };
            self.busy[0] += time.saturating_sub(idle);
            self.run_slow(time);
            self.now += TICK;
            for (index, system) in self.systems.iter().enumerate() {
                self.balance.measured(index, system.measured.ns(), system.measured.scans);
            }
            while let Some(Move { index, .. }) = self.balance.next_move(self.now, INTERVAL) {
                self.arrive(index);
            }
        }
    }

    fn arrive(&mut self, index: usize) {
        self.systems[index].moves += 1;
        let place = self.balance.place(index).unwrap();
        let others = (0..self.systems.len()).filter(|&other| other != index);
        let others = others.filter(|&other| self.balance.place(other) == Some(place));
        let used = others.map(|other| self.systems[other].turn.used).min();
        let turn = &mut self.systems[index].turn;
        (turn.used, turn.pause) = (used.unwrap_or(0), 0);
    }

    fn members(&self, place: ScannerId) -> Vec<usize> {
        let all = 0..self.systems.len();
        all.filter(|&index| self.balance.place(index) == Some(place)).collect()
    }

    /// Runs a quick scanner; returns how long it was busy.
    fn run_quick(&mut self, core: usize, end: u64) -> u64 {
        let (mut clock, mut used) = (self.busy[core].max(self.now), 0);
        used += clock - self.now;
        while clock < end {
            let members = self.members(ScannerId::Quick(core));
            let turns = members.iter().map(|&index| self.systems[index].turn);
            let at = match next(turns, ScannerKind::Quick, clock, INTERVAL) {
                ScannerStep::Scan(at) => members[at],
                ScannerStep::Wait(due) => {
                    clock = due.min(end);
                    continue;
                }
                ScannerStep::Nothing => break,
            };
            let limit = self.balance.limit(ScannerId::Quick(core), INTERVAL);
            let limit = if members.len() > 1 { limit } else { u64::MAX };
            let took = self.scan(at, clock, limit);
            let system = &mut self.systems[at];
            let share = self.balance.share(INTERVAL);
            system.turn.pause = pause(system.measured.ns(), share, INTERVAL);
            let elapsed = took + took / 100 * self.host_percent;
            (clock, used) = (clock + elapsed, used + elapsed);
            let period = INTERVAL.max(self.systems[at].turn.pause);
            if took > limit && self.systems[at].measured.overran(clock, period) {
                self.balance.overran(at, clock);
                self.arrive(at);
            }
        }
        self.busy[core] = clock;
        used
    }

    fn run_slow(&mut self, time: u64) {
        let (mut clock, end) = (self.now, self.now + time);
        while clock < end {
            let members = self.members(ScannerId::Slow);
            let turns = members.iter().map(|&index| self.systems[index].turn);
            let ScannerStep::Scan(at) = next(turns, ScannerKind::Slow, clock, INTERVAL) else {
                return;
            };
            let slice = if members.len() > 1 { SLICE } else { u64::MAX };
            // What the core does not leave now, it leaves later.
            clock += self.scan(members[at], clock, slice.min(end - clock));
        }
    }

    /// Scans for a little longer than `limit` at most; returns the time.
    fn scan(&mut self, index: usize, clock: u64, limit: u64) -> u64 {
        let system = &mut self.systems[index];
        if system.left == 0 {
            system.scans.push(clock);
            system.left = (system.cost)(clock).max(1);
        }
        let took = system.left.min(limit.saturating_add(MS / 10));
        system.left -= took;
        let is_partial = system.left > 0;
        system.measured.add(took, is_partial);
        system.turn.used += took;
        let goes_on = is_partial && self.balance.place(index) == Some(ScannerId::Slow);
        system.turn.scanned(clock, clock + took, INTERVAL, goes_on);
        took
    }

    /// The times between scans of a system that began after `since`, ascending.
    fn gaps(&self, index: usize, since: u64) -> Vec<u64> {
        let scans: Vec<u64> =
            self.systems[index].scans.iter().copied().filter(|&scan| scan >= since).collect();
        let mut gaps: Vec<u64> = scans.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        gaps
    }

    fn percentile_99(&self, index: usize, since: u64) -> u64 {
        let gaps = self.gaps(index, since);
        gaps.get(gaps.len() * 99 / 100).copied().unwrap_or(u64::MAX)
    }
}

fn always(cost: u64) -> Box<dyn Fn(u64) -> u64> {
    Box::new(move |_| cost)
}

#[test]
fn shares_are_max_min_fair() {
    let of = |costs: &[u64], usable| level(&mut costs.to_vec(), usable);
    assert_eq!(of(&[1, 1, 1, 100], 8), 5, "the rest is for the one that needs more");
    assert_eq!(of(&[100, 20, 100], 80), 30);
    assert_eq!(of(&[1, 2], 8), 7, "all have what they need");
    assert_eq!(of(&[4; 64], 8), 4, "equals stay equal");
    assert_eq!(of(&[], 8), 8);
}

#[test]
fn quiet_systems_hold_their_interval_beside_a_costly_one() {
    let mut costs: Vec<_> = (0..8).map(|_| always(MS / 2)).collect();
    costs.push(always(200 * MS));
    let mut machine = Machine::new(1, costs);
    machine.run(20 * SECOND);
    for quiet in 0..8 {
        let longest = machine.percentile_99(quiet, 2 * SECOND);
        assert!(longest <= INTERVAL * 12 / 10, "{quiet}: {longest}");
    }
    // It gets what the others leave: 60 % of the core.
    let gaps = machine.gaps(8, 2 * SECOND);
    assert!(gaps[gaps.len() / 2] <= 400 * MS, "{gaps:?}");
    assert_eq!(machine.balance.place(8), Some(ScannerId::Slow));
}

/// Costs around `cost` that differ by half of it from scan to scan, and are dearer at first.
fn unsteady(cost: u64, seed: u64) -> Box<dyn Fn(u64) -> u64> {
    Box::new(move |now| {
        let noise = (now / MS + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let first = if now < SECOND / 10 { 20 * MS } else { 0 };
        first + cost * 3 / 4 + cost * noise / 2048
    })
}

/// Systems that nearly fill the core: none of them leaves its place because a costly one appears,
/// or because one costs a little more than the others.
#[test]
fn systems_that_fill_the_core_stay_together_beside_a_costly_one() {
    stay_together([8, 8, 8, 8, 8, 8, 9, 14]);
    stay_together([4, 4, 8, 8, 8, 17, 17, 17]);
}

/// None of them would delay the others by itself, but all together do.
#[test]
fn a_cheap_system_holds_its_interval_beside_many_that_fill_the_core() {
    let costs = std::iter::once(MS / 20).chain([MS * 19 / 10; 19]);
    let mut machine = Machine::new(1, costs.map(always).collect());
    machine.run(60 * SECOND);
    let longest = machine.percentile_99(0, 30 * SECOND);
    assert!(longest <= INTERVAL * 13 / 10, "{longest}");
    let counts: Vec<_> = (1..20).map(|at| machine.gaps(at, 30 * SECOND).len()).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*most as f64 <= 1.2 * *least as f64, "{counts:?}");
}

/// The costs are tenths of milliseconds.
fn stay_together(costs: [u64; 8]) {
    let costs = costs.into_iter().enumerate();
    let mut costs: Vec<_> =
        costs.map(|(at, tenths)| unsteady(tenths * MS / 10, at as u64)).collect();
    let hostile: Box<dyn Fn(u64) -> u64> =
        Box::new(|now| if now < 10 * SECOND { 5 * MS } else { 300 * MS });
    costs.push(hostile);
    let mut machine = Machine::new(1, costs);
    machine.run(3 * SECOND);
    assert_eq!(machine.members(ScannerId::Slow), [8], "soon after the start");
    machine.run(27 * SECOND);
    assert_eq!(machine.members(ScannerId::Slow), [8]);
    for quiet in 0..8 {
        assert!(machine.systems[quiet].moves <= 1, "{quiet} moves to and fro");
        let longest = machine.percentile_99(quiet, 3 * SECOND);
        assert!(longest <= INTERVAL * 14 / 10, "{quiet}: {longest}");
    }
    assert!(machine.gaps(8, 10 * SECOND).len() >= 8, "it is seen nevertheless");
}

/// The host may delay any scan now and then.
#[test]
fn a_single_scan_that_takes_long_moves_nobody() {
    let one_in_3_s = |at: u64| -> Box<dyn Fn(u64) -> u64> {
        Box::new(move |now| {
            let is_long = now / (10 * MS) % 300 == at * 40 + 200;
            if is_long { 18 * MS } else { MS / 2 }
        })
    };
    let costs = (0..4).map(one_in_3_s).chain([always(200 * MS)]).collect();
    let mut machine = Machine::new(1, costs);
    machine.run(60 * SECOND);
    assert_eq!(machine.members(ScannerId::Slow), [4]);
    assert!(machine.systems[..4].iter().all(|system| system.moves <= 1));
}

/// While the host delays all scans, those that are rare must not wait until none of the frequent
/// ones is due.
#[test]
fn a_busy_host_delays_rare_scans_by_the_same_part_as_frequent_ones() {
    let costs = [9, 9, 9, 9, 9, 11, 11, 11, 11, 11, 11].map(|tenths| tenths * MS / 10);
    let mut machine = Machine::new(1, costs.map(always).into());
    machine.host_percent = 30;
    machine.run(60 * SECOND);
    let late = |at: usize| {
        let gaps = machine.gaps(at, 30 * SECOND);
        let period = INTERVAL.max(pause(costs[at], machine.balance.share(INTERVAL), INTERVAL));
        gaps[gaps.len() / 2] as f64 / period as f64
    };
    let mut late: Vec<_> = (0..costs.len()).map(late).collect();
    late.sort_unstable_by(f64::total_cmp);
    assert!(late[10] <= 1.1 * late[0], "{late:?}");
}

#[test]
fn another_core_takes_the_costly_system() {
    let mut costs: Vec<_> = (0..8).map(|_| always(MS / 2)).collect();
    costs.push(always(200 * MS));
    let mut machine = Machine::new(4, costs);
    machine.run(20 * SECOND);
    assert_eq!(machine.balance.place(8), Some(ScannerId::Quick(1)));
    assert!((0..8).all(|quiet| machine.balance.place(quiet) == Some(ScannerId::Quick(0))));
    assert_eq!(machine.balance.used, 2, "no more than are needed");
    assert!(machine.percentile_99(8, 10 * SECOND) <= 220 * MS);
}

#[test]
fn one_core_is_enough_while_the_interval_is_held() {
    let mut machine = Machine::new(4, (0..14).map(|_| always(MS / 2)).collect());
    machine.run(20 * SECOND);
    assert_eq!(machine.balance.used, 1);
    assert!(machine.systems.iter().all(|system| system.moves <= 1));
}

#[test]
fn a_load_that_ends_frees_its_cores() {
    let costs = (0..8).map(|_| {
        let cost: Box<dyn Fn(u64) -> u64> =
            Box::new(|now| if now < 20 * SECOND { 3 * MS } else { MS / 4 });
        cost
    });
    let mut machine = Machine::new(4, costs.collect());
    machine.run(20 * SECOND);
    assert_eq!(machine.balance.used, 4);
    let held = (0..8).filter(|&at| machine.percentile_99(at, 15 * SECOND) <= INTERVAL * 12 / 10);
    assert_eq!(held.count(), 8);
    machine.run(40 * SECOND);
    assert_eq!(machine.balance.used, 1);
}

#[test]
fn equal_systems_that_are_too_many_are_scanned_equally_often() {
    let costs = (0..64).map(|at| always(MS + at * MS / 1000)).collect();
    let mut machine = Machine::new(1, costs);
    machine.run(60 * SECOND);
    let counts: Vec<_> = (0..64).map(|at| machine.gaps(at, 5 * SECOND).len()).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*most as f64 <= 1.2 * *least as f64, "{counts:?}");
}

#[test]
fn one_costly_system_among_too_many_equal_ones_slows_nobody_down() {
    let run = |with: bool| {
        let mut costs: Vec<_> = (0..32).map(|_| always(MS)).collect();
        costs.extend(with.then(|| always(300 * MS)));
        let mut machine = Machine::new(1, costs);
        machine.run(30 * SECOND);
        (0..32).map(|at| machine.percentile_99(at, 5 * SECOND)).max().unwrap()
    };
    let (alone, beside) = (run(false), run(true));
    assert!(beside * 10 <= alone * 12, "{beside} instead of {alone}");
}

#[test]
fn a_majority_of_costly_systems_does_not_slow_a_quiet_one_down() {
    let mut costs: Vec<_> = (0..10).map(|_| always(200 * MS)).collect();
    costs.push(always(MS / 2));
    let mut machine = Machine::new(1, costs);
    machine.run(60 * SECOND);
    assert!(machine.percentile_99(10, 10 * SECOND) <= INTERVAL * 12 / 10);
    let counts: Vec<_> = (0..10).map(|at| machine.gaps(at, 10 * SECOND).len()).collect();
    assert!(counts.iter().all(|&count| count >= 20), "50 s are shared: {counts:?}");
}

#[test]
fn a_system_that_becomes_cheap_returns_and_one_that_swings_stays_away_longer() {
    let swings: Box<dyn Fn(u64) -> u64> =
        Box::new(|now| if (now / (2 * SECOND)).is_multiple_of(2) { MS / 2 } else { 100 * MS });
    let ends: Box<dyn Fn(u64) -> u64> =
        Box::new(|now| if now < 5 * SECOND { 100 * MS } else { MS / 2 });
    let mut costs: Vec<_> = (0..8).map(|_| always(MS / 2)).collect();
    costs.extend([swings, ends]);
    let mut machine = Machine::new(1, costs);
    machine.run(300 * SECOND);
    assert_eq!(machine.balance.place(9), Some(ScannerId::Quick(0)));
    assert!(machine.percentile_99(9, 10 * SECOND) <= INTERVAL * 12 / 10);
    // A minute in the slow scanner, then back, and out again.
    assert!((4..=24).contains(&machine.systems[8].moves), "{}", machine.systems[8].moves);
    assert!(machine.systems[9].moves <= 3);
    assert!((0..8).all(|at| machine.systems[at].moves == 1 || at == 0));
}

#[test]
fn a_system_alone_is_scanned_by_the_quick_scanner() {
    let mut machine = Machine::new(1, vec![always(500 * MS)]);
    machine.run(10 * SECOND);
    assert_eq!(
        (machine.balance.place(0), machine.systems[0].moves),
        (Some(ScannerId::Quick(0)), 0)
    );
    assert!(machine.gaps(0, 0).len() >= 18);
}

#[test]
fn configured_cores_are_used_from_the_start() {
    let mut balance = Balance::new(3, false, true);
    for index in 0..3 {
        balance.add(index, 0);
    }
    for index in 1..3 {
        balance.measured(index, MS, 3);
    }
    while balance.next_move(TICK, INTERVAL).is_some() {}
    let places: Vec<_> = (0..3).map(|index| balance.place(index).unwrap()).collect();
    assert_eq!(places, [ScannerId::Quick(0), ScannerId::Quick(1), ScannerId::Quick(2)]);
    for tick in 0..2000 {
        assert_eq!(balance.next_move(tick * TICK, INTERVAL), None);
    }
}

#[test]
fn costly_systems_share_what_a_cheap_one_leaves() {
    let costs = [46, 35, 9, 34, 161, 31, 31, 35, 41, 2110, 940].map(|cost| cost * MS / 10);
    let mut machine = Machine::new(1, costs.into_iter().map(always).collect());
    machine.run(10 * SECOND);
    let used: Vec<_> = machine.systems.iter().map(|system| system.turn.used).collect();
    machine.run(20 * SECOND);
    assert!(machine.percentile_99(2, 5 * SECOND) <= INTERVAL * 12 / 10);
    // The cheap one uses 9 %, the ten others 9.1 % each.
    let now = machine.systems.iter().map(|system| system.turn.used);
    for (index, (now, before)) in now.zip(used).enumerate() {
        let percent = (now - before) / (20 * SECOND / 100);
        assert!((8..=10).contains(&percent), "{index}: {percent} %");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever systems cost: nobody starves, those that cost less than an equal share hold the
    /// interval, and systems move only a few times.
    #[test]
    fn nobody_starves_and_cheap_systems_hold_the_interval(
        costs in proptest::collection::vec(1_u64..400, 1..20),
        heavy in proptest::collection::vec(1_u64..400, 0..6),
        cores in 1_usize..4,
    ) {
        // From 0.05 ms to 20 ms, and up to 400 ms.
        let costs = costs.iter().map(|cost| cost * MS / 20);
        let costs: Vec<u64> = costs.chain(heavy.iter().map(|cost| cost * MS)).collect();
        let mut machine = Machine::new(cores, costs.iter().map(|&cost| always(cost)).collect());
        machine.run(60 * SECOND);
        let share = usable(INTERVAL) / costs.len() as u64;
        let all: u64 = costs.iter().sum();
        for (index, &cost) in costs.iter().enumerate() {
            let system = &machine.systems[index];
            if cost <= share {
                let longest = machine.percentile_99(index, 30 * SECOND);
                prop_assert!(longest <= 2 * INTERVAL, "{index}: {longest} in {costs:?}");
            }
            // The slow scanner gives each the same time: that of a scan each `cost * count`.
            let count = machine.gaps(index, 30 * SECOND).len() as u64;
            let most = (30 * SECOND / (all.max(INTERVAL) + cost * costs.len() as u64)) / 8;
            prop_assert!(count >= most, "{index}: {count} of {most} in {costs:?}");
            prop_assert!(system.moves <= 16, "{index}: {} moves in {costs:?}", system.moves);
        }
    }
}

#[test]
fn nothing_goes_to_a_scanner_whose_memory_does_not_answer() {
    let mut machine = Machine::new(1, (0..4).map(|_| always(MS)).collect());
    machine.balance.set_silent(ScannerId::Quick(0), true);
    machine.run(5 * SECOND);
    assert_eq!(machine.members(ScannerId::Quick(0)), [0], "the first one cannot leave");
    machine.balance.set_silent(ScannerId::Quick(0), false);
    machine.run(5 * SECOND);
    assert_eq!(machine.members(ScannerId::Quick(0)).len(), 4);
    machine.balance.set_silent(ScannerId::Slow, true);
    assert_eq!(machine.balance.add(4, machine.now), ScannerId::Quick(0));
    // With another core, those of the slow scanner do not wait for the first.
    let mut machine = Machine::new(2, (0..4).map(|_| always(MS)).collect());
    machine.balance.set_silent(ScannerId::Quick(0), true);
    machine.run(5 * SECOND);
    assert_eq!(machine.members(ScannerId::Quick(1)), [1, 2, 3]);
}

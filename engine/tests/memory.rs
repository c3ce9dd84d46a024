//! What watching needs is counted before it is allocated, is not much, and is resident from the
//! beginning.

mod common;

use std::cmp::Reverse;
use std::sync::Arc;

use common::recorded::images_or_skip;
use common::{Machine, everything, one_hash, setup};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::watch::{WatchedMachine, Workspace};
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_tables::{HashKey, room};

const MIB: u64 = 1 << 20;

fn system(limits: &Limits) -> Option<u64> {
    WatchedMachine::bytes(limits, &everything(), &Arc::new(one_hash()))
}

fn workspace(limits: &Limits) -> Option<u64> {
    room::measure(|| Workspace::new(limits, HashKey::new(1)))
}

/// Limits for 100 processes.
const HUNDRED: Limits = Limits {
    processes: 100,
    threads: 800,
    file_descriptors: 3200,
    vmas: 6400,
    connections: 1600,
    containers: 25,
    ..Limits::DEFAULT
};

#[test]
fn a_system_needs_little() {
    let small = system(&HUNDRED).expect("it is a number");
    let usual = system(&Limits::default()).expect("it is a number");
    eprintln!("a system of 100 processes: {small} bytes, with default limits: {usual} bytes");
    print_parts(&Limits::default());
    eprintln!("workspaces: {:?}, {:?}", workspace(&HUNDRED), workspace(&Limits::default()));
    assert!(small <= 8 * MIB, "{small} bytes");
    assert!(usual <= 64 * MIB, "{usual} bytes");
}

/// Prints the largest tables of a system.
fn print_parts(limits: &Limits) {
    let mut parts = room::parts(|| _ = system(limits));
    parts.sort_by_key(|&(name, bytes)| (Reverse(bytes), name));
    for (name, bytes) in parts.iter().take(48) {
        let name = name.replace("panoptes_engine::", "").replace("core::option::", "");
        eprintln!("{bytes:>12} {name}");
    }
}

/// Bytes of this process that are resident.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages = text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}

/// Bytes by limits: a constant, and so much for one more of each limit.
struct Formula {
    constant: f64,
    each: Vec<(&'static str, f64)>,
}

impl Formula {
    /// From the limits to four times each, because tables that are found by a hash have sizes of
    /// powers of two: over that distance every one of them grows by the same factor.
    fn of(bytes: fn(&Limits) -> Option<u64>, base: &Limits) -> Self {
        let at = |limits: &Limits| bytes(limits).expect("it is a number") as f64;
        let mut constant = at(base);
        let mut each = Vec::new();
        for setting in Limits::SETTINGS {
            let mut more = *base;
            let field = (setting.field)(&mut more);
            let before = f64::from(*field);
            *field = (*field * 4).min(*setting.range.end());
            let slope = (at(&more) - at(base)) / (f64::from(*(setting.field)(&mut more)) - before);
            constant -= slope * before;
            each.push((setting.key, slope));
        }
        Self { constant, each }
    }

    fn bytes(&self, limits: &Limits) -> f64 {
        let mut limits = *limits;
        let parts = Limits::SETTINGS
            .iter()
            .zip(&self.each)
            .map(|(setting, (_, slope))| slope * f64::from(*(setting.field)(&mut limits)));
        self.constant + parts.sum::<f64>()
    }
}

impl std::fmt::Display for Formula {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB", self.constant / MIB as f64)?;
        let used = self.each.iter().filter(|(_, slope)| slope.abs() >= 0.5);
        used.clone().try_for_each(|(key, slope)| write!(f, " + {slope:.0} B × {key}"))
    }
}

/// docs/performance/scale.md has the formulas that this prints.
#[test]
fn memory_is_a_formula_of_the_limits() {
    let base = Limits::default();
    let times = |factor: u32| {
        let mut limits = base;
        for setting in Limits::SETTINGS.iter().filter(|setting| setting.key != "string_length") {
            let field = (setting.field)(&mut limits);
            *field = (*field * factor).min(*setting.range.end());
        }
        limits
    };
    for (what, bytes) in [("a system", system as fn(&_) -> _), ("a scanner", workspace)] {
        let formula = Formula::of(bytes, &base);
        eprintln!("{what}: {formula}");
        for limits in [base, times(2), times(3), times(4), times(6)] {
            let (expected, counted) = (formula.bytes(&limits), bytes(&limits).expect("a number"));
            let ratio = expected / counted as f64;
            eprintln!("{what}: {} processes: formula ÷ counted {ratio:.3}", limits.processes);
            assert!((ratio - 1.0).abs() <= 0.1, "{what}: {ratio} for {limits:?}");
        }
    }
}

#[test]
fn many_systems_need_what_was_counted_and_no_more_later() {
    const SYSTEMS: u64 = 64;
    let Some(images) = images_or_skip("the memory of many systems") else { return };
    let mut machine = Machine::open(&images[0]);
    let (mut producer, mut consumer) =
        queue(QueueSize { blocks: 4, block_bytes: 256 << 10 }, &Waker::default());
    let expected = workspace(&HUNDRED).expect("it is a number")
        + SYSTEMS * system(&HUNDRED).expect("it is a number");
    let before = resident();
    let mut workspace = room::touch(|| Workspace::new(&HUNDRED, common::KEY));
    let shipped = Arc::new(one_hash());
    let mut systems: Vec<WatchedMachine> = (0..SYSTEMS)
        .map(|_| setup(&HUNDRED, &machine.profile, everything(), Arc::clone(&shipped)))
        .map(|setup| room::touch(|| WatchedMachine::new(setup)))
        .collect();
    let at_start = resident().saturating_sub(before);
    for round in 0..3 {
        let now = Now::at(1_795_000_000_000_000_000).after(round * 10_000_000);
        for system in &mut systems {
            system
                .scan(&mut workspace, &mut machine.memory, now, &mut producer)
                .expect("it can be scanned");
            producer.flush();
            while let Some(block) = consumer.pop() {
                consumer.give_back(block);
            }
        }
    }
    let later = resident().saturating_sub(before);
    eprintln!("{SYSTEMS} systems: {expected} bytes counted, {at_start} resident, {later} later");
    assert!(at_start.abs_diff(expected) <= expected / 20, "{at_start}, not {expected}");
    // An emulator keeps the code that it translates meanwhile, some 13 MiB.
    assert!(later.abs_diff(at_start) <= expected / 32, "{later}, not {at_start}");
}

#[test]
fn the_largest_limits_are_counted() {
    let mut largest = Limits::default();
    for setting in Limits::SETTINGS {
        for value in [*setting.range.start(), *setting.range.end()] {
            let mut limits = Limits::default();
            *(setting.field)(&mut limits) = value;
            assert!(system(&limits).is_some(), "{} = {value}", setting.key);
            assert!(workspace(&limits).is_some(), "{} = {value}", setting.key);
        }
        *(setting.field)(&mut largest) = *setting.range.end();
    }
    let (system, workspace) = (system(&largest), workspace(&largest));
    assert!(system > Some(10 << 30) && workspace > Some(10 << 30), "{system:?} {workspace:?}");
}

#[test]
fn larger_limits_need_more() {
    for setting in Limits::SETTINGS {
        let mut more = Limits::default();
        let field = (setting.field)(&mut more);
        *field = (*field * 4).min(*setting.range.end());
        let (usual, more) = (system(&Limits::default()), system(&more));
        assert!(more >= usual, "{}", setting.key);
    }
}

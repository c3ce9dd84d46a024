//! Races: the machine changes between any two reads of a scan, by seed.
//!
//! Operations are played store by store while scans read, some of them two at a time. So a scan
//! sees a fork, an exec, an exit or a list that is cut half-way done, and objects that were freed
//! and used again. Whatever a scan meets: no record is about a thing that never was, none mixes two
//! things, each end pairs a beginning, and nothing that merely moved counts as hidden: neither a
//! process nor a kernel module. Only files that were written count as changed. Once the machine
//! rests, the records have shown exactly what it has.
//!
//! `cargo xtask races` runs many scans. The number of scans is `PANOPTES_RACES`. One of so many
//! reads is preceded by a change: `PANOPTES_RACES_RARITY`. `PANOPTES_RACES_SEED` plays one seed
//! again and prints what happened.

mod actor;
mod canary;
mod claims;
#[path = "../common/mod.rs"]
mod common;
mod truth;
mod watcher;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use panoptes_synthetic::{Machine, Size, Source, When, profile};

use actor::Actor;
use canary::Blind;
use claims::Book;
use truth::Truth;
use watcher::{EARLY_NS, INTERVAL_NS, Watcher};

const RELEASES: [&str; 4] =
    ["5.10.0-32-amd64", "6.1.0-50-amd64", "6.12.117+deb13-amd64", "7.2.13+deb14-amd64"];
/// Scans of one machine while it changes, and then while it rests.
const SCANS: u64 = 400;
const RESTS: u64 = 6;
/// Process ids are used again after so many.
const PID_MAX: u32 = 450;

/// What a seed has shown.
struct Run {
    book: Book,
    operations: u64,
    log: Vec<String>,
}

/// The machine of a seed.
fn machine(seed: u64) -> Machine {
    let size = Size {
        processes: 5,
        kernel_threads: 1,
        threads: 1,
        descriptors: 2,
        areas: 2,
        connections: 1,
        containers: 1,
        processors: 2,
        modules: 4,
    };
    let release = RELEASES[(seed % RELEASES.len() as u64) as usize];
    let builder = Machine::builder(&profile(release)).size(size).seed(seed);
    let mut machine = builder.memory(512 << 20).build();
    machine.set_pid_max(PID_MAX);
    machine
}

/// What changes the machine while a scan reads it.
struct Changes<'c> {
    actor: &'c mut Actor,
    truth: &'c mut Truth,
    log: &'c mut Vec<String>,
    /// One of so many reads is preceded by stores.
    rarity: u64,
    operations: u64,
}

impl Changes<'_> {
    fn before_read(&mut self, machine: &mut Machine, read: u64) {
        if !self.actor.chance(self.rarity) {
            return;
        }
        if machine.step(0) == 0 {
            let (mut done, actor) = (String::new(), &mut *self.actor);
            machine.slowly(|machine| done = actor.act(machine));
            self.operations += 1;
            // The model has what memory will have.
            self.truth.note(machine);
            self.log.push(format!("  before read {read}: {done}"));
        } else if self.actor.chance(4) {
            let actor = &mut *self.actor;
            if let Some(done) = machine.at_the_same_time(|machine| actor.act_too(machine)) {
                self.operations += 1;
                self.truth.note(machine);
                self.log.push(format!("  before read {read}, at the same time: {done}"));
            }
        }
        let stores = self.actor.some(200);
        machine.step(stores);
    }
}

/// Watches the machine of a seed; with `is_blind`, by a wrong rule.
fn run(seed: u64, is_blind: bool) -> Run {
    let mut machine = machine(seed);
    let profile = machine.discover();
    let mut watcher = Watcher::new(&profile);
    let (mut actor, mut truth, mut book) = (Actor::new(seed), Truth::default(), Book::default());
    let mut log = vec![format!("seed {seed}, {}", machine.release())];
    truth.note(&machine);
    let rarity = number("PANOPTES_RACES_RARITY").unwrap_or(256) << (actor.some(4) - 1);
    let mut operations = 0;
    for scan in 0..SCANS + RESTS {
        if scan == SCANS {
            while machine.step(1000) > 0 {}
        }
        let changes_now = scan < SCANS;
        let is_early = changes_now && actor.chance(3);
        let after_ns = if is_early { EARLY_NS } else { INTERVAL_NS };
        machine.tick(after_ns.into());
        log.push(format!("scan {scan}, {} ms later", after_ns / 1_000_000));
        let mut changes =
            Changes { actor: &mut actor, truth: &mut truth, log: &mut log, rarity, operations };
        let mut source = Source::with_hook(&mut machine, |machine, when, counts| {
            if changes_now && matches!(when, When::Piece(_)) {
                changes.before_read(machine, counts.pieces);
            }
        });
        let records = if is_blind && changes_now {
            watcher.scan(&mut Blind::new(&mut source), after_ns)
        } else {
            watcher.scan(&mut source, after_ns)
        };
        drop(source);
        operations = changes.operations;
        match records {
            Ok(records) => {
                for record in &records {
                    log.push(format!("    {}", claims::brief(record)));
                    book.read(record, &truth);
                }
            }
            Err(why) => book.violations.push(format!("scan {scan}: {why}")),
        }
        if !book.violations.is_empty() {
            break;
        }
    }
    if book.violations.is_empty() {
        book.end(&Truth::present(&machine));
    }
    Run { book, operations, log }
}

/// What all seeds have shown.
#[derive(Default)]
struct Totals {
    operations: u64,
    excused: u64,
    /// Number of records of each activity.
    counts: BTreeMap<String, u64>,
    /// First violation of each failed seed.
    failed: BTreeMap<u64, String>,
}

/// Plays all seeds, one on each core at a time.
fn run_all(seeds: u64) -> Totals {
    let (totals, last) = (Mutex::new(Totals::default()), AtomicU64::new(0));
    let play = || loop {
        let seed = last.fetch_add(1, Ordering::Relaxed) + 1;
        if seed > seeds {
            return;
        }
        let Run { book, operations, .. } = run(seed, false);
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.operations += operations;
        totals.excused += book.excused;
        for (name, count) in book.counts {
            *totals.counts.entry(name).or_default() += count;
        }
        if let Some(first) = book.violations.first() {
            totals.failed.insert(seed, format!("{} violations: {first}", book.violations.len()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(play);
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {value}")))
}

#[test]
fn records_are_true_whatever_changes_while_scans_read() {
    if let Some(seed) = number("PANOPTES_RACES_SEED") {
        let run = run(seed, false);
        println!("{}", run.log.join("\n"));
        assert!(run.book.violations.is_empty(), "{:#?}", run.book.violations);
        return;
    }
    let scans = number("PANOPTES_RACES").unwrap_or(20_000);
    let seeds = scans.div_ceil(SCANS);
    let Totals { operations, excused, counts, failed } = run_all(seeds);
    println!(
        "{} scans, {operations} operations, {excused} fields excused, {counts:#?}",
        seeds * SCANS
    );
    assert!(failed.is_empty(), "{} of {seeds} seeds: {failed:#?}", failed.len());
    assert!(operations > scans / 10, "the machines did too little");
}

#[test]
fn a_scan_that_looks_only_once_is_caught() {
    let caught = (1..=100_000 / SCANS).find(|&seed| !run(seed, true).book.violations.is_empty());
    println!("caught by seed {caught:?}");
    assert!(caught.is_some(), "100,000 scans without a second look broke no rule");
}

//! Pages zeroed, overwritten, swapped; words that point elsewhere; bits flipped; reads that fail or
//! tear.

use panoptes_engine::limits::Limits;

use panoptes_rig::Random;

use super::common::Scanner;
use super::common::damage::{Damaged, touched_pages};
use super::fault::{Fault, FaultRates};
use super::{Machine, Watch, machines, scan, small_machines};

/// Seeds of the damaged machines: more of them in a release build.
pub(super) fn rounds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("PANOPTES_SEED") {
        return seed..seed + 1;
    }
    let factor = if cfg!(debug_assertions) { 1 } else { 10 };
    0..number("PANOPTES_ROUNDS").unwrap_or(default * factor)
}

#[derive(Default)]
struct Totals {
    scans: u64,
    entities: u64,
    errors: u64,
    worst_ms: u128,
    most_batches: u64,
}

impl Totals {
    fn add(&mut self, outcome: &super::Outcome) {
        self.scans += 1;
        self.entities += outcome.entities;
        self.errors += u64::from(outcome.error.is_some());
        self.worst_ms = self.worst_ms.max(outcome.time.as_millis());
        self.most_batches = self.most_batches.max(outcome.batches);
    }

    fn print(&self, what: &str, machine: &Machine) {
        let Self { scans, entities, errors, worst_ms, most_batches } = self;
        eprintln!(
            "{what}, {}: {scans} scans, {entities} entities decoded, {errors} errors, \
             {worst_ms} ms and {most_batches} batches at worst",
            machine.name
        );
        assert!(*entities > 0, "nothing was decoded");
    }
}

fn strike_pages(machine: &Machine, rounds: std::ops::Range<u64>, strikes_max: usize) {
    let watch = Watch::new("damaged pages");
    let pages = touched_pages(machine);
    let mut damaged = Damaged::new(machine);
    let mut scanner = Scanner::new(&Limits::default());
    let mut totals = Totals::default();
    for seed in rounds {
        watch.next(&format!("PANOPTES_SEED={seed} on {}", machine.name));
        let mut random = Random(seed);
        for _ in 0..=random.below(strikes_max) {
            damaged.strike(&pages, &mut random);
        }
        totals.add(&scan(&mut scanner, &mut damaged.memory, &machine.kernel));
        damaged.heal();
    }
    totals.print("damaged pages", machine);
}

#[test]
fn damaged_pages_only_lose_objects() {
    let Some(machines) = small_machines("scans of damaged pages") else { return };
    for machine in &machines {
        strike_pages(machine, rounds(300), 48);
    }
}

#[test]
fn damaged_pages_of_a_loaded_machine_only_lose_objects() {
    let Some(machines) = machines("scans of damaged pages") else { return };
    let Some(largest) = machines.last() else { return };
    strike_pages(largest, rounds(20), 2000);
}

#[test]
fn reads_that_fail_or_tear_only_lose_objects() {
    let Some(machines) = small_machines("scans with failing reads") else { return };
    let watch = Watch::new("failing reads");
    for machine in &machines {
        let mut memory = machine.memory.clone();
        let mut scanner = Scanner::new(&Limits::default());
        let mut totals = Totals::default();
        for seed in rounds(200) {
            watch.next(&format!("PANOPTES_SEED={seed} on {}", machine.name));
            let mut random = Random(seed);
            let mut rate = || if random.below(3) == 0 { 1 << random.below(19) } else { 0 };
            let rates = FaultRates {
                not_backed_pages: rate(),
                zeroed_pages: rate(),
                overwritten_pages: rate(),
                failed_requests: rate(),
                flipped_requests: rate(),
                torn_requests: 0, // nothing changes below
            };
            let fault = Fault::new(&mut memory, seed, rates);
            totals.add(&scan(&mut scanner, fault, &machine.kernel));
        }
        totals.print("failing reads", machine);
    }
}

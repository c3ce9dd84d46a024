//! What `scan_floor` prints.

use std::path::Path;
use std::time::Duration;

use panoptes_benches::chase::Memory;
use panoptes_benches::model::{LINE_BYTES, Model};
use panoptes_benches::times::{Spread, Times};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_engine::walk::{Losses, Snapshot};
use panoptes_sources::MeterCounts;

/// The times of one way to read, cold and warm.
#[derive(Debug, Default)]
pub(crate) struct Both {
    pub(crate) cold: Times,
    pub(crate) warm: Times,
}

/// The numbers of the objects of each kind.
pub(crate) fn counts(snapshot: &Snapshot) -> [(&'static str, usize); 6] {
    [
        ("processes", snapshot.processes.len()),
        ("threads", snapshot.by_tid.len()),
        ("file_descriptors", snapshot.descriptors.len()),
        ("memory_areas", snapshot.vmas.len()),
        ("connections", snapshot.connections.len()),
        ("interfaces", snapshot.interfaces.len()),
    ]
}

pub(crate) struct Report<'a> {
    pub(crate) ram: &'a Path,
    pub(crate) release: &'a str,
    pub(crate) core: usize,
    pub(crate) runs: usize,
    pub(crate) counts: [(&'static str, usize); 6],
    pub(crate) losses: Losses,
    pub(crate) read: MeterCounts,
    /// Number of runs of neighbouring lines.
    pub(crate) line_runs: usize,
    pub(crate) start: [(&'static str, Duration); 4],
    pub(crate) scan: Both,
    pub(crate) copies: Vec<(&'static str, Both)>,
    pub(crate) written: Times,
}

impl Report<'_> {
    pub(crate) fn print(&self) {
        println!(
            "{}: Linux {}, core {}, {} runs",
            self.ram.display(),
            self.release,
            self.core,
            self.runs
        );
        let objects: usize = self.counts.iter().map(|(_, count)| count).sum();
        let counts: Vec<String> =
            self.counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        println!("{objects} objects: {}", counts.join(", "));
        let MeterCounts { batches, requests, bytes, lines, pages, .. } = self.read;
        println!(
            "{batches} batches, {requests} requests, {:.1} MB; {lines} lines ({:.1} MB) in {} runs \
             and {pages} pages ({:.1} MB)",
            bytes as f64 / 1e6,
            (lines * LINE_BYTES) as f64 / 1e6,
            self.line_runs,
            (pages * PAGE_BYTES) as f64 / 1e6,
        );
        println!("losses: {:?}", self.losses);
        let first_scan = self.start.iter().map(|(_, time)| time).sum();
        let parts = self.start.map(|(name, time)| format!("{name} {:.1}", milliseconds(time)));
        println!(
            "from the start to the first whole scan {:.1} ms: {}",
            milliseconds(first_scan),
            parts.join(", ")
        );
        self.print_ways();
        for (name, times) in [("cold", &self.scan.cold), ("warm", &self.scan.warm)] {
            let seconds = times.median().as_secs_f64();
            println!(
                "{name}: {:.2} M objects/s, {:.3} µs an object",
                objects as f64 / seconds / 1e6,
                seconds * 1e6 / objects as f64
            );
        }
    }

    fn print_ways(&self) {
        println!(
            "\n{:8}{:>26}{:>26}  scan ÷ this, cold: median (p10 to p90)",
            "", "cold: least, median [ms]", "warm: least, median [ms]"
        );
        println!("{:8}{}{}", "scan", columns(&self.scan.cold), columns(&self.scan.warm));
        for (name, both) in &self.copies {
            let ratio = Spread::of(&self.scan.cold, &both.cold);
            println!("{name:8}{}{}  {ratio}", columns(&both.cold), columns(&both.warm));
        }
        println!("{:8}{:26}{}\n", "written", "", columns(&self.written));
    }

    /// Prints the lines that the model has and those that were read, and the floor that follows
    /// from them and from this machine's memory.
    pub(crate) fn print_model(&self, model: &Model, read: &[PhysicalAddress], memory: &Memory) {
        println!("\n{:22}{:>10}{:>12}{:>12}", "model", "objects", "lines", "read");
        for part in &model.parts {
            let lines_read = part.read(read);
            println!("{:22}{:>10}{:>12}{lines_read:>12}", part.name, part.objects, part.lines);
        }
        println!("{:22}{:>10}{:>12}{:>12}", "others", "", "", model.others(read));
        let common = read.iter().filter(|&&line| model.has(line)).count();
        let (lines, all) = (model.lines(), read.len());
        println!("{:22}{:>10}{lines:>12}{all:>12}", "all, each once", "");
        println!(
            "lines read {all}: {:.3} times the model's; {} of the model's were not read",
            all as f64 / lines as f64,
            lines - common
        );
        let [dependent, by_16, by_64, copied] = memory.line_ns();
        println!(
            "memory: a line takes {dependent:.1} ns alone, {by_16:.1} ns with 16 chains, \
             {by_64:.1} ns with 64, {copied:.2} ns in a copy ({:.1} GB/s)",
            LINE_BYTES as f64 / copied
        );
        let lines = lines as f64;
        let (wide, narrow) = (lines * by_64, lines * by_16);
        let batches = self.read.batches;
        let (bytes, depth) = (lines * copied, batches as f64 * dependent);
        println!(
            "floor: {:.2} ms by 64 chains ({:.2} by 16), {:.2} ms by bandwidth, {:.3} ms by \
             {batches} dependent rounds",
            wide / 1e6,
            narrow / 1e6,
            bytes / 1e6,
            depth / 1e6
        );
        // Each turn by the memory's own times in that turn.
        let efficiency = |per_line: &Times| {
            let by_turn = self.scan.cold.0.iter().zip(&per_line.0).map(|(scan, chase)| {
                chase.as_secs_f64() / Memory::HOPS as f64 * lines / scan.as_secs_f64()
            });
            Spread::of_all(by_turn.collect())
        };
        println!(
            "efficiency, floor ÷ cold scan: {} by 64 chains, {} by 16",
            efficiency(&memory.by_64),
            efficiency(&memory.by_16)
        );
    }
}

/// The least and the median time.
fn columns(times: &Times) -> String {
    format!("{:>16.3}{:>10.3}", milliseconds(times.least()), milliseconds(times.median()))
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

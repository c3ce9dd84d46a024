//! `cargo xtask bench`: the cost of a scan and its lower bounds, measured in one run.
//!
//! Each mode runs programs of `benches`, which print their tables. A separate campaign, not part of
//! `cargo xtask test`. docs/performance has its figures.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, cache, death, setup, snapshot};

use crate::{before_after, cargo, flame, flow_live, flow_speed, flow_threads, peers, recorded};

/// Scans loaded, paused guests and compares with copying what a scan reads, with a model of what it
/// must read, and with each part of watching
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    /// Also run the criterion benchmarks of single parts
    #[arg(long)]
    all: bool,
    /// Instead measure a scan of the recorded images with the code of a revision and with this one
    #[arg(long, value_name = "REV", conflicts_with = "all")]
    compare: Option<String>,
    /// Instead measure scans of the reference node, whose dump is made once and kept
    #[arg(long, conflicts_with_all = ["all", "compare"])]
    node: bool,
    /// Instead draw where the time of scans of the reference node goes, by samples of perf; their
    /// stacks go into FILE.folded
    #[arg(long, value_name = "FILE.svg", conflicts_with_all = ["all", "compare", "node"])]
    flame: Option<PathBuf>,
    /// Instead compare a scan of the reference node with drgn and Volatility 3 (some hours: set
    /// --plugin-seconds)
    #[arg(long, conflicts_with_all = ["all", "compare", "node", "flame"])]
    peers: bool,
    /// Instead watch 1 to 64 synthetic machines on one core and on several, and scan machines of
    /// 1,000 to 30,000 processes
    #[arg(long, conflicts_with_all = ["all", "compare", "node", "flame", "peers"])]
    scale: bool,
    /// With --peers: cut each plugin of Volatility 3 after this processor time
    #[arg(long, value_name = "N", default_value_t = 14_400, requires = "peers")]
    plugin_seconds: u64,
}

/// Measures something else than scans.
#[derive(Debug, Subcommand)]
enum Other {
    Flow(flow_speed::Options),
    FlowLive(flow_live::Options),
    FlowThreads(flow_threads::Options),
}

/// The loaded guest of docs/performance/scan.md.
const LOAD: &str = "load processes=300 threads=5 fds=50 areas=100 connections=5";

/// The reference node: 1,000 processes, 5,000 threads, 50,000 descriptors, 100,000 areas, and
/// 10,000 TCP sockets.
const NODE: &str = "load processes=1000 threads=5 fds=50 areas=100 connections=5";
const NODE_MIB: u64 = 4096;

/// Bashes that wait for a user to type.
const SHELLS: &str = "run busybox mkfifo /tmp/silent; for i in $(busybox seq 50); do \
    bash --norc -i <>/tmp/silent >/dev/null 2>&1 & done; sleep 5";
/// Number of scans of each kind.
const RUNS: &str = "100";
/// The same for the node, whose scans take longer, and for a profile of it.
const NODE_RUNS: &str = "40";
const FLAME_RUNS: &str = "200";
/// How many rounds of the synthetic machines are measured, and how often.
const SCALE: [&str; 4] = ["--rounds", "6", "--passes", "2"];

pub(crate) fn run(options: &Options) -> Result<(), String> {
    match &options.other {
        Some(Other::Flow(options)) => return flow_speed::run(options),
        Some(Other::FlowLive(options)) => return flow_live::run(options),
        Some(Other::FlowThreads(options)) => return flow_threads::run(options),
        None => {}
    }
    if let Some(revision) = &options.compare {
        return before_after::compare(revision);
    }
    if options.scale {
        run_program("scale", &SCALE)?;
        return run_program("scan_growth", &[]);
    }
    setup::ensure()?;
    if options.peers {
        return peers::compare(node_dump()?, options.plugin_seconds);
    }
    if options.node {
        return measure_node();
    }
    if let Some(picture) = &options.flame {
        let dump = node_dump()?;
        return flame::record(&peers::build_floor()?, FLAME_RUNS, &dump, picture);
    }
    // Built before any guest runs: a build and a guest would compete for the processor.
    cargo(&["build", "--release", "--package", "panoptes-benches", "--bins"])?;
    for flavor in [Flavor::V6_1, Flavor::V6_12] {
        let kernel = Kernel::obtain(flavor)?;
        println!("== Linux {}", kernel.release());
        let spec = GuestSpec { memory_mib: 1024, ..GuestSpec::new(kernel) };
        let mut guest = Guest::boot(&spec)?;
        guest.agent(LOAD)?;
        guest.pause()?;
        measure("scan_floor", &[], guest.ram_path())?;
        measure("steady", &[], guest.ram_path())?;
        guest.resume()?;
        guest.agent(SHELLS)?;
        guest.pause()?;
        measure("watch_parts", &["--runs", RUNS], guest.ram_path())?;
    }
    if options.all {
        recorded::record_all()?;
        cargo(&["bench", "--package", "panoptes-benches"])?;
    }
    Ok(())
}

fn measure_node() -> Result<(), String> {
    let dump = node_dump()?;
    measure("scan_floor", &[], &dump)?;
    measure("steady", &[], &dump)?;
    measure("watch_parts", &["--runs", NODE_RUNS], &dump)
}

/// The memory of the node, as a raw dump in the cache folder; made if it is missing. The guest runs
/// alone, because it needs 4 GiB.
pub(crate) fn node_dump() -> Result<PathBuf, String> {
    let dump = cache::folder("node")?.join("6.12.ram");
    if dump.exists() {
        return Ok(dump);
    }
    println!("== recording the node into {}", dump.display());
    let kernel = Kernel::obtain(Flavor::V6_12)?;
    let spec = GuestSpec { memory_mib: NODE_MIB, ..GuestSpec::new(kernel) };
    death::survive(|| {
        let mut guest = Guest::boot(&spec)?;
        guest.agent(NODE)?;
        guest.pause()?;
        let part = dump.with_extension("part");
        snapshot::copy(guest.ram_path(), &part)?;
        std::fs::rename(&part, &dump).map_err(|e| format!("{}: {e}", dump.display()))
    })?;
    Ok(dump)
}

fn measure(program: &str, options: &[&str], ram: &Path) -> Result<(), String> {
    let ram = ram.to_str().ok_or("the name of the guest's memory file is not UTF-8")?;
    run_program(program, &[options, &[ram]].concat())
}

/// Runs a program of the benches.
fn run_program(program: &str, arguments: &[&str]) -> Result<(), String> {
    let package =
        ["run", "--release", "--quiet", "--package", "panoptes-benches", "--bin", program];
    cargo(&[&package[..], &["--"], arguments].concat())
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    cargo::must(cargo::command().args(arguments), &format!("cargo {}", arguments.join(" ")))
}

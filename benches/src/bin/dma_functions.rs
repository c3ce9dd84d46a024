//! Scans 64 functions of a DMA device in turn, behind the stand-in for NVIDIA's library, at several
//! times for a batch of copies.
//!
//!     cargo run --release -p panoptes-benches --bin dma_functions -- [--rounds N]
//!
//! All functions give the memory of the smallest recorded machine, and each is opened as a system
//! of its own. One thread scans them: the interval is the time from the start of a scan to the
//! start of the next one of the same function, if nothing else is done. The stand-in's own copies
//! are part of it, so `0 µs` is its cost. Figures are medians of N rounds (20).

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use panoptes_benches::{KEY, Machine};
use panoptes_decoders::source::MachineSource as _;
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_rig::standin::Standin;
use panoptes_sources::doca::{DocaMemory, Library, PATIENCE};
use panoptes_sources::{Detail, MemorySource as _, SourceMeter};

const FUNCTIONS: usize = 64;
/// Times for a batch in microseconds.
const BATCH_US: [u32; 4] = [0, 1, 20, 60];
const ROUNDS: usize = 20;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(ROUNDS),
        ["--rounds", rounds] => rounds.parse().ok().filter(|rounds| *rounds > 0),
        _ => None,
    };
    let Some(rounds) = rounds else {
        eprintln!("usage: dma_functions [--rounds N]");
        return ExitCode::from(2);
    };
    match run(rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: usize) -> Result<(), Error> {
    let mut machine = Machine::all().into_iter().next().ok_or("no recorded machine")?;
    let folder = std::env::temp_dir().join(format!("panoptes-dma-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let measured = write(&mut machine, &folder.join("memory")).and_then(|()| {
        println!("{FUNCTIONS} functions, each with the memory of {}", machine.name);
        println!("batch µs  interval ms  µs a function  batches  requests  copies  KiB copied");
        BATCH_US.iter().try_for_each(|us| measure(&machine, &folder.join("memory"), *us, rounds))
    });
    std::fs::remove_dir_all(&folder)?;
    measured
}

/// Writes the machine's memory to a file.
fn write(machine: &mut Machine, path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create(path)?;
    file.set_len(machine.memory.regions().last().map_or(0, |region| region.end))?;
    for (at, page) in machine.memory.pages_mut() {
        file.write_all_at(page, at.0)?;
    }
    Ok(())
}

fn measure(machine: &Machine, memory: &Path, batch_us: u32, rounds: usize) -> Result<(), Error> {
    let standin = Standin::new(&format!(
        "device dma0 0000:03:00.0\nbatch_us {batch_us}\nfunctions VF {FUNCTIONS} {}\n",
        memory.display()
    ))?;
    let library = Library::load(Some(&standin.library()))?;
    let regions = machine.memory.regions();
    let open = |index: usize| {
        let source = DocaMemory::open(&library, "dma0", &format!("VF{index}"), regions, PATIENCE)?;
        Ok(SourceMeter::new(source, Detail::Batches)?)
    };
    let mut functions = (0..FUNCTIONS).map(open).collect::<Result<Vec<_>, Error>>()?;
    let mut walker = Walker::new(&Limits::default(), KEY);
    // The first scans size the tables.
    round(&mut walker, &mut functions, &machine.kernel)?;
    let first = functions.first_mut().ok_or("no function")?;
    first.reset();
    let before = first.source_mut().counts();
    scan(&mut walker, first, &machine.kernel)?;
    let (counts, after) = (first.counts(), first.source_mut().counts());
    let mut times = (0..rounds)
        .map(|_| round(&mut walker, &mut functions, &machine.kernel))
        .collect::<Result<Vec<Duration>, Error>>()?;
    times.sort_unstable();
    let interval = times.get(rounds / 2).copied().unwrap_or_default().as_secs_f64();
    println!(
        "{batch_us:8}  {:11.1}  {:13.0}  {:7}  {:8}  {:6}  {:10}",
        interval * 1e3,
        interval * 1e6 / FUNCTIONS as f64,
        counts.batches,
        counts.requests,
        after.copies - before.copies,
        (after.bytes - before.bytes) >> 10,
    );
    let failed: u64 =
        functions.iter_mut().map(|function| function.source_mut().counts().failed).sum();
    if failed > 0 {
        println!("          {failed} reads failed");
    }
    Ok(())
}

/// Scans each function once; returns the time for all.
fn round(
    walker: &mut Walker,
    functions: &mut [SourceMeter<DocaMemory>],
    kernel: &Kernel,
) -> Result<Duration, Error> {
    let begin = Instant::now();
    for function in functions {
        scan(walker, function, kernel)?;
    }
    Ok(begin.elapsed())
}

fn scan(
    walker: &mut Walker,
    function: &mut SourceMeter<DocaMemory>,
    kernel: &Kernel,
) -> Result<(), Error> {
    function.source_mut().refresh();
    // Another system was scanned before.
    walker.forget();
    walker.scan(function, kernel, Scope::ALL).map_err(|error| error.to_string())?;
    Ok(())
}

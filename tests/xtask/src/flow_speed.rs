//! `cargo xtask bench flow`: `panoptes flow` and other flow sensors over the same captures.
//!
//! All run in turns, in the same minutes and on the same processor, so that other load on the
//! machine meets all of them. The measure is processor time, of which the table has the median, and
//! packets per second of it. Other sensors are fetched, but softflowd: it is left out where it is
//! not installed, and a line names its package. docs/performance/flows.md has figures.

pub(crate) mod captures;
mod sensors;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use panoptes_bounded as bounded;
use serde_json::json;

use crate::folders::Temporary;
use crate::program;
use captures::Capture;
use sensors::Sensor;

/// How often the memory of a running sensor is read.
const POLL: Duration = Duration::from_millis(5);
/// The longest run of one sensor.
const RUN_MAX: Duration = Duration::from_mins(5);
/// What a million flows may take.
const MEMORY_MIB_MAX: u64 = 512;

/// Compares the speed of `panoptes flow` with argus, softflowd, nfpcapd and suricata over the same
/// captures: processor time, time, packets per second, memory
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Turns of each sensor
    #[arg(long, value_name = "N", default_value_t = 5)]
    turns: usize,
    /// Packets of the captures
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    packets: u64,
    /// The processor on which all sensors run
    #[arg(long, value_name = "N", default_value_t = 1)]
    processor: usize,
    /// Only these sensors
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Prints an object of JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// A run of a sensor.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// User and system time of all its threads, in seconds.
    cpu_s: f64,
    wall_s: f64,
    /// The most resident memory that was seen, in KiB.
    peak_kib: u64,
}

/// The runs of one sensor over one capture.
struct Runs {
    name: &'static str,
    partner: &'static str,
    all: Vec<Run>,
}

impl Runs {
    fn of(sensor: &Sensor) -> Self {
        Self { name: sensor.name, partner: sensor.partner, all: Vec::new() }
    }

    fn median(&self, of: fn(&Run) -> f64) -> f64 {
        let mut values: Vec<f64> = self.all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn cpu_s(&self) -> f64 {
        self.median(|run| run.cpu_s)
    }

    fn peak_mib(&self) -> u64 {
        self.all.iter().map(|run| run.peak_kib).max().unwrap_or(0) >> 10
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let panoptes = program::obtain()?;
    let mut sensors = sensors::all(&panoptes)?;
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    sensors.retain(|sensor| is_wanted(sensor.name));
    let mut objects = Vec::new();
    for capture in captures::mixed(options.packets)? {
        let mut all: Vec<Runs> = sensors.iter().map(Runs::of).collect();
        for _ in 0..options.turns.max(1) {
            for (sensor, runs) in sensors.iter().zip(&mut all) {
                runs.all.push(measure(sensor, &capture, options.processor)?);
            }
        }
        if options.json {
            objects.push(object(&capture, &all));
        } else {
            print(&capture, &all);
        }
    }
    let memory_mib = if is_wanted(sensors::PANOPTES) {
        Some(many_flows(&sensors, options.processor)?)
    } else {
        None
    };
    if options.json {
        let whole = json!({"captures": objects, "memory_of_a_million_flows_mib": memory_mib});
        println!("{whole}");
    } else if let Some(memory_mib) = memory_mib {
        println!("a million flows at once: {memory_mib} MiB (at most {MEMORY_MIB_MAX})");
    }
    match memory_mib {
        Some(mib) if mib > MEMORY_MIB_MAX => Err(format!("a million flows take {mib} MiB")),
        _ => Ok(()),
    }
}

/// The memory of Panoptes with a million flows at once.
fn many_flows(sensors: &[Sensor], processor: usize) -> Result<u64, String> {
    let capture = captures::million_flows()?;
    let panoptes = sensors.iter().find(|sensor| sensor.name == sensors::PANOPTES);
    let run = measure(panoptes.ok_or("no panoptes")?, &capture, processor)?;
    Ok(run.peak_kib >> 10)
}

/// Runs a sensor over a capture, in a new folder.
fn measure(sensor: &Sensor, capture: &Capture, processor: usize) -> Result<Run, String> {
    let folder = Temporary::new(sensor.name)?;
    let arguments = (sensor.arguments)(&capture.path, &folder.0);
    let before = children_s()?;
    let begin = Instant::now();
    let mut command = Command::new("taskset");
    command.args(["-c", &processor.to_string()]).arg(&sensor.program).args(arguments);
    command.current_dir(&folder.0).stdin(Stdio::null()).stdout(Stdio::null());
    let wrong = |error| format!("cannot run {}: {error}", sensor.name);
    let mut child = command.stderr(Stdio::null()).spawn().map_err(wrong)?;
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak_kib.max(peak_kib_of(child.id()));
        if let Some(status) = child.try_wait().map_err(wrong)? {
            break status;
        }
        if begin.elapsed() > RUN_MAX {
            let _ = child.kill();
            let _ = bounded::wait(&mut child);
            return Err(format!("{} has not ended within {RUN_MAX:?}", sensor.name));
        }
        std::thread::sleep(POLL);
    };
    if !status.success() {
        return Err(format!("{} failed: {status}", sensor.name));
    }
    let wall_s = begin.elapsed().as_secs_f64();
    let cpu_s = children_s()? - before;
    if sensor.program.file_name().is_some_and(|name| name == sensors::SURICATA) {
        sensors::check_suricata(&folder.0, capture.packets)?;
    }
    Ok(Run { cpu_s, wall_s, peak_kib })
}

/// User and system time of all children that have ended.
fn children_s() -> Result<f64, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| format!("getrusage: {e}"))?;
    let seconds = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
    Ok(seconds[0] + seconds[1])
}

/// `VmHWM` of a process: it never falls.
fn peak_kib_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn print(capture: &Capture, all: &[Runs]) {
    println!("{}, {} packets", capture.name, capture.packets);
    println!(
        "| {:<22} | CPU s | time s | million packets per CPU s | peak MiB | peer / CPU | CPU / \
         only reading |",
        "sensor"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let cpu_s_of = |name: &str| all.iter().find(|runs| runs.name == name).map(Runs::cpu_s);
    let reading = cpu_s_of(sensors::ONLY_READ);
    let ratio = |ratio: Option<f64>| ratio.map_or(String::new(), |ratio| format!("{ratio:.1}"));
    for runs in all {
        let cpu_s = runs.cpu_s();
        let partner = ratio(cpu_s_of(runs.partner).map(|partner| partner / cpu_s));
        let reading = ratio(reading.map(|reading| cpu_s / reading));
        println!(
            "| {:<22} | {cpu_s:.3} | {:.3} | {:.2} | {} | {partner} | {reading} |",
            runs.name,
            runs.median(|run| run.wall_s),
            capture.packets as f64 / cpu_s / 1e6,
            runs.peak_mib(),
        );
    }
    println!();
}

fn object(capture: &Capture, all: &[Runs]) -> serde_json::Value {
    let sensors = all.iter().map(|runs| {
        json!({
            "sensor": runs.name,
            "peer": runs.partner,
            "cpu_s": runs.cpu_s(),
            "cpu_s_of_turns": runs.all.iter().map(|run| run.cpu_s).collect::<Vec<_>>(),
            "wall_s": runs.median(|run| run.wall_s),
            "packets_per_cpu_s": capture.packets as f64 / runs.cpu_s(),
            "peak_mib": runs.peak_mib(),
        })
    });
    let sensors: Vec<_> = sensors.collect();
    json!({"capture": capture.name, "packets": capture.packets, "sensors": sensors})
}

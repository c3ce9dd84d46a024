//! `cargo xtask bench flow-live`: what `panoptes flow` and argus lose of live packets.
//!
//! tcpreplay sends a capture through a veth pair in a network namespace of its own, on another
//! processor than the sensor. What was sent is what the receiving interface has counted; what was
//! seen is the sum over all records. The difference is lost, and a sensor should report as much in
//! its management records. It needs root.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use panoptes_bounded as bounded;
use panoptes_needs::install;
use panoptes_rig::{boxes, output};

use crate::flow_speed::captures::{self, Capture};
use crate::{processes, program};

/// The namespace, and both ends of the pair in it.
const SPACE: &str = "panoptes-bench";
const SENDER: &str = "bench0";
const RECEIVER: &str = "bench1";
/// How long a sensor has to open its source, and to take what is buffered at the end.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a sensor may take to end.
const END_MAX: Duration = Duration::from_secs(30);
/// Packets of the capture that is sent again and again.
const PACKETS: u64 = 4_000_000;
/// Bytes of a management record up to the number of dropped packets, and of that number
/// (`include/argus_out.h`).
const DROPPED_AT: usize = 80;

/// Compares what `panoptes flow` and argus lose of live packets at several rates (root)
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Thousands of packets a second; 0 is as fast as possible
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,200,400,0")]
    rates: Vec<u64>,
    /// How long each rate is held
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// Threads of `panoptes flow`, on as many processors behind that of the sender
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Give `panoptes flow` a second output that is never read
    #[arg(long)]
    hung_output: bool,
}

/// A sensor to be measured.
pub(crate) struct Sensor<'a> {
    pub(crate) path: &'a Path,
    /// What counts the packets of its records.
    pub(crate) racount: PathBuf,
    pub(crate) threads: usize,
    /// A second output, which is never read.
    pub(crate) hung: Option<Hung>,
    /// A file in the form of `argus.conf`.
    pub(crate) configuration: Option<&'a Path>,
}

/// What a sensor has made of what was sent.
struct Outcome {
    sent: u64,
    seconds: f64,
    seen: u64,
    reported: u64,
    /// Nanoseconds that its busiest thread has run.
    busiest_ns: u64,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    install::ensure_named(&["tcpreplay", "ip"])?;
    let argus = boxes::ARGUS_3.obtain()?;
    let panoptes = program::obtain()?;
    let whole = captures::mixed(PACKETS)?.pop().ok_or("there is a capture of whole packets")?;
    let _network = Network::new()?;
    println!(
        "| rate | sensor | sent | a second | not in records | reported as lost | busiest thread, \
         ns a packet |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut failures = Vec::new();
    for &rate in &options.rates {
        let title = if rate == 0 { "highest".to_owned() } else { format!("{rate}k") };
        let mut losses = [0.0; 2];
        let sensors = [("argus", argus.join("argus")), ("panoptes", panoptes.clone())];
        for (loss, (name, path)) in losses.iter_mut().zip(sensors) {
            let threads = if name == "panoptes" { options.threads } else { 1 };
            let has_hung = options.hung_output && name == "panoptes";
            let hung = has_hung.then(Hung::new).transpose()?;
            let racount = argus.join("racount");
            let sensor = Sensor { path: &path, racount, threads, hung, configuration: None };
            let one = Network::measure(&sensor, &whole, rate, options.seconds)?;
            let lost = one.sent.saturating_sub(one.seen);
            *loss = lost as f64 / one.sent.max(1) as f64;
            println!(
                "| {title} | {name} | {} | {:.0} | {lost} ({:.2} %) | {} | {:.0} |",
                one.sent,
                one.sent as f64 / one.seconds,
                *loss * 100.0,
                one.reported,
                one.busiest_ns as f64 / one.seen.max(1) as f64,
            );
            if name == "panoptes" && lost != one.reported {
                failures.push(format!("{title}: {lost} were lost, {} reported", one.reported));
            }
        }
        if losses[1] > losses[0] {
            failures.push(format!("{title}: panoptes has lost more than argus"));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The namespace, which is removed at the end.
pub(crate) struct Network;

impl Network {
    pub(crate) fn new() -> Result<Self, String> {
        let _ = ip(&["netns", "del", SPACE]);
        ip(&["netns", "add", SPACE])?;
        let network = Self;
        ip(&["-n", SPACE, "link", "add", SENDER, "type", "veth", "peer", "name", RECEIVER])?;
        // Otherwise the kernel itself sends packets, for IPv6.
        for end in [SENDER, RECEIVER] {
            let setting = format!("net.ipv6.conf.{end}.disable_ipv6=1");
            output(inside().args(["sysctl", "-q", "-w", &setting]))?;
            ip(&["-n", SPACE, "link", "set", end, "up"])?;
        }
        Ok(network)
    }

    /// Runs a sensor while packets are sent.
    fn measure(
        sensor: &Sensor<'_>,
        capture: &Capture,
        rate: u64,
        seconds: u64,
    ) -> Result<Outcome, String> {
        let records = std::env::temp_dir().join(format!("panoptes-live-{}", std::process::id()));
        let _ = std::fs::remove_file(&records);
        let mut child = start(sensor, &records)?;
        std::thread::sleep(SETTLE);
        let before = received()?;
        let sending = send(capture, rate, seconds);
        std::thread::sleep(SETTLE);
        let sent = received()? - before;
        let busiest_ns = busiest(child.id())?;
        end(&mut child)?;
        let seconds = sending?;
        let seen = counted(&sensor.racount, &records)?;
        let bytes = std::fs::read(&records).map_err(|e| format!("{}: {e}", records.display()))?;
        let _ = std::fs::remove_file(&records);
        Ok(Outcome { sent, seconds, seen, reported: dropped(&bytes), busiest_ns })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", SPACE]);
    }
}

/// Packets that the receiving interface has counted.
pub(crate) fn received() -> Result<u64, String> {
    let path = format!("/sys/class/net/{RECEIVER}/statistics/rx_packets");
    let text = output(inside().args(["cat", &path]))?;
    text.trim().parse().map_err(|_| format!("{path} is no number"))
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    output(Command::new("ip").args(arguments)).map(drop).map_err(|error| error.to_string())
}

/// A command inside of the namespace.
fn inside() -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", SPACE]);
    command
}

/// A FIFO that is open and never read. It is removed at the end.
pub(crate) struct Hung {
    path: PathBuf,
    _reader: File,
}

impl Hung {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("panoptes-hung-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let failed = |error: &dyn Display| format!("{}: {error}", path.display());
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| failed(&error))?;
        let reader = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let reader = reader.map_err(|error| failed(&error))?;
        Ok(Self { path, _reader: reader })
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Starts a sensor on the second processor, and on those behind it if it has several threads. `ip
/// netns exec` and `taskset` become the sensor.
pub(crate) fn start(sensor: &Sensor<'_>, records: &Path) -> Result<Child, String> {
    let Sensor { path, threads, configuration, hung, .. } = sensor;
    let mut command = inside();
    command.args(["taskset", "-c", &format!("1-{threads}")]).arg(path);
    if path.file_name().is_some_and(|name| name == "panoptes") {
        command.arg("flow");
    }
    // It discards the options before it.
    command.arg("-X");
    if let Some(configuration) = configuration {
        command.arg("-F").arg(configuration);
    }
    if *threads > 1 {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(hung) = hung {
        command.arg("-w").arg(&hung.path);
    }
    command.args(["-i", RECEIVER, "-w"]).arg(records);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("cannot start {}: {error}", path.display()))
}

/// Nanoseconds that the busiest thread of a process has run.
fn busiest(process: u32) -> Result<u64, String> {
    let times = thread_times(process)?;
    times.into_values().max().ok_or_else(|| format!("process {process} has no thread"))
}

/// Nanoseconds that each thread of a process has run, by its number
/// (`Documentation/scheduler/sched-stats.rst`).
pub(crate) fn thread_times(process: u32) -> Result<BTreeMap<String, u64>, String> {
    let folder = format!("/proc/{process}/task");
    let threads = std::fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
    let times = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let time = text.split(' ').next()?.parse().ok()?;
        Some((thread.file_name().into_string().ok()?, time))
    });
    Ok(times.collect())
}

/// Ends a sensor by SIGINT, as a user does.
pub(crate) fn end(child: &mut Child) -> Result<(), String> {
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGINT).map_err(|error| format!("cannot end a sensor: {error}"))?;
    let status = processes::wait(child, END_MAX).map_err(|error| error.to_string())?;
    if status.is_none() {
        let _ = child.kill();
        let _ = bounded::wait(child);
        return Err("a sensor has not ended after SIGINT".to_owned());
    }
    Ok(())
}

/// Sends at a rate. How many seconds it took, without reading the capture.
fn send(capture: &Capture, rate: u64, seconds: u64) -> Result<f64, String> {
    if rate == 0 {
        let duration = seconds.to_string();
        return replay(capture, &["--topspeed", "--loop", "0", "--duration", &duration]);
    }
    let count = rate * 1000 * seconds;
    let turns = count.div_ceil(capture.packets).to_string();
    let (rate, limit) = ((rate * 1000).to_string(), count.to_string());
    replay(capture, &["--pps", &rate, "--limit", &limit, "--loop", &turns])
}

/// Sends a capture once, as fast as possible.
pub(crate) fn send_once(capture: &Capture) -> Result<(), String> {
    replay(capture, &["--topspeed"]).map(drop)
}

/// Sends from the first processor. How many seconds it took, without reading the capture.
fn replay(capture: &Capture, options: &[&str]) -> Result<f64, String> {
    let mut command = inside();
    command.args(["taskset", "-c", "0", "tcpreplay", "-q", "-K", "-i", SENDER]).args(options);
    let text = output(command.arg(&capture.path))?;
    let behind = text.split("sent in ").nth(1).and_then(|text| text.split(' ').next());
    let seconds = behind.and_then(|number| number.parse().ok());
    seconds.ok_or_else(|| format!("tcpreplay does not tell how long it took: {text}"))
}

/// Packets in all records of a file, by `racount`.
pub(crate) fn counted(racount: &Path, records: &Path) -> Result<u64, String> {
    let text = output(Command::new(racount).arg("-r").arg(records))?;
    let sum = text.lines().find_map(|line| line.trim().strip_prefix("sum"));
    let number = sum.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.ok_or_else(|| format!("racount printed no sum: {text}"))
}

/// Lost packets in all management records.
pub(crate) fn dropped(bytes: &[u8]) -> u64 {
    let (mut at, mut sum) = (0, 0);
    while let Some(&[kind, cause, high, low]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let is_management = kind >> 4 == 8;
        let is_first = cause & 0xf0 == 0x10;
        if is_management && !is_first {
            let number = bytes.get(at + DROPPED_AT..).and_then(<[u8]>::first_chunk);
            sum += number.map_or(0, |number| u64::from(u32::from_be_bytes(*number)));
        }
        at += usize::from(u16::from_be_bytes([high, low])).max(1) * 4;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_packets_of_management_records_are_added() {
        let record = |kind: u8, cause: u8, dropped: u32| {
            let mut bytes = vec![0; 128];
            bytes[..4].copy_from_slice(&[kind, cause, 0, 32]);
            bytes[DROPPED_AT..DROPPED_AT + 4].copy_from_slice(&dropped.to_be_bytes());
            bytes
        };
        let records = [(0x83, 0x10, 7), (0x13, 0x20, 9), (0x83, 0x20, 2), (0x83, 0x30, 3)];
        let bytes: Vec<u8> =
            records.into_iter().flat_map(|(kind, cause, lost)| record(kind, cause, lost)).collect();
        assert_eq!(dropped(&bytes), 5);
        assert_eq!(dropped(&bytes[..400]), 2);
    }
}

//! `cargo xtask bench flow-threads`: how the threads of `panoptes flow` divide the work.
//!
//! The sensor is stopped while a capture is sent, and its rings have room for all of it. Then it
//! continues, and the processor time of its busiest thread counts. So neither the sender nor the
//! number of processors matters: what one thread does while another one waits is the same. It needs
//! root.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_needs::install;
use panoptes_rig::boxes;

use crate::flow_live::{
    Network, Sensor, counted, dropped, end, received, send_once, start, thread_times,
};
use crate::flow_speed::captures::{self, Capture};
use crate::program;

/// Packets of the capture of 96-byte snaps; that of whole packets, which is sent, has a quarter.
const PACKETS: u64 = 4_000_000;
/// Room for all of them, in all rings together.
const CONFIGURATION: &str = "ARGUS_PCAP_BUF_SIZE=2G\n";
/// A sensor only waits for packets if its threads have run less than this between two looks. One
/// with several threads wakes often.
const IDLE_NS: u64 = 100_000_000;
const LOOK: Duration = Duration::from_secs(1);
/// How long it may take to get its rings, or to count all packets.
const IDLE_MAX: Duration = Duration::from_mins(2);
/// Two threads are promised to be so many times as fast as one.
const TWO_THREADS: f64 = 1.8;

/// Measures how the threads of `panoptes flow` divide the work (root)
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Numbers of threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4")]
    threads: Vec<usize>,
    /// How often each is measured; the medians count
    #[arg(long, value_name = "N", default_value_t = 5)]
    turns: usize,
}

/// What one run has given.
struct Outcome {
    sent: u64,
    seen: u64,
    reported: u64,
    busiest_ns: u64,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    install::ensure_named(&["tcpreplay", "ip"])?;
    let argus = boxes::ARGUS_3.obtain()?;
    let panoptes = program::obtain()?;
    let whole = captures::mixed(PACKETS)?.pop().ok_or("there is a capture of whole packets")?;
    let file = |name| std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let (configuration, records) = (file("panoptes-conf"), file("panoptes-records"));
    std::fs::write(&configuration, CONFIGURATION).map_err(|error| error.to_string())?;
    let _network = Network::new()?;
    let mut outcomes: Vec<Vec<Outcome>> = options.threads.iter().map(|_| Vec::new()).collect();
    // Turns alternate: a processor is not always as fast.
    for _ in 0..options.turns.max(1) {
        for (outcomes, &threads) in outcomes.iter_mut().zip(&options.threads) {
            let racount = argus.join("racount");
            let configuration = Some(configuration.as_path());
            let sensor = Sensor { path: &panoptes, racount, threads, hung: None, configuration };
            outcomes.push(measure(&sensor, &whole, &records)?);
        }
    }
    let failures = show(&options.threads, outcomes);
    let _ = std::fs::remove_file(configuration).and_then(|()| std::fs::remove_file(records));
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Prints a row for each number of threads. What is wrong.
fn show(threads: &[usize], outcomes: Vec<Vec<Outcome>>) -> Vec<String> {
    println!(
        "| threads | packets | not in records | reported as lost | busiest thread, ns a packet | \
         times as fast |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let (mut one, mut failures) = (None, Vec::new());
    for (&threads, mut all) in threads.iter().zip(outcomes) {
        all.sort_by_key(|outcome| outcome.busiest_ns);
        let lost = |one: &Outcome| one.sent.saturating_sub(one.seen);
        let (lost, reported) = (all.iter().map(lost), all.iter().map(|one| one.reported));
        let (lost, reported) = (lost.sum::<u64>(), reported.sum::<u64>());
        let median = &all[all.len() / 2];
        let time = median.busiest_ns as f64 / median.sent.max(1) as f64;
        let (_, first_time) = *one.get_or_insert((threads, time));
        let times = first_time / time;
        println!("| {threads} | {} | {lost} | {reported} | {time:.0} | {times:.2} |", median.sent);
        if threads == 2 && one.is_some_and(|one| one.0 == 1) && times < TWO_THREADS {
            failures.push(format!("two threads are {times:.2} times as fast as one"));
        }
        if lost != reported {
            failures.push(format!("{threads} threads: {lost} were lost, {reported} reported"));
        }
    }
    failures
}

/// Has a sensor count a capture that waits in its rings.
fn measure(sensor: &Sensor<'_>, capture: &Capture, records: &Path) -> Result<Outcome, String> {
    let _ = std::fs::remove_file(records);
    let mut child = start(sensor, records)?;
    let counts = busiest_of(&child, capture);
    if counts.is_err() {
        // One that is stopped receives no other signal.
        let _ = child.kill();
    }
    let (sent, busiest_ns) = counts?;
    end(&mut child)?;
    let bytes = std::fs::read(records).map_err(|e| format!("{}: {e}", records.display()))?;
    let seen = counted(&sensor.racount, records)?;
    Ok(Outcome { sent, seen, reported: dropped(&bytes), busiest_ns })
}

/// How many packets were sent while a sensor was stopped, and the nanoseconds that its busiest
/// thread has run for them.
fn busiest_of(child: &Child, capture: &Capture) -> Result<(u64, u64), String> {
    wait_until_idle(child)?;
    signal(child, Signal::SIGSTOP)?;
    let (received_before, before) = (received()?, thread_times(child.id())?);
    send_once(capture)?;
    let sent = received()? - received_before;
    signal(child, Signal::SIGCONT)?;
    wait_until_idle(child)?;
    let after = thread_times(child.id())?;
    let times = after.iter().filter_map(|(thread, ns)| Some(ns - before.get(thread)?));
    Ok((sent, times.max().unwrap_or(0)))
}

fn signal(child: &Child, signal: Signal) -> Result<(), String> {
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, signal).map_err(|error| format!("{signal} for a sensor: {error}"))
}

/// Waits until a sensor only waits for packets.
fn wait_until_idle(child: &Child) -> Result<(), String> {
    let begin = Instant::now();
    let mut last = u64::MAX;
    while begin.elapsed() < IDLE_MAX {
        std::thread::sleep(LOOK);
        let sum = thread_times(child.id())?.values().sum::<u64>();
        if sum.saturating_sub(last) < IDLE_NS && sum >= last {
            return Ok(());
        }
        last = sum;
    }
    Err("a sensor is always busy".to_owned())
}

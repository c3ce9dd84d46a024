//! One run of the sensor, with the neighbour alone or beside everything hostile.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_traffic::Random;

use super::exports::Exports;
use super::network::{LEFT, Sender};
use super::quiet::{Flows, Neighbour};
use super::sensor::{MIRRORS, Sensor};
use super::{Plan, clients, operator, senders};

/// The time from one group of conversations to the next.
const GROUP: Duration = Duration::from_millis(50);
/// The time in which the receiver takes what waits for it, and records of the sensor come.
const SETTLE: Duration = Duration::from_secs(3);
/// The time in which tables and the room of outputs fill, each page when it is first written.
/// Memory counts after it.
const FILL: Duration = Duration::from_mins(2);
/// The most time for the sensor's end.
const END: Duration = Duration::from_mins(1);

/// What was sent, and what became of the sensor.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) folder: PathBuf,
    /// The neighbour's flows.
    pub(super) truth: Flows,
    pub(super) neighbour_packets: u64,
    /// Packets of hostile senders, and datagrams to the port of mirrors.
    pub(super) hostile_packets: u64,
    pub(super) mirrored: u64,
    pub(super) hostile_clients: u64,
    pub(super) rotations: u32,
    pub(super) removals: u32,
    /// Flow records that the client that behaves has received.
    pub(super) client_records: u64,
    /// Whether tables have filled before memory was looked at.
    pub(super) is_filled: bool,
    /// Memory of the sensor, in bytes: now and the most; each second of the rest of the run.
    pub(super) memory: Vec<(u64, u64)>,
    /// The same of the sensor of exports.
    pub(super) export_memory: Vec<(u64, u64)>,
    /// How long the sensor took to answer a signal, and to end.
    pub(super) answer: Duration,
    pub(super) end: Duration,
    pub(super) messages: String,
    /// The flows that were exported, those that records have, and the time to end.
    pub(super) exports: (Flows, Flows, Duration),
}

/// What the hostile side has done.
#[derive(Debug, Default)]
struct Done {
    packets: u64,
    mirrored: u64,
    clients: u64,
    rotations: u32,
}

impl Run {
    pub(super) fn perform(plan: &Plan<'_>, name: &str, is_hostile: bool) -> Result<Self, String> {
        let folder = plan.folder.join(name);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut sensor = Sensor::start(plan.program, &folder)?;
        let exports = Exports::start(plan.program, &folder)?;
        let client = clients::well_behaved()?;
        let client = thread::spawn(move || clients::count_records(client));
        sensor.wait_for("receives records", 1)?;
        if is_hostile {
            sensor.hung.signal(Signal::SIGSTOP)?;
            sensor.receiver.signal(Signal::SIGSTOP)?;
        }
        let is_filled = fill(plan.time) == FILL;
        let mut run = Self { folder, is_filled, ..Self::default() };
        let exports = run.pass(plan, is_hostile, &mut sensor, exports)?;
        sensor.receiver.signal(Signal::SIGCONT)?;
        thread::sleep(SETTLE);
        sensor.running.signal(Signal::SIGTERM)?;
        (run.end, _) = sensor.running.wait(END)?;
        run.messages = sensor.messages();
        sensor.hung.signal(Signal::SIGCONT)?;
        for reader in [&mut sensor.hung, &mut sensor.receiver] {
            reader.wait(bounded::BOUND)?;
        }
        run.client_records = bounded::join(client).map_err(|_| "a client panicked")??;
        run.exports = exports.end(&run.folder)?;
        Ok(run)
    }

    /// Lets the time of the plan pass. The neighbour sends from this thread.
    fn pass(
        &mut self,
        plan: &Plan<'_>,
        is_hostile: bool,
        sensor: &mut Sensor,
        mut exports: Exports,
    ) -> Result<Exports, String> {
        let (mut first, mut second) = (Neighbour::new(0), Neighbour::new(1));
        let stop = AtomicBool::new(false);
        let (folder, period) = (self.folder.clone(), plan.time / (operator::TIMES + 1));
        let messages = folder.join("messages");
        thread::scope(|scope| {
            let hostile = is_hostile.then(|| {
                let (folder, stop) = (&folder, &stop);
                let operator = scope.spawn(|| {
                    let messages = || fs::read(&messages).unwrap_or_default();
                    let text = || String::from_utf8_lossy(&messages()).into_owned();
                    operator::remove_interface(&mut second, period, text, stop)
                });
                (operator, scope.spawn(move || hostile(folder, plan.rate, period, stop)))
            });
            let result = self.send(plan.time, sensor, &mut first, &mut exports);
            stop.store(true, Ordering::Relaxed);
            if let Some((operator, hostile)) = hostile {
                let done = joined(hostile)?;
                self.removals = joined(operator)?;
                self.hostile_packets = done.packets;
                (self.mirrored, self.hostile_clients) = (done.mirrored, done.clients);
                self.rotations = done.rotations;
            }
            result
        })?;
        self.neighbour_packets = first.packets + second.packets;
        self.truth = first.truth;
        self.truth.append(&mut second.truth);
        Ok(exports)
    }

    /// Sends the neighbour's conversations and exports, and looks at memory and signals.
    fn send(
        &mut self,
        time: Duration,
        sensor: &mut Sensor,
        neighbour: &mut Neighbour,
        exports: &mut Exports,
    ) -> Result<(), String> {
        let sender = Sender::new(LEFT[0])?;
        let (begin, mut next_look) = (Instant::now(), fill(time));
        let mut is_answered = false;
        for group in 0_u32.. {
            let due = GROUP * group;
            if due >= time {
                break;
            }
            thread::sleep(due.saturating_sub(begin.elapsed()));
            for frame in neighbour.next() {
                if !sender.send(&frame) {
                    return Err(format!("{} has not accepted a packet", LEFT[0]));
                }
            }
            exports.send()?;
            if begin.elapsed() < next_look {
                continue;
            }
            next_look += Duration::from_secs(1);
            self.memory.extend(sensor.running.memory());
            self.export_memory.extend(exports.running.memory());
            if !is_answered {
                is_answered = true;
                sensor.running.signal(Signal::SIGUSR2)?;
                self.answer = sensor.wait_for("the debug level is 0", 1)?;
            }
        }
        Ok(())
    }

    /// What was sent, for people.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} packets of {} flows of the neighbour; {} hostile packets, {} mirrored datagrams, \
             {} hostile clients, {} rotations, {} removals of an interface; {} exported flows",
            self.neighbour_packets,
            self.truth.len(),
            self.hostile_packets,
            self.mirrored,
            self.hostile_clients,
            self.rotations,
            self.removals,
            self.exports.1.len(),
        )
    }
}

/// When memory is looked at for the first time, in a run of this length.
fn fill(time: Duration) -> Duration {
    FILL.min(time / 2)
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T, String>>) -> Result<T, String> {
    thread.join().map_err(|_| "a thread panicked".to_owned())?
}

/// Does everything hostile at once, until `stop`.
fn hostile(folder: &Path, rate: u32, period: Duration, stop: &AtomicBool) -> Result<Done, String> {
    thread::scope(|scope| {
        let clients = scope.spawn(|| clients::molest(stop));
        let rotations = scope.spawn(|| operator::rotate(folder, period, stop));
        let sent = flood(rate, stop);
        if sent.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let rotations = joined(rotations)?;
        let clients = clients.join().map_err(|_| "a thread panicked")?;
        let (packets, mirrored) = sent?;
        Ok(Done { packets, mirrored, clients, rotations })
    })
}

/// Sends frames of all kinds and mirrored datagrams. How many of both were sent.
fn flood(rate: u32, stop: &AtomicBool) -> Result<(u64, u64), String> {
    let wrong = |error: std::io::Error| format!("a sender of mirrored packets: {error}");
    let sender = Sender::new(LEFT[0])?;
    let mirror = UdpSocket::bind("127.0.0.1:0").map_err(wrong)?;
    mirror.connect(("127.0.0.1", MIRRORS)).map_err(wrong)?;
    let (mut random, begin) = (Random::new(1), Instant::now());
    let (mut packets, mut mirrored) = (0, 0);
    let kinds = senders::KINDS.len() as u64 + 1;
    while !stop.load(Ordering::Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while packets + mirrored < due {
            if let Some(kind) = senders::KINDS.get(((packets + mirrored) % kinds) as usize) {
                packets += u64::from(sender.send(&(kind.frame)(&mut random)));
            } else {
                mirror.send(&senders::mirrored(&mut random)).map_err(wrong)?;
                mirrored += 1;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok((packets, mirrored))
}

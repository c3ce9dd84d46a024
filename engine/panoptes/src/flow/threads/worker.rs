//! What one thread does: it reads its part of the packets, and has the tables of their flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use panoptes_decoders::packet::mirror::{MirrorPacket, decode_mirrored};
use panoptes_decoders::packet::{Network, Packet, decode};
use panoptes_flow::identity::quoted_addresses;
use panoptes_packet_files::Frame;
use panoptes_packet_rings::Division;
use panoptes_sinks::failpoints;

use super::PAUSE;
use super::batches::{Emptier, Filler, ThreadBatch as _};
use super::passed::{PassedBatch, PassedPacket};
use super::reported::RecordSender;
use crate::flow::audit::{Audit, PacketSourceLosses, clock_was_set};
use crate::flow::clocks::Clocks;
use crate::flow::interfaces::{CHECK, Interfaces, WAIT_MS, last_wait};
use crate::flow::signals::Signals;
use crate::flow::tables::{Tables, length_of};
use crate::flow::thread_counts::ThreadCounts;
use crate::message::Messages;

/// How long packets and records wait at most until they are passed on. There are batches for
/// several such times, as the others may sleep.
const PASS: Duration = Duration::from_millis(4);
/// Batches of packets that a thread takes of another one before it reads its own again.
const BATCHES_IN_TURN: usize = 8;
/// How often a thread shows what it has counted.
const STEP: Duration = Duration::from_millis(10);
/// The longest wait of a thread to which others have passed packets lately, or that has something
/// to pass on, in milliseconds.
const SHORT_WAIT_MS: u16 = 1;
/// How long that is.
const LATELY: Duration = Duration::from_millis(500);
/// An error message comes so much later than what it quotes may: the kernel keeps packets for up
/// to 20 ms. And how long it waits at most while there are always packets.
const QUOTED: Duration = Duration::from_millis(40);
const QUOTED_MAX: Duration = Duration::from_millis(500);

/// What all threads have.
#[derive(Debug, Default)]
pub(super) struct FlowThreadsState {
    /// They end.
    pub(super) must_end: AtomicBool,
    /// How many of them may still pass packets to others.
    pub(super) reading: AtomicUsize,
}

/// What a thread shows of itself while it runs.
#[derive(Debug)]
pub(super) struct FlowThreadProgress {
    /// The time up to which all its records were passed on.
    pub(super) until_ns: Arc<AtomicI64>,
    /// What it has counted. The thread never waits for this lock.
    pub(super) counted: Mutex<ThreadCounts>,
}

/// One of the threads that divide the packets.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) division: Division,
    pub(super) tables: Tables,
    pub(super) records: RecordSender,
    /// To the other threads, and from them, by their numbers. Those of this one stay empty.
    pub(super) to: Vec<Filler<PassedBatch>>,
    pub(super) from: Vec<Emptier<PassedBatch>>,
    pub(super) shared: Arc<FlowThreadsState>,
    pub(super) shown: Arc<FlowThreadProgress>,
    /// Receives what has failed.
    pub(super) failures: Sender<String>,
    /// How often answers of DNS are reported.
    pub(super) interval: Duration,
    /// Packets that were passed to other threads, and those that found no room.
    pub(super) passed: u64,
    pub(super) lost: u64,
    pub(super) missing: PacketSourceLosses,
    pub(super) taken: PendingErrorMessages,
    /// When it has passed on what there was.
    pub(super) last_pass: Instant,
}

/// What a thread has taken of others.
#[derive(Debug, Default)]
pub(super) struct PendingErrorMessages {
    /// When there was something, last.
    last: Option<Instant>,
    /// Error messages about flows of this thread, which may not have read yet what they quote: new
    /// ones, and those that came before. When they changed places.
    messages: [PassedBatch; 2],
    changed: Option<Instant>,
}

/// Has all threads end when it is dropped, also by a panic of the main thread.
#[derive(Debug)]
pub(super) struct EndGuard(pub(super) Arc<FlowThreadsState>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.must_end.store(true, Ordering::Release);
    }
}

/// A thread that may pass packets to others, until it is dropped. Else the others would wait for
/// one that panics, or that could not be started.
pub(super) struct ReadingGuard(Arc<FlowThreadsState>);

impl ReadingGuard {
    pub(super) fn begin(shared: &Arc<FlowThreadsState>) -> Self {
        shared.reading.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for ReadingGuard {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::AcqRel);
    }
}

/// No more records come, also after a panic: else the main thread would hold back those of others.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shown.until_ns.store(i64::MAX, Ordering::Release);
    }
}

impl Worker {
    /// Reads packets until it must end. What it has counted.
    pub(super) fn run(
        mut self,
        mut interfaces: Interfaces,
        mut clocks: Clocks,
        reading: ReadingGuard,
        (signals, messages): (&Signals, &Messages),
    ) -> ThreadCounts {
        let shared = Arc::clone(&self.shared);
        let (begin, mut answers) = (Instant::now(), 1);
        let (mut last_step, mut last_check) = (begin, begin);
        while !shared.must_end.load(Ordering::Acquire) {
            let is_idle = !self.turn(&mut interfaces, &mut clocks, signals);
            if last_step.elapsed() >= STEP {
                last_step = Instant::now();
                self.show();
                interfaces.note_step();
                failpoints::reach("packets");
            }
            if last_check.elapsed() >= CHECK {
                last_check = Instant::now();
                interfaces.check(&mut self, messages);
                self.look_at_losses(&mut interfaces);
            }
            if begin.elapsed() >= self.interval * answers {
                answers += 1;
                self.report_answers();
            }
            if is_idle {
                interfaces.wait(signals, self.wait_ms());
            }
        }
        let (end, wait) = (Instant::now(), last_wait(signals));
        while end.elapsed() < wait {
            if !self.turn(&mut interfaces, &mut clocks, signals) {
                std::thread::sleep(PAUSE);
            }
        }
        self.pass_on();
        self.look_at_losses(&mut interfaces);
        interfaces.note_end();
        drop(reading);
        while shared.reading.load(Ordering::Acquire) > 0 {
            self.take_passed();
            std::thread::sleep(PAUSE);
        }
        while self.take_passed() {}
        self.take_old_messages();
        self.take_old_messages();
        self.finish(&mut clocks)
    }

    fn look_at_losses(&mut self, interfaces: &mut Interfaces) {
        self.missing = interfaces.missing();
        interfaces.show_passed_lost(self.lost);
    }

    /// Reads what there is, as far as it may at once. Whether there was something.
    fn turn(
        &mut self,
        interfaces: &mut Interfaces,
        clocks: &mut Clocks,
        signals: &Signals,
    ) -> bool {
        let has_read = interfaces.read(self, clocks, signals);
        let has_taken = self.take_passed();
        self.take_messages(!has_read);
        if self.last_pass.elapsed() >= PASS {
            self.pass_on();
        }
        has_read || has_taken
    }

    /// Passes on packets and records, and shows up to which time these are all.
    fn pass_on(&mut self) {
        self.last_pass = Instant::now();
        for filler in &mut self.to {
            filler.pass_on();
        }
        let until_ns = self.records.pass_on();
        // Release: the records come before it.
        self.shown.until_ns.store(until_ns, Ordering::Release);
    }

    /// Packets of others wake nobody.
    fn wait_ms(&self) -> u16 {
        let is_lately = self.taken.last.is_some_and(|last| last.elapsed() < LATELY);
        let has_some = self.records.has_some() || self.to.iter().any(Filler::has_some);
        if is_lately || has_some { SHORT_WAIT_MS } else { WAIT_MS }
    }

    /// Counts the packets that others have passed to this thread. Whether there was one.
    fn take_passed(&mut self) -> bool {
        let (mut has_taken, tunnels) = (false, self.tables.tunnels());
        for emptier in &mut self.from {
            for _ in 0..BATCHES_IN_TURN {
                let Some(batch) = emptier.next() else { break };
                has_taken = true;
                for (facts, bytes) in batch.iter() {
                    let PassedPacket { stream, time_ns, link, length, .. } = facts;
                    if facts.is_counted {
                        self.taken.messages[0].push_if_room(facts, bytes);
                        continue;
                    }
                    let packet = facts.decode(bytes, tunnels);
                    let facts = (link, time_ns, length);
                    self.tables.count_apart(stream, &packet, facts, self.records.of(stream));
                }
                emptier.give_back(batch);
            }
        }
        if has_taken {
            self.taken.last = Some(Instant::now());
        }
        has_taken
    }

    /// Takes the error messages whose time has come, and has the others wait on.
    fn take_messages(&mut self, is_idle: bool) {
        let [new, old] = &self.taken.messages;
        if new.is_empty() && old.is_empty() {
            return;
        }
        let passed = self.taken.changed.get_or_insert_with(Instant::now).elapsed();
        if passed >= QUOTED_MAX || passed >= QUOTED && is_idle {
            self.take_old_messages();
            self.taken.changed = (!self.taken.messages[1].is_empty()).then(Instant::now);
        }
    }

    fn take_old_messages(&mut self) {
        let [new, old] = &mut self.taken.messages;
        for (facts, bytes) in old.iter() {
            let packet = facts.decode(bytes, self.tables.tunnels());
            self.tables.error_message(facts.stream, &packet, facts.time_ns);
        }
        old.clear();
        std::mem::swap(new, old);
    }

    /// Passes a packet to the thread that counts it; whether this one does, and then also passes on
    /// an error message about a flow of another one.
    #[inline]
    fn is_own(&mut self, packet: &Packet<'_>, facts: PassedPacket, bytes: &[u8]) -> bool {
        // What has no addresses belongs to the first one.
        let part = match &packet.network {
            Network::Ip(ip) => self.division.part_of(ip.source, ip.destination),
            _ => 0,
        };
        if part != self.number {
            self.pass_to(part, facts, bytes);
            return false;
        }
        if let Some((source, destination)) = quoted_addresses(packet) {
            let part = self.division.part_of(source, destination);
            if part != self.number {
                self.pass_to(part, PassedPacket { is_counted: true, ..facts }, bytes);
            }
        }
        true
    }

    #[inline(never)]
    fn pass_to(&mut self, part: usize, facts: PassedPacket, bytes: &[u8]) {
        match self.to.get_mut(part).and_then(Filler::batch) {
            Some(batch) => {
                batch.push(facts, bytes);
                self.passed += u64::from(!facts.is_counted);
            }
            // An error message was counted.
            None => self.lost += u64::from(!facts.is_counted),
        }
    }

    /// Reports the answers of DNS since the last such report.
    fn report_answers(&mut self) {
        for (stream, flows) in self.tables.streams() {
            flows.report_resolutions(self.records.of(stream));
        }
    }

    fn counted(&self) -> ThreadCounts {
        ThreadCounts {
            counts: self.tables.counts(),
            wrong_times: self.tables.wrong_times(),
            unread: self.tables.unread().clone(),
            last_sequence: self.tables.last_sequence(),
            lost_records: self.records.lost(),
            passed: self.passed,
            missing: PacketSourceLosses {
                packets: self.missing.packets + self.lost,
                ..self.missing
            },
        }
    }

    /// Shows what it has counted, unless that is read just now.
    fn show(&self) {
        if let Ok(mut shown) = self.shown.counted.try_lock() {
            *shown = self.counted();
        }
    }

    /// Reports all flows. What it has counted.
    fn finish(mut self, clocks: &mut Clocks) -> ThreadCounts {
        clocks.look(&mut self);
        self.records.begin_to_end();
        for (stream, flows) in self.tables.streams() {
            flows.finish(self.records.of(stream));
        }
        self.records.pass_on();
        let counted = self.counted();
        *self.shown.counted.lock().unwrap_or_else(PoisonError::into_inner) = counted.clone();
        counted
    }
}

impl Audit for Worker {
    fn has_ended(&self) -> bool {
        false
    }

    #[inline]
    fn packet(&mut self, stream: usize, frame: &Frame<'_>) {
        let Frame { time_ns, link, bytes, .. } = *frame;
        let length = length_of(frame);
        let packet = decode(link, bytes, length, self.tables.tunnels());
        let facts = PassedPacket { stream, time_ns, link, length, outer: None, is_counted: false };
        if self.is_own(&packet, facts, bytes) {
            let to = self.records.of(stream);
            self.tables.count(stream, &packet, (link, time_ns, length), to);
        }
    }

    fn mirrored(&mut self, stream: usize, time_ns: i64, mirrored: &MirrorPacket<'_>) {
        let MirrorPacket { link, bytes, length, outer } = *mirrored;
        let packet = decode_mirrored(mirrored, self.tables.tunnels());
        let outer = Some(outer);
        let facts = PassedPacket { stream, time_ns, link, length, outer, is_counted: false };
        if self.is_own(&packet, facts, bytes) {
            let to = self.records.of(stream);
            self.tables.count_apart(stream, &packet, (link, time_ns, length), to);
        }
    }

    fn add_wrong_times(&mut self, count: u64) {
        self.tables.add_wrong_times(count);
    }

    /// All threads notice it, and the first one reports it.
    fn set_clock(&mut self, by_ns: i64) {
        self.tables.set_clock(by_ns);
        if self.number == 0 {
            self.report_failure(&clock_was_set(by_ns));
        }
    }

    fn pass_time(&mut self, now_ns: i64) {
        self.records.pass_time(now_ns);
        for (stream, flows) in self.tables.streams() {
            flows.pass_time_to(now_ns, self.records.of(stream));
        }
    }

    fn report_failure(&mut self, reason: &str) {
        // Without a receiver, the program ends.
        let _ = self.failures.send(reason.to_owned());
    }
}

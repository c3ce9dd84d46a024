//! The cost of each part of watching: the same machine scanned with and without it, in turns.
//!
//!     cargo run --release -p panoptes-benches --bin watch_parts -- [--runs N] RAM
//!
//! RAM is a paused guest's memory, a dump, or a recorded image (`*.image`). No file's content is
//! known there, so every file stays unverified: the worst case of attestation. The list of shipped
//! content is one hash, so everything that runs is foreign. `cargo xtask bench` runs it on its
//! loaded guests, with fifty bashes that wait for their users. Times are processor times; the first
//! scan, in which everything is new, is shown separately. The walk alone is what `scan_floor`
//! measures, warm.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use panoptes_benches::KEY;
use panoptes_engine::attest::{ShippedBuilder, ShippedFile, Subject};
use panoptes_engine::containers::ContainerConfig;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_engine::watch::{Identity, SLICE_BYTES, Setup, Watched};
use panoptes_profiles::{Options, Profile, discover};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::Limits as TextLimits;
use panoptes_sinks::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::interface::BluefieldSystem;
use panoptes_sources::{FileSource, MemorySource, Replay};
use rustix::time::{ClockId, clock_gettime};

/// The parts besides walking and comparing.
#[derive(Clone, Copy, Default)]
struct Parts {
    shells: bool,
    history: bool,
    attestation: bool,
}

const WAYS: [(&str, Parts); 5] = [
    ("none", Parts { shells: false, history: false, attestation: false }),
    ("reverse shells", Parts { shells: true, history: false, attestation: false }),
    ("shell history", Parts { shells: false, history: true, attestation: false }),
    ("attestation", Parts { shells: false, history: false, attestation: true }),
    ("all", Parts { shells: true, history: true, attestation: true }),
];

/// One combination of parts, with a buffer for its records.
struct Way {
    name: &'static str,
    watched: Watched,
    producer: Producer,
    consumer: Consumer,
    times: Vec<Duration>,
    records: u64,
}

impl Way {
    fn scan<S: MemorySource>(&mut self, source: &mut S, now_ns: i64) -> Duration {
        let begin = processor_time();
        self.watched.scan(source, now_ns, &mut self.producer).expect("it can be scanned");
        let time = processor_time().saturating_sub(begin);
        self.producer.flush();
        while let Some(block) = self.consumer.pop() {
            self.records += block.iter().count() as u64;
            self.consumer.give_back(block);
        }
        time
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut path, mut runs) = (None, 100);
    while let Some(argument) = arguments.next() {
        if argument == "--runs" {
            runs = arguments.next().and_then(|runs| runs.parse().ok()).unwrap_or(runs).max(3);
        } else {
            path = Some(argument);
        }
    }
    let Some(path) = path else {
        eprintln!("usage: watch_parts [--runs N] RAM");
        return ExitCode::from(2);
    };
    if Path::new(&path).extension().is_some_and(|extension| extension == "image") {
        let bytes = std::fs::read(&path).expect("the image can be read");
        measure(&mut Replay::from_bytes(bytes).expect("it is an image"), runs);
    } else {
        measure(&mut FileSource::open(path.as_ref()).expect("it can be opened"), runs);
    }
    ExitCode::SUCCESS
}

fn way(name: &'static str, parts: Parts, profile: &Profile) -> Way {
    let mut policy = PolicyConfig::default();
    policy.set_enabled(Activity::ReverseShellDetected, parts.shells);
    for activity in [
        Activity::ShellCommandExecuted,
        Activity::ShellHistoryCleared,
        Activity::ShellHistoryDisabled,
    ] {
        policy.set_enabled(activity, parts.history);
    }
    let mut shipped = ShippedBuilder::new();
    if parts.attestation {
        let everywhere = shipped.subject(&Subject::Everywhere).expect("there is room");
        let one = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
        shipped.add(everywhere, &one).expect("there is room");
    }
    let limits = Limits::default();
    let text = TextLimits::new(limits.string_length as usize);
    let watched = Watched::new(Setup {
        limits,
        key: 1,
        message_ids: 1,
        policy,
        report_existing: false,
        waits_for_clock: false,
        header: Header::new(&"NONE".into(), &BluefieldSystem::default(), text),
        identity: Identity::default(),
        profile,
        login_servers: Vec::new(),
        containers: Arc::new(ContainerConfig::default()),
        shipped: Arc::new(shipped.build()),
    });
    let size = QueueSize { blocks: 16, block_bytes: 1 << 20 };
    let (producer, consumer) = queue(size, &Waker::default());
    Way { name, watched, producer, consumer, times: Vec::new(), records: 0 }
}

fn measure<S: MemorySource>(source: &mut S, runs: usize) {
    let options = Options { use_builtin: true, ..Options::default() };
    let profile = discover(source, &options, &mut ()).expect("a kernel is found");
    let mut ways = WAYS.map(|(name, parts)| way(name, parts, &profile));
    let mut now_ns = 1_795_000_000_000_000_000;
    for way in &mut ways {
        let first = way.scan(source, now_ns);
        let begin = processor_time();
        while way.watched.has_work() {
            way.watched.work(source, SLICE_BYTES);
        }
        let hashing = processor_time().saturating_sub(begin);
        println!("{:>15}: the first scan {first:.2?}, then hashing {hashing:.2?}", way.name);
    }
    let kernel = kernel_of(&profile);
    let mut walker = Walker::new(&Limits::default(), KEY);
    let mut walks = Vec::with_capacity(runs);
    for run in 0..runs {
        now_ns += 10_000_000;
        let begin = processor_time();
        walker.scan(source, &kernel, Scope::ALL).expect("it can be scanned");
        walks.push(processor_time().saturating_sub(begin));
        // Each way finds the processor's caches as another has left them.
        for turn in 0..ways.len() {
            let index = (run + turn) % ways.len();
            let time = ways[index].scan(source, now_ns);
            ways[index].times.push(time);
        }
    }
    let walk = median(&mut walks);
    println!("{:>15}: median {walk:.2?}", "the walk alone");
    let none = median(&mut ways[0].times);
    for way in &mut ways {
        let time = median(&mut way.times);
        let more = (time.as_secs_f64() / none.as_secs_f64() - 1.0) * 100.0;
        println!("{:>15}: median {time:.2?} ({more:+.1} %), {} records", way.name, way.records);
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

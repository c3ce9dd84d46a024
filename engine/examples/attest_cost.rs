//! What attesting costs a scan: the same machine scanned with and without it, by turns.
//!
//!     cargo run --release -p panoptes-engine --example attest_cost -- [--runs N] RAM
//!
//! RAM is a paused guest's memory, a dump, or a recorded image (`*.image`), of which no content of files is known, so
//! that every file stays open: the worst case. What was shipped is one hash, so that everything that runs is foreign.
//! Times are the processor's; the first scan, in which all is new, is shown by itself.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use panoptes_engine::attest::{Shipped, ShippedBuilder, ShippedFile, Subject};
use panoptes_engine::containers::ContainerConfig;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::source::{FileSource, MemorySource, Replay};
use panoptes_engine::watch::{Identity, SLICE_BYTES, Setup, Watched};
use panoptes_profiles::{Options, discover};
use panoptes_sinks::json::Limits as TextLimits;
use panoptes_sinks::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::interface::BluefieldSystem;
use rustix::time::{ClockId, clock_gettime};

/// One way of scanning, with somewhere for its records to go.
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
        eprintln!("usage: attest_cost [--runs N] RAM");
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

fn measure<S: MemorySource>(source: &mut S, runs: usize) {
    let options = Options { use_builtin: true, ..Options::default() };
    let profile = discover(source, &options, &mut ()).expect("a kernel is found");
    let mut builder = ShippedBuilder::new();
    let everywhere = builder.subject(&Subject::Everywhere).expect("there is room");
    let one = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
    builder.add(everywhere, &one).expect("there is room");
    let mut ways =
        [("without", Shipped::default()), ("with", builder.build())].map(|(name, shipped)| {
            let limits = Limits::default();
            let text = TextLimits::new(limits.string_length as usize);
            let watched = Watched::new(Setup {
                limits,
                key: 1,
                message_ids: 1,
                policy: PolicyConfig::default(),
                report_existing: false,
                header: Header::new(&"NONE".into(), &BluefieldSystem::default(), text),
                identity: Identity::default(),
                profile: &profile,
                containers: Arc::new(ContainerConfig::default()),
                shipped: Arc::new(shipped),
            });
            let size = QueueSize { blocks: 16, block_bytes: 1 << 20 };
            let (producer, consumer) = queue(size, &Waker::default());
            Way { name, watched, producer, consumer, times: Vec::new(), records: 0 }
        });
    let mut now_ns = 1_795_000_000_000_000_000;
    for way in &mut ways {
        let first = way.scan(source, now_ns);
        let begin = processor_time();
        while way.watched.has_work() {
            way.watched.work(source, SLICE_BYTES);
        }
        let hashing = processor_time().saturating_sub(begin);
        println!("{:>8}: the first scan {first:.2?}, then hashing {hashing:.2?}", way.name);
    }
    for run in 0..runs {
        now_ns += 10_000_000;
        // The first of a pair finds the processor's caches as the other has left them.
        let (first, second) = if run % 2 == 0 { (0, 1) } else { (1, 0) };
        for index in [first, second] {
            let time = ways[index].scan(source, now_ns);
            ways[index].times.push(time);
        }
    }
    let median = |way: &mut Way| {
        way.times.sort_unstable();
        way.times[way.times.len() / 2]
    };
    for way in &mut ways {
        let (median, usage) = (median(way), way.watched.attest_usage());
        println!("{:>8}: median {median:.2?}, {} records, {usage:?}", way.name, way.records);
    }
    let [without, with] = ways.each_mut().map(|way| median(way).as_secs_f64());
    println!("attesting makes a scan {:+.1} %", (with / without - 1.0) * 100.0);
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

//! After start nothing is allocated while scans are processed and records are written, with large
//! and with small limits: full tables are where allocations hide.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../src/state/tests/world.rs"]
mod world;

use panoptes_allocations::HookAllocator;
use panoptes_engine::policy::{Policy, PolicyConfig};
use panoptes_engine::state::{Limit, MachineState, StateSettings};
use panoptes_engine::time::Now;
// The handmade machines import these from `crate`.
use panoptes_engine::{limits, walk};
use panoptes_records::activities::Activity;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_rig::Random;
use panoptes_tables::HashKey;

use limits::Limits;
use walk::Snapshot;
use world::{ESTABLISHED, FakeArea, FakeFile, FakeProcess, FakeSocket, R, TIME_WAIT, W, World, X};

#[global_allocator]
static ALLOCATOR: HookAllocator = HookAllocator::counting();

/// Number of scans processed with each set of limits.
const SCANS: u32 = 1000;

/// Some births, deaths and changes.
fn change(world: &mut World, random: &mut Random, scan: u32) {
    for number in 0..random.below(6) as u32 {
        let pid = 1000 + scan * 10 + number;
        let mut process = FakeProcess::new(pid).with_thread(pid + 5_000_000);
        process.exec_id = 1 + number % 2;
        process.arguments = vec![b'x'; random.below(3000)];
        for index in 0..random.below(12) as u32 {
            process.files.push((index, file(random)));
        }
        for index in 0..random.below(20) as u64 {
            let start = 0x10_0000 + index * 0x10_0000;
            let area = FakeArea::of_file(start, start + 0x8000, R | X, &file(random));
            process.areas.push(area);
        }
        world.processes.push(process);
    }
    while world.processes.len() > 60 + random.below(40) {
        let at = 1 + random.below(world.processes.len() - 1);
        if random.below(4) == 0 {
            world.processes[at].become_zombie();
            break;
        }
        world.processes.remove(at);
    }
    for _ in 0..10 {
        let at = random.below(world.processes.len());
        let process = &mut world.processes[at];
        if process.exit_state != 0 {
            continue;
        }
        match random.below(4) {
            0 => process.files.clear(),
            1 => process.areas.push(FakeArea::anonymous(
                0x7000_0000 + process.areas.len() as u64 * 0x2000,
                0x7000_1000 + process.areas.len() as u64 * 0x2000,
                R | W,
            )),
            2 => process.exec_id += 1,
            _ => process.stable = !process.stable,
        }
    }
    for _ in 0..random.below(5) {
        let port = 1024 + random.below(60_000) as u16;
        let address = 0xffff_8887_0000_0000 + random.below(1 << 30) as u64 * 64;
        let state = if random.below(3) == 0 { TIME_WAIT } else { ESTABLISHED };
        world.sockets.push(FakeSocket::new(address, port, state));
    }
    while world.sockets.len() > 80 {
        let at = random.below(world.sockets.len());
        world.sockets.swap_remove(at);
    }
    world.idr_complete = random.below(10) != 0;
}

fn file(random: &mut Random) -> FakeFile {
    let number = random.below(500) as u64;
    let address = 0xffff_8885_0000_0000 + number * 512;
    match number % 3 {
        0 => FakeFile::socket(address, number, 0),
        1 => FakeFile::pipe(address, number),
        _ => FakeFile::regular(address, number, &format!("file-{number:020}")),
    }
}

/// The only test in this file, on one thread: nothing else may allocate meanwhile.
#[test]
fn a_thousand_scans_of_a_changing_machine_allocate_nothing() {
    let roomy = Limits {
        processes: 256,
        threads: 1024,
        file_descriptors: 4096,
        vmas: 8192,
        connections: 256,
        containers: 64,
        ..Limits::DEFAULT
    };
    let narrow = Limits {
        processes: 30,
        threads: 20,
        file_descriptors: 70,
        vmas: 100,
        connections: 30,
        containers: 2,
        string_length: 64,
        ..Limits::DEFAULT
    };
    for (limits, is_full) in [(roomy, false), (narrow, true)] {
        let mut config = PolicyConfig::default();
        for &activity in Activity::ALL {
            config.set_enabled(activity, true);
        }
        let text = TextLimits::new(limits.string_length as usize);
        let header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), text);
        let mut policy = Policy::new(&limits, config, header, 1, HashKey::new(7));
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (mut producer, mut consumer) = queue(size, &Waker::default());
        let mut state = MachineState::new(&limits, StateSettings::default(), HashKey::new(3));
        // The scan sees more than is tracked.
        let mut snapshot = Snapshot::empty(&roomy);
        let mut world = World::default();
        let mut random = Random(42);
        let (mut records, mut untracked, mut allocated) = (0, 0, 0);
        for scan in 0..SCANS {
            change(&mut world, &mut random, scan);
            world.show(&mut snapshot);
            let before = panoptes_allocations::of_process();
            let now = Now::at(1_795_000_000_000_000_000).after(i64::from(scan) * 10_000_000);
            state.update(&snapshot, now, &mut policy.reporter(&mut producer));
            producer.flush();
            allocated += panoptes_allocations::of_process() - before;
            while let Some(block) = consumer.pop() {
                records += block.records();
                consumer.give_back(block);
            }
            untracked += state.usage(Limit::Descriptors).untracked;
        }
        assert_eq!(allocated, 0, "with {limits:?}");
        assert_eq!(producer.refused(), 0);
        assert!(records > SCANS as usize, "{records} records are hardly a test");
        assert_eq!(untracked > 0, is_full, "{untracked} with {limits:?}");
    }
}

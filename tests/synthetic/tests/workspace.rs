//! Systems that share a workspace report what each of them reports alone.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::watch::{SLICE_BYTES, WatchedMachine, Workspace};
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_synthetic::{Machine, Source, profile};

use common::RELEASES;
use common::setup::{KEY, everything, one_hash, setup};

/// A system, and the queue of its records.
struct System {
    watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
}

impl System {
    fn new(machine: &mut Machine, limits: &Limits) -> Self {
        let watched = WatchedMachine::new(setup(
            limits,
            &machine.discover(),
            everything(),
            Arc::new(one_hash()),
        ));
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        Self { watched, producer, consumer }
    }

    /// Scans once, hashes files, and returns the records.
    fn scan(&mut self, workspace: &mut Workspace, machine: &mut Machine, now: Now) -> Vec<String> {
        let source = &mut Source::new(machine);
        self.watched.scan(workspace, source, now, &mut self.producer).expect("it can be scanned");
        self.watched.work(workspace, source, SLICE_BYTES);
        self.records()
    }

    fn records(&mut self) -> Vec<String> {
        self.producer.flush();
        let mut records = Vec::new();
        while let Some(block) = self.consumer.pop() {
            records.extend(block.iter().map(|record| String::from_utf8_lossy(record).into_owned()));
            self.consumer.give_back(block);
        }
        records
    }
}

/// Limits that the machine exceeds.
fn narrow() -> Limits {
    Limits {
        processes: 16,
        threads: 20,
        file_descriptors: 60,
        vmas: 200,
        connections: 3,
        containers: 2,
        ..Limits::default()
    }
}

/// Changes something in a machine.
fn operate(machine: &mut Machine, round: u32) {
    let address = |text: &str| text.parse::<SocketAddr>().expect("it is an address");
    match round % 4 {
        0 => {
            let child = machine.fork(1);
            machine.exec(child, "/bin/bash", &["bash", "-c", "true"]);
            machine.listen(child, address("0.0.0.0:8080"));
        }
        1 => {
            let child = machine.fork(1);
            machine.accept(child, address("10.0.0.1:8080"), address("10.0.0.2:999"));
            machine.open(child, "/tmp/file");
            machine.start_thread(child);
        }
        2 => {
            let child = machine.fork(1);
            let area = machine.map_anonymous(child, 10, 2);
            machine.protect(child, area, 7);
        }
        _ => {
            let last = machine.processes().map(|process| process.pid).max().unwrap_or(1);
            machine.kill(last);
        }
    }
    machine.tick(4_000_000);
}

#[test]
fn systems_of_different_limits_share_a_workspace() {
    let limits = [narrow(), Limits::default(), Limits { connections: 2, ..Limits::default() }];
    let mut machines: Vec<Machine> = [RELEASES[1], RELEASES[2], RELEASES[0]]
        .iter()
        .zip(1..)
        .map(|(release, seed)| Machine::builder(&profile(release)).seed(seed).build())
        .collect();
    let systems = |machines: &mut Vec<Machine>| -> Vec<System> {
        machines.iter_mut().zip(&limits).map(|(one, limits)| System::new(one, limits)).collect()
    };
    let (mut alone, mut sharing) = (systems(&mut machines), systems(&mut machines));
    let largest = limits.into_iter().reduce(Limits::largest).unwrap_or_default();
    let mut shared = Workspace::new(&largest, KEY);
    let mut own: Vec<Workspace> = limits.iter().map(|_| Workspace::new(&largest, KEY)).collect();
    let mut now = Now::at(1_795_000_000_000_000_000);
    let mut count = 0;
    for round in 0..24 {
        now = now.after(10_000_000);
        for index in 0..machines.len() {
            let machine = &mut machines[index];
            let expected = alone[index].scan(&mut own[index], machine, now);
            let found = sharing[index].scan(&mut shared, machine, now);
            assert_eq!(found, expected, "system {index}, round {round}");
            count += found.len();
            operate(machine, round);
        }
    }
    for ((alone, sharing), own) in alone.iter_mut().zip(&mut sharing).zip(&mut own) {
        alone.watched.finish(own, now, &mut alone.producer);
        sharing.watched.finish(&mut shared, now, &mut sharing.producer);
        assert_eq!(sharing.records(), alone.records());
    }
    assert!(count > 300, "the machines did too little: {count} records");
}

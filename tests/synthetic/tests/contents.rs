//! Hashes of files in a machine's page cache, and connections in TIME_WAIT.

mod common;

use std::net::SocketAddr;

use common::{kernel, walker};
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{
    BestMatch, Contents, FileIdentity, HashOutcome, PageDigest, PageMatcher,
};
use panoptes_engine::walk::Scope;
use panoptes_synthetic::{Machine, Source, profile};
use panoptes_tables::HashKey;
use sha2::{Digest as _, Sha256};

struct Nothing;

impl PageMatcher for Nothing {
    fn best_match(&self, _size: u64, _pages: &[(u32, PageDigest)]) -> Option<BestMatch> {
        None
    }
}

/// The content of the file that a process has open at descriptor 3, by its name.
fn outcome(machine: &mut Machine, pid: u32) -> Option<HashOutcome> {
    let (limits, kernel) = (Limits::default(), kernel(machine));
    let mut walker = walker(&limits);
    let mut contents = Contents::new(&limits, HashKey::new(5));
    let mut source = Source::new(machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
    let process = snapshot.process_by_pid(pid).expect("the process is found");
    let table = snapshot.files_structs.at(process.files).expect("it has descriptors");
    let rows = snapshot.descriptors.range(table.descriptors);
    let row = rows.iter().find(|row| row.index == 3).expect("descriptor 3 is open");
    let file = snapshot.files.at(row.file).expect("its file was read");
    let identity = FileIdentity::of_file(snapshot, file).expect("it is a regular file");
    contents.ask(&identity);
    for _ in 0..100 {
        if contents.has_work() {
            contents.work(&mut source, &kernel, 1 << 20, &Nothing);
        }
    }
    contents.get(&identity).map(|content| content.outcome)
}

#[test]
fn a_written_file_has_the_hash_of_its_content() {
    for release in common::RELEASES {
        let mut machine = Machine::builder(&profile(release)).build();
        let pid = machine.fork(1);
        let mut content: Vec<u8> = (0..30_000_u32).map(|number| (number % 251) as u8).collect();
        for size in [30_000, 5, 4096, 20_001] {
            content.resize(size, 7);
            machine.write_file("/srv/content", &content);
            if machine.descriptors(pid).len() == 3 {
                assert_eq!(machine.open(pid, "/srv/content"), 3);
            }
            machine.tick(60_000_000_000);
            let Some(HashOutcome::Whole { hashes }) = outcome(&mut machine, pid) else {
                panic!("{release}: the content of {size} bytes is not known");
            };
            assert_eq!(hashes.sha256, Sha256::digest(&content)[..], "{release}: {size} bytes");
        }
        machine.set_size("/srv/content", 40_000);
        let outcome = outcome(&mut machine, pid);
        assert!(matches!(outcome, Some(HashOutcome::Partial(_))), "{release}: {outcome:?}");
    }
}

#[test]
fn connections_in_time_wait_are_found() {
    for release in common::RELEASES {
        let mut machine = Machine::builder(&profile(release)).build();
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for port in 1..=50 {
            let mut peer = address("10.7.7.7:0");
            peer.set_port(port);
            machine.time_wait(address("10.0.2.15:443"), peer);
        }
        let kernel = kernel(&mut machine);
        let mut walker = walker(&Limits::default());
        let mut source = Source::new(&mut machine);
        let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
        let waiting = snapshot.connections.iter().filter(|row| row.endpoints.state == 6);
        assert_eq!(waiting.count(), 50, "{release}");
    }
}

#[test]
fn a_process_outside_of_the_task_list_is_found_by_other_views() {
    let mut machine = Machine::builder(&profile(common::RELEASES[1])).build();
    let pid = machine.fork(1);
    machine.hide(pid);
    let kernel = kernel(&mut machine);
    let mut walker = walker(&Limits::default());
    let mut source = Source::new(&mut machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
    assert!(snapshot.process_by_pid(pid).is_some());
    machine.kill(pid);
    let kernel = self::kernel(&mut machine);
    common::assert_same(&mut machine, &kernel, &mut walker);
}

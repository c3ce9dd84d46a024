//! Machines with many interpreters and descriptors: nobody delays the search for another's peer.

use super::*;
use crate::limits::Limits;

/// Limits with room for many descriptors.
pub(super) fn roomy() -> Limits {
    Limits { processes: 1024, threads: 1024, file_descriptors: 32_768, ..limits() }
}

fn watch() -> Watch {
    watch_with(&roomy())
}

/// A detector with these limits that has seen a machine without connections.
pub(super) fn watch_with(limits: &Limits) -> Watch {
    let mut watch = Watch {
        files: Files::default(),
        state: MachineState::new(limits, at_once(), HashKey::new(7)),
        shells: ReverseShells::new(limits, true, HashKey::new(9)),
        snapshot: Snapshot::empty(limits),
        now: Now::at(1_000_000),
    };
    assert_eq!(watch.scan(&Machine::default()), [""; 0]);
    watch
}

/// A process that writes what `decoys` shells read, and holds so many pipes besides.
fn add_decoys(machine: &mut Machine, decoys: u32, pipes: u32, holds_both: bool) {
    let mut held = Vec::new();
    for at in 0..decoys {
        if at == 0 || holds_both {
            held.push(machine.pipe());
        }
        let (read, write) = held[held.len() - 1].clone();
        let mut files = vec![(0, &read), (1, &read)];
        files.extend(holds_both.then_some((7, &write)));
        machine.run(1000 + at, "bash", "bash", &files);
    }
    let mut all: Vec<_> = held.into_iter().map(|(_, write)| write).collect();
    all.extend((0..pipes).map(|_| machine.pipe().0));
    let files: Vec<_> = (3..).zip(&all).collect();
    machine.run(999, "hog", "hog", &files);
}

/// Interpreters without a peer must not use up the steps of a scan.
#[test]
fn many_interpreters_that_read_from_one_process_do_not_delay_another() {
    let mut machine = Machine::default();
    add_decoys(&mut machine, 200, 2000, false);
    let tcp = machine.connection(40000, PEER);
    machine.run(3000, "bash", "bash -i", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    let mut watch = watch();
    assert_eq!(watch.scan(&machine), ["Outbound 40000: 3000 in 3000 out 3000"]);
    // What they read is searched once.
    assert!(watch.shells.graph.steps() < 10_000, "{}", watch.shells.graph.steps());
}

#[test]
fn a_relay_with_very_many_pipes_does_not_hide_its_connection() {
    let mut machine = Machine::default();
    add_decoys(&mut machine, 200, 4000, true);
    let (read, write) = machine.pipe();
    let (back_read, back_write) = machine.pipe();
    let pipes: Vec<_> = (0..4000).map(|_| machine.pipe()).collect();
    let tcp = machine.connection(40000, PEER);
    let mut held = vec![(3, &write), (4, &back_read)];
    held.extend((5..).zip(pipes.iter().map(|(read, _)| read)));
    held.push((9000, &tcp));
    // The writing end is duplicated by a process that is checked first.
    let copies: Vec<_> = (0..4000).map(|at| (at, &write)).collect();
    machine.run(3002, "copier", "copier", &copies);
    machine.run(3000, "nc", "nc", &held);
    machine.run(3001, "bash", "bash -i", &[(0, &read), (1, &back_write), (2, &back_write)]);
    let mut watch = watch();
    let found = watch.scan(&machine);
    assert_eq!(found, ["Outbound 40000: 3000,3001 in 3000>3001 out 3001>3000"]);
    // The others are searched as far as their shares go, and are named.
    assert!(watch.shells.unchecked().missed() > 0);
    assert!(watch.shells.unchecked().process_id().is_some_and(|id| id >= 1000));
    let of_one_scan = watch.shells.unchecked().missed();
    for _ in 0..20 {
        watch.scan(&machine);
    }
    let missed = watch.shells.unchecked().missed();
    assert!(missed <= 2 * of_one_scan, "searches of all scans: {missed}, of one: {of_one_scan}");
}

#[test]
fn what_is_a_dead_end_for_one_interpreter_need_not_be_one_for_another() {
    // The first shell itself passes on to the second what comes from the peer.
    let mut machine = Machine::default();
    let (read, write) = machine.pipe();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "bash", "bash x", &[(0, &read), (1, &write), (3, &tcp)]);
    machine.run(21, "bash", "bash", &[(0, &read), (1, &tcp)]);
    let found = watch().settle(&machine);
    assert!(found.contains(&"Outbound 40000: 20,21 in 20>21 out 21".to_owned()), "{found:?}");
}

#[test]
fn many_live_connections_that_were_reported_silence_no_new_one() {
    let mut machine = Machine::default();
    let mut watch = watch();
    watch.shells.reported = ReportedConnections::with_room_for(8, HashKey::new(9));
    for at in 0..12_u16 {
        let tcp = machine.connection(40000 + at, PEER);
        let pid = 20 + u32::from(at);
        machine.run(pid, "bash", "bash -i", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
        let own = format!("Outbound {}: {pid} in {pid} out {pid}", 40000 + at);
        assert!(watch.scan(&machine).contains(&own), "{own}");
    }
    // Those that made room are reported again, but not without end.
    let mut again = 0;
    for _ in 0..64 {
        again += watch.scan(&machine).len();
    }
    assert!(again <= 2 * (64 + 16), "{again}");
    let later: usize = (0..64).map(|_| watch.scan(&machine).len()).sum();
    assert!(later <= 2 * 16, "{later}");
    assert!(watch.shells.unchecked().process_id().is_some());
}

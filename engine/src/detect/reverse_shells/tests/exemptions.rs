//! Which connections are exempt from reports, and which are not.

use super::*;
use crate::time::RealTime;

/// A machine with a login whose xterm shows its window through it, by a connection to a local port.
fn windows_at(port: u16, server: &str) -> Machine {
    let mut machine = Machine::default();
    let here: IpAddr = Ipv4Addr::LOCALHOST.into();
    let login = machine.connection(22, PEER);
    let near = machine.connection(40000, (here, port));
    let far = machine.connection(port, (here, 40000));
    for socket in machine.world.sockets.iter_mut().skip(1) {
        socket.source.0 = here;
    }
    machine.listener(22);
    machine.listener(port);
    let (master, slave) = machine.terminal();
    machine.run(20, server, server, &[(3, &login), (9, &far)]);
    machine.run(21, "xterm", "xterm", &[(3, &near), (4, &master)]);
    machine.run(22, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    machine
}

#[test]
fn a_window_that_a_login_shows_raises_no_alert() {
    assert_eq!(Watch::new().settle(&windows_at(6010, "sshd")), [""; 0]);
    assert_eq!(Watch::new().settle(&windows_at(7010, "sshd")).len(), 1, "no window");
    assert_eq!(Watch::new().settle(&windows_at(6010, "socat")).len(), 1, "no login");
}

#[test]
fn a_named_login_server_raises_no_alert_whichever_end_began() {
    let session = |server: &str| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let (master, slave) = machine.terminal();
        machine.run(20, server, server, &[(3, &tcp), (4, &master)]);
        machine.run(21, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
        machine
    };
    let named = |paths: &[&str], machine: &Machine| {
        let mut watch = Watch::new();
        let globs = paths.iter().map(|path| Glob::new(path)).collect();
        watch.shells = watch.shells.with_login_servers(globs);
        watch.settle(machine)
    };
    // The machine's one folder is /sbin, and has one program.
    let agent = session("sshd");
    assert_eq!(named(&[], &agent).len(), 1, "sshd does not begin connections");
    assert_eq!(named(&["/sbin/sshd"], &agent), [""; 0]);
    assert_eq!(named(&["/opt/other", "/s*/sshd"], &agent), [""; 0]);
    assert_eq!(named(&["/usr/sbin/sshd", "/sbin/ssh"], &agent).len(), 1, "another path");
    // Within a container any user may name a file so.
    let mut inside = session("sshd");
    for process in inside.world.processes.iter_mut().skip(1) {
        process.mount_namespace += 5;
    }
    assert_eq!(named(&["/sbin/sshd"], &inside).len(), 1);
    // A shell does not become a server by its name.
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "sshd", "bash", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    let mut watch = Watch::new();
    watch.files.0.push(number_of("sshd"));
    watch.shells = watch.shells.with_login_servers([Glob::new("/sbin/sshd")].into());
    assert_eq!(watch.settle(&machine), ["Outbound 40000: 20 in 20 out 20"]);
}

#[test]
fn login_servers_and_whether_shells_are_reported_can_change_between_scans() {
    let session = || {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let (master, slave) = machine.terminal();
        machine.run(20, "sshd", "sshd", &[(3, &tcp), (4, &master)]);
        machine.run(21, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
        machine
    };
    let found = |is_enabled: bool, servers: &[&str]| {
        let mut watch = Watch::new();
        assert_eq!(watch.scan(&Machine::default()), [""; 0]);
        let servers: Arc<[Glob]> = servers.iter().map(|path| Glob::new(path)).collect();
        watch.shells.set_rules(&DetectorRules {
            is_enabled: &|_| is_enabled,
            login_servers: &servers,
            content_rules: &Arc::default(),
        });
        watch.settle(&session()).len()
    };
    assert_eq!(found(true, &[]), 1);
    assert_eq!(found(true, &["/sbin/sshd"]), 0);
    assert_eq!(found(false, &[]), 0);
}

#[test]
fn a_relay_s_pairs_with_itself_do_not_make_it_a_hub() {
    let relay = |others: bool| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let (outer, inner) = machine.pair();
        let (a, b) = machine.pair();
        let pairs: Vec<_> = (0..9).map(|_| machine.pair()).collect();
        let mut held = vec![(5, &inner), (6, &a)];
        held.extend(pairs.iter().zip(10..).map(|((one, _), at)| (at, one)));
        let rest: Vec<_> = pairs.iter().zip(30..).map(|((_, other), at)| (at, other)).collect();
        if !others {
            held.extend(&rest);
        }
        machine.run(20, "socat", "socat TCP UNIX", &[(5, &tcp), (6, &outer)]);
        machine.run(21, "relay", "relay", &held);
        machine.run(22, "bash", "bash", &[(0, &b), (1, &b)]);
        if others {
            machine.run(23, "client", "client", &rest);
        }
        machine
    };
    assert_eq!(Watch::new().settle(&relay(false)).len(), 1);
    assert_eq!(Watch::new().settle(&relay(true)), [""; 0]);
}

#[test]
fn the_first_answer_to_a_command_does_not_make_it_a_question() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (read, write) = machine.pipe();
    machine.run(20, "cat", "cat", &[(0, &tcp), (1, &write)]);
    machine.run(21, "bash", "bash -c x", &[(0, &read), (1, &null()), (5, &tcp)]);
    let mut watch = Watch::new();
    assert_eq!(watch.scan(&machine), [""; 0]);
    machine.sent = 9;
    let found: Vec<_> = (0..4).flat_map(|_| watch.settle(&machine)).collect();
    assert_eq!(found, ["Outbound 40000: 20,21 in 20>21 out 21"]);
    let found: Vec<_> = (0..4).flat_map(|_| Watch::new().settle(&machine)).collect();
    assert_eq!(found, [""; 0], "it had asked before watching started");
}

#[test]
fn a_datagram_socket_in_the_place_of_another_is_not_that_one() {
    let mut machine = Machine::default();
    let (a, b) = machine.pair();
    machine.run(20, "socat", "socat", &[(3, &a), (4, &b)]);
    let mut watch = Watch::new();
    watch.scan(&machine);
    let found = &mut watch.shells.reported;
    let (at, object) = (Index::new(0).unwrap(), ChannelEnd::Datagram(Index::new(0).unwrap()));
    found.add(&watch.snapshot, object);
    found.forget_ended(&watch.snapshot);
    assert!(found.has(&watch.snapshot, object));
    watch.snapshot.sockets[at].endpoints.as_mut().unwrap().source_port = 53;
    assert!(!found.has(&watch.snapshot, object));
    for _ in 0..3 {
        found.forget_ended(&watch.snapshot);
    }
    watch.snapshot.sockets[at].endpoints.as_mut().unwrap().source_port = 0;
    assert!(!found.has(&watch.snapshot, object), "it had ended");
}

#[test]
fn a_full_list_of_reported_connections_silences_no_new_one() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "bash", "bash -i", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    let mut watch = Watch::new();
    watch.shells.reported = ReportedConnections::with_room_for(1, HashKey::new(9));
    assert_eq!(watch.settle(&machine).len(), 1);
    let other = machine.connection(40001, PEER);
    machine.run(21, "bash", "bash -i", &[(0, &other), (1, &other), (2, &other)]);
    assert_eq!(watch.scan(&machine)[0], "Outbound 40001: 21 in 21 out 21");
}

#[test]
fn current_listeners_are_known_however_many_have_ended() {
    let mut machine = Machine::default();
    machine.listener(5555);
    for port in 0..30 {
        machine.next += 1;
        machine.listener(7000 + port);
    }
    let tcp = machine.connection(5555, PEER);
    machine.run(20, "dash", "sh", &[(0, &tcp), (1, &tcp)]);
    let mut watch = Watch::new();
    watch.shells.directions.remember_listeners(32);
    for port in 0..30 {
        machine.world.sockets[1 + port].source.1 += 100;
        watch.scan(&machine);
    }
    let snapshot = &watch.snapshot;
    let row = snapshot.connections.iter().find(|row| !direction::listens(row)).unwrap();
    assert_eq!(watch.shells.directions.of(snapshot, row), ConnectionDirection::Accepted);
}

#[test]
fn a_process_that_shares_a_shells_input_does_not_answer_into_it() {
    // `bash <>fifo`, in which a command writes to a connection that the shell has opened.
    let machine = |output: bool| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let (fifo, _) = machine.pipe();
        machine.modes.insert(fifo.address, READ | WRITE);
        machine.run(20, "bash", "bash", &[(0, &fifo), (1, &null()), (7, &tcp)]);
        let out = if output { &fifo } else { &tcp };
        machine.run(21, "head", "head", &[(0, &fifo), (1, out), (7, &tcp)]);
        machine.world.process(21).parent = 20;
        machine
    };
    assert_eq!(Watch::new().settle(&machine(false)), [""; 0]);
    // A command that has the FIFO as its output does answer.
    assert_eq!(Watch::new().settle(&machine(true)).len(), 1);
}

#[test]
fn a_shell_that_moves_its_descriptors_for_one_command_raises_no_alert() {
    // Typed: `exec 3<>/dev/tcp/…; echo GET >&3`; seen while it writes, and while it reads the
    // answer.
    let machine = |stdio: usize, state: u32, sent: u64| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let null = null();
        let mut files = [(0, &null), (1, &null), (2, &null), (3, &tcp)];
        files[stdio].1 = &tcp;
        machine.run(20, "bash", "bash", &files);
        machine.world.process(20).state = state;
        machine.sent = sent;
        machine
    };
    let long = |watch: &mut Watch, machine: &Machine| -> Vec<String> {
        (0..60).flat_map(|_| watch.settle(machine)).collect()
    };
    for stdio in [0, 1] {
        assert_eq!(long(&mut Watch::new(), &machine(stdio, 0, 0)), [""; 0], "at work");
        assert_eq!(Watch::new().settle(&machine(stdio, 1, 0)), [""; 0], "a server's greeting");
        assert_eq!(long(&mut Watch::new(), &machine(stdio, 1, 5)), [""; 0], "an answer");
        assert_eq!(long(&mut Watch::new(), &machine(stdio, 1, 0)).len(), 1, "it stays so");
    }
    // One after the other they are not the same.
    let mut watch = Watch::new();
    let turns = (0..60).flat_map(|turn| watch.settle(&machine(turn % 2, 1, 0)));
    assert_eq!(turns.count(), 0);
}

#[test]
fn a_real_time_that_is_set_changes_nothing() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (read, write) = machine.pipe();
    machine.run(20, "cat", "cat", &[(0, &tcp), (1, &write)]);
    machine.run(21, "bash", "bash -c x", &[(0, &read), (1, &null()), (5, &tcp)]);
    let reported = |step_ns: i64| {
        let mut watch = Watch::new();
        let scans = (0..400).map(|_| {
            watch.now.real = RealTime::from_ns(watch.now.real.ns().saturating_add(step_ns));
            watch.scan(&machine).len()
        });
        scans.collect::<Vec<_>>()
    };
    let expected = reported(0);
    assert_eq!(expected.iter().sum::<usize>(), 1);
    for step_ns in [1, -1, 60_000_000_000, -60_000_000_000, i64::MAX, i64::MIN] {
        assert_eq!(reported(step_ns), expected, "{step_ns} ns");
    }
}

#[test]
fn a_job_that_fetches_its_script_through_its_agents_proxy_raises_no_alert() {
    let machine = |ancestor: u32| {
        let mut machine = Machine::default();
        let (jobs, fetched) = (machine.connection(40000, PEER), machine.connection(40001, PEER));
        let (out_read, out_write) = machine.pipe();
        let (read, write) = machine.pipe();
        machine.run(20, "runner", "runner", &[(5, &jobs), (6, &out_read)]);
        machine.run(21, "dash", "sh -e step", &[(0, &null()), (1, &out_write)]);
        machine.run(22, "curl", "curl x", &[(0, &null()), (1, &write), (5, &fetched)]);
        machine.run(23, "bash", "bash", &[(0, &read), (1, &out_write)]);
        for (pid, parent) in [(21, 20), (22, 21), (23, ancestor)] {
            machine.world.process(pid).parent = parent;
        }
        machine
    };
    assert_eq!(Watch::new().settle(&machine(21)), [""; 0]);
    // Two that belong to no job: `telnet A 1 | sh | telnet A 2`.
    assert_eq!(Watch::new().settle(&machine(1)).len(), 1);
}

#[test]
fn a_port_without_a_listener_is_forgotten() {
    let mut machine = Machine::default();
    machine.listener(4444);
    let mut watch = Watch::new();
    watch.scan(&machine);
    let mut later = Machine::default();
    let tcp = later.connection(4444, PEER);
    later.run(20, "bash", "bash", &[(0, &tcp), (1, &tcp)]);
    assert_eq!(watch.settle(&later), ["Accepted 4444: 20 in 20 out 20"]);
    // The port counts as accepted while the connection exists; then any process may use it.
    (0..2000).for_each(|_| assert_eq!(watch.scan(&later), [""; 0]));
    (0..2000).for_each(|_| assert_eq!(watch.scan(&Machine::default()), [""; 0]));
    let mut last = Machine { next: 50, ..Machine::default() };
    let tcp = last.connection(4444, PEER);
    last.run(30, "bash", "bash", &[(0, &tcp), (1, &tcp)]);
    assert_eq!(watch.settle(&last), ["Outbound 4444: 30 in 30 out 30"]);
}

#[test]
fn a_relay_with_very_many_descriptors_costs_a_scan_a_limited_time() {
    let mut machine = Machine::default();
    let (shell, relay) = machine.pair();
    let (one, other) = machine.pair();
    let mut held: Vec<(u32, &FakeFile)> = vec![(3, &relay), (4, &other)];
    held.extend((5..400).map(|number| (number, &one)));
    machine.run(20, "dash", "sh", &[(0, &shell), (1, &shell)]);
    machine.run(21, "relay", "relay", &held);
    let many: Vec<(u32, &FakeFile)> = (0..400).map(|number| (number, &other)).collect();
    machine.run(22, "holder", "holder", &many);
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [""; 0]);
    assert!(watch.shells.graph.steps() < 5_000, "{}", watch.shells.graph.steps());
}

#[test]
fn a_connection_inherited_beside_a_terminal_raises_no_alert() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (master, slave) = machine.terminal();
    machine.run(19, "xterm", "xterm", &[(4, &master)]);
    machine.run(20, "psql", "psql", &[(0, &slave), (1, &slave), (3, &tcp)]);
    machine.run(21, "dash", "sh", &[(0, &slave), (1, &slave), (3, &tcp)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn one_direction_is_not_enough() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (read, write) = machine.pipe();
    machine.run(20, "curl", "curl http://x", &[(0, &null()), (1, &write), (3, &tcp)]);
    machine.run(21, "bash", "bash", &[(0, &read), (1, &null()), (2, &null())]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

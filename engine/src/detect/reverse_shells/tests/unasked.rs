//! Shells whose input alone comes from a peer, and pipelines that only resemble them.

use super::*;

/// A shell that reads what a program gets over a connection, and writes elsewhere.
struct Fed {
    line: &'static str,
    port: u16,
    /// Number of bytes that were sent to the peer.
    sent: u64,
    flags: u32,
    /// The program that holds the connection; without one, the shell does.
    relay: &'static str,
}

const NETCAT: Fed = Fed { line: "bash", port: 40_000, sent: 0, flags: 0, relay: "nc" };

impl Fed {
    /// Returns what is found when the peer sends `count` messages, and a process runs for each.
    fn commands(&self, count: u32) -> Vec<String> {
        let mut machine = Machine::default();
        machine.listener(22);
        let tcp = machine.connection(self.port, PEER);
        let (read, write) = machine.pipe();
        let null = null();
        let input = if self.relay.is_empty() { &tcp } else { &read };
        if !self.relay.is_empty() {
            machine.run(20, self.relay, self.relay, &[(1, &write), (3, &tcp)]);
        }
        machine.run(21, "bash", self.line, &[(0, input), (1, &null), (2, &null)]);
        machine.world.process(21).flags = self.flags;
        machine.sent = self.sent;
        let mut watch = Watch::new();
        let mut found = watch.settle(&machine);
        for command in 0..count {
            (0..4).for_each(|_| found.extend(watch.settle(&machine)));
            machine.received += 3;
            let pid = 100 + command;
            machine.run(pid, "id", "id", &[(0, &null), (1, &null)]);
            machine.world.process(pid).parent = 21;
            found.extend(watch.settle(&machine));
            machine.world.remove(pid);
        }
        found
    }
}

#[test]
fn a_shell_that_runs_what_a_peer_sends_unasked_is_reported() {
    assert_eq!(NETCAT.commands(2), ["Outbound 40000: 20,21 in 20>21 out 21"]);
    assert_eq!(NETCAT.commands(1), [""; 0], "a server that sends a script");
    let itself = Fed { relay: "", ..NETCAT };
    assert_eq!(itself.commands(2), ["Outbound 40000: 21 in 21 out 21"]);
}

#[test]
fn pipelines_that_resemble_it_raise_no_alert() {
    assert_eq!(Fed { sent: 90, ..NETCAT }.commands(9), [""; 0], "it asked: curl");
    assert_eq!(Fed { line: "bash x.sh", ..NETCAT }.commands(9), [""; 0], "data of a script");
    assert_eq!(Fed { flags: FORKED, ..NETCAT }.commands(9), [""; 0], "nc A P | while read");
    assert_eq!(Fed { port: 22, relay: "sshd", ..NETCAT }.commands(9), [""; 0], "a login");
    assert_eq!(Fed { port: 22, ..NETCAT }.commands(9), [""; 0], "nc -l | bash");
}

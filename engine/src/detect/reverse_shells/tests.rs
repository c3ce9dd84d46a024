//! Reverse shells, and programs that only resemble them, in worlds made by hand.
#![allow(clippy::unwrap_used, reason = "a test may")]

use core::net::{IpAddr, Ipv4Addr};
use std::collections::HashMap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};
use panoptes_decoders::kernel::sock::{AF_INET, Endpoints};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;

use super::*;
use crate::detect::tests::Unreadable;
use crate::detect::{Acceptance, Finding};
use crate::page_cache::{
    Asker, ContentFacts, ContentFormat, FileIdentity, HashOutcome, MachineMemory, Traits,
};
use crate::state::tests::watch::{at_once, limits, next_scan};
use crate::state::tests::world::{ESTABLISHED, FakeFile, FakeProcess, FakeSocket, World};
use crate::state::{Change, ScanContext};
use crate::walk::{DentryRow, Kernel, SocketRow, Span, TerminalRow};

mod any_peers;
mod busy;
mod exemptions;
mod files;
mod loader;
mod logins;
mod many;
mod mappings;
mod queues;
mod random;
mod rings;
mod terminals;
mod turns;
mod two_peers;
mod unasked;

const READ: u32 = FMODE_READ;
const WRITE: u32 = FMODE_WRITE;
const CONNECTION: u64 = 0xffff_8890_0000_0000;
/// `PF_FORKNOEXEC` (include/linux/sched.h)
const FORKED: u32 = 0x40;
const PEER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 4444);

/// A machine whose pipes, pairs and terminals have two ends.
#[derive(Default)]
struct Machine {
    world: World,
    /// The modes of open files, by address; others are open for reading and writing.
    modes: HashMap<u64, u32>,
    /// Pairs of files: of AF_UNIX sockets, and of a master and its terminal.
    pairs: Vec<(u64, u64)>,
    /// Sockets for datagrams to a server's socket, which is no pair's.
    senders: Vec<(u64, u64)>,
    terminals: Vec<(u64, u64)>,
    /// The descriptors that close on exec, of all processes.
    closed_on_exec: Vec<u32>,
    /// Number of bytes sent over each connection.
    sent: u64,
    /// Number of bytes received over each connection.
    received: u64,
    /// The same of connections by their own ports, if they differ.
    counted: HashMap<u16, (u64, u64)>,
    /// Regular files, by the address of an open file.
    relays: HashMap<u64, Relay>,
    /// Connected UDP sockets, by the address of the open file: own port and peer.
    datagrams: HashMap<u64, (u16, (IpAddr, u16))>,
    /// Sockets without a destination, by the address of the open file.
    open_sockets: HashMap<u64, any_peers::OpenSocket>,
    /// Magic numbers of filesystems, by the numbers of inodes that are on them.
    filesystems: HashMap<u64, u64>,
    messages: Vec<queues::Message>,
    next: u64,
}

/// A regular file that several processes have open.
#[derive(Clone, Copy)]
struct Relay {
    size: u64,
    links: u32,
    /// When it was changed, in nanoseconds since the machine's start.
    changed: i64,
}

impl Machine {
    fn address(&mut self) -> u64 {
        self.next += 1;
        0xffff_8891_0000_0000 + self.next * 0x100
    }

    /// The ends for reading and for writing.
    fn pipe(&mut self) -> (FakeFile, FakeFile) {
        let (read, write) = (self.address(), self.address());
        let number = 1000 + self.next;
        self.modes.insert(read, READ);
        self.modes.insert(write, WRITE);
        (FakeFile::pipe(read, number), FakeFile::pipe(write, number))
    }

    fn pair(&mut self) -> (FakeFile, FakeFile) {
        let (one, other) = (self.address(), self.address());
        self.pairs.push((one, other));
        (FakeFile::socket(one, 2000 + self.next, 0), FakeFile::socket(other, 3000 + self.next, 0))
    }

    /// A master and its terminal.
    fn terminal(&mut self) -> (FakeFile, FakeFile) {
        let (master, slave) = (self.address(), self.address());
        self.terminals.push((master, slave));
        let number = 4000 + self.next;
        (FakeFile::regular(master, number, "ptmx"), FakeFile::regular(slave, number + 1, "0"))
    }

    /// So many open files of a regular file, with their modes; it was changed at this time in
    /// nanoseconds since the machine's start.
    fn relay<const COUNT: usize>(
        &mut self,
        modes: [u32; COUNT],
        changed: i64,
    ) -> [FakeFile; COUNT] {
        self.next += 1;
        let number = 6000 + self.next;
        modes.map(|mode| {
            let address = self.address();
            self.modes.insert(address, mode);
            self.relays.insert(address, Relay { size: 3, links: 1, changed });
            FakeFile::regular(address, number, "relay")
        })
    }

    /// A connection from a local port to a peer.
    fn connection(&mut self, port: u16, peer: (IpAddr, u16)) -> FakeFile {
        let file = self.address();
        let sock = CONNECTION + self.next * 0x1000;
        let socket = FakeSocket::new(sock, port, ESTABLISHED);
        self.world.sockets.push(FakeSocket { destination: peer, ..socket });
        FakeFile::socket(file, 5000 + self.next, sock)
    }

    /// A UDP socket that is connected to a peer.
    fn datagram(&mut self, port: u16, peer: (IpAddr, u16)) -> FakeFile {
        let file = self.address();
        self.datagrams.insert(file, (port, peer));
        FakeFile::socket(file, 5000 + self.next, 0)
    }

    fn listener(&mut self, port: u16) {
        let sock = CONNECTION + 0x800 + self.next * 0x1000;
        let any = (Ipv4Addr::UNSPECIFIED.into(), port);
        self.world.sockets.push(FakeSocket { source: any, ..FakeSocket::listener(sock, port) });
    }

    fn run(&mut self, pid: u32, file: &str, line: &str, files: &[(u32, &FakeFile)]) {
        let mut process = FakeProcess::new(pid);
        process.name = file.into();
        let inode = number_of(file);
        process.executable =
            Some(FakeFile::regular(0xffff_8892_0000_0000 + inode * 0x100, inode, file));
        process.arguments = format!("{}\0", line.replace(' ', "\0")).into_bytes();
        process.files = files.iter().map(|&(index, file)| (index, file.clone())).collect();
        self.world.processes.push(process);
    }

    fn show(&self, snapshot: &mut Snapshot) {
        self.world.show(snapshot);
        for row in snapshot.descriptors.iter_mut() {
            row.close_on_exec = self.closed_on_exec.contains(&row.index);
        }
        let mut pipes = HashMap::new();
        let boot = snapshot.machine.boot_to_real_ns.unwrap();
        let mut sockets = HashMap::new();
        let mut terminals = HashMap::new();
        for index in snapshot.files.indexes() {
            let file = &mut snapshot.files[index];
            let address = file.address.0;
            file.open.mode = self.modes.get(&address).copied().unwrap_or(READ | WRITE);
            let inode = &mut snapshot.inodes[file.inode.unwrap()];
            let relay = self.relays.get(&address);
            inode.attributes.nlink = relay.map_or(1, |relay| relay.links);
            if let Some(relay) = relay {
                inode.attributes.size = relay.size;
                inode.attributes.ctime_ns = boot + relay.changed;
            }
            let inode = &*inode;
            if inode.attributes.kind() == 0o010_000 || relay.is_some() {
                file.inode = *pipes.entry(inode.attributes.ino).or_insert(file.inode);
            }
            let connection = snapshot.connections.at_mut(file.connection);
            let endpoints = match connection {
                Some(connection) => {
                    connection.file = KernelVa(address);
                    Some(connection.endpoints)
                }
                None if inode.attributes.kind() == 0o140_000 => Some(Endpoints {
                    family: AF_UNIX,
                    state: 1,
                    source: Ipv4Addr::UNSPECIFIED.into(),
                    source_port: 0,
                    destination: Ipv4Addr::UNSPECIFIED.into(),
                    destination_port: 0,
                    bound_device: 0,
                    net: KernelVa::NULL,
                    prot: KernelVa::NULL,
                    next: 0,
                }),
                None => None,
            };
            let datagram = self.datagrams.get(&address);
            let endpoints = endpoints.map(|ends| match datagram {
                Some(&(source_port, (destination, destination_port))) => Endpoints {
                    family: AF_INET,
                    source_port,
                    destination,
                    destination_port,
                    ..ends
                },
                None => ends,
            });
            if endpoints.is_some() {
                let (kind, protocol) = if datagram.is_some() { (2, 17) } else { (1, 0) };
                let row = SocketRow {
                    address: KernelVa(address + 8),
                    file: index,
                    endpoints,
                    kind,
                    protocol,
                    peer_address: KernelVa::NULL,
                    peer: None,
                    net: None,
                };
                file.socket = snapshot.sockets.push(row);
                sockets.insert(address, file.socket.unwrap());
            }
            let is_master = self.terminals.iter().any(|&(master, _)| master == address);
            if is_master || self.terminals.iter().any(|&(_, slave)| slave == address) {
                let row = TerminalRow {
                    address: KernelVa(address + 8),
                    link_address: KernelVa::NULL,
                    link: None,
                    number: 0,
                    is_master,
                };
                file.terminal = snapshot.terminals.push(row);
                terminals.insert(address, file.terminal.unwrap());
            }
        }
        logins::put_servers_in_place(snapshot);
        any_peers::put_sockets(snapshot, &self.open_sockets);
        rings::put_rings(snapshot);
        mappings::put_filesystems(snapshot, &self.filesystems);
        queues::put_queues(snapshot, &self.messages);
        for row in snapshot.connections.iter_mut() {
            let Some(counters) = &mut row.counters else { continue };
            let counted = self.counted.get(&row.endpoints.source_port).copied();
            (counters.bytes_out, counters.bytes_in) = counted.unwrap_or((self.sent, self.received));
        }
        for (one, other) in &self.pairs {
            let ends = [one, other];
            for (near, far) in ends.into_iter().zip(ends.into_iter().rev()) {
                let Some(&near) = sockets.get(near) else { continue };
                // A socket keeps the address of a peer that was closed.
                snapshot.sockets[near].peer_address = KernelVa(*far);
                snapshot.sockets[near].peer = sockets.get(far).copied();
            }
        }
        for (near, far) in &self.senders {
            if let (Some(&near), Some(&far)) = (sockets.get(near), sockets.get(far)) {
                snapshot.sockets[near].peer = Some(far);
            }
        }
        for (master, slave) in &self.terminals {
            if let (Some(&master), Some(&slave)) = (terminals.get(master), terminals.get(slave)) {
                snapshot.terminals[master].link = Some(slave);
                snapshot.terminals[slave].link = Some(master);
            }
        }
    }
}

/// The files of shells, by inode number; the content of other files is unknown.
#[derive(Default)]
struct Files(Vec<u64>);

impl ContentSource for Files {
    fn ask(&mut self, file: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        let traits = if self.0.contains(&file.number) { Traits::SHELL } else { Traits::default() };
        Some(ContentFacts { outcome: HashOutcome::Nothing, format: ContentFormat::Unknown, traits })
    }
}

struct Watch {
    files: Files,
    state: MachineState,
    shells: ReverseShells,
    snapshot: Snapshot,
    now: Now,
}

impl Watch {
    fn before_any_scan() -> Self {
        let limits = limits();
        Self {
            files: Files::default(),
            state: MachineState::new(&limits, at_once(), HashKey::new(7)),
            shells: ReverseShells::new(&limits, true, HashKey::new(9)),
            snapshot: Snapshot::empty(&limits),
            now: Now::at(1_000_000),
        }
    }

    /// A detector that has seen a machine without connections.
    fn new() -> Self {
        let mut watch = Self::before_any_scan();
        assert_eq!(watch.scan(&Machine::default()), [""; 0]);
        watch
    }

    /// The findings: direction, local port, and the processes.
    fn scan(&mut self, machine: &Machine) -> Vec<String> {
        self.scan_with(machine, |_| ())
    }

    /// The same, with something else in the snapshot.
    fn scan_with(&mut self, machine: &Machine, change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
        machine.show(&mut self.snapshot);
        change(&mut self.snapshot);
        self.now = next_scan(self.now);
        let ignore = &mut |_: &ScanContext<'_>, _: &Change<'_>| ();
        self.state.update(&self.snapshot, self.now, ignore);
        self.check()
    }

    /// The findings in the present snapshot.
    fn check(&mut self) -> Vec<String> {
        let cx = self.state.scan_context(&self.snapshot, self.now);
        let mut findings = Vec::new();
        let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| {
            let Finding::ReverseShell(shell) = finding else { panic!("{finding:?}") };
            findings.push(line_of_finding(shell));
            Acceptance::Yes
        };
        let memory = MachineMemory { source: &mut Unreadable, kernel: &Kernel::default() };
        let context = &mut DetectorContext { memory, cx: &cx, out };
        self.shells.update(context, &self.state, &mut self.files);
        findings
    }

    /// The findings of as many scans as it takes to report a new process.
    fn settle(&mut self, machine: &Machine) -> Vec<String> {
        (0..4).flat_map(|_| self.scan(machine)).collect()
    }
}

fn line_of_finding(finding: &ReverseShell<'_>) -> String {
    let pids = |steps: &[ChainStep]| {
        let pid = |step: &ChainStep| finding.members[step.member].process.process_id.to_string();
        steps.iter().map(pid).collect::<Vec<_>>().join(">")
    };
    let all: Vec<_> =
        finding.members.iter().map(|member| member.process.process_id.to_string()).collect();
    let port_of = |end: &ConnectionEnd| match end {
        ConnectionEnd::Connection(facts) => facts.source_port,
        ConnectionEnd::Datagram(ends, _) => ends.source_port,
    };
    let port = port_of(&finding.end);
    let other = finding.out_end.as_ref().filter(|_| finding.reason == Reason::TwoPeers);
    let to = other.map_or(String::new(), |end| format!(" to {}", port_of(end)));
    // Sockets of other protocols are not tracked.
    let is_known = |connection: &MemberConnection| {
        connection.first_seen_ns.is_some() || connection.facts.protocol != 6
    };
    assert!(finding.members.iter().flat_map(|member| member.connections).all(is_known));
    let cut = finding.members.iter().filter(|member| member.is_cut);
    let cut: Vec<_> = cut.map(|member| member.process.process_id.to_string()).collect();
    let cut = if cut.is_empty() { String::new() } else { format!(" cut {}", cut.join(",")) };
    format!(
        "{:?} {port}: {}{} in {} out {}{to}{cut}{}",
        finding.direction,
        all.join(","),
        if finding.is_cut { ",.." } else { "" },
        pids(finding.inward),
        pids(finding.outward),
        if finding.is_tunnel { " tunnel" } else { "" }
    )
}

/// The inode number of a program.
fn number_of(program: &str) -> u64 {
    70 + program.bytes().map(u64::from).sum::<u64>()
}

fn null() -> FakeFile {
    FakeFile::regular(0xffff_8893_0000_0000, 6, "null")
}

#[test]
fn a_shell_on_a_connection_is_reported_once() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "bash", "bash -i", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), ["Outbound 40000: 20 in 20 out 20"]);
    machine.run(21, "dash", "sh", &[(0, &tcp), (1, &tcp)]);
    assert_eq!(watch.settle(&machine), [""; 0], "the same connection, another shell");
}

#[test]
fn commands_sent_before_a_peer_closed_its_side_count() {
    let (close_wait, fin_wait_2) = (8, 5);
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "bash", "bash -i", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    machine.world.sockets[0].state = close_wait;
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20 in 20 out 20"]);
    // Its output does not note_baseline.
    machine.world.sockets[0].state = fin_wait_2;
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn a_report_without_room_for_all_parts_is_marked_as_cut() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let files: Vec<_> = (0..9).map(|index| (index, &tcp)).collect();
    machine.run(20, "bash", "bash -i", &files[..8]);
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20 in 20 out 20"]);
    machine.world.processes.clear();
    machine.run(20, "bash", "bash -i", &files);
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20 in 20 out 20 cut 20"]);
}

#[test]
fn a_ring_of_pipes_is_followed_both_ways() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (fifo_read, fifo_write) = machine.pipe();
    let (a_read, a_write) = machine.pipe();
    let (b_read, b_write) = machine.pipe();
    machine.run(20, "cat", "cat /tmp/f", &[(1, &a_write), (3, &fifo_read)]);
    machine.run(21, "dash", "sh -i", &[(0, &a_read), (1, &b_write), (2, &b_write)]);
    machine.run(22, "nc", "nc A 4444", &[(0, &b_read), (1, &fifo_write), (3, &tcp)]);
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 22,20,21 in 22>20>21 out 21>22"]);
}

#[test]
fn a_script_from_a_fifo_is_commanded_by_its_writer() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (fifo_read, fifo_write) = machine.pipe();
    let (read, write) = machine.pipe();
    let named = |file: &FakeFile| FakeFile { name: "f".into(), ..file.clone() };
    let (fifo_read, fifo_write) = (named(&fifo_read), named(&fifo_write));
    let nc: &[(u32, &FakeFile)] = &[(0, &read), (1, &fifo_write), (3, &tcp)];
    for (line, descriptor) in [("sh /tmp/f", 10), ("bash -x /tmp/f a", 255)] {
        machine.world.processes.clear();
        machine.run(
            20,
            "dash",
            line,
            &[(0, &null()), (1, &write), (2, &write), (descriptor, &fifo_read)],
        );
        machine.run(21, "nc", "nc A 4444", nc);
        assert_eq!(
            Watch::new().settle(&machine),
            ["Outbound 40000: 21,20 in 21>20 out 20>21"],
            "{line}"
        );
    }
    // A FIFO other than the script is read as data: the script is a bot.
    machine.world.processes.clear();
    let descriptors = [(0, &null()), (1, &write), (2, &write), (10, &fifo_read)];
    machine.run(20, "dash", "sh /tmp/x /tmp/f", &descriptors);
    machine.run(21, "nc", "nc A 4444", nc);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
    // Unless it is where the shell keeps its script: that was passed under another name.
    let script = FakeFile::regular(0xffff_8893_0000_0100, 7, "x");
    machine.closed_on_exec = vec![10, 11, 255];
    for (line, files, findings) in [
        ("sh /dev/fd/63 a", vec![(10, &fifo_read)], 1),
        ("bash /dev/fd/63", vec![(255, &fifo_read)], 1),
        ("sh /tmp/x", vec![(10, &script), (11, &fifo_read)], 0),
        ("bash /tmp/x", vec![(10, &fifo_read), (255, &script)], 0),
    ] {
        machine.world.processes.clear();
        let own = [(0, &null()), (1, &write), (2, &write)];
        machine.run(20, "bash", line, &[&own, &files[..]].concat());
        machine.run(21, "nc", "nc A 4444", nc);
        assert_eq!(Watch::new().settle(&machine).len(), findings, "{line}");
    }
    machine.closed_on_exec.clear();
    // Its other input counts as usual.
    machine.world.processes.clear();
    let descriptors = [(0, &tcp), (1, &tcp), (2, &write), (10, &fifo_read)];
    machine.run(20, "dash", "sh /tmp/f", &descriptors);
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20 in 20 out 20"]);
}

#[test]
fn a_pseudoterminal_is_followed_from_its_master_to_its_terminal() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (master, slave) = machine.terminal();
    machine.run(20, "socat", "socat TCP:A EXEC:bash,pty", &[(5, &tcp), (6, &master)]);
    machine.run(21, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20,21 in 20>21 out 21>20"]);
}

#[test]
fn a_client_on_the_same_terminal_is_no_relay() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (master, slave) = machine.terminal();
    machine.run(19, "xterm", "xterm", &[(4, &master)]);
    machine.run(20, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    machine.run(21, "ssh", "ssh host", &[(0, &slave), (1, &slave), (3, &tcp)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn a_server_of_several_terminals_does_not_relay_between_them() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (one_master, one) = machine.terminal();
    let (other_master, other) = machine.terminal();
    machine.run(19, "tmux", "tmux", &[(4, &one_master), (5, &other_master)]);
    machine.run(20, "bash", "bash", &[(0, &one), (1, &one), (2, &one)]);
    machine.run(21, "ssh", "ssh host", &[(0, &other), (1, &other), (3, &tcp)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

#[test]
fn a_proxy_within_the_machine_leads_to_the_peer_outside() {
    let mut machine = Machine::default();
    let here: IpAddr = Ipv4Addr::LOCALHOST.into();
    let out = machine.connection(41000, PEER);
    let near = machine.connection(40000, (here, 1080));
    let far = machine.connection(1080, (here, 40000));
    for socket in machine.world.sockets.iter_mut().skip(1) {
        socket.source.0 = here;
    }
    machine.listener(1080);
    machine.run(20, "socat", "socat TCP-LISTEN TCP", &[(5, &far), (6, &out)]);
    machine.run(21, "bash", "bash -i", &[(0, &near), (1, &near), (2, &near)]);
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), ["Outbound 41000: 20,21 in 20>21 out 21>20"]);
    // A server that still holds an earlier client's connection relays nothing.
    machine.world.sockets[0].state = 8;
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), ["Outbound 40000: 21 in 21 out 21"]);
}

#[test]
fn listeners_determine_who_began() {
    let mut machine = Machine::default();
    machine.listener(5555);
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [""; 0]);
    // The listener has been closed before its shell is seen.
    machine.world.sockets.clear();
    let tcp = machine.connection(5555, PEER);
    machine.run(20, "dash", "sh", &[(0, &tcp), (1, &tcp)]);
    assert_eq!(watch.settle(&machine), ["Accepted 5555: 20 in 20 out 20"]);
}

#[test]
fn connections_from_before_watching_have_no_direction() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "dash", "sh", &[(0, &tcp), (1, &tcp)]);
    assert_eq!(Watch::before_any_scan().settle(&machine), ["Unknown 40000: 20 in 20 out 20"]);
}

#[test]
fn an_agent_that_runs_scripts_raises_no_alert() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "runner", "runner", &[(5, &tcp), (6, &in_write), (7, &out_read)]);
    machine.run(21, "bash", "bash -e /tmp/step.sh", &[(0, &in_read), (1, &out_write)]);
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [""; 0]);
    machine.world.process(21).arguments = b"bash\0".to_vec();
    assert_eq!(watch.settle(&machine), ["Outbound 40000: 20,21 in 20>21 out 21>20"]);
}

#[test]
fn two_connections_to_one_peer_are_one_to_read_and_one_to_write() {
    let mut machine = Machine::default();
    let one = machine.connection(40000, PEER);
    let two = machine.connection(40001, (PEER.0, 4445));
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "telnet", "telnet A 4444", &[(0, &null()), (1, &in_write), (3, &one)]);
    machine.run(21, "dash", "sh", &[(0, &in_read), (1, &out_write)]);
    machine.run(22, "telnet", "telnet A 4445", &[(0, &out_read), (1, &null()), (3, &two)]);
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20,22,21 in 20>21 out 21>22"]);
}

#[test]
fn changed_descriptors_wait_for_the_next_scan() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "bash", "bash -i", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    machine.world.process(20).files_moved = true;
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [""; 0]);
    machine.world.process(20).files_moved = false;
    assert_eq!(watch.settle(&machine).len(), 1);
}

#[test]
fn a_shell_by_another_name_is_recognised_by_its_file() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    machine.run(20, "update", "update", &[(0, &tcp), (1, &tcp), (2, &tcp)]);
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine), [""; 0]);
    watch.files.0.push(number_of("update"));
    assert_eq!(watch.settle(&machine), ["Outbound 40000: 20 in 20 out 20"]);
}

#[test]
fn programs_that_an_awk_one_liner_runs_are_commands() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (a, b) = machine.pair();
    machine.run(20, "gawk", "gawk BEGIN{}", &[(3, &tcp), (4, &a)]);
    machine.run(21, "cat", "cat", &[(0, &b), (1, &b)]);
    machine.world.process(21).parent = 20;
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20,21 in 20>21 out 21>20"]);
}

#[test]
fn a_program_that_commands_itself_is_waited_for() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (read, write) = machine.pipe();
    machine.run(20, "cat", "cat", &[(0, &tcp), (1, &write)]);
    machine.run(21, "bash", "bash -c x", &[(0, &read), (1, &null()), (5, &tcp)]);
    let mut watch = Watch::new();
    machine.world.process(21).state = 0;
    assert_eq!(watch.settle(&machine), [""; 0], "it is at work");
    machine.world.process(21).state = 1;
    assert_eq!(watch.scan(&machine), [""; 0], "seen once at rest");
    assert_eq!(watch.settle(&machine), ["Outbound 40000: 20,21 in 20>21 out 21"]);
    // A program that asks first and then reads an answer raises no alert.
    machine.world.sockets[0].state = ESTABLISHED;
    let mut other = Machine::default();
    let tcp = other.connection(40001, PEER);
    other.run(20, "bash", "bash -c x", &[(0, &tcp), (1, &null()), (3, &tcp)]);
    let findings: Vec<_> = (0..4).flat_map(|_| watch.settle(&other)).collect();
    assert_eq!(findings, [""; 0]);
}

#[test]
fn a_shell_that_its_starter_feeds_is_waited_for() {
    let agent = |closes: bool| {
        let mut machine = Machine::default();
        let tcp = machine.connection(40000, PEER);
        let (in_read, in_write) = machine.pipe();
        let (out_read, out_write) = machine.pipe();
        let files = [(5, &tcp), (7, &out_read), (6, &in_write)];
        machine.run(20, "runner", "runner", &files[..if closes { 2 } else { 3 }]);
        machine.run(21, "bash", "bash", &[(0, &in_read), (1, &out_write)]);
        machine.world.process(21).parent = 20;
        machine
    };
    // An agent passes a script to a shell and closes its end.
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&agent(false)), [""; 0]);
    let findings: Vec<_> = (0..5).flat_map(|_| watch.settle(&agent(true))).collect();
    assert_eq!(findings, [""; 0]);
    // An agent that keeps it open has more to send.
    let mut watch = Watch::new();
    let findings: Vec<_> = (0..4).flat_map(|_| watch.settle(&agent(false))).collect();
    assert_eq!(findings, ["Outbound 40000: 20,21 in 20>21 out 21>20"]);
    // A process that still works may have more to send: on a busy machine that takes longer.
    let mut working = agent(false);
    working.world.process(20).state = 0;
    let mut watch = Watch::new();
    let findings: Vec<_> = (0..5).flat_map(|_| watch.settle(&working)).collect();
    assert_eq!(findings, [""; 0]);
    let findings: Vec<_> = (0..4).flat_map(|_| watch.settle(&agent(false))).collect();
    assert_eq!(findings.len(), 1);
    // A relay does nothing else.
    let mut machine = agent(false);
    machine.world.process(20).name = "socat".into();
    machine.world.process(20).executable =
        Some(FakeFile::regular(0xffff_8894_0000_0000, 9, "socat"));
    assert_eq!(Watch::new().settle(&machine), ["Outbound 40000: 20,21 in 20>21 out 21>20"]);
}

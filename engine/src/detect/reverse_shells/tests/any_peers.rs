//! Shells behind sockets without a destination, and daemons that have such sockets.

use panoptes_decoders::kernel::sock::{
    AF_PACKET, IPPROTO_RAW, IPPROTO_SCTP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM,
};

use super::*;

/// `AF_VSOCK` (include/linux/socket.h)
const AF_VSOCK: u16 = 40;
/// `SOCK_SEQPACKET` (include/linux/net.h)
const SOCK_SEQPACKET: u16 = 5;
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const IPPROTO_ICMP: u16 = 1;
/// `PF_FORKNOEXEC` (include/linux/sched.h)
const FORKED: u32 = 0x40;

/// A socket without a destination.
#[derive(Clone, Copy)]
pub(super) struct OpenSocket {
    family: u16,
    kind: u16,
    protocol: u16,
    source: (IpAddr, u16),
    /// `TCP_*`
    state: u8,
}

const UDP: OpenSocket = OpenSocket {
    family: AF_INET,
    kind: SOCK_DGRAM,
    protocol: IPPROTO_UDP,
    source: (ANY, 4444),
    state: 7,
};
/// The kernel keeps the protocol of raw sockets in place of a port.
const RAW: OpenSocket =
    OpenSocket { kind: SOCK_RAW, protocol: IPPROTO_ICMP, source: (ANY, IPPROTO_ICMP), ..UDP };
const PING: OpenSocket = OpenSocket { protocol: IPPROTO_ICMP, source: (ANY, 77), ..UDP };
const PACKET: OpenSocket =
    OpenSocket { family: AF_PACKET, kind: SOCK_RAW, protocol: 0, source: (ANY, 0), ..UDP };
/// It only sends.
const SENDER: OpenSocket = OpenSocket { protocol: IPPROTO_RAW, source: (ANY, IPPROTO_RAW), ..RAW };

/// Gives sockets these attributes, by the addresses of their open files.
pub(super) fn put_sockets(snapshot: &mut Snapshot, sockets: &HashMap<u64, OpenSocket>) {
    for at in snapshot.sockets.indexes() {
        let file = snapshot.files[snapshot.sockets[at].file].address.0;
        let Some(socket) = sockets.get(&file) else { continue };
        let row = &mut snapshot.sockets[at];
        (row.kind, row.protocol) = (socket.kind, socket.protocol);
        let ends = row.endpoints.unwrap();
        let OpenSocket { family, source: (source, source_port), state, .. } = *socket;
        row.endpoints = Some(Endpoints { family, source, source_port, state, ..ends });
    }
}

impl Machine {
    fn open_socket(&mut self, socket: OpenSocket) -> FakeFile {
        let file = self.address();
        self.open_sockets.insert(file, socket);
        FakeFile::socket(file, 5000 + self.next, 0)
    }

    pub(super) fn name(&mut self, pid: u32, name: &str) {
        let inode = number_of(name);
        let file = FakeFile::regular(0xffff_8892_0000_0000 + inode * 0x100, inode, name);
        let process = self.world.process(pid);
        (process.name, process.executable) = (name.into(), Some(file));
    }
}

impl Watch {
    /// The findings of some seconds, in scans of 0.5 s.
    fn wait(&mut self, machine: &Machine) -> Vec<String> {
        let mut scan = || {
            self.now = self.now.after(490_000_000);
            self.scan(machine)
        };
        (0..10).flat_map(|_| scan()).collect()
    }
}

/// A relay (20) with these sockets, and a shell (21) that it has started over two pipes.
fn relayed(sockets: &[OpenSocket]) -> Machine {
    let mut machine = Machine::default();
    let sockets: Vec<_> = sockets.iter().map(|&it| machine.open_socket(it)).collect();
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    let mut files = vec![(5, &in_write), (6, &out_read)];
    files.extend((7..).zip(&sockets));
    machine.run(20, "relay", "relay", &files);
    machine.run(21, "dash", "sh", &[(0, &in_read), (1, &out_write), (2, &out_write)]);
    machine.world.process(21).parent = 20;
    machine
}

/// A relay with a socket, whose shell has this command line and terminal.
fn on_terminal(relay: &str, line: &str) -> Machine {
    let mut machine = Machine::default();
    let socket = machine.open_socket(UDP);
    let (master, slave) = machine.terminal();
    machine.run(20, relay, relay, &[(5, &master), (7, &socket)]);
    machine.run(21, "bash", line, &[(0, &slave), (1, &slave), (2, &slave)]);
    machine.world.process(21).parent = 20;
    machine
}

fn is_silent(machine: &Machine) -> bool {
    Watch::new().wait(machine).is_empty()
}

#[test]
fn a_shell_behind_a_socket_of_each_kind_is_reported_once() {
    for (socket, port) in [(UDP, 4444), (RAW, 1), (PING, 77), (PACKET, 0)] {
        let found = [format!("Unknown {port}: 20,21 in 20>21 out 21>20")];
        let mut watch = Watch::new();
        assert_eq!(watch.wait(&relayed(&[socket])), found);
        assert_eq!(watch.wait(&relayed(&[socket])), [""; 0]);
    }
    let mut watch = Watch::new();
    assert_eq!([0; 3].map(|_| watch.wait(&relayed(&[UDP, RAW])).len()), [1, 0, 0]);
    // Commands may come by one socket, answers go by another.
    let found = ["Unknown 0: 20,21 in 20>21 out 21>20"];
    assert_eq!(Watch::new().wait(&relayed(&[PACKET, SENDER])), found);
}

#[test]
fn pairs_and_terminals_lead_to_a_socket_too() {
    let found = ["Unknown 4444: 20,21 in 20>21 out 21>20"];
    assert_eq!(Watch::new().wait(&on_terminal("relay", "bash -i")), found);
    // `socat UDP-DATAGRAM:… EXEC:sh`
    let mut machine = Machine::default();
    let socket = machine.open_socket(UDP);
    let (outer, inner) = machine.pair();
    machine.run(20, "socat", "socat UDP-DATAGRAM EXEC", &[(5, &socket), (6, &outer)]);
    machine.run(21, "dash", "sh", &[(0, &inner), (1, &inner)]);
    assert_eq!(Watch::new().wait(&machine), found);
    // socat 1.7 has a pair with itself, and one whose other end it has closed.
    let ((one, other), (rest, _closed)) = (machine.pair(), machine.pair());
    let files = [(3, &one), (4, &other), (5, &socket), (6, &outer), (8, &rest)];
    machine.world.process(20).files = files.map(|(at, file)| (at, file.clone())).to_vec();
    assert_eq!(Watch::new().wait(&machine), found);
}

#[test]
fn two_processes_may_share_one_socket_and_pass_bytes_over_others() {
    let mut machine = Machine::default();
    let socket = machine.open_socket(RAW);
    let (a_read, a_write) = machine.pipe();
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "relay", "relay", &[(5, &a_write), (7, &socket)]);
    machine.run(21, "relay", "relay", &[(6, &out_read), (7, &socket)]);
    machine.run(22, "cat", "cat", &[(0, &a_read), (1, &in_write)]);
    machine.run(23, "dash", "sh", &[(0, &in_read), (1, &out_write)]);
    let found = ["Unknown 1: 20,22,21,23 in 20>22>23 out 23>21"];
    assert_eq!(Watch::new().wait(&machine), found);
}

/// A process that only holds the shell's input hides no other.
#[test]
fn a_decoy_hides_no_relay() {
    for pid in [18, 90] {
        let mut machine = relayed(&[RAW]);
        let decoy = machine.open_socket(UDP);
        let input = machine.world.process(20).files[0].1.clone();
        machine.run(pid, "decoy", "decoy", &[(5, &input), (7, &decoy)]);
        assert_eq!(Watch::new().wait(&machine), ["Unknown 1: 20,21 in 20>21 out 21>20"]);
    }
}

#[test]
fn a_renamed_shell_is_recognised_by_its_file() {
    let mut machine = relayed(&[RAW]);
    machine.name(21, "update");
    machine.world.process(21).arguments = b"update\0".to_vec();
    assert!(is_silent(&machine));
    let mut watch = Watch::new();
    watch.files.0.push(number_of("update"));
    assert_eq!(watch.wait(&machine).len(), 1);
}

/// A shell that is at work, or has just been started, may get a script that ends.
#[test]
fn a_shell_is_reported_only_once_it_waits_for_commands() {
    let mut watch = Watch::new();
    let machine = relayed(&[UDP]);
    assert_eq!(watch.settle(&machine), [""; 0], "that was no second");
    let mut busy = relayed(&[UDP]);
    busy.run(22, "make", "make", &[(0, &null())]);
    busy.world.process(22).parent = 21;
    assert_eq!(watch.wait(&busy), [""; 0], "it waits for a child");
    assert_eq!(watch.wait(&machine).len(), 1);
}

#[test]
fn scripts_of_daemons_raise_no_alert() {
    // dhclient, keepalived, dnsmasq, snmpd (`pass_persist`), rsyslogd (`omprog`).
    for line in ["sh /etc/notify MASTER", "sh -c notify", "sh /sbin/dhclient-script"] {
        for socket in [UDP, RAW, PACKET] {
            let mut machine = relayed(&[socket]);
            let line = format!("{}\0", line.replace(' ', "\0"));
            machine.world.process(21).arguments = line.into_bytes();
            assert!(is_silent(&machine));
        }
    }
}

/// `ping host | while read …`, `tcpdump | sh`, `sh | logger`.
#[test]
fn one_direction_alone_raises_no_alert() {
    for socket in [UDP, RAW, PING, PACKET] {
        for kept in [0, 1] {
            let mut machine = relayed(&[socket]);
            let files = &mut machine.world.process(21).files;
            files.retain(|&(index, _)| (index > 0) == (kept > 0));
            let other = if kept > 0 { 0..1 } else { 1..3 };
            files.extend(other.map(|index| (index, null())));
            assert!(is_silent(&machine));
        }
    }
    // The part of a pipeline writes to the terminal of a terminal's program, not to ping.
    let mut machine = Machine::default();
    let socket = machine.open_socket(PING);
    let (master, slave) = machine.terminal();
    let (read, write) = machine.pipe();
    machine.run(19, "xterm", "xterm", &[(4, &master)]);
    machine.run(20, "ping", "ping host", &[(0, &slave), (1, &write), (3, &socket)]);
    machine.run(21, "bash", "bash", &[(0, &read), (1, &slave), (2, &slave)]);
    machine.run(22, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    assert!(is_silent(&machine));
}

/// `coproc ping …; while read … <&"${COPROC[0]}"`: a shell forks for a part of a pipeline.
#[test]
fn a_part_of_a_pipeline_takes_no_commands() {
    let mut machine = relayed(&[PING]);
    machine.world.process(21).flags = FORKED;
    assert!(is_silent(&machine));
}

#[test]
fn sockets_that_no_other_machine_reaches_raise_no_alert() {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for socket in [
        // A socket for `ioctl`, and one that listens to this machine only.
        OpenSocket { source: (ANY, 0), ..UDP },
        OpenSocket { source: (here, 323), ..UDP },
        OpenSocket { source: (here, 1), ..RAW },
        OpenSocket { kind: SOCK_STREAM, protocol: 6, ..UDP },
        // Unreadable.
        OpenSocket { kind: 0, protocol: 0, ..UDP },
        SENDER,
    ] {
        assert!(is_silent(&relayed(&[socket])));
    }
}

/// Avahi, resolvers, syslog daemons and SNMP agents listen; agents of clusters have many peers.
#[test]
fn servers_of_several_peers_raise_no_alert() {
    let with = |add: &dyn Fn(&mut Machine) -> Vec<FakeFile>| {
        let mut machine = relayed(&[UDP, RAW]);
        let files = add(&mut machine);
        machine.world.process(20).files.extend((20..).zip(files));
        machine
    };
    let peers = |machine: &mut Machine| {
        let others = [9, 10].map(|last| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last)));
        others.map(|peer| machine.connection(40_000, (peer, 80))).to_vec()
    };
    let listens = |machine: &mut Machine| {
        let server = machine.connection(53, (ANY, 0));
        machine.world.sockets.last_mut().unwrap().state = 10;
        vec![server]
    };
    let clients = |machine: &mut Machine| {
        let pairs = [machine.pair(), machine.pair()];
        for (pid, (_, far)) in (30..).zip(&pairs) {
            machine.run(pid, "client", "client", &[(3, far)]);
        }
        pairs.map(|(near, _)| near).to_vec()
    };
    // Its TCP connections are judged as such, and lead nowhere else.
    let reported = Watch::new().wait(&with(&peers));
    assert!(reported.iter().all(|it| it.starts_with("Outbound 40000")), "{reported:?}");
    assert!(is_silent(&with(&listens)));
    assert!(is_silent(&with(&clients)));
    for (family, protocol) in [(AF_INET, IPPROTO_SCTP), (AF_VSOCK, 0)] {
        let server = OpenSocket { family, kind: SOCK_STREAM, protocol, state: 10, ..UDP };
        assert!(is_silent(&with(&|machine| vec![machine.open_socket(server)])), "{family}");
    }
    assert!(!is_silent(&with(&|_| vec![])));
}

#[test]
fn terminals_of_mosh_raise_no_alert() {
    let line = "-bash";
    assert!(is_silent(&on_terminal("sshd", line)));
    assert!(!is_silent(&on_terminal("mosh-server", line)), "not where the system keeps it");
    assert!(is_silent(&on_terminal("usr/bin/mosh-server", line)));
    // mosh gives no pipes to a shell.
    let mut machine = relayed(&[UDP]);
    machine.name(20, "usr/bin/mosh-server");
    assert!(!is_silent(&machine));
    let mut watch = Watch::new();
    watch.shells = watch.shells.with_login_servers([Glob::new("/usr/bin/agent")].into());
    assert_eq!(watch.wait(&on_terminal("usr/bin/agent", line)), [""; 0]);
}

/// `sudo -i`, `script` and their kind pass on what a terminal gets.
#[test]
fn what_runs_in_a_terminal_of_mosh_raises_no_alert() {
    for (server, count) in [("usr/bin/mosh-server", 0), ("relay", 1)] {
        let mut machine = Machine::default();
        let socket = machine.open_socket(UDP);
        let (outer_master, outer) = machine.terminal();
        let (inner_master, inner) = machine.terminal();
        machine.run(20, server, server, &[(5, &outer_master), (7, &socket)]);
        machine.run(21, "bash", "bash x", &[(0, &outer), (1, &outer), (2, &outer)]);
        machine.run(22, "sudo", "sudo -i", &[(0, &outer), (1, &outer), (6, &inner_master)]);
        machine.run(23, "bash", "-bash", &[(0, &inner), (1, &inner), (2, &inner)]);
        assert_eq!(Watch::new().wait(&machine).len(), count, "{server}");
    }
}

/// A login exempts its own connection, and not what a user starts there.
#[test]
fn a_relay_in_a_login_is_reported() {
    let mut machine = relayed(&[RAW]);
    machine.listener(22);
    let login = machine.connection(22, PEER);
    let (master, slave) = machine.terminal();
    machine.run(18, "sshd", "sshd", &[(4, &login), (9, &master)]);
    machine.run(19, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    machine.world.process(20).files.extend([(0, slave.clone()), (1, slave.clone()), (2, slave)]);
    machine.world.process(20).parent = 19;
    assert_eq!(Watch::new().wait(&machine), ["Unknown 1: 20,21 in 20>21 out 21>20"]);
}

/// Commands that users type in terminals: `tcpdump -w - | ssh host`, `dig`, a REPL beside.
#[test]
fn programs_in_a_terminal_are_no_relays_of_its_shell() {
    for socket in [UDP, RAW, PING, PACKET] {
        let mut machine = Machine::default();
        let socket = machine.open_socket(socket);
        let (master, slave) = machine.terminal();
        let (read, write) = machine.pipe();
        machine.run(19, "xterm", "xterm", &[(4, &master)]);
        machine.run(20, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
        machine.run(21, "tcpdump", "tcpdump -w -", &[(0, &slave), (1, &write), (3, &socket)]);
        machine.run(22, "python3", "python3", &[(0, &read), (1, &slave), (2, &slave)]);
        assert!(is_silent(&machine));
    }
}

#[test]
fn what_is_reported_as_a_connection_is_reported_once() {
    let mut machine = relayed(&[UDP]);
    let tcp = machine.connection(40_000, PEER);
    machine.world.process(20).files.push((9, tcp));
    assert_eq!(Watch::new().wait(&machine), ["Outbound 40000: 20,21 in 20>21 out 21>20"]);
}

/// `ncat --sctp -e /bin/sh A P`: a connection that is not TCP's.
#[test]
fn a_shell_on_a_connection_of_sctp_is_reported() {
    for (kind, protocol, count) in [
        (SOCK_STREAM, IPPROTO_SCTP, 1),
        (SOCK_SEQPACKET, IPPROTO_SCTP, 1),
        // One of TCP without a row has just been closed.
        (SOCK_STREAM, 6, 0),
    ] {
        let mut machine = Machine::default();
        let sctp = machine.datagram(40_000, PEER);
        let socket =
            OpenSocket { kind, protocol, source: (ANY, 40_000), state: ESTABLISHED, ..UDP };
        machine.open_sockets.insert(sctp.address, socket);
        machine.run(20, "bash", "bash", &[(0, &sctp), (1, &sctp), (2, &sctp)]);
        assert_eq!(Watch::new().settle(&machine).len(), count, "{kind} {protocol}");
    }
}

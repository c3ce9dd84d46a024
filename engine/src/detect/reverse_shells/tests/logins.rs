//! Logins, and peers that use a login server of this machine without one of their own.

use super::*;

/// Login servers are the system's own, unless they have a place: `/sbin/sshd`.
pub(super) fn put_servers_in_place(snapshot: &mut Snapshot) {
    let root = Index::new(0);
    let row = *snapshot.dentries.at(root).unwrap();
    let name = DirectoryEntry { address: KernelVa(0xffff_8895_0000_0000), length: 4, ..row.name };
    let mut folder = DentryRow { name, parent: root, readable: true, ..row };
    folder.text[..4].copy_from_slice(b"sbin");
    let folder = snapshot.dentries.push(folder);
    for row in snapshot.dentries.iter_mut() {
        if row.parent == root && row.name.length == 4 && row.text.starts_with(b"sshd") {
            row.parent = folder;
        }
    }
}

const DATABASE: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 5432);

impl Machine {
    /// Both ends of a connection within the machine: that of the client and that of the server.
    fn local(&mut self, port: u16) -> (FakeFile, FakeFile) {
        let here: IpAddr = Ipv4Addr::LOCALHOST.into();
        let client = 50_000 + self.next as u16;
        let ends = (self.connection(client, (here, port)), self.connection(port, (here, client)));
        self.world.sockets.iter_mut().rev().take(2).for_each(|socket| socket.source.0 = here);
        ends
    }
}

/// A machine with this login server, whose session has an interactive shell and a connection that
/// it made for the user.
fn forwarding(server: &str) -> Machine {
    let mut machine = Machine::default();
    machine.listener(22);
    let login = machine.connection(22, PEER);
    let forwarded = machine.connection(40000, DATABASE);
    let (master, slave) = machine.terminal();
    // The process with root's rights, and that of the user.
    machine.run(20, server, server, &[(4, &login), (9, &master)]);
    machine.run(21, server, server, &[(4, &login), (9, &master), (10, &forwarded)]);
    machine.run(22, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    machine.world.process(21).parent = 20;
    machine.world.process(22).parent = 21;
    machine
}

#[test]
fn what_a_login_server_connects_to_for_its_user_raises_no_alert() {
    assert_eq!(Watch::new().settle(&forwarding("sshd")), [""; 0]);
    // Not a server of the system's, so its login counts as little.
    assert_eq!(Watch::new().settle(&forwarding("tmp/sshd")).len(), 1);
}

#[test]
fn a_web_application_behind_a_forwarded_port_raises_no_alert() {
    let mut machine = Machine::default();
    machine.listener(22);
    machine.listener(8080);
    let login = machine.connection(22, PEER);
    let (forwarded, served) = machine.local(8080);
    let database = machine.connection(40000, DATABASE);
    let (master, slave) = machine.terminal();
    machine.run(20, "sshd", "sshd", &[(4, &login), (9, &master), (10, &forwarded)]);
    machine.run(21, "app", "app", &[(3, &served), (4, &database)]);
    machine.run(22, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

/// `nc A P </tmp/sf | ssh -T root@127.0.0.1 >/tmp/sf 2>&1`
fn by_pipes(relay: &str, client: &str) -> Machine {
    let mut machine = Machine::default();
    machine.listener(22);
    let tcp = machine.connection(40000, PEER);
    let (fifo_read, fifo_write) = machine.pipe();
    let (read, write) = machine.pipe();
    let (near, far) = machine.local(22);
    let (own, shells) = machine.pair();
    machine.run(20, relay, "nc A P", &[(0, &fifo_read), (1, &write), (3, &tcp)]);
    let of_client: &[(u32, &FakeFile)] =
        &[(0, &read), (1, &fifo_write), (2, &fifo_write), (3, &near)];
    machine.run(21, client, "ssh -T root@127.0.0.1", of_client);
    machine.run(22, "sshd", "sshd", &[(4, &far), (9, &own)]);
    machine.run(23, "bash", "bash", &[(0, &shells), (1, &shells), (2, &shells)]);
    machine
}

#[test]
fn a_relay_into_the_machines_own_login_server_is_reported() {
    let found = ["Outbound 40000: 20,21,22,23 in 20>21>22>23 out 23>22>21>20"];
    assert_eq!(Watch::new().settle(&by_pipes("nc", "usr/bin/ssh")), found);
    // `socat TCP:A:P EXEC:'ssh -tt root@127.0.0.1'`
    let mut machine = Machine::default();
    machine.listener(22);
    let tcp = machine.connection(40000, PEER);
    let (outer, inner) = machine.pair();
    let (near, far) = machine.local(22);
    let (master, slave) = machine.terminal();
    machine.run(20, "socat", "socat TCP EXEC", &[(5, &tcp), (6, &outer)]);
    machine.run(
        21,
        "usr/bin/ssh",
        "ssh -tt root@127.0.0.1",
        &[(0, &inner), (1, &inner), (3, &near)],
    );
    machine.run(22, "sshd", "sshd", &[(4, &far), (9, &master)]);
    machine.run(23, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    assert_eq!(Watch::new().settle(&machine), found);
    // Neither does a client of the system's exempt what another one feeds.
    assert_eq!(Watch::new().settle(&by_pipes("usr/bin/ssh", "usr/bin/ssh")), found);
}

#[test]
fn a_named_login_server_exempts_only_what_it_holds_itself() {
    let settle = |named: &str| {
        let mut watch = Watch::new();
        watch.shells = watch.shells.with_login_servers([Glob::new(named)].into());
        watch.settle(&by_pipes("usr/bin/agent", "usr/bin/ssh"))
    };
    assert_eq!(settle("/usr/bin/agent"), [""; 0]);
    assert_eq!(settle("/usr/bin/ssh").len(), 1);
    assert_eq!(settle("/sbin/sshd").len(), 1);
}

/// A process with a peer passes what that sends to the machine's login server, over a connection.
/// It has a connection to somebody else, too.
fn in_front(relay: &str, port: u16, others: bool) -> Machine {
    let mut machine = Machine::default();
    machine.listener(22);
    machine.listener(2222);
    let tcp = machine.connection(port, PEER);
    let other = machine.connection(40_001, DATABASE);
    let (near, far) = machine.local(22);
    let (master, slave) = machine.terminal();
    let files = [(5, &tcp), (6, &near), (7, &other)];
    machine.run(20, relay, relay, &files[..if others { 3 } else { 2 }]);
    machine.run(22, "sshd", "sshd", &[(4, &far), (9, &master)]);
    machine.run(23, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    machine
}

#[test]
fn a_login_through_a_proxy_or_the_systems_client_raises_no_alert() {
    // haproxy, nginx, `socat TCP-LISTEN`; that also connect to servers elsewhere.
    assert_eq!(Watch::new().settle(&in_front("haproxy", 2222, false)), [""; 0]);
    assert_eq!(Watch::new().settle(&in_front("haproxy", 2222, true)), [""; 0]);
    // `ssh -R 2222:127.0.0.1:22 host`, and the same by a client of one's own.
    assert_eq!(Watch::new().settle(&in_front("usr/bin/ssh", 40_000, false)), [""; 0]);
    let found = ["Outbound 40000: 20,22,23 in 20>22>23 out 23>22>20 tunnel"];
    assert_eq!(Watch::new().settle(&in_front("tmp/ssh", 40_000, false)), found);
    // `socat TCP:A:P TCP:127.0.0.1:22`
    assert_eq!(Watch::new().settle(&in_front("socat", 40_000, false)), found);
}

/// nginx in front of an application that logs in here for its users, and asks a database.
#[test]
fn what_an_application_behind_a_proxy_connects_to_raises_no_alert() {
    let machine = |port: u16| {
        let mut machine = Machine::default();
        for port in [22, 443, 8080] {
            machine.listener(port);
        }
        let tcp = machine.connection(port, PEER);
        let (upstream, served) = machine.local(8080);
        let database = machine.connection(40_001, DATABASE);
        let (near, far) = machine.local(22);
        let (master, slave) = machine.terminal();
        machine.run(20, "nginx", "nginx", &[(5, &tcp), (6, &upstream)]);
        machine.run(21, "java", "java", &[(5, &served), (6, &database), (7, &near)]);
        machine.run(22, "sshd", "sshd", &[(4, &far), (9, &master)]);
        machine.run(23, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
        machine
    };
    assert_eq!(Watch::new().settle(&machine(443)), [""; 0]);
    // A peer that did not come in itself.
    assert_eq!(Watch::new().settle(&machine(40_000)).len(), 1);
}

#[test]
fn a_login_within_a_login_raises_no_alert() {
    let mut machine = Machine::default();
    machine.listener(22);
    let login = machine.connection(22, PEER);
    let (outer_master, outer) = machine.terminal();
    let (near, far) = machine.local(22);
    let (inner_master, inner) = machine.terminal();
    machine.run(20, "sshd", "sshd", &[(4, &login), (9, &outer_master)]);
    machine.run(21, "bash", "-bash", &[(0, &outer), (1, &outer), (2, &outer)]);
    machine.run(22, "usr/bin/ssh", "ssh host", &[(0, &outer), (1, &outer), (3, &near)]);
    machine.run(23, "sshd", "sshd", &[(4, &far), (9, &inner_master)]);
    machine.run(24, "bash", "-bash", &[(0, &inner), (1, &inner), (2, &inner)]);
    assert_eq!(Watch::new().settle(&machine), [""; 0]);
}

/// A peer's shell in container `c`, which a client of the runtime opens for `relay`.
fn in_container(relay: &str, port: u16, by_client: bool) -> Machine {
    let mut machine = Machine::default();
    machine.listener(10250);
    let tcp = machine.connection(port, PEER);
    let (to_client, client_in) = machine.pair();
    let (api, served) = machine.pair();
    let (fifo_read, fifo_write) = machine.pipe();
    let (back_read, back_write) = machine.pipe();
    let (master, slave) = machine.terminal();
    if by_client {
        machine.run(20, relay, relay, &[(5, &tcp), (6, &to_client)]);
        machine.run(21, "docker", "docker exec", &[(0, &client_in), (1, &client_in), (3, &api)]);
    } else {
        machine.run(20, relay, relay, &[(5, &tcp), (6, &api)]);
    }
    machine.run(22, "dockerd", "dockerd", &[(7, &served), (8, &fifo_write), (9, &back_read)]);
    machine.run(23, "shim", "shim", &[(7, &fifo_read), (8, &back_write), (9, &master)]);
    machine.run(24, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    machine.world.process(24).container = "c".into();
    machine
}

#[test]
fn a_runtime_exempts_only_what_it_holds_itself() {
    assert_eq!(Watch::new().settle(&in_container("kubelet", 10_250, false)), [""; 0]);
    // An agent asks for its own sessions.
    assert_eq!(Watch::new().settle(&in_container("runner", 40_000, false)), [""; 0]);
    // `socat TCP:A:P EXEC:'docker exec -i c sh'`, and a bind shell that does the same.
    let found = |direction, port| {
        [format!("{direction} {port}: 20,21,22,23,24 in 20>21>22>23>24 out 24>23>22>21>20")]
    };
    let settle = |port| Watch::new().settle(&in_container("socat", port, true));
    assert_eq!(settle(40_000), found("Outbound", 40_000));
    assert_eq!(settle(10_250), found("Accepted", 10_250));
}

#[test]
fn a_published_port_leads_to_a_service_and_not_into_its_container() {
    let mut machine = Machine::default();
    machine.listener(8080);
    let published = machine.connection(8080, PEER);
    let (near, far) = machine.local(4444);
    machine.listener(4444);
    machine.run(20, "docker-proxy", "docker-proxy", &[(5, &published), (6, &near)]);
    machine.run(21, "bash", "bash", &[(0, &far), (1, &far), (2, &far)]);
    machine.world.process(21).container = "c".into();
    assert_eq!(Watch::new().settle(&machine), ["Accepted 8080: 20,21 in 20>21 out 21>20"]);
}

#[test]
fn a_login_from_a_container_to_its_host_raises_no_alert() {
    // `kubectl exec`, or a terminal of the host's, and `ssh host` in the container.
    let machine = |peer: bool| {
        let mut machine = Machine::default();
        machine.listener(22);
        machine.listener(10250);
        let tcp = machine.connection(10_250, PEER);
        let (outer_master, outer) = machine.terminal();
        let (near, far) = machine.local(22);
        let (inner_master, inner) = machine.terminal();
        let held = [(9, &outer_master), (5, &tcp)];
        machine.run(20, "runtime", "runtime", &held[..if peer { 2 } else { 1 }]);
        machine.run(21, "usr/bin/ssh", "ssh host", &[(0, &outer), (1, &outer), (3, &near)]);
        machine.run(22, "sshd", "sshd", &[(4, &far), (9, &inner_master)]);
        machine.run(23, "bash", "-bash", &[(0, &inner), (1, &inner), (2, &inner)]);
        machine.world.process(21).container = "c".into();
        machine
    };
    assert_eq!(Watch::new().settle(&machine(false)), [""; 0]);
    assert_eq!(Watch::new().settle(&machine(true)), [""; 0]);
    // A process of the container's with a peer of its own is no runtime.
    let mut other = machine(true);
    other.world.process(20).container = "c".into();
    assert_eq!(Watch::new().settle(&other).len(), 1);
}

/// A login whose shell still lives while its server may be about to end, after it has released its
/// memory.
fn ending(server: &str, line: &str, ends: bool, has_shell: bool) -> Machine {
    let mut machine = Machine::default();
    machine.listener(22);
    let login = machine.connection(22, PEER);
    let (master, slave) = machine.terminal();
    machine.run(20, server, line, &[(4, &login), (9, &master)]);
    if ends {
        machine.world.process(20).mm = 0;
    }
    if has_shell {
        machine.run(22, "bash", "-bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    }
    machine
}

#[test]
fn a_login_whose_server_is_about_to_end_raises_no_alert() {
    let all = |server, line| {
        let mut watch = Watch::new();
        let alive = watch.settle(&ending(server, line, false, false));
        [alive, watch.settle(&ending(server, line, true, true))].concat()
    };
    assert_eq!(all("sshd", "sshd: root@pts/0"), [""; 0]);
    assert_eq!(all("usr/sbin/dropbear", "dropbear"), [""; 0]);
    assert_eq!(all("usr/sbin/in.telnetd", "in.telnetd"), [""; 0]);
    assert_eq!(all("bin/busybox", "busybox telnetd"), [""; 0]);
    // No servers of the system's.
    let found = ["Accepted 22: 20,22 in 20>22 out 22>20"];
    assert_eq!(all("tmp/sshd", "sshd: root@pts/0"), found);
    assert_eq!(all("usr/bin/python3", "sshd"), found);
    assert_eq!(all("bin/busybox", "busybox nc"), found);
}

#[test]
fn a_server_in_a_container_is_remembered_too() {
    let machine = |ends, has_shell| {
        let mut machine = ending("sshd", "sshd", ends, has_shell);
        for process in machine.world.processes.iter_mut().skip(1) {
            process.container = "c".into();
        }
        machine
    };
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&machine(false, false)), [""; 0]);
    assert_eq!(watch.settle(&machine(true, true)), [""; 0]);
}

#[test]
fn a_named_server_that_is_about_to_end_raises_no_alert() {
    let settle = |named: &str| {
        let mut watch = Watch::new();
        watch.shells = watch.shells.with_login_servers([Glob::new(named)].into());
        let alive = watch.settle(&ending("opt/agent", "agent", false, false));
        [alive, watch.settle(&ending("opt/agent", "agent", true, true))].concat()
    };
    assert_eq!(settle("/opt/agent"), [""; 0]);
    assert_eq!(settle("/opt/other").len(), 1);
}

#[test]
fn a_runtime_that_is_about_to_end_exempts_its_session() {
    let mut watch = Watch::new();
    assert_eq!(watch.settle(&in_container("kubelet", 10_250, false)), [""; 0]);
    let mut machine = in_container("kubelet", 10_250, false);
    for pid in [20, 22, 23] {
        machine.world.process(pid).mm = 0;
    }
    assert_eq!(watch.settle(&machine), [""; 0]);
}

/// No scan has shown its program: it may have been a login server's.
#[test]
fn a_process_that_ends_before_its_program_was_seen_is_waited_for() {
    let mut watch = Watch::new();
    let machine = ending("sshd", "sshd", true, true);
    assert_eq!(watch.settle(&machine), [""; 0]);
    watch.now = Now::at(watch.now.monotonic.since(Monotonic::default()) + 3_000_000_000);
    assert_eq!(watch.settle(&machine).len(), 1, "it does not end");
}

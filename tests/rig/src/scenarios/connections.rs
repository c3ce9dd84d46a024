//! Connections: how they begin and end, how long they last, and how much data they carry.
//!
//! Both ends of most of them are in the same guest: it has two sockets for each, and records name
//! both.

use super::{Expected, Scenario, Stage, record};

const CREATED: &str = "network_connection_created";
const TERMINATED: &str = "network_connection_terminated";
const CHANGED: &str = "tcp_network_connection_state_change";
const EXCESSIVE: &str = "tcp_connection_excessive_data";
const LONG: &str = "tcp_long_lasting_connection";

/// A record about the client's end, whose port is `$port`.
const fn of_client(activity: &'static str) -> Expected {
    record(activity).with(&[("network_connection.source_port", "$port")])
}

/// A record about the server's end.
const fn of_server(activity: &'static str) -> Expected {
    record(activity).with(&[("network_connection.destination_port", "$port")])
}

const fn scenario(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Behaviour)
}

/// Closed connections do not wait for a minute.
const NO_WAITING: &str = "echo 0 > /proc/sys/net/ipv4/tcp_max_tw_buckets";
const WAITING: &str = "echo 8192 > /proc/sys/net/ipv4/tcp_max_tw_buckets";

/// A slow host takes so long over a connection that it counts as long-lasting.
const SLOW: &[Expected] = &[of_client(LONG), of_server(LONG)];

/// Python that fails if the client's end still waits when the watcher reports it as terminated. The
/// end waits for a minute; a slow host may need longer for the rest of the scenario.
macro_rules! waits {
    () => {
        r#"
try: pace.lacks("network_connection_terminated", "network_connection.source_port=$port")
except AssertionError:
    ends = [line.split()[1] for line in open("/proc/net/tcp")]
    assert "0100007F:%04X" % port not in ends, "it still waits"
"#
    };
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("N01", "a connection is made and closed")
        .prepare(NO_WAITING)
        .act(
            "act
             python3 -c 'import pace, socket
server = socket.create_server((\"127.0.0.1\", 7101))
client = socket.create_connection((\"127.0.0.1\", 7101))
peer, _ = server.accept()
print(\"@fact port\", client.getsockname()[1], flush=True)
client.sendall(b\"x\" * 1000); peer.sendall(b\"y\" * 2000)
assert len(peer.recv(5000)) == 1000 and len(client.recv(5000)) == 2000
pace.scanned()
client.shutdown(socket.SHUT_WR); pace.scanned(); peer.close(); pace.scanned()' & fact pid $!
             wait $pid",
        )
        .clean(WAITING)
        .expect(&[
            of_client(CREATED),
            of_server(CREATED),
            record(CHANGED).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.connection_state", "FIN_WAIT_2"),
                ("network_connection.tcp_bytes_in", "2000"),
                ("network_connection.tcp_bytes_out", "1000"),
                ("process.process_id", "$pid"),
            ]),
            record(CHANGED).with(&[
                ("network_connection.destination_port", "$port"),
                ("network_connection.connection_state", "CLOSE_WAIT"),
                ("network_connection.tcp_bytes_out", "2000"),
                ("process.process_id", "$pid"),
            ]),
            // The kernel counts the end of the received data as a byte; it may have done so right
            // before the socket goes.
            record(TERMINATED).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.destination_port", "7101"),
                ("network_connection.tcp_bytes_out", "1000"),
            ]),
            record(TERMINATED).with(&[
                ("network_connection.source_port", "7101"),
                ("network_connection.destination_port", "$port"),
                ("network_connection.tcp_bytes_in", "1001"),
                ("network_connection.tcp_bytes_out", "2000"),
                ("process.process_id", "$pid"),
            ]),
        ]),
    scenario("N01b", "a connection waits when its processes have ended")
        .act(concat!(
            "act
             python3 -c 'import pace, socket
server = socket.create_server((\"127.0.0.1\", 7102))
client = socket.create_connection((\"127.0.0.1\", 7102))
peer, _ = server.accept()
port = client.getsockname()[1]; print(\"@fact port\", port, flush=True)
pace.scanned()
client.close(); peer.close(); pace.scanned(); pace.scanned()",
            waits!(),
            "' & fact pid $!
             wait $pid",
        ))
        .expect(&[
            of_client(CREATED),
            of_server(CREATED),
            record(CHANGED).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.connection_state", "TIME_WAIT"),
                ("process.process_id", "$pid"),
            ]),
            of_server(TERMINATED),
        ]),
    scenario("N01c", "a process listens")
        .act(
            "act
             python3 -c 'import socket, time
server = socket.create_server((\"127.0.0.1\", 7103)); time.sleep(600)' & fact pid $!
             seen; scanned; over $pid",
        )
        .expect(&[
            record("file_descriptor_open").with(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_file_type", "SOCKET"),
            ]),
            record(CREATED).with(&[("network_connection.source_port", "7103")]).times(0),
            record(TERMINATED).with(&[("network_connection.source_port", "7103")]).times(0),
        ]),
    scenario("N02", "a connection attempt gets no answer")
        .act(
            "act
             python3 -c 'import pace, socket
client = socket.socket(); client.setblocking(False)
client.connect_ex((\"10.0.2.99\", 81))
print(\"@fact port\", client.getsockname()[1], flush=True)
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .expect(&[
            record(CREATED).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.source_ip_address", "10.0.2.15"),
                // No host in the guest's own network has this address. Addresses beyond that
                // network may be answered by the host.
                ("network_connection.destination_ip_address", "10.0.2.99"),
                ("network_connection.connection_state", "SYN_SENT"),
                ("network_connection.workload_network_interface_name", "eth0"),
                ("process.process_id", "$pid"),
            ]),
            of_client(TERMINATED),
        ]),
    scenario("N03", "a connection carries much data, one way")
        .stage(Stage::Thresholds)
        .prepare(NO_WAITING)
        .act(
            "python3 -c 'import pace, socket, threading
server = socket.create_server((\"127.0.0.1\", 7104))
client = socket.create_connection((\"127.0.0.1\", 7104))
peer, _ = server.accept()
def drain():
    while peer.recv(65536): pass
threading.Thread(target=drain).start()
print(\"@fact port\", client.getsockname()[1])
client.sendall(bytes(1 << 20)); pace.scanned()
print(\"@act\", flush=True)
client.sendall(bytes(1 << 16)); pace.scanned()
client.sendall(bytes(3 << 20)); pace.scanned()
client.close()' & fact pid $!
             wait $pid",
        )
        .clean(WAITING)
        .expect(&[
            record(EXCESSIVE).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.source_ip_address", "127.0.0.1"),
                ("network_connection.tcp_bytes_in", "0"),
                ("network_connection.connection_state", "ESTABLISHED"),
                ("network_connection.workload_network_interface_name", "lo"),
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_file_type", "SOCKET"),
                ("detection.reason", "~bytes went out from 127.0.0.1:$port to 127.0.0.1:7104, more than the threshold of 1048576"),
                ("detection.mitre_attack", "[\"T1041\",\"T1048\"]"),
                ("record.severity", "LOW"),
            ]),
            record(EXCESSIVE).with(&[
                ("network_connection.source_port", "7104"),
                ("network_connection.tcp_bytes_out", "0"),
                ("process.process_id", "$pid"),
                ("detection.reason", "~bytes came in from 127.0.0.1:$port to 127.0.0.1:7104, more than the threshold of 1048576"),
                ("detection.mitre_attack", "[\"T1105\"]"),
            ]),
        ])
        .besides(SLOW),
    scenario("N03b", "a connection carries less than the threshold, both ways")
        .stage(Stage::Thresholds)
        .prepare(NO_WAITING)
        .act(
            "act
             python3 -c 'import pace, socket, threading, time
server = socket.create_server((\"127.0.0.1\", 7105))
client = socket.create_connection((\"127.0.0.1\", 7105))
peer, _ = server.accept()
came = {client: 0, peer: 0}
def drain(end):
    while some := end.recv(65536): came[end] += len(some)
for end in [client, peer]: threading.Thread(target=drain, args=[end], daemon=True).start()
print(\"@fact port\", client.getsockname()[1], flush=True)
client.sendall(bytes(768 << 10)); peer.sendall(bytes(768 << 10))
while min(came.values()) < 768 << 10: time.sleep(0.05)
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .clean(WAITING)
        .expect(&[
            record(TERMINATED).with(&[
                ("network_connection.source_port", "$port"),
                // Retransmitted data is counted again: on a busy host twice.
                ("network_connection.tcp_bytes_in", "786432"),
            ]),
            of_server(TERMINATED),
        ])
        .besides(SLOW),
    scenario("N04", "a connection lasts long")
        .stage(Stage::Thresholds)
        .prepare(NO_WAITING)
        .act(
            "python3 -c 'import pace, socket, time
server = socket.create_server((\"127.0.0.1\", 7106))
client = socket.create_connection((\"127.0.0.1\", 7106))
peer, _ = server.accept()
print(\"@fact port\", client.getsockname()[1], flush=True)
time.sleep(15)
print(\"@act\", flush=True)
pace.seen()' & fact pid $!
             wait $pid",
        )
        .clean(WAITING)
        .expect(&[
            record(LONG).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.connection_state", "ESTABLISHED"),
                ("process.process_id", "$pid"),
                // The number of seconds depends on when the watcher found it.
                (
                    "detection.reason",
                    "~the connection of 127.0.0.1:$port with 127.0.0.1:7106 has lasted ",
                ),
                ("detection.mitre_attack", "[\"T1572\",\"T1095\"]"),
                ("record.severity", "LOW"),
            ]),
            of_server(LONG),
        ]),
    scenario("N04b", "a connection does not last long, and waits long")
        .stage(Stage::Thresholds)
        .act(concat!(
            "act
             python3 -c 'import pace, socket, time
server = socket.create_server((\"127.0.0.1\", 7107))
client = socket.create_connection((\"127.0.0.1\", 7107))
peer, _ = server.accept()
port = client.getsockname()[1]; print(\"@fact port\", port, flush=True)
pace.seen(\"network_connection_created\", \"network_connection.source_port=$port\")
client.close(); peer.close()
time.sleep(15); pace.scanned()",
            waits!(),
            "' & fact pid $!
             wait $pid",
        ))
        .expect(&[record(CHANGED).with(&[
            ("network_connection.source_port", "$port"),
            ("network_connection.connection_state", "TIME_WAIT"),
        ])]),
    scenario("N06", "a socket is closed with unsent data")
        .act(
            "act
             python3 -c 'import pace, socket
server = socket.create_server((\"127.0.0.1\", 7108))
client = socket.create_connection((\"127.0.0.1\", 7108))
peer, _ = server.accept()
print(\"@fact port\", client.getsockname()[1], flush=True)
client.setblocking(False)
try:
    while True: client.send(bytes(65536))
except BlockingIOError: pass
pace.scanned()
client.close()
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .expect(&[
            of_client(CREATED),
            // No process holds it any more.
            record(CHANGED).with(&[
                ("network_connection.source_port", "$port"),
                ("network_connection.connection_state", "FIN_WAIT_1"),
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_name", "null"),
            ]),
            of_client(TERMINATED),
        ]),
    scenario("N13", "a connection in a network namespace of its own")
        .act(
            "act
             unshare -n python3 -c 'import fcntl, os, pace, socket, struct
print(\"@fact namespace\", os.readlink(\"/proc/self/ns/net\"))
control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack(\"16sH22x\", b\"lo\", 1))
server = socket.create_server((\"127.0.0.1\", 7109))
client = socket.create_connection((\"127.0.0.1\", 7109))
peer, _ = server.accept()
print(\"@fact port\", client.getsockname()[1], flush=True)
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .expect(&[
            record(CREATED).with(&[
                ("network_connection.source_port", "$port"),
                ("process.process_id", "$pid"),
                ("process.process_network_namespace", "$namespace"),
                ("network_connection.workload_network_interface_name", "lo"),
            ]),
            of_server(CREATED),
            // Everything that waits in the namespace ends with it.
            of_client(TERMINATED),
            of_server(TERMINATED),
        ]),
    scenario("N14", "sockets of many kinds")
        .act(
            "act
             python3 -c 'import pace, socket
kinds = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 1, 262), (2, 2, 0), (2, 3, 1), (10, 1, 0), (10, 1, 262), (16, 3, 0), (17, 3, 3),
         (38, 5, 0), (40, 1, 0), (44, 3, 0), (2, 1, 132), (2, 5, 132), (15, 3, 2), (29, 3, 1), (30, 1, 0), (43, 1, 0), (31, 3, 1)]
kept = []
for kind in kinds:
    try: kept.append(socket.socket(*kind))
    except OSError: pass
print(\"@fact last\", kept[-1].fileno()); print(\"@fact first\", kept[0].fileno(), flush=True)
pace.scanned()' & fact pid $!
             wait $pid",
        )
        .expect(&[
            record("file_descriptor_open").with(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "$first"),
                ("file_descriptor.file_descriptor_file_type", "SOCKET"),
            ]),
            record("file_descriptor_open").with(&[
                ("process.process_id", "$pid"),
                ("file_descriptor.file_descriptor_index", "$last"),
                ("file_descriptor.file_descriptor_file_type", "SOCKET"),
            ]),
            record("file_descriptor_open")
                .with(&[
                    ("process.process_id", "$pid"),
                    ("file_descriptor.file_descriptor_file_type", "SOCKET"),
                ])
                .at_least(8),
            record("process_terminated").with(&[("process.process_id", "$pid")]),
        ]),
];

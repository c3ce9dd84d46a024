//! The programs of the client, and whom each talks to.

use super::{V4, V6};

/// A program of the client, and whom it talks to.
pub(super) struct Tool {
    pub(super) program: &'static str,
    /// `{folder}` is a folder of the capture, `{programs}` that of the programs.
    pub(super) arguments: &'static [&'static str],
    pub(super) contact: Contact,
    /// It makes the contact only after a talk over TCP, which may fail.
    pub(super) asks_first: bool,
}

/// A conversation that a capture must have, in the words of `ra`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Contact {
    pub protocol: &'static str,
    pub server: &'static str,
    /// Empty for protocols without ports.
    pub port: &'static str,
}

const fn tool(
    program: &'static str,
    arguments: &'static [&'static str],
    (protocol, server, port): (&'static str, &'static str, &'static str),
) -> Tool {
    let contact = Contact { protocol, server, port };
    Tool { program, arguments, contact, asks_first: false }
}

/// Where nmap's files are, if it is not the machine's own.
const NMAP: &str = "--datadir={programs}/../root/usr/share/nmap";

/// What ssh and scp have in common but for the port.
macro_rules! ssh {
    ($($more:expr),*) => {
        &[
            "-F/dev/null",
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oConnectTimeout=5",
            "-i{folder}/key",
            $($more),*
        ]
    };
}

/// What runs, one after the other. Programs that are not there are left out.
pub(super) const TOOLS: &[Tool] = &[
    tool("curl", &["-s", "-o/dev/null", "http://10.77.1.2:8080/400000"], ("tcp", V4, "8080")),
    tool("curl", &["-sgo/dev/null", "http://[fd77:1::2]:8080/90000"], ("tcp", V6, "8080")),
    // Nobody listens.
    tool("curl", &["-s", "http://10.77.1.2:81/"], ("tcp", V4, "81")),
    tool("python3", &["-c", include_str!("clients.py"), V4], ("udp", V4, "5000")),
    tool("python3", &["-c", include_str!("clients.py"), V4], ("udp", V4, "53")),
    tool("dig", &["+time=1", "@10.77.1.2", "www.example.org"], ("udp", V4, "53")),
    tool("dig", &["+time=1", "@fd77:1::2", "www.example.org"], ("udp", V6, "53")),
    tool("dig", &["+time=2", "+tcp", "@fd77:1::2", "www.example.org"], ("tcp", V6, "53")),
    tool("ping", &["-c5", "-i0.1", V4], ("icmp", V4, "")),
    tool("ping", &["-c5", "-i0.1", V6], ("ipv6-icmp", V6, "")),
    tool("iperf3", &["-n1M", "-c", V4], ("tcp", V4, "5201")),
    tool("iperf3", &["-R", "-n1M", "-c", V6], ("tcp", V6, "5201")),
    Tool {
        asks_first: true,
        ..tool("iperf3", &["-u", "-b3M", "-t1", "-c", V4], ("udp", V4, "5201"))
    },
    tool("ssh", ssh!["-p2222", "root@10.77.1.2", "head -c 200000 /dev/zero"], ("tcp", V4, "2222")),
    tool(
        "scp",
        ssh!["-O", "-P2222", "-S{programs}/ssh", "{folder}/file", "root@10.77.1.2:/dev/null"],
        ("tcp", V4, "2222"),
    ),
    // Connections, half-open ones, and datagrams. Nobody listens at most of the ports.
    tool("nmap", &["-n", "-Pn", "-sT", "-p20-25,8080", NMAP, V4], ("tcp", V4, "21")),
    tool("nmap", &["-n", "-Pn", "-sS", "-p30-35,8080", NMAP, V4], ("tcp", V4, "31")),
    tool(
        "nmap",
        &["-n", "-Pn", "-sU", "-p69", "--max-retries=1", "--host-timeout=3s", NMAP, V4],
        ("udp", V4, "69"),
    ),
    tool("nc.openbsd", &["-w1", V4, "8080"], ("tcp", V4, "8080")),
    // It gets an address, and leaves the interface as it is.
    tool(
        "busybox",
        &["udhcpc", "-f", "-q", "-n", "-t8", "-T1", "-icable", "-s/bin/true"],
        ("udp", "255.255.255.255", "67"),
    ),
];

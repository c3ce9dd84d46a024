//! Network namespaces: a client, a cable that loses packets, a router, and a server.

use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use panoptes_bounded::{self as bounded, Bounded};

use super::{NoCapture, V4, V6};

/// What a network has: the end, its addresses, and those of the router.
const NETWORKS: [(&str, [&str; 2], [&str; 2]); 2] = [
    ("client", ["10.77.0.1", "fd77::1"], ["10.77.0.254", "fd77::fe"]),
    ("server", [V4, V6], ["10.77.1.254", "fd77:1::fe"]),
];
/// The router needs no program for it.
const FORWARD: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward &&
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
/// The ends of the cable say nothing themselves.
const SILENT: &str = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 &&
    echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";

/// The namespaces, and what runs there. Dropping it ends and removes everything.
pub(super) struct Network {
    pub(super) client: String,
    cable: String,
    pub(super) router: String,
    pub(super) server: String,
    children: Vec<Child>,
}

impl Network {
    pub(super) fn new() -> Result<Self, NoCapture> {
        let name = |what: &str| format!("panoptes-{}-{what}", std::process::id());
        let [client, cable, router, server] = ["client", "cable", "router", "server"].map(name);
        let network = Self { client, cable, router, server, children: Vec::new() };
        for name in network.namespaces() {
            ip(&["netns", "add", name]).map_err(NoCapture::NotPermitted)?;
        }
        network.connect().map_err(NoCapture::Failed)?;
        Ok(network)
    }

    fn namespaces(&self) -> [&str; 4] {
        [&self.client, &self.cable, &self.router, &self.server]
    }

    /// Connects both ends to the router, the client through the cable.
    fn connect(&self) -> Result<(), String> {
        let [client, cable, router, server] = self.namespaces();
        run(&mut inside(router, "sh", &["-c", FORWARD]))?;
        run(&mut inside(cable, "sh", &["-c", SILENT]))?;
        pair([client, "cable"], [cable, "client"])?;
        pair([router, "client"], [cable, "router"])?;
        pair([server, "cable"], [router, "server"])?;
        for (name, (port, own, gateways)) in [client, server].into_iter().zip(NETWORKS) {
            for (name, device, [v4, v6]) in [(name, "cable", own), (router, port, gateways)] {
                let [v4, v6] = [format!("{v4}/24"), format!("{v6}/64")];
                ip(&["-n", name, "address", "add", &v4, "dev", device])?;
                ip(&["-n", name, "address", "add", &v6, "dev", device, "nodad"])?;
            }
            for gateway in gateways {
                ip(&["-n", name, "route", "add", "default", "via", gateway])?;
            }
        }
        Ok(())
    }

    /// Starts what loses, delays and reorders packets. It prints how many when it ends.
    pub(super) fn start_cable(&mut self) -> Result<(u32, BufReader<impl Read + use<>>), String> {
        let script = ["-c", include_str!("relay.py"), "client", "router"];
        let mut python = inside(&self.cable, "python3", &script);
        let child = self.start(python.stdout(Stdio::piped()))?;
        let (pid, stdout) = (child.id(), child.stdout.take());
        Ok((pid, wait_for(stdout, "ready", "the cable")?))
    }

    pub(super) fn start(&mut self, command: &mut Command) -> Result<&mut Child, String> {
        let name = format!("{command:?}");
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        self.children.push(child);
        self.children.last_mut().ok_or_else(String::new)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = bounded::wait(child);
        }
        // The interfaces go with their ends.
        for name in self.namespaces() {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// Connects two interfaces, each of a namespace.
fn pair([space, name]: [&str; 2], [other_space, other]: [&str; 2]) -> Result<(), String> {
    let peer = ["type", "veth", "peer", "name", other, "netns", other_space];
    ip(&[&["-n", space, "link", "add", name], &peer[..]].concat())?;
    for (space, name) in [(space, name), (other_space, other)] {
        // Packets as a real cable has them, and none of 64 KiB.
        ip(&["-n", space, "link", "set", name, "gso_max_segs", "1"])?;
        ip(&["-n", space, "link", "set", name, "up"])?;
    }
    Ok(())
}

/// A program inside of a namespace: `ip` becomes the program, so ending one ends the other.
pub(super) fn inside(namespace: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

/// Runs a command that must succeed.
pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let output =
        bounded::output(command).map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}", errors.trim()))
}

/// Reads up to a line that has a text, and returns what is behind it.
pub(super) fn wait_for<P: Read + AsFd>(
    pipe: Option<P>,
    text: &str,
    who: &str,
) -> Result<BufReader<Bounded<P>>, String> {
    let pipe = pipe.ok_or_else(|| format!("{who} has no pipe"))?;
    // The rest behind the line comes when the capture ends.
    let mut pipe = BufReader::new(Bounded::within(pipe, bounded::LONG));
    let mut all = String::new();
    loop {
        let mut line = String::new();
        match pipe.read_line(&mut line) {
            Ok(0) => return Err(format!("{who} ended: {}", all.trim())),
            Ok(_) if line.contains(text) => return Ok(pipe),
            Ok(_) => all.push_str(&line),
            Err(error) => return Err(format!("{who}: {error}")),
        }
    }
}

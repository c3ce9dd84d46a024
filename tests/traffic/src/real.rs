//! A capture of real programs: a client and servers talk through a router that loses packets. Each
//! of the three is a network namespace.
//!
//! There is no truth but what is in [`TOOLS`]: who talks to whom. So such a capture is for
//! comparing two sensors. It needs root, and the programs `ip`, `tc`, `python3` and `tcpdump`.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The addresses of the servers.
const V4: &str = "10.77.1.2";
const V6: &str = "fd77:1::2";
/// What a network has: the end, its addresses, and those of the router.
const NETWORKS: [(&str, [&str; 2], [&str; 2]); 2] = [
    ("client", ["10.77.0.1", "fd77::1"], ["10.77.0.254", "fd77::fe"]),
    ("server", [V4, V6], ["10.77.1.254", "fd77:1::fe"]),
];
/// The router needs no program for it.
const FORWARD: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward &&
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
/// Seconds that a program may take.
const TOOL_SECONDS_MAX: &str = "20";

/// A program of the client, and whom it talks to.
struct Tool {
    program: &'static str,
    arguments: &'static [&'static str],
    contact: Contact,
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
    Tool { program, arguments, contact: Contact { protocol, server, port } }
}

/// What runs, one after the other. Programs that are not installed are left out.
const TOOLS: &[Tool] = &[
    tool("curl", &["-s", "-o/dev/null", "http://10.77.1.2:8080/400000"], ("tcp", V4, "8080")),
    tool("curl", &["-sgo/dev/null", "http://[fd77:1::2]:8080/90000"], ("tcp", V6, "8080")),
    // Nobody listens.
    tool("curl", &["-s", "http://10.77.1.2:81/"], ("tcp", V4, "81")),
    tool("python3", &["-c", include_str!("real/clients.py"), V4], ("udp", V4, "5000")),
    tool("python3", &["-c", include_str!("real/clients.py"), V4], ("udp", V4, "53")),
    tool("ssh", &["-oBatchMode=yes", "-oConnectTimeout=5", V4], ("tcp", V4, "22")),
    tool("dig", &["+time=2", "@10.77.1.2", "www.example.org"], ("udp", V4, "53")),
    tool("ping", &["-c3", "-i0.2", V4], ("icmp", V4, "")),
    tool("ping", &["-c3", "-i0.2", V6], ("ipv6-icmp", V6, "")),
    tool("iperf3", &["-n1M", "-c", V4], ("tcp", V4, "5201")),
    tool("iperf3", &["-u", "-b2M", "-t1", "-c", V4], ("udp", V4, "5201")),
    tool("nmap", &["-n", "-Pn", "-sT", "-p20-25", V4], ("tcp", V4, "21")),
    tool("nc", &["-w1", V4, "8080"], ("tcp", V4, "8080")),
];

/// How the router loses packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// It delays, reorders and drops at random (`sch_netem`).
    Netem,
    /// The kernel has no `sch_netem`. A short queue before a slow link drops what is too much. It
    /// reorders nothing.
    ShortQueue,
}

/// What a real capture has.
#[derive(Clone, Debug)]
pub struct RealCapture {
    pub contacts: Vec<Contact>,
    /// Programs that are not installed.
    pub missing: Vec<&'static str>,
    pub loss: Loss,
}

/// Why there is no real capture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoCapture {
    /// This user, or this kernel, makes no network namespaces; the message is that of `ip`.
    NotPermitted(String),
    Failed(String),
}

/// Runs all programs that are installed, and captures what the client sends and receives. At the
/// end, nothing is left but the file.
///
/// # Errors
///
/// There are no namespaces, a program that is always needed is missing, or no capture is written.
pub fn real_capture(file: &Path) -> Result<RealCapture, NoCapture> {
    let mut network = Network::new()?;
    network.capture(file).map_err(NoCapture::Failed)
}

/// The namespaces, and what runs there. Dropping it ends and removes everything.
struct Network {
    client: String,
    router: String,
    server: String,
    children: Vec<Child>,
}

impl Network {
    fn new() -> Result<Self, NoCapture> {
        let name = |what: &str| format!("panoptes-{}-{what}", std::process::id());
        let [client, router, server] = ["client", "router", "server"].map(name);
        let network = Self { client, router, server, children: Vec::new() };
        for name in network.namespaces() {
            ip(&["netns", "add", name]).map_err(NoCapture::NotPermitted)?;
        }
        network.connect().map_err(NoCapture::Failed)?;
        Ok(network)
    }

    fn namespaces(&self) -> [&str; 3] {
        [&self.client, &self.router, &self.server]
    }

    /// Connects both ends to the router.
    fn connect(&self) -> Result<(), String> {
        let [client, router, server] = self.namespaces();
        run(&mut inside(router, "sh", &["-c", FORWARD]))?;
        for (name, (port, own, gateways)) in [client, server].into_iter().zip(NETWORKS) {
            let peer = ["type", "veth", "peer", "name", port, "netns", router];
            ip(&[&["-n", name, "link", "add", "cable"], &peer[..]].concat())?;
            for (name, device, [v4, v6]) in [(name, "cable", own), (router, port, gateways)] {
                let [v4, v6] = [format!("{v4}/24"), format!("{v6}/64")];
                ip(&["-n", name, "address", "add", &v4, "dev", device])?;
                ip(&["-n", name, "address", "add", &v6, "dev", device, "nodad"])?;
                // Packets as a real cable has them, and none of 64 KiB.
                ip(&["-n", name, "link", "set", device, "gso_max_segs", "1"])?;
                ip(&["-n", name, "link", "set", device, "up"])?;
            }
            for gateway in gateways {
                ip(&["-n", name, "route", "add", "default", "via", gateway])?;
            }
        }
        Ok(())
    }

    fn capture(&mut self, file: &Path) -> Result<RealCapture, String> {
        let loss = self.make_lossy()?;
        let servers = ["-c", include_str!("real/servers.py"), V4, V6];
        let mut python = inside(&self.server, "python3", &servers);
        let child = self.start(python.stdout(Stdio::piped()))?;
        let stdout = child.stdout.take();
        wait_for(stdout, "ready", "the servers")?;
        if is_installed("iperf3") {
            self.start(&mut inside(&self.server, "iperf3", &["-s"]))?;
        }
        let path = file.to_string_lossy();
        let options = ["-i", "cable", "-U", "--immediate-mode", "-Z", "root", "-w", &path];
        let mut tcpdump = inside(&self.client, "tcpdump", &options);
        let child = self.start(tcpdump.stderr(Stdio::piped()))?;
        let (pid, stderr) = (child.id(), child.stderr.take());
        // The rest of its messages is read, too, so that it never waits.
        let stderr = wait_for(stderr, "listening on", "tcpdump")?;
        let reading = thread::spawn(move || std::io::copy(&mut { stderr }, &mut std::io::sink()));
        let (contacts, missing) = self.run_tools()?;
        thread::sleep(Duration::from_millis(500));
        run(Command::new("kill").args(["-INT", &pid.to_string()]))?;
        // Its standard error ends with it.
        let _ = reading.join();
        Ok(RealCapture { contacts, missing, loss })
    }

    /// Makes the router lose packets in both directions.
    fn make_lossy(&self) -> Result<Loss, String> {
        const NETEM: &str = "netem delay 4ms 2ms loss 1% reorder 20% 50%";
        const QUEUE: &str = "tbf rate 20mbit burst 4kb limit 12kb";
        let make = |how: &str| {
            NETWORKS.iter().try_for_each(|(port, ..)| {
                let mut tc = Command::new("tc");
                tc.args(["-n", &self.router, "qdisc", "replace", "dev", port, "root"]);
                run(tc.args(how.split(' ')))
            })
        };
        if make(NETEM).is_ok() {
            return Ok(Loss::Netem);
        }
        make(QUEUE).map(|()| Loss::ShortQueue)
    }

    fn run_tools(&self) -> Result<(Vec<Contact>, Vec<&'static str>), String> {
        let (mut contacts, mut missing) = (Vec::new(), Vec::new());
        for tool in TOOLS {
            if !is_installed(tool.program) {
                missing.push(tool.program);
                continue;
            }
            let limited = [&[TOOL_SECONDS_MAX, tool.program], tool.arguments].concat();
            let mut command = inside(&self.client, "timeout", &limited);
            // It may fail: some talk to nobody, and packets are lost.
            command.status().map_err(|error| format!("cannot start {}: {error}", tool.program))?;
            contacts.push(tool.contact);
        }
        missing.dedup();
        Ok((contacts, missing))
    }

    fn start(&mut self, command: &mut Command) -> Result<&mut Child, String> {
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
            let _ = child.wait();
        }
        // The cables go with their ends.
        for name in self.namespaces() {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// A program inside of a namespace: `ip` becomes the program, so ending one ends the other.
fn inside(namespace: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}", errors.trim()))
}

/// Reads up to a line that begins with a text, and returns what is behind it.
fn wait_for(
    pipe: Option<impl Read>,
    start: &str,
    who: &str,
) -> Result<BufReader<impl Read>, String> {
    let mut pipe = BufReader::new(pipe.ok_or_else(|| format!("{who} has no pipe"))?);
    let mut all = String::new();
    loop {
        let mut line = String::new();
        match pipe.read_line(&mut line) {
            Ok(0) => return Err(format!("{who} ended: {}", all.trim())),
            Ok(_) if line.contains(start) => return Ok(pipe),
            Ok(_) => all.push_str(&line),
            Err(error) => return Err(format!("{who}: {error}")),
        }
    }
}

fn is_installed(program: &str) -> bool {
    let searched = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&searched).any(|folder| folder.join(program).is_file())
}

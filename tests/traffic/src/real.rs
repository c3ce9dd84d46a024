//! A capture of real programs: a client and servers talk through a router, and a cable that loses,
//! delays and reorders packets. Each of the four is a network namespace.
//!
//! There is no truth but who talks to whom (`tools.rs`), and that packets are lost and reordered.
//! So such a capture is for comparing two sensors. It needs root, and the programs `ip`, `python3`
//! and `tcpdump`.

mod network;
mod tools;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use panoptes_bounded as bounded;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use network::{Network, inside, run, wait_for};
pub use tools::Contact;
use tools::TOOLS;

/// The addresses of the servers.
const V4: &str = "10.77.1.2";
const V6: &str = "fd77:1::2";
/// Seconds that a program may take.
const TOOL_SECONDS_MAX: &str = "10";
/// Bytes of the file that is copied.
const FILE_BYTES: usize = 300_000;

/// A resolver over IPv6, and what gives the client an address.
const RESOLVER: &[&str] = &[
    "--no-daemon",
    "--conf-file=/dev/null",
    "--no-resolv",
    "--no-hosts",
    "--user=root",
    "--pid-file",
    "--bind-interfaces",
    "--listen-address=fd77:1::2",
    "--address=/example.org/10.77.1.2",
];
const ADDRESSES: &[&str] = &[
    "--no-daemon",
    "--conf-file=/dev/null",
    "--port=0",
    "--no-ping",
    "--user=root",
    "--pid-file",
    "--dhcp-leasefile=/dev/null",
    "--dhcp-range=10.77.0.100,10.77.0.150,120",
    "--interface=client",
];

/// What a real capture has.
#[derive(Clone, Debug)]
pub struct RealCapture {
    pub contacts: Vec<Contact>,
    /// Programs that are not there.
    pub missing: Vec<&'static str>,
    /// Packets of both directions that never arrived.
    pub lost: u64,
    /// Packets of both directions that later ones have overtaken.
    pub reordered: u64,
}

/// Why there is no real capture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoCapture {
    /// This user, or this kernel, makes no network namespaces; the message is that of `ip`.
    NotPermitted(String),
    Failed(String),
}

/// Runs all available programs, and captures what the client sends and receives. Programs are
/// searched in a folder first. At the end, nothing is left but the file.
///
/// # Errors
///
/// There are no namespaces, a program that is always needed is missing, or no capture is written.
pub fn real_capture(file: &Path, programs: Option<&Path>) -> Result<RealCapture, NoCapture> {
    let mut network = Network::new()?;
    let talk = Talk::new(programs).map_err(NoCapture::Failed)?;
    talk.capture(&mut network, file).map_err(NoCapture::Failed)
}

/// What the programs need.
struct Talk {
    programs: Vec<PathBuf>,
    folder: TempDir,
}

impl Talk {
    fn new(programs: Option<&Path>) -> Result<Self, String> {
        let searched = std::env::var_os("PATH").unwrap_or_default();
        let programs = programs.map(Path::to_owned).into_iter();
        let programs = programs.chain(std::env::split_paths(&searched)).collect();
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        Ok(Self { programs, folder })
    }

    /// Where a program is.
    fn find(&self, program: &str) -> Option<String> {
        let paths = self.programs.iter().map(|folder| folder.join(program));
        paths.into_iter().find(|path| path.is_file()).map(|path| path.display().to_string())
    }

    fn capture(&self, network: &mut Network, file: &Path) -> Result<RealCapture, String> {
        let (cable, mut counts) = network.start_cable()?;
        self.start_servers(network)?;
        let path = file.to_string_lossy();
        // A large buffer, so that it misses nothing.
        let options =
            ["-i", "cable", "-U", "-B16384", "--immediate-mode", "-Z", "root", "-w", &path];
        let mut tcpdump = inside(&network.client, "tcpdump", &options);
        let child = network.start(tcpdump.stderr(Stdio::piped()))?;
        let (pid, stderr) = (child.id(), child.stderr.take());
        // The rest of its messages is read, too, so that it never waits.
        let stderr = wait_for(stderr, "listening on", "tcpdump")?;
        let reading = thread::spawn(move || std::io::copy(&mut { stderr }, &mut std::io::sink()));
        let (contacts, missing) = self.run_tools(network)?;
        thread::sleep(Duration::from_millis(500));
        end(pid)?;
        // Its standard error ends with it.
        let _ = reading.join();
        end(cable)?;
        let mut text = String::new();
        counts.read_to_string(&mut text).map_err(|error| format!("the cable: {error}"))?;
        let mut counts = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
        let (lost, reordered) = (counts.next().unwrap_or(0), counts.next().unwrap_or(0));
        Ok(RealCapture { contacts, missing, lost, reordered })
    }

    fn start_servers(&self, network: &mut Network) -> Result<(), String> {
        let servers = ["-c", include_str!("real/servers.py"), V4, V6];
        let mut python = inside(&network.server, "python3", &servers);
        let child = network.start(python.stdout(Stdio::piped()))?;
        let stdout = child.stdout.take();
        wait_for(stdout, "ready", "the servers")?;
        if let Some(iperf3) = self.find("iperf3") {
            network.start(&mut inside(&network.server, &iperf3, &["-s"]))?;
        }
        if let Some(dnsmasq) = self.find("dnsmasq") {
            network.start(&mut inside(&network.server, &dnsmasq, RESOLVER))?;
            network.start(&mut inside(&network.router, &dnsmasq, ADDRESSES))?;
        }
        self.start_ssh(network)
    }

    /// Starts a server of SSH that knows the client's key, if there is one.
    fn start_ssh(&self, network: &mut Network) -> Result<(), String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let write = |name: &str, text: &str| {
            fs::write(path(name), text).map_err(|error| format!("{}: {error}", path(name)))
        };
        let found = ["dropbear", "dropbearkey", "ssh-keygen", "scp"].map(|name| self.find(name));
        let [Some(dropbear), Some(dropbearkey), Some(keygen), Some(scp)] = found else {
            return Ok(());
        };
        let (key, host) = (path("key"), path("host"));
        run(Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-f", &key]))?;
        run(Command::new(dropbearkey).args(["-t", "ed25519", "-f", &host]))?;
        let public = fs::read_to_string(path("key.pub")).map_err(|error| error.to_string())?;
        fs::create_dir(path(".ssh")).map_err(|error| error.to_string())?;
        // The server finds programs only in the machine's folders.
        let folder = Path::new(&scp).parent().unwrap_or(Path::new("/")).display();
        let command = format!("PATH={folder}:$PATH; eval $SSH_ORIGINAL_COMMAND");
        write(".ssh/authorized_keys", &format!("command=\"{command}\" {public}"))?;
        write("file", &"z".repeat(FILE_BYTES))?;
        write("passwd", &format!("root:x:0:0::{}:/bin/sh\n", self.folder.path().display()))?;
        // `ip netns exec` has made a mount namespace of its own, where root may have another home.
        let script = format!(
            "mount --bind {} /etc/passwd && exec {dropbear} -F -s -p 2222 -r {host} -P {}",
            path("passwd"),
            path("pid")
        );
        network.start(&mut inside(&network.server, "sh", &["-c", &script])).map(drop)
    }

    fn run_tools(&self, network: &Network) -> Result<(Vec<Contact>, Vec<&'static str>), String> {
        let (mut contacts, mut missing) = (Vec::new(), Vec::new());
        for tool in TOOLS {
            let Some(program) = self.find(tool.program) else {
                missing.push(tool.program);
                continue;
            };
            let folder = self.folder.path().display().to_string();
            let programs = Path::new(&program).parent().unwrap_or(Path::new("/")).display();
            let fill = |text: &&str| {
                text.replace("{folder}", &folder).replace("{programs}", &programs.to_string())
            };
            let arguments: Vec<_> = tool.arguments.iter().map(fill).collect();
            let mut command = inside(&network.client, "timeout", &[TOOL_SECONDS_MAX, &program]);
            // It may fail: some talk to nobody, and packets are lost.
            let status = bounded::status_within(command.args(arguments), bounded::LONG);
            let status =
                status.map_err(|error| format!("cannot start {}: {error}", tool.program))?;
            if status.success() || !tool.asks_first {
                contacts.push(tool.contact);
            }
        }
        missing.dedup();
        Ok((contacts, missing))
    }
}

/// Ends a program as a user does.
fn end(pid: u32) -> Result<(), String> {
    let process = Pid::from_raw(pid.cast_signed()).ok_or("no process")?;
    kill_process(process, Signal::INT).map_err(|error| format!("process {pid}: {error}"))
}

//! The sensors, and how each is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use panoptes_rig::boxes::{self, Programs};

use crate::cargo;

pub(super) const ARGUS: &str = "argus";
pub(super) const PANOPTES: &str = "panoptes";
pub(super) const SURICATA: &str = "suricata";
pub(super) const ONLY_READ: &str = "only read";
/// Where softflowd sends its datagrams. Nobody needs to listen.
const COLLECTOR: &str = "127.0.0.1:29995";

/// The head of its configuration. The log of events and the protocols follow.
const SURICATA_HEAD: &str = "%YAML 1.1
---
stats: {enabled: no}
logging:
  outputs:
    - file: {enabled: yes, level: notice, filename: suricata.log}
";

/// Nothing but flows.
const SURICATA_FLOWS: &str = "outputs:
  - eve-log: {enabled: yes, filetype: regular, filename: eve.json, types: [flow]}
app-layer: {protocols: {tls: {enabled: no}, http: {enabled: no}, dns: {enabled: no}}}
";

/// Also what it finds of the protocols that `--application all` reads.
const SURICATA_PROTOCOLS: &str = "outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types: [flow, tls, http, dns, ssh, quic]
app-layer:
  protocols:
    tls: {enabled: yes, ja3-fingerprints: yes, detection-ports: {dp: 443}}
    http: {enabled: yes}
    dns: {tcp: {enabled: yes}, udp: {enabled: yes}}
    ssh: {enabled: yes}
    quic: {enabled: yes}
";

/// Options that both argus and Panoptes have: bytes of applications, times between packets,
/// response times, sizes of packets, hardware addresses, and the first bytes of data.
const MORE: [&str; 7] = ["-A", "-J", "-R", "-Z", "-m", "-U", "32"];
/// The applications, and the first packets of each flow.
const APPLICATIONS: [&str; 4] = ["--application", "all", "--sequence", "10"];

type Arguments = fn(&Path, &Path) -> Vec<OsString>;

/// A flow sensor.
pub(super) struct Sensor {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    /// Its arguments for a capture and a folder to write to.
    pub(super) arguments: Arguments,
    /// The sensor to which it is compared.
    pub(super) partner: &'static str,
}

/// Where a program comes from.
enum Origin {
    /// This machine, where Debian's package of this name is installed.
    Package(&'static str),
    /// The cache, to which it is fetched.
    Cache(&'static Programs),
}

/// A sensor of others.
struct Known {
    name: &'static str,
    program: &'static str,
    origin: Origin,
    arguments: Arguments,
    partner: &'static str,
}

const ARGUS_MORE: &str = "argus -AJRZm -U 32";
const SURICATA_APPLICATIONS: &str = "suricata, applications";

const KNOWN: [Known; 7] = [
    Known {
        name: ARGUS,
        program: ARGUS,
        origin: Origin::Cache(&boxes::ARGUS_3),
        arguments: |capture, folder| argus(&[], capture, folder),
        partner: ARGUS,
    },
    Known {
        name: "argus 5",
        program: ARGUS,
        origin: Origin::Cache(&boxes::ARGUS_5),
        arguments: |capture, folder| argus(&[], capture, folder),
        partner: ARGUS,
    },
    Known {
        name: "softflowd",
        program: "softflowd",
        origin: Origin::Package("softflowd"),
        arguments: |capture, _| {
            let options = ["-d", "-v", "10", "-n", COLLECTOR, "-p", "pid", "-c", "control", "-r"];
            with(&options, capture, &[], None)
        },
        partner: ARGUS,
    },
    Known {
        name: "nfpcapd",
        program: "nfpcapd",
        origin: Origin::Cache(&boxes::NFDUMP),
        arguments: |capture, folder| with(&["-r"], capture, &["-w"], Some(folder)),
        partner: ARGUS,
    },
    Known {
        name: SURICATA,
        program: SURICATA,
        origin: Origin::Cache(&boxes::SURICATA),
        arguments: |capture, folder| suricata(SURICATA_FLOWS, capture, folder),
        partner: ARGUS,
    },
    Known {
        name: ARGUS_MORE,
        program: ARGUS,
        origin: Origin::Cache(&boxes::ARGUS_3),
        arguments: |capture, folder| argus(&MORE, capture, folder),
        partner: ARGUS_MORE,
    },
    Known {
        name: SURICATA_APPLICATIONS,
        program: SURICATA,
        origin: Origin::Cache(&boxes::SURICATA),
        arguments: |capture, folder| suricata(SURICATA_PROTOCOLS, capture, folder),
        partner: SURICATA_APPLICATIONS,
    },
];

fn argus(options: &[&str], capture: &Path, folder: &Path) -> Vec<OsString> {
    let before = [&["-X"], options, &["-r"]].concat();
    with(&before, capture, &["-w"], Some(&folder.join("flows.argus")))
}

/// As argus. What Panoptes finds of applications is in JSON lines alone.
fn panoptes(options: &[&str], capture: &Path, folder: &Path) -> Vec<OsString> {
    let mut all = argus(options, capture, folder);
    if options == APPLICATIONS
        && let Some(file) = all.last_mut()
    {
        let mut to = OsString::from("json:");
        to.push(&*file);
        *file = to;
    }
    all.insert(0, "flow".into());
    all
}

fn suricata(configuration: &str, capture: &Path, folder: &Path) -> Vec<OsString> {
    let file = folder.join("suricata.yaml");
    // Without the file, suricata says what is wrong, and the run fails.
    let _ = std::fs::write(&file, format!("{SURICATA_HEAD}{configuration}"));
    let mut all = with(&["--runmode", "single", "-k", "none", "-r"], capture, &["-l"], None);
    all.extend([folder.into(), "-c".into(), file.into()]);
    all
}

fn with(before: &[&str], capture: &Path, between: &[&str], last: Option<&Path>) -> Vec<OsString> {
    let mut all: Vec<OsString> = before.iter().map(Into::into).collect();
    all.push(capture.into());
    all.extend(between.iter().map(Into::into));
    all.extend(last.map(Into::into));
    all
}

/// All sensors, Panoptes, and a program that only reads the capture. Those of a package that is not
/// installed are left out.
pub(super) fn all(program: &Path) -> Result<Vec<Sensor>, String> {
    let mut all = Vec::new();
    for Known { name, program: file, origin, arguments, partner } in KNOWN {
        let program = match origin {
            Origin::Cache(programs) => programs.obtain()?.join(file),
            Origin::Package(package) => {
                let Some(program) = find(file) else {
                    eprintln!("xtask: {file} (package {package}) is not installed: left out");
                    continue;
                };
                program
            }
        };
        all.push(Sensor { name, program, arguments, partner });
    }
    let own: [(&'static str, Arguments, &'static str); 3] = [
        (PANOPTES, |capture, folder| panoptes(&[], capture, folder), ARGUS),
        ("panoptes -AJRZm -U 32", |capture, folder| panoptes(&MORE, capture, folder), ARGUS_MORE),
        (
            "panoptes, applications",
            |capture, folder| panoptes(&APPLICATIONS, capture, folder),
            SURICATA_APPLICATIONS,
        ),
    ];
    for (name, arguments, partner) in own {
        all.push(Sensor { name, program: program.to_owned(), arguments, partner });
    }
    let walk: Arguments = |capture, _| vec![capture.into()];
    all.push(Sensor { name: ONLY_READ, program: walker()?, arguments: walk, partner: ARGUS });
    Ok(all)
}

/// Fails unless suricata has read so many packets, and has written flows. It ends with success
/// after a mistake in its configuration, too.
pub(super) fn check_suricata(folder: &Path, packets: u64) -> Result<(), String> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let log = read("suricata.log");
    let counted = counted(&log);
    if counted != Some(packets) {
        return Err(format!("suricata has not read {packets} packets: {}", log.trim()));
    }
    let has_flows = read("eve.json").lines().any(|line| line.contains("\"event_type\":\"flow\""));
    has_flows.then_some(()).ok_or_else(|| "suricata has written no flows".to_owned())
}

/// The number in `… pcap: read 1 file, 3007 packets, 2031741 bytes`.
fn counted(log: &str) -> Option<u64> {
    let (_, rest) = log.split_once("pcap: read 1 file, ")?;
    rest.split(' ').next()?.parse().ok()
}

fn walker() -> Result<PathBuf, String> {
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", "panoptes-packet-files", "--example", "walk"]);
    cargo::program(command, "example", "walk")
}

/// Where a program is: in `PATH`, or where Debian has programs of administrators.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_suricata_counted_are_read() {
        let log = "[1 - Suricata-Main] Notice: pcap: read 1 file, 3007 packets, 2031741 bytes\n";
        assert_eq!(counted(log), Some(3007));
        assert_eq!(counted("Notice: suricata: This is Suricata version 7.0.10 RELEASE\n"), None);
    }
}

//! The sensors, and how each is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use panoptes_rig::boxes::SURICATA as SURICATA_PROGRAMS;

use crate::cargo;

pub(super) const ARGUS: &str = "argus";
pub(super) const PANOPTES: &str = "panoptes";
pub(super) const SURICATA: &str = "suricata";
/// Where softflowd sends its datagrams. Nobody needs to listen.
const COLLECTOR: &str = "127.0.0.1:29995";

/// Its configuration: nothing but its log of flows.
const SURICATA_YAML: &str = "%YAML 1.1
---
stats: {enabled: no}
logging:
  outputs:
    - file: {enabled: yes, level: notice, filename: suricata.log}
outputs:
  - eve-log: {enabled: yes, filetype: regular, filename: eve.json, types: [flow]}
app-layer: {protocols: {tls: {enabled: no}, http: {enabled: no}, dns: {enabled: no}}}
";

/// A flow sensor.
pub(super) struct Sensor {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    /// Its arguments for a capture and a folder to write to.
    pub(super) arguments: fn(&Path, &Path) -> Vec<OsString>,
}

/// A sensor that may be installed: name, Debian's package, arguments.
type Known = (&'static str, &'static str, fn(&Path, &Path) -> Vec<OsString>);

const KNOWN: [Known; 4] = [
    (ARGUS, "argus-server", |capture, folder| {
        with(&["-X", "-r"], capture, &["-w"], Some(&folder.join("argus.out")))
    }),
    ("softflowd", "softflowd", |capture, _| {
        let options = ["-d", "-v", "10", "-n", COLLECTOR, "-p", "pid", "-c", "control", "-r"];
        with(&options, capture, &[], None)
    }),
    ("nfpcapd", "nfdump", |capture, folder| with(&["-r"], capture, &["-w"], Some(folder))),
    (SURICATA, "suricata (backports)", |capture, folder| {
        let configuration = folder.join("suricata.yaml");
        // Without the file, suricata says what is wrong, and the run fails.
        let _ = std::fs::write(&configuration, SURICATA_YAML);
        let mut all = with(&["--runmode", "single", "-k", "none", "-r"], capture, &["-l"], None);
        all.extend([folder.into(), "-c".into(), configuration.into()]);
        all
    }),
];

fn with(before: &[&str], capture: &Path, between: &[&str], last: Option<&Path>) -> Vec<OsString> {
    let mut all: Vec<OsString> = before.iter().map(Into::into).collect();
    all.push(capture.into());
    all.extend(between.iter().map(Into::into));
    all.extend(last.map(Into::into));
    all
}

/// All sensors that are installed, Panoptes, and a program that only reads the capture. Suricata is
/// fetched if it is not installed.
pub(super) fn all(panoptes: &Path) -> Result<Vec<Sensor>, String> {
    let mut all = Vec::new();
    for (name, package, arguments) in KNOWN {
        match find(name) {
            Some(program) => all.push(Sensor { name, program, arguments }),
            None if name == SURICATA => {
                let program = SURICATA_PROGRAMS.obtain()?.join(name);
                all.push(Sensor { name, program, arguments });
            }
            None => eprintln!("xtask: {name} is not installed (package {package}): left out"),
        }
    }
    let flow: fn(&Path, &Path) -> Vec<OsString> = |capture, folder| {
        with(&["flow", "-X", "-r"], capture, &["-w"], Some(&folder.join("flows.argus")))
    };
    all.push(Sensor { name: PANOPTES, program: panoptes.to_owned(), arguments: flow });
    let walk: fn(&Path, &Path) -> Vec<OsString> = |capture, _| vec![capture.into()];
    all.push(Sensor { name: "only read", program: walker()?, arguments: walk });
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
    command.args(["build", "--release", "--package", "panoptes-capture", "--example", "walk"]);
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

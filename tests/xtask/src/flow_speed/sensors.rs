//! The sensors, and how each is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cargo;

pub(super) const ARGUS: &str = "argus";
pub(super) const PANOPTES: &str = "panoptes";
/// Where softflowd sends its datagrams. Nobody needs to listen.
const COLLECTOR: &str = "127.0.0.1:29995";

/// Suricata with nothing but its log of flows.
const SURICATA: &str = "%YAML 1.1
---
stats: {enabled: no}
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
    ("suricata", "suricata (backports)", |capture, folder| {
        let configuration = folder.join("suricata.yaml");
        // Without the file, suricata says what is wrong, and the run fails.
        let _ = std::fs::write(&configuration, SURICATA);
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

/// All sensors that are installed, Panoptes, and a program that only reads the capture.
pub(super) fn all(panoptes: &Path) -> Result<Vec<Sensor>, String> {
    let mut all = Vec::new();
    for (name, package, arguments) in KNOWN {
        match find(name) {
            Some(program) => all.push(Sensor { name, program, arguments }),
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

fn walker() -> Result<PathBuf, String> {
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", "panoptes-capture", "--example", "walk"]);
    cargo::program(&mut command, "example", "walk")
}

/// Where a program is: in `PATH`, or where Debian has programs of administrators.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

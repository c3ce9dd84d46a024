//! The captures that sensors are compared over, made once and kept.

use std::path::PathBuf;
use std::process::Command;

use panoptes_rig::{cache, output};

use crate::cargo;

/// A capture.
pub(crate) struct Capture {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) packets: u64,
}

/// A mix of conversations with 96 bytes of each packet, and a quarter as many with all bytes.
pub(crate) fn mixed(packets: u64) -> Result<Vec<Capture>, String> {
    let text = packets.to_string();
    let snapped = ["--packets", &text, "--seed", "3", "--snap", "96"];
    let text = (packets / 4).to_string();
    let whole = ["--packets", &text, "--seed", "3"];
    Ok(vec![make("96-byte snaps", &snapped)?, make("whole packets", &whole)?])
}

/// A million flows of one packet each, within two seconds.
pub(super) fn million_flows() -> Result<Capture, String> {
    make("a million flows", &["--flows", "1000000"])
}

fn make(name: &'static str, options: &[&str]) -> Result<Capture, String> {
    let file = options.join("").replace("--", "-");
    let path = cache::folder("flow")?.join(format!("capture{file}.pcap"));
    let count = path.with_extension("packets");
    if !path.exists() || !count.exists() {
        let part = path.with_extension("part");
        let text = output(Command::new(generator()?).args(options).arg(&part))?;
        let packets = text.rsplit(": ").next().and_then(|text| text.split(' ').next());
        std::fs::write(&count, packets.unwrap_or_default())
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let text = std::fs::read_to_string(&count).map_err(|e| format!("{}: {e}", count.display()))?;
    let packets = text.trim().parse().map_err(|_| format!("{}: no number", count.display()))?;
    Ok(Capture { name, path, packets })
}

fn generator() -> Result<PathBuf, String> {
    let mut command = cargo::command();
    command.args(["build", "--release", "--package", "panoptes-traffic", "--bin", "mixed_capture"]);
    cargo::program(command, "bin", "mixed_capture")
}

//! Machines in files: what every machine of a measurement has.
//!
//! A machine is a synthetic one whose memory is repeated in a sparse file. The file is open for
//! writing here, so the watcher takes it for the memory of a live guest.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_decoders::text::Hex;
use panoptes_synthetic::{Machine, Size, profile};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The kernel of all machines.
const RELEASE: &str = "6.1.0-50-amd64";
/// Programs of [`Size::processes`], process 1 and the shells, and the library of all.
const SHIPPED: [&str; 22] = [
    "/usr/lib/systemd/systemd",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/bin/bash",
    "/usr/bin/editor",
    "/usr/bin/sleep",
    "/usr/bin/busy",
    "/usr/bin/worker0",
    "/usr/bin/worker1",
    "/usr/bin/worker2",
    "/usr/bin/worker3",
    "/usr/bin/worker4",
    "/usr/bin/worker5",
    "/usr/bin/worker6",
    "/usr/bin/worker7",
    "/usr/bin/worker8",
    "/usr/bin/worker9",
    "/usr/bin/worker10",
    "/usr/bin/worker11",
    "/usr/bin/worker12",
    "/usr/bin/worker13",
    "/usr/bin/worker14",
    "/usr/bin/worker15",
];
/// Size of each of them in bytes.
pub(crate) const SHIPPED_BYTES: u64 = 12_288;
/// The port of the connection whose status is recorded in each scan.
pub(crate) const METRONOME_PORT: u16 = 7;

/// A machine and the file with its memory.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) machine: Machine,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    ticked: Instant,
}

impl Live {
    /// Boots a machine of `size` whose memory has `bytes` bytes, and writes it to a new file.
    pub(crate) fn boot(
        folder: &Path,
        name: &str,
        size: Size,
        bytes: u64,
        seed: u64,
    ) -> io::Result<Self> {
        let builder = Machine::builder(&profile(RELEASE)).size(size).memory(bytes).seed(seed);
        let mut machine = builder.build();
        for path in SHIPPED {
            machine.write_file(path, &content_of(path));
        }
        // One connection, whose status every scan records.
        let pid = machine.fork(1);
        machine.exec(pid, "/usr/bin/sleep", &["sleep", "infinity"]);
        let source = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), 40_000));
        let peer = SocketAddr::from((Ipv4Addr::new(10, 9, 9, 9), METRONOME_PORT));
        machine.connect(pid, source, peer);
        let path = folder.join(format!("{name}.mem"));
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        machine.memory().mirror_to(file)?;
        Ok(Self { machine, name: name.to_owned(), path, ticked: Instant::now() })
    }

    /// Advances the machine's clock by the time that has passed, if that is at least `step`, and
    /// writes the last stores.
    pub(crate) fn tick(&mut self, step: Duration) {
        let passed = self.ticked.elapsed();
        if passed >= step {
            self.ticked += passed;
            self.machine.tick(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        }
        self.machine.memory().flush();
    }
}

/// The content of a shipped file.
fn content_of(path: &str) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend(path.bytes().cycle().take(SHIPPED_BYTES as usize - 4));
    bytes
}

/// An SBOM of the files that every machine has.
pub(crate) fn sbom() -> Value {
    let file = |path: &str| {
        let digest = Sha256::digest(content_of(path));
        let hash = Hex(&digest).to_string();
        json!({ "path": path, "size": SHIPPED_BYTES, "sha256": hash })
    };
    let files: Vec<_> = SHIPPED.iter().map(|path| file(path)).collect();
    let subject = json!({ "kind": "root" });
    json!({ "format": "panoptes-sbom", "version": 1, "subject": subject, "files": files })
}

//! Shared by the benchmarks: recorded machines to measure on.
//!
//! `benches/` has criterion's benchmarks, of single steps; `src/bin/scan_floor` compares whole
//! scans of a memory file with their lower bound; `src/bin/scale.rs` watches many systems on
//! several cores. Panoptes itself uses nothing of this.

pub mod bandwidth;
pub mod chase;
pub mod cores_model;
pub mod fleet;
pub mod model;
pub mod one_core;
pub mod parts;
pub mod pauses;
#[path = "../../engine/tests/common/recorded.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod recorded;
pub mod times;

use std::io;
use std::path::Path;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::PackedLayout;
use panoptes_engine::address::{MemoryReader, ReaderSizes};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Snapshot, Walker};
use panoptes_profiles::{DiscoveryOptions, Profile, discover};
use panoptes_sources::Replay;
use panoptes_tables::HashKey;

pub use panoptes_engine::policy::lines::{LineCounts, LineWriter};

/// Any key works: it only spreads the entries of tables.
pub const KEY: HashKey = HashKey::new(0x5eed_5eed_5eed_5eed);

/// A recorded machine whose kernel was found.
#[derive(Debug)]
pub struct Machine {
    /// The image's name.
    pub name: String,
    pub memory: Replay,
    pub profile: Profile,
    /// The same, ready to be walked.
    pub kernel: Kernel,
}

impl Machine {
    /// The machine among the sources and those in the cache folder, smallest first.
    ///
    /// # Panics
    ///
    /// An image cannot be read, or no kernel is found in it: a benchmark that leaves it out would
    /// measure something else than its name says.
    pub fn all() -> Vec<Self> {
        let (name, bytes) = recorded::in_repository();
        let builtin = DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() };
        let mut machines = vec![Self::from_bytes(name, bytes, &builtin)];
        machines.extend(recorded::images().iter().map(|image| Self::open(image)));
        machines.sort_by_key(|machine| machine.memory.page_count());
        machines
    }

    fn open(image: &Path) -> Self {
        let name = image.file_stem().map_or_else(String::new, |stem| stem.display().to_string());
        let bytes =
            std::fs::read(image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        Self::from_bytes(name, bytes, &DiscoveryOptions::default())
    }

    fn from_bytes(name: String, bytes: Vec<u8>, options: &DiscoveryOptions) -> Self {
        let mut memory =
            Replay::from_bytes(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let profile = discover(&mut memory, options, &mut ())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let kernel = kernel_of(&profile);
        Self { name, memory, profile, kernel }
    }

    /// A walker that has scanned the machine once.
    pub fn walked(&mut self) -> io::Result<Walker> {
        let mut walker = Walker::new(&Limits::default(), KEY);
        walker
            .scan(&mut self.memory, &self.kernel, Scope::ALL)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(walker)
    }

    /// The packed copies of the structures at these addresses, as far as they can be read.
    pub fn packed(&mut self, packing: &PackedLayout, addresses: &[KernelVa]) -> Vec<Vec<u8>> {
        let mut reader = MemoryReader::new(ReaderSizes::default());
        for &address in addresses {
            reader.push(&self.kernel.space, address, packing);
        }
        reader.run(&mut self.memory, self.kernel.space.levels);
        (0..reader.len()).filter_map(|index| reader.object(index).map(<[u8]>::to_vec)).collect()
    }
}

/// Writes all lines of a snapshot and drops them.
pub fn write_lines(snapshot: &Snapshot, kernel: &Kernel, writer: &mut LineWriter) -> LineCounts {
    recorded::each_line(snapshot, kernel, writer, |line| {
        std::hint::black_box(line);
    })
}

/// Number of a snapshot's objects; an error if some are missing, which would make a scan look
/// quick.
pub fn objects_of(snapshot: &Snapshot) -> Result<usize, String> {
    if snapshot.losses.dropped > 0 || snapshot.losses.unreadable > 0 {
        return Err(format!("the scan is not whole: {:?}", snapshot.losses));
    }
    let tables = [
        snapshot.processes.len(),
        snapshot.by_tid.len(),
        snapshot.descriptors.len(),
        snapshot.vmas.len(),
        snapshot.connections.len(),
    ];
    Ok(tables.iter().sum())
}

//! The two files of a VMware machine's memory: the `.vmem` has the bytes, the `.vmss` or `.vmsn`
//! with the same base name has their addresses.

use std::cmp::Ordering;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::dump::{DumpBytes, Segments, vmware};

/// Endings of state files.
const STATES: [&str; 2] = ["vmss", "vmsn"];
const MEMORY: &str = "vmem";

/// The note on a `.vmem` whose state is of another snapshot.
const OTHER_SNAPSHOT: &str = "the .vmss or .vmsn beside it is of another size, so its addresses \
    were guessed; give the state file that belongs to it";

/// The note on a `.vmem` without a state.
const ALONE: &str = "there is no .vmss or .vmsn beside it, so its addresses were guessed";

/// The addresses of a `.vmem`, as far as the files beside it tell them.
#[derive(Debug)]
pub(super) enum VmemAddresses {
    /// Its addresses.
    Addresses(Segments),
    /// None; the text explains why.
    Nothing(&'static str),
}

/// Whether a path has the ending of VMware's memory files.
pub(super) fn is_vmem(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(MEMORY))
}

/// The state file of a `.vmem` of `bytes` bytes. `open` opens a path; also returns its length.
pub(super) fn of_memory(
    path: &Path,
    bytes: u64,
    open: impl Fn(&Path) -> Result<(File, u64), SourceError>,
) -> VmemAddresses {
    let mut reason = ALONE;
    let mut longer = None;
    for ending in STATES {
        let Ok((file, length)) = open(&path.with_extension(ending)) else { continue };
        let state = DumpBytes::new(file, length).and_then(|file| vmware::VmwareState::read(&file));
        let Some(state) = state.ok().filter(|state| !state.has_memory()) else { continue };
        let image = state.image_bytes().unwrap_or(bytes);
        reason = OTHER_SNAPSHOT;
        let Ok(segments) = state.segments(bytes) else { continue };
        match image.cmp(&bytes) {
            Ordering::Equal => return VmemAddresses::Addresses(segments),
            // A .vmem that was cut short, unless the other state fits.
            Ordering::Greater => longer = longer.or(Some(segments)),
            Ordering::Less => {}
        }
    }
    longer.map_or(VmemAddresses::Nothing(reason), VmemAddresses::Addresses)
}

/// The `.vmem` beside a state file.
pub(super) fn of_state(path: &Path) -> PathBuf {
    path.with_extension(MEMORY)
}

//! The memory of a recorded machine, for tests that run the program.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_sources::{MemorySource as _, Replay};

/// Writes the memory of the recorded machine; returns whether it can be unpacked here.
pub(crate) fn write_machine(paths: &[PathBuf]) -> bool {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/images/6.1.image.xz");
    let Ok(unpacked) = bounded::output(Command::new("xz").arg("-dc").arg(packed)) else {
        panoptes_needs::skip::test("xz");
        return false;
    };
    let mut replay = Replay::from_bytes(unpacked.stdout).expect("the image can be read");
    let end = replay.regions().last().expect("the machine has memory").end;
    let pages: Vec<_> = replay.page_addresses().collect();
    for path in paths {
        let file = fs::File::create(path).expect("there is room for a file");
        file.set_len(end).expect("a file may be sparse");
        let mut page = [0; 4096];
        for &address in &pages {
            assert!(replay.read_exact(address, &mut page));
            file.write_all_at(&page, address.0).expect("there is room");
        }
    }
    true
}

//! An ELF file in the page cache of a machine made by hand, of whatever bytes: what it says of itself, and which symbols it
//! defines. Looking one up must end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{FileBytes, FileReader, Symbols};
use panoptes_engine::walk::{FileRow, InodeRow, Snapshot};

#[allow(dead_code, unreachable_pub)]
#[path = "../../engine/tests/common/cached.rs"]
mod cached;

use cached::{Cached, DIRECT_MAP, EXT4, MAPPING};

/// Times that memory is read for two names, at most.
const READS_MAX: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    if data.is_empty() || data.len() > 1 << 16 {
        return;
    }
    let mut machine = Cached::whole(data, EXT4);
    let mut snapshot = Snapshot::empty(&Limits { processes: 1, ..Limits::default() });
    let mut inode = InodeRow::default();
    inode.attributes.mapping = KernelVa(DIRECT_MAP + MAPPING);
    let inode = snapshot.inodes.push(inode).expect("there is room");
    snapshot.files.push(FileRow { inode, ..FileRow::default() }).expect("there is room");
    let mut files = FileReader::new();
    let kernel = machine.kernel.clone();
    let from = (&mut machine, &kernel);
    let _ = FileBytes::read_with(&mut files, from, (&snapshot, 0), |file| {
        let Some(symbols) = Symbols::read(file)? else { return Ok(()) };
        for name in ["history_list", "enable_history_list"] {
            if let Some(address) = symbols.find(file, name)? {
                symbols.bytes(file, address, 64)?;
            }
        }
        Ok(())
    });
    assert!(files.take_reads() < READS_MAX);
});

//! An ELF file of any bytes in the page cache of a synthetic machine: its headers, and the symbols
//! that it defines. Searching a symbol must end.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{FileBytes, FileReader, MachineMemory, Symbols};
use panoptes_engine::walk::{FileRow, InodeRow, Snapshot};
use panoptes_fuzz::fuzz_target;

#[path = "../../engine/tests/common/cached.rs"]
mod cached;

use cached::{Cached, DIRECT_MAP, EXT4, MAPPING};

/// Maximum number of memory reads for two names.
const READS_MAX: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    if data.is_empty() || data.len() > 1 << 16 {
        return;
    }
    let mut machine = Cached::whole(data, EXT4);
    let mut snapshot = Snapshot::empty(&Limits { processes: 1, ..Limits::default() });
    let mut inode = InodeRow::default();
    inode.attributes.mapping = KernelVa(DIRECT_MAP + MAPPING);
    let inode = snapshot.inodes.push(inode);
    snapshot.files.push(FileRow { inode, ..FileRow::default() }).expect("there is room");
    let mut files = FileReader::new();
    let kernel = machine.kernel.clone();
    let memory = &mut MachineMemory { source: &mut machine, kernel: &kernel };
    let mut is_open = false;
    let mut is_read = false;
    let read = FileBytes::read_with(
        &mut files,
        memory,
        (&snapshot, snapshot.files.indexes().next()),
        |file| {
            is_open = true;
            if let Some(symbols) = Symbols::read(file)? {
                for name in ["history_list", "enable_history_list"] {
                    if let Some(address) = symbols.find(file, name)? {
                        symbols.bytes(file, address, 64)?;
                    }
                }
            }
            is_read = true;
            Ok(())
        },
    );
    assert!(is_open, "all of the file is there");
    assert_eq!(read.is_ok(), is_read, "nothing changes");
    assert!(files.take_reads() < READS_MAX);
});

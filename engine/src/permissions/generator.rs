//! Whether a process has a code generator loaded that keeps no address space free for its code: by what its program and
//! its libraries offer to others, the symbols that they define.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::MemorySource;
use panoptes_decoders::user::elf_dynamic::{
    DYNAMIC_BYTES_MAX, Dynamic, GnuHash, HEADER_BYTES, PROGRAM_HEADER_BYTES, SYMBOL_BYTES,
    Segments, Symbol, candidates, gnu_hash, program_headers,
};

use super::program::Programs;
use crate::page_cache::AddressSpace;
use crate::walk::{Snapshot, VmaRow};

/// What only a code generator defines.
///
/// * GDB's interface for code that is generated at run time ("JIT Compilation Interface", GDB's manual): LLVM has it in
///   all its libraries, and so has whatever is built with them (PostgreSQL, Mesa, Julia), and Mono.
/// * LuaJIT's own (src/luajit.h).
const SYMBOLS: [&str; 2] = ["__jit_debug_register_code", "luaJIT_setmode"];
/// Longest of their names with its NUL.
const NAME_BYTES_MAX: u64 = 32;
/// Most files of one process that are searched each time; what is known by then is not.
const FILES_MAX: usize = 64;
/// Symbols of one chain that are looked at.
const CHAIN: u32 = 64;
/// How many files are remembered.
const KNOWN: usize = 256;

/// A file, and whether it defines one of the symbols.
#[derive(Clone, Copy, Debug)]
struct Known {
    inode: KernelVa,
    number: u64,
    modify_time_ns: i64,
    is_generator: bool,
}

/// What is known of files, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Generators {
    known: Vec<Known>,
    /// Which entry gives way when all are taken.
    next: usize,
}

impl Generators {
    pub(super) fn new() -> Self {
        Self { known: Vec::with_capacity(KNOWN), next: 0 }
    }

    /// Whether a code generator is among what these areas map to be executed.
    pub(super) fn is_among<S: MemorySource>(
        &mut self,
        programs: &mut Programs,
        source: &mut S,
        space: &AddressSpace<'_>,
        areas: &[VmaRow],
    ) -> bool {
        programs.forget();
        let mut beginning: Option<&VmaRow> = None;
        let mut last = KernelVa::NULL;
        let mut files = 0;
        for row in areas.iter().filter(|row| !row.vma.file.is_null()) {
            if row.vma.page_offset == 0 {
                beginning = Some(row);
            }
            let Some(first) = beginning.filter(|first| first.vma.file == row.vma.file) else {
                continue;
            };
            if row.vma.flags & VM_EXEC == 0 || row.vma.file == last {
                continue;
            }
            last = row.vma.file;
            let Some(mut file) = identity(space.snapshot, row) else { continue };
            let known = self.known.iter().find(|known| {
                known.inode == file.inode
                    && known.number == file.number
                    && known.modify_time_ns == file.modify_time_ns
            });
            files += usize::from(known.is_none());
            if files > FILES_MAX {
                return false;
            }
            let is_generator = known.map(|known| known.is_generator).or_else(|| {
                let mut object = Object { programs, source, space };
                file.is_generator = object.defines(first.vma.start)?;
                self.remember(file);
                Some(file.is_generator)
            });
            if is_generator == Some(true) {
                return true;
            }
        }
        false
    }

    fn remember(&mut self, file: Known) {
        if self.known.len() < self.known.capacity() {
            self.known.push(file);
            return;
        }
        let at = self.next % KNOWN;
        self.next = at + 1;
        self.known[at] = file;
    }
}

fn identity(snapshot: &Snapshot, row: &VmaRow) -> Option<Known> {
    let file = snapshot.files.at(row.file)?;
    let inode = snapshot.inodes.at(file.inode)?;
    Some(Known {
        inode: inode.address,
        number: inode.attributes.ino,
        modify_time_ns: inode.attributes.mtime_ns,
        is_generator: false,
    })
}

/// A mapped ELF object, while it is searched.
struct Object<'a, S> {
    programs: &'a mut Programs,
    source: &'a mut S,
    space: &'a AddressSpace<'a>,
}

impl<S: MemorySource> Object<'_, S> {
    fn read(&mut self, address: u64, bytes: u64) -> Option<&[u8]> {
        self.programs.read_at(self.source, self.space, address, bytes)
    }

    /// Whether the object that begins at `start` defines one of the symbols; `None` where not all could be read that
    /// says so.
    fn defines(&mut self, start: u64) -> Option<bool> {
        let header = self.read(start, HEADER_BYTES)?;
        let Some((offset, count)) = program_headers(header) else { return Some(false) };
        let headers = self.read(start.wrapping_add(offset), count * PROGRAM_HEADER_BYTES)?;
        let Some(segments) = Segments::parse(headers) else { return Some(false) };
        let Some((section, bytes)) = segments.dynamic else { return Some(false) };
        let bias = start.wrapping_sub(segments.first);
        let section = self.read(section.wrapping_add(bias), bytes.min(DYNAMIC_BYTES_MAX))?;
        let Some(dynamic) = Dynamic::parse(section, bias) else { return Some(false) };
        let Some(address) = dynamic.gnu_hash else { return Some(false) };
        let header = self.read(address, GnuHash::BYTES)?;
        let Some(table) = GnuHash::parse(header, address) else { return Some(false) };
        for name in SYMBOLS {
            if self.finds(&dynamic, &table, name)? {
                return Some(true);
            }
        }
        Some(false)
    }

    fn finds(&mut self, dynamic: &Dynamic, table: &GnuHash, name: &str) -> Option<bool> {
        let hash = gnu_hash(name.as_bytes());
        let bucket = self.read(table.bucket(hash), 4)?;
        let first = u32::from_le_bytes(bucket.try_into().ok()?);
        for at in 0..CHAIN {
            let Some(symbol) = first.checked_add(at) else { return Some(false) };
            let Some(chain) = table.chain(symbol) else { return Some(false) };
            let word: [u8; 4] = self.read(chain, 4)?.try_into().ok()?;
            if candidates(&word, hash).next().is_some() && self.is_called(dynamic, symbol, name)? {
                return Some(true);
            }
            if word[0] & 1 != 0 {
                break;
            }
        }
        Some(false)
    }

    fn is_called(&mut self, dynamic: &Dynamic, symbol: u32, name: &str) -> Option<bool> {
        let symbol = Symbol::parse(self.read(dynamic.symbol(symbol), SYMBOL_BYTES)?)?;
        let place = dynamic.strings.wrapping_add(symbol.name.into());
        let bytes = (name.len() as u64 + 1).min(NAME_BYTES_MAX);
        let text = self.read(place, bytes)?;
        Some(symbol.is_defined && text.strip_suffix(&[0]) == Some(name.as_bytes()))
    }
}

//! What the files that a process has mapped say of themselves: their program headers, and whether they define what only a
//! code generator does. All of it is the file's own word, not what a process has made of it where it is mapped.

use core::ops::Range;

use panoptes_decoders::address::{KernelVa, UserVa};
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_decoders::user::program_headers::{ProgramHeaders, has_text_relocations};

use super::rule::Says;
use crate::address::{Reader, ReaderSizes};
use crate::page_cache::{FileReader, OpenFile, Symbols, Unread};
use crate::walk::{Kernel, MmRow, Snapshot, VmaRow};

/// Bytes of a file's beginning that are read: the program headers are in them.
const HEADER_BYTES: u64 = 2048;
/// Most bytes of a dynamic section that are read; usual are 500.
const DYNAMIC_BYTES: u64 = 2048;
/// Most pages of a range that are asked for.
const PAGES_MAX: usize = 64;
/// What only a code generator defines.
///
/// * GDB's interface for code that is generated at run time ("JIT Compilation Interface", GDB's manual): LLVM has it in
///   all its libraries, and so has whatever is built with them (`PostgreSQL`, Mesa, Julia), and Mono.
/// * `LuaJIT`'s own (src/luajit.h).
const SYMBOLS: [&str; 2] = ["__jit_debug_register_code", "luaJIT_setmode"];
/// How many files are remembered.
const KNOWN: usize = 256;
/// Most files of one process that are searched each time; what is known by then is not.
const FILES_MAX: usize = 64;
/// A file that could not be read is tried again after so many scans.
const AGAIN_SCANS: u32 = 64;
/// One time that memory is read counts for so many areas that are looked at.
pub(super) const STEPS_A_READ: u32 = 4;
/// And so does going over what is known of files.
const STEPS_A_FILE: u32 = 4;

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
struct Known {
    inode: KernelVa,
    number: u64,
    modify_time_ns: i64,
    says: Option<FileSays>,
    /// In which scan it was read.
    scan: u32,
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileSays {
    /// It defines what only a code generator does.
    is_generator: bool,
    /// It wants a stack that can be executed.
    wants_executable_stack: bool,
}

/// The areas of a process in one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressSpace<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) snapshot: &'a Snapshot,
    pub(super) areas: &'a [VmaRow],
}

/// Reads programs, and remembers what they say, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Programs {
    reader: Reader,
    files: FileReader,
    known: Vec<Known>,
    /// Which entry gives way when all are taken.
    next: usize,
    scan: u32,
}

impl Programs {
    pub(super) fn new() -> Self {
        let sizes = ReaderSizes {
            objects: PAGES_MAX,
            arena_bytes: PAGES_MAX * PAGE_BYTES as usize,
            walks: PAGES_MAX * 2,
        };
        Self {
            reader: Reader::new(sizes),
            files: FileReader::new(),
            known: Vec::with_capacity(KNOWN),
            next: 0,
            scan: 0,
        }
    }

    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.wrapping_add(1);
    }

    /// What the file of an area says of it.
    pub(super) fn says<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        area: &VmaRow,
        steps_left: &mut u32,
    ) -> Says {
        let says = self.read_says(source, space, area);
        self.spend(steps_left);
        says.unwrap_or(Says::Unknown)
    }

    fn read_says<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        area: &VmaRow,
    ) -> Option<Says> {
        let kernel = space.kernel;
        if !self.files.begin(source, kernel, space.snapshot, area.file) {
            return None;
        }
        let file = self.files.read(source, kernel, 0, HEADER_BYTES)?;
        let headers = ProgramHeaders::find(file)?;
        let page_bytes = kernel.space.levels.page_bytes();
        let offset = area.vma.page_offset.saturating_mul(PAGE_BYTES);
        let executes = headers.executes(offset, page_bytes);
        let dynamic = headers.dynamic();
        if let Some((offset, bytes)) = dynamic {
            let section = self.files.read(source, kernel, offset, bytes.min(DYNAMIC_BYTES));
            if section.is_some_and(has_text_relocations) {
                return Some(Says::Relocations);
            }
        }
        Some(if executes { Says::Text } else { Says::NotText })
    }

    /// Whether any of the programs and libraries that are mapped wants an executable stack.
    pub(super) fn wants_executable_stack<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        steps_left: &mut u32,
    ) -> bool {
        self.any_file(source, space, steps_left, |says| says.wants_executable_stack)
    }

    /// Whether a code generator is among what is mapped to be executed.
    pub(super) fn is_generator_among<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        steps_left: &mut u32,
    ) -> bool {
        self.any_file(source, space, steps_left, |says| says.is_generator)
    }

    /// Whether one of the files that are mapped to be executed says so. What cannot be read says nothing.
    fn any_file<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        steps_left: &mut u32,
        is_it: impl Fn(FileSays) -> bool,
    ) -> bool {
        let mut last = KernelVa::NULL;
        let mut files = 0;
        for row in space.areas.iter().filter(|row| row.vma.flags & VM_EXEC != 0) {
            if row.vma.file.is_null() || row.vma.file == last {
                continue;
            }
            last = row.vma.file;
            if *steps_left == 0 {
                return false;
            }
            *steps_left = steps_left.saturating_sub(STEPS_A_FILE);
            let Some(mut file) = identity(space.snapshot, row) else { continue };
            let at = self.known.iter().position(|known| known.is_same(&file));
            let known = at.and_then(|at| self.known.get(at)).copied();
            let is_due = |known: &Known| {
                known.says.is_none() && self.scan.wrapping_sub(known.scan) >= AGAIN_SCANS
            };
            let says = match known {
                Some(known) if !is_due(&known) => known.says,
                _ if files == FILES_MAX => return false,
                _ => {
                    files += 1;
                    file.scan = self.scan;
                    file.says = self.read_file(source, space, row.file).ok();
                    self.spend(steps_left);
                    self.remember(at, file);
                    file.says
                }
            };
            if says.is_some_and(&is_it) {
                return true;
            }
        }
        false
    }

    /// What a file says of itself.
    fn read_file<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        file: u32,
    ) -> Result<FileSays, Unread> {
        let kernel = space.kernel;
        if !self.files.begin(source, kernel, space.snapshot, file) {
            return Err(Unread);
        }
        let beginning = self.files.read(source, kernel, 0, HEADER_BYTES).ok_or(Unread)?;
        let wants_executable_stack =
            ProgramHeaders::find(beginning).is_some_and(|headers| headers.wants_executable_stack());
        let mut open = OpenFile { files: &mut self.files, source: &mut *source, kernel };
        let mut is_generator = false;
        if let Some(symbols) = Symbols::read(&mut open)? {
            for name in SYMBOLS {
                is_generator = is_generator || symbols.find(&mut open, name)?.is_some();
            }
        }
        let says = FileSays { is_generator, wants_executable_stack };
        if self.files.holds(source, kernel) { Ok(says) } else { Err(Unread) }
    }

    fn remember(&mut self, place: Option<usize>, file: Known) {
        if let Some(known) = place.and_then(|place| self.known.get_mut(place)) {
            *known = file;
        } else if self.known.len() < self.known.capacity() {
            self.known.push(file);
        } else {
            let at = self.next % KNOWN;
            self.next = at + 1;
            self.known[at] = file;
        }
    }

    /// Counts what was read since this was done last.
    fn spend(&mut self, steps_left: &mut u32) {
        let steps = self.files.take_reads().saturating_mul(STEPS_A_READ);
        *steps_left = steps_left.saturating_sub(steps);
    }

    /// Whether all pages of a range are there; of a large one those at its beginning.
    pub(super) fn is_filled<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        mm: &MmRow,
        range: Range<u64>,
    ) -> bool {
        let root = kernel.space.linear(mm.pgd).unwrap_or_default();
        self.reader.forget_translations();
        self.reader.clear();
        for page in range.step_by(PAGE_BYTES as usize).take(PAGES_MAX) {
            let _ = self.reader.push_user(kernel.space.levels, root, UserVa(page), 1);
        }
        self.reader.run(source, kernel.space.levels);
        (0..self.reader.len()).all(|page| self.reader.object(page).is_some())
    }
}

impl Known {
    fn is_same(&self, other: &Self) -> bool {
        self.inode == other.inode
            && self.number == other.number
            && self.modify_time_ns == other.modify_time_ns
    }
}

fn identity(snapshot: &Snapshot, row: &VmaRow) -> Option<Known> {
    let file = snapshot.files.at(row.file)?;
    let inode = snapshot.inodes.at(file.inode)?;
    Some(Known {
        inode: inode.address,
        number: inode.attributes.ino,
        modify_time_ns: inode.attributes.mtime_ns,
        says: None,
        scan: 0,
    })
}

//! Reads the program headers of the files that a process has mapped, and whether they define
//! symbols that only a code generator does. All of it comes from the file, not from the process's
//! mapping, which the process may have changed.

use core::ops::Range;

use panoptes_decoders::address::{KernelVa, UserVa};
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_decoders::user::program_headers::{ProgramHeaders, has_text_relocations};
use panoptes_tables::Scan;

use super::rule::ElfClaim;
use crate::address::{Reader, ReaderSizes};
use crate::page_cache::{FileBytes, FileIdentity, FileReader, Symbols, Unread};
use crate::walk::{FileRow, Index, Kernel, MmRow, Snapshot, VmaRow};

/// Number of bytes read at the beginning of a file: they include the program headers.
const HEADER_BYTES: u64 = 2048;
/// Maximum number of bytes that are read of a dynamic section; 500 are usual.
const DYNAMIC_BYTES: u64 = 2048;
/// Maximum number of pages of a range that are checked.
const PAGES_MAX: usize = 64;
/// Symbols that only a code generator defines.
///
/// * GDB's interface for code that is generated at run time ("JIT Compilation Interface", GDB's
///   manual): all libraries of LLVM have it, and everything that is built with them (`PostgreSQL`,
///   Mesa, Julia), and so does Mono.
/// * `LuaJIT`'s own (src/luajit.h).
/// * Those that Ruby calls in its two compilers when a program redefines `Integer#+` or a similar
///   method (yjit/src/invariants.rs since Ruby 3.2, zjit/src/invariants.rs).
const SYMBOLS: [&str; 4] = [
    "__jit_debug_register_code",
    "luaJIT_setmode",
    "rb_yjit_bop_redefined",
    "rb_zjit_bop_redefined",
];
/// Number of files whose answers are kept.
const KNOWN: usize = 256;
/// Number of scans until a file that could not be read is retried.
const AGAIN_SCANS: u32 = 8;
/// Number of checked areas that one memory read counts as.
pub(super) const STEPS_A_READ: u32 = 4;
/// Number of checked areas that one lookup of a known file counts as.
const STEPS_A_FILE: u32 = 4;

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
struct Known {
    file: FileIdentity,
    /// By [`Question`].
    answers: [Answer; 2],
}

/// What is known of a file's answer to a question.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    says: Option<bool>,
    /// The scan in which the file was last read for it.
    asked: Option<Scan>,
}

/// A question about a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Question {
    /// Whether it wants an executable stack.
    Stack,
    /// Whether it defines a symbol that only a code generator does.
    Generator,
}

impl Question {
    /// Maximum number of files of one process that are read at a time. Known answers do not count.
    const fn files_max(self) -> usize {
        match self {
            Self::Stack => 1024,
            Self::Generator => 64,
        }
    }
}

/// The areas of a process in one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressSpace<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) snapshot: &'a Snapshot,
    pub(super) areas: &'a [VmaRow],
}

/// Reads programs and keeps their answers, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Programs {
    reader: Reader,
    files: FileReader,
    known: Vec<Known>,
    /// The entry to replace when all are used.
    next: usize,
    scan: Scan,
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
            scan: Scan::default(),
        }
    }

    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.next();
    }

    /// What an area's file declares about the area.
    pub(super) fn says<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        area: &VmaRow,
        steps_left: &mut u32,
    ) -> ElfClaim {
        let says = self.read_claim(source, space, area);
        self.spend(steps_left);
        says.unwrap_or(ElfClaim::Unknown)
    }

    fn read_claim<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        area: &VmaRow,
    ) -> Result<ElfClaim, Unread> {
        let page_bytes = space.kernel.space.levels.page_bytes();
        let page = area.vma.page_offset.saturating_mul(PAGE_BYTES);
        let from = (source, space.kernel);
        FileBytes::read_with(&mut self.files, from, (space.snapshot, area.file), |file| {
            let Some(headers) = ProgramHeaders::find(file.read(0, HEADER_BYTES)?) else {
                return Ok(ElfClaim::Unknown);
            };
            let executes = headers.executes(page, page_bytes);
            if let Some((offset, bytes)) = headers.dynamic()
                && has_text_relocations(file.read(offset, bytes.min(DYNAMIC_BYTES))?)
            {
                return Ok(ElfClaim::Relocations);
            }
            Ok(if executes { ElfClaim::Text } else { ElfClaim::NotText })
        })
    }

    /// Whether any mapped program or library wants an executable stack.
    pub(super) fn wants_executable_stack<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        steps_left: &mut u32,
    ) -> bool {
        self.any_file(source, space, steps_left, Question::Stack)
    }

    /// Whether a file that is mapped executable is a code generator.
    pub(super) fn is_generator_among<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        steps_left: &mut u32,
    ) -> bool {
        self.any_file(source, space, steps_left, Question::Generator)
    }

    /// Whether the answer of any file that is mapped executable is yes. Unreadable files count as
    /// no.
    fn any_file<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        steps_left: &mut u32,
        question: Question,
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
            let Some(file) = FileIdentity::of(space.snapshot, row.file) else { continue };
            let at = self.known.iter().position(|known| known.file == file);
            let new = Known { file, answers: [Answer::default(); 2] };
            let mut file = at.and_then(|at| self.known.get(at)).copied().unwrap_or(new);
            let answer = &mut file.answers[question as usize];
            let is_recent = |asked| self.scan.since(asked) < AGAIN_SCANS;
            if answer.says.is_none() && !answer.asked.is_some_and(is_recent) {
                if files == question.files_max() {
                    return false;
                }
                files += 1;
                answer.asked = Some(self.scan);
                answer.says = self.read_file(source, space, row.file, question).ok();
                self.spend(steps_left);
                self.remember(at, file);
            }
            if file.answers[question as usize].says == Some(true) {
                return true;
            }
        }
        false
    }

    /// Reads a file's answer.
    fn read_file<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        file: Option<Index<FileRow>>,
        question: Question,
    ) -> Result<bool, Unread> {
        let from = (source, space.kernel);
        FileBytes::read_with(&mut self.files, from, (space.snapshot, file), |file| match question {
            Question::Stack => {
                let headers = ProgramHeaders::find(file.read(0, HEADER_BYTES)?);
                Ok(headers.is_some_and(|headers| headers.wants_executable_stack()))
            }
            Question::Generator => {
                let Some(symbols) = Symbols::read(file)? else { return Ok(false) };
                for name in SYMBOLS {
                    if symbols.find(file, name)?.is_some() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        })
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

    /// Counts the memory reads since the last call.
    fn spend(&mut self, steps_left: &mut u32) {
        let steps = self.files.take_reads().saturating_mul(STEPS_A_READ);
        *steps_left = steps_left.saturating_sub(steps);
    }

    /// Whether all pages of a range are in memory; of a large range, those at its beginning.
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

//! Reads the program headers of the files that a process has mapped, and whether they define
//! symbols that only a code generator does. All of it comes from the file, not from the process's
//! mapping, which the process may have changed.

use core::ops::Range;

use panoptes_decoders::address::{KernelVa, UserVa};
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_decoders::user::program_headers::{ProgramHeaders, has_text_relocations};
use panoptes_tables::{ScanNumber, room};

use super::rule::ElfClaim;
use crate::address::{MemoryReader, ReaderSizes};
use crate::page_cache::{FileBytes, FileIdentity, FileReader, MachineMemory, MissingPage, Symbols};
use crate::walk::{FileRow, Index, MmRow, Snapshot, VmaRow};

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
pub(super) const STEPS_A_READ: usize = 4;
/// Number of checked areas that one lookup of a known file counts as.
const STEPS_A_FILE: usize = 4;

/// A file and its known answers.
#[derive(Clone, Copy, Debug)]
struct KnownElfFile {
    file: FileIdentity,
    /// Answers by [`ElfQuestion::place`].
    answers: [ElfAnswer; 2],
}

/// A file's answer to a question, if known.
#[derive(Clone, Copy, Debug, Default)]
struct ElfAnswer {
    says: Option<bool>,
    /// The scan in which the file was last read for it.
    asked: Option<ScanNumber>,
}

/// A question about a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ElfQuestion {
    /// Whether it wants an executable stack.
    Stack,
    /// Whether it defines a symbol that only a code generator does.
    Generator,
    /// The same, for files that root alone could have put where they are.
    RootsGenerator,
}

impl ElfQuestion {
    /// Its place among a file's answers. Whose file it is does not change the answer.
    const fn place(self) -> usize {
        match self {
            Self::Stack => 0,
            Self::Generator | Self::RootsGenerator => 1,
        }
    }

    /// Maximum number of files of one process that are read at a time. Known answers do not count.
    const fn files_max(self) -> usize {
        match self {
            Self::Stack => 1024,
            Self::Generator | Self::RootsGenerator => 64,
        }
    }
}

/// The reader of the page tables of pages that became executable.
pub(super) fn reader() -> MemoryReader {
    MemoryReader::new(ReaderSizes { objects: PAGES_MAX, arena_bytes: 0, walks: PAGES_MAX * 2 })
}

/// Reads programs and keeps their answers, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Programs {
    reader: MemoryReader,
    files: FileReader,
    known: Vec<KnownElfFile>,
    /// The entry to replace when all are used.
    next: usize,
    scan: ScanNumber,
    /// Approximate number of areas that may still be checked around the present one.
    pub(super) steps_left: u32,
}

impl Programs {
    pub(super) fn new() -> Self {
        Self {
            reader: MemoryReader::default(),
            files: FileReader::new(),
            known: room::list(KNOWN),
            next: 0,
            scan: ScanNumber::default(),
            steps_left: 0,
        }
    }

    /// Takes a reader before a scan, and returns it by a second call after the scan.
    pub(super) fn exchange(&mut self, reader: &mut MemoryReader) {
        core::mem::swap(&mut self.reader, reader);
    }

    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.next();
    }

    /// What an area's file declares about the area.
    pub(super) fn says(
        &mut self,
        memory: &mut MachineMemory<'_>,
        snapshot: &Snapshot,
        area: &VmaRow,
    ) -> ElfClaim {
        let says = self.read_claim(memory, snapshot, area);
        self.spend_reads();
        says.unwrap_or(ElfClaim::Unknown)
    }

    fn read_claim(
        &mut self,
        memory: &mut MachineMemory<'_>,
        snapshot: &Snapshot,
        area: &VmaRow,
    ) -> Result<ElfClaim, MissingPage> {
        let page_bytes = memory.kernel.space.levels.page_bytes();
        let page = area.vma.page_offset.saturating_mul(PAGE_BYTES);
        FileBytes::read_with(&mut self.files, memory, (snapshot, area.file), |file| {
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

    /// Whether the answer of any file that is mapped executable is yes. Unreadable files count as
    /// no.
    pub(super) fn any_file(
        &mut self,
        memory: &mut MachineMemory<'_>,
        (snapshot, areas): (&Snapshot, &[VmaRow]),
        question: ElfQuestion,
    ) -> bool {
        let mut last = KernelVa::NULL;
        let mut files = 0;
        for row in areas.iter().filter(|row| row.vma.flags & VM_EXEC != 0) {
            if row.vma.file.is_null() || row.vma.file == last {
                continue;
            }
            last = row.vma.file;
            if self.steps_left == 0 {
                return false;
            }
            self.spend(STEPS_A_FILE);
            let is_roots = || {
                let file = snapshot.files.at(row.file);
                file.is_some_and(|file| snapshot.is_put_by_root(file))
            };
            if question == ElfQuestion::RootsGenerator && !is_roots() {
                continue;
            }
            let Some(file) = FileIdentity::of(snapshot, row.file) else { continue };
            let at = self.known.iter().position(|known| known.file == file);
            let new = KnownElfFile { file, answers: [ElfAnswer::default(); 2] };
            let mut file = at.and_then(|at| self.known.get(at)).copied().unwrap_or(new);
            let answer = &mut file.answers[question.place()];
            let is_recent = |asked| self.scan.since(asked) < AGAIN_SCANS;
            if answer.says.is_none() && !answer.asked.is_some_and(is_recent) {
                if files == question.files_max() {
                    return false;
                }
                files += 1;
                answer.asked = Some(self.scan);
                answer.says = self.read_file(memory, (snapshot, row.file), question).ok();
                self.spend_reads();
                self.remember(at, file);
            }
            if file.answers[question.place()].says == Some(true) {
                return true;
            }
        }
        false
    }

    /// Reads a file's answer.
    fn read_file(
        &mut self,
        memory: &mut MachineMemory<'_>,
        file: (&Snapshot, Option<Index<FileRow>>),
        question: ElfQuestion,
    ) -> Result<bool, MissingPage> {
        FileBytes::read_with(&mut self.files, memory, file, |file| match question {
            ElfQuestion::Stack => {
                let headers = ProgramHeaders::find(file.read(0, HEADER_BYTES)?);
                Ok(headers.is_some_and(|headers| headers.wants_executable_stack()))
            }
            ElfQuestion::Generator | ElfQuestion::RootsGenerator => {
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

    fn remember(&mut self, place: Option<usize>, file: KnownElfFile) {
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

    /// Counts areas that were checked.
    pub(super) fn spend(&mut self, areas: usize) {
        self.steps_left = self.steps_left.saturating_sub(u32::try_from(areas).unwrap_or(u32::MAX));
    }

    /// Counts the memory reads since the last call.
    fn spend_reads(&mut self) {
        let reads = self.files.take_reads() as usize;
        self.spend(reads * STEPS_A_READ);
    }

    /// Whether all pages of a range are in memory; of a large range, those at its beginning. Reads
    /// only page tables.
    pub(super) fn is_filled(
        &mut self,
        memory: &mut MachineMemory<'_>,
        mm: &MmRow,
        range: Range<u64>,
    ) -> bool {
        let MachineMemory { source, kernel } = memory;
        let root = kernel.space.linear(mm.pgd).unwrap_or_default();
        self.reader.forget_translations();
        self.reader.clear();
        for page in range.step_by(PAGE_BYTES as usize).take(PAGES_MAX) {
            let _ = self.reader.push_user_page(kernel.space.levels, root, UserVa(page));
        }
        self.reader.run(source, kernel.space.levels);
        (0..self.reader.len()).all(|page| self.reader.object(page).is_some())
    }
}

//! Finds a shell's variables by the symbols that it, or its history library, exports.
//!
//! The results are in the object's own addresses, so that they hold for every process that runs the
//! same file.

use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::user::bash;
use panoptes_decoders::user::elf_dynamic::Segments;

use super::ShellKind;
use super::memory::ProcessMemory;
use super::structure::{self, Pointer, Shape};
use super::words::{ShellGlobal, ShellGlobals};
use crate::page_cache::{FileBytes, FileIdentity, FileReader, MachineMemory, MissingPage, Symbols};
use crate::state::facts::is_main_executable;
use crate::walk::{FileRow, Index, MmRow, Snapshot, VmaRow};

/// Maximum number of a process's libraries that are searched.
const LIBRARIES_MAX: usize = 16;

/// What a program is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a passing answer; nothing is allocated")]
pub(super) enum ShellVerdict {
    Shell(ShellLayout),
    /// Not a shell.
    Other,
    /// Not a shell, unless it has only just started.
    Silent,
}

/// A place in the addresses of the object that contains it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct VariableAddress {
    address: u64,
    in_library: bool,
}

/// The places of a shell's variables.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ShellLayout {
    places: [Option<VariableAddress>; ShellGlobal::COUNT],
    /// The lowest address of the program, in its own addresses.
    first: u64,
    /// The library that contains some of them, and its lowest address.
    library: Option<(FileIdentity, u64)>,
    form: ShellForm,
}

/// How a program was recognised.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ShellForm {
    /// A bash, by its symbols.
    #[default]
    Bash,
    /// A bash that exports nothing, by its shape: address and length of its data.
    Shape(u64, u64),
    /// A zsh, by its symbols.
    Zsh,
    /// A Python, by its module for readline.
    Python,
}

impl ShellLayout {
    /// The places of a program that exports nothing, found by shape.
    fn by_shape(segments: &Segments, bias: u64, shape: Shape) -> Option<Self> {
        let form = segments.data.map(|(address, length)| ShellForm::Shape(address, length))?;
        let mut found = Self { first: segments.first, form, ..Self::default() };
        found.put(ShellGlobal::Variables, shape.variables?.wrapping_sub(bias), false);
        if let Some(history) = shape.history {
            found.put(ShellGlobal::TheHistory, history.wrapping_sub(bias), false);
        }
        Some(found)
    }

    pub(super) const fn kind(&self) -> ShellKind {
        match self.form {
            ShellForm::Bash | ShellForm::Shape(..) => ShellKind::Bash,
            ShellForm::Zsh => ShellKind::Zsh,
            ShellForm::Python => ShellKind::Python,
        }
    }

    /// Whether every place is known.
    pub(super) fn is_whole(&self) -> bool {
        self.has(ShellGlobal::TheHistory)
    }

    /// Address and length of a process's data, for a program that was recognised by shape.
    pub(super) fn data(&self, snapshot: &Snapshot, mm: &MmRow) -> Option<(u64, u64)> {
        let ShellForm::Shape(address, length) = self.form else { return None };
        let bias = program_at(snapshot, mm)?.wrapping_sub(self.first);
        Some((address.wrapping_add(bias), length))
    }

    /// The addresses of all words in one process; `None` if its areas do not fit.
    pub(super) fn place(
        &self,
        snapshot: &Snapshot,
        mm: &MmRow,
    ) -> Option<[u64; ShellGlobal::COUNT]> {
        let program = program_at(snapshot, mm)?.wrapping_sub(self.first);
        let library = match self.library {
            Some((file, first)) => Some(library_at(snapshot, mm, &file)?.wrapping_sub(first)),
            None => None,
        };
        let mut places = [0; ShellGlobal::COUNT];
        for (place, found) in places.iter_mut().zip(self.places) {
            let Some(found) = found else { continue };
            let bias = if found.in_library { library? } else { program };
            *place = found.address.wrapping_add(bias);
        }
        Some(places)
    }

    fn put(&mut self, word: ShellGlobal, address: u64, in_library: bool) {
        self.places[word as usize] = Some(VariableAddress { address, in_library });
    }

    fn has(&self, word: ShellGlobal) -> bool {
        self.places[word as usize].is_some()
    }
}

/// The address at which a process's program is mapped.
fn program_at(snapshot: &Snapshot, mm: &MmRow) -> Option<u64> {
    program_area(snapshot, mm).map(|area| area.vma.start)
}

fn program_area<'a>(snapshot: &'a Snapshot, mm: &MmRow) -> Option<&'a VmaRow> {
    let areas = snapshot.vmas.range(mm.vmas);
    areas.iter().find(|area| is_main_executable(snapshot, mm, area))
}

fn library_at(snapshot: &Snapshot, mm: &MmRow, file: &FileIdentity) -> Option<u64> {
    libraries(snapshot, mm)
        .find(|&(index, _)| FileIdentity::of(snapshot, index).as_ref() == Some(file))
        .map(|(_, start)| start)
}

/// The files that a process has mapped besides its program, each with its lowest address.
fn libraries<'a>(
    snapshot: &'a Snapshot,
    mm: &'a MmRow,
) -> impl Iterator<Item = (Option<Index<FileRow>>, u64)> + 'a {
    let areas = snapshot.vmas.range(mm.vmas);
    let mut before = None;
    areas.iter().filter_map(move |area| {
        let file = area.file;
        let is_next =
            !area.vma.file.is_null() && file != before && !is_main_executable(snapshot, mm, area);
        before = if area.vma.file.is_null() { before } else { file };
        is_next.then_some((file, area.vma.start))
    })
}

/// Checks whether the program of a process is a shell. An error if the memory that decides could
/// not be read completely.
pub(super) fn locate(
    memory: &mut ProcessMemory<'_>,
    files: &mut FileReader,
    (snapshot, mm): (&Snapshot, &MmRow),
    pointers: &mut Vec<Pointer>,
) -> Result<ShellVerdict, MissingPage> {
    // An incomplete list of areas may lack a library.
    let area = program_area(snapshot, mm).filter(|_| mm.complete).ok_or(MissingPage)?;
    let machine = &mut memory.machine();
    let mut search = SymbolSearch { memory: machine, files, snapshot, mm };
    let segments = match search.by_symbols(area.file)? {
        SymbolVerdict::Shell(found) => return Ok(ShellVerdict::Shell(found)),
        SymbolVerdict::Other => return Ok(ShellVerdict::Other),
        SymbolVerdict::Nothing(segments) => segments,
    };
    let bias = area.vma.start.wrapping_sub(segments.first);
    let Some((address, length)) = segments.data else { return Ok(ShellVerdict::Silent) };
    let shape = structure::search(memory, (address.wrapping_add(bias), length), pointers)?;
    Ok(ShellLayout::by_shape(&segments, bias, shape)
        .map_or(ShellVerdict::Silent, ShellVerdict::Shell))
}

/// What a program is by the names of its symbols.
enum SymbolVerdict {
    Shell(ShellLayout),
    Other,
    /// It is linked statically and has no such names.
    Nothing(Segments),
}

/// A search for symbols in the files of one process.
struct SymbolSearch<'a, 'm> {
    memory: &'a mut MachineMemory<'m>,
    files: &'a mut FileReader,
    snapshot: &'a Snapshot,
    mm: &'a MmRow,
}

impl SymbolSearch<'_, '_> {
    fn by_symbols(&mut self, file: Option<Index<FileRow>>) -> Result<SymbolVerdict, MissingPage> {
        let named = FileBytes::read_with(self.files, self.memory, (self.snapshot, file), |open| {
            let Some(program) = Symbols::read(open)? else { return Ok(SymbolVerdict::Other) };
            let mut found = ShellLayout { first: program.segments.first, ..ShellLayout::default() };
            // No other program exports both names.
            let mut is_it = true;
            for word in [ShellGlobal::Enabled, ShellGlobal::Interactive] {
                match program.find(open, word.symbol())? {
                    Some(address) => found.put(word, address, false),
                    None => is_it = false,
                }
            }
            if !is_it {
                if let Some(found) = zsh(&program, open)? {
                    return Ok(SymbolVerdict::Shell(found));
                }
                let is_static =
                    !program.segments.has_interpreter && !found.has(ShellGlobal::Enabled);
                return Ok(if is_static {
                    SymbolVerdict::Nothing(program.segments)
                } else {
                    SymbolVerdict::Other
                });
            }
            for (word, symbol, _) in ShellGlobal::ALL {
                if !found.has(word)
                    && word != ShellGlobal::TheHistory
                    && let Some(address) = program.find(open, symbol)?
                {
                    found.put(word, address, false);
                }
            }
            if let Some(address) = the_history(&program, open)? {
                found.put(ShellGlobal::TheHistory, address, false);
            }
            Ok(SymbolVerdict::Shell(found))
        })?;
        let SymbolVerdict::Shell(mut found) = named else { return Ok(named) };
        if found.kind() != ShellKind::Bash {
            return Ok(SymbolVerdict::Shell(found));
        }
        if !found.has(ShellGlobal::TheHistory) {
            self.in_libraries(&mut found)?;
        }
        // Its library may not be mapped yet.
        if is_enough(&found) { Ok(SymbolVerdict::Shell(found)) } else { Err(MissingPage) }
    }

    /// Searches the process's libraries for the history symbols.
    fn in_libraries(&mut self, found: &mut ShellLayout) -> Result<(), MissingPage> {
        let (snapshot, mm) = (self.snapshot, self.mm);
        let areas = snapshot.vmas.range(mm.vmas);
        let mut before = None;
        // Fonts, locales and similar files are not libraries.
        let libraries = areas.iter().filter(|area| {
            area.vma.flags & VM_EXEC != 0
                && !area.vma.file.is_null()
                && !is_main_executable(snapshot, mm, area)
                && core::mem::replace(&mut before, area.file) != area.file
        });
        let mut is_all_read = true;
        for library in libraries.take(LIBRARIES_MAX) {
            match self.in_library(library.file, found) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(MissingPage) => is_all_read = false,
            }
        }
        if is_all_read { Ok(()) } else { Err(MissingPage) }
    }

    /// Searches one library for the history symbols. Returns whether it has them.
    fn in_library(
        &mut self,
        file: Option<Index<FileRow>>,
        found: &mut ShellLayout,
    ) -> Result<bool, MissingPage> {
        let snapshot = self.snapshot;
        let with = FileBytes::read_with(self.files, self.memory, (snapshot, file), |open| {
            let Some(library) = Symbols::read(open)? else { return Ok(None) };
            let Some(address) = the_history(&library, open)? else { return Ok(None) };
            let mut with = *found;
            with.put(ShellGlobal::TheHistory, address, true);
            with.library =
                FileIdentity::of(snapshot, file).map(|file| (file, library.segments.first));
            for word in [ShellGlobal::Length, ShellGlobal::Base, ShellGlobal::MaxEntries] {
                if !with.has(word)
                    && let Some(address) = library.find(open, word.symbol())?
                {
                    with.put(word, address, true);
                }
            }
            Ok(Some(with))
        })?;
        *found = with.unwrap_or(*found);
        Ok(with.is_some())
    }
}

/// The places of a zsh's variables; `None` if the program is no zsh.
fn zsh(
    program: &Symbols,
    open: &mut FileBytes<'_, '_>,
) -> Result<Option<ShellLayout>, MissingPage> {
    let first = program.segments.first;
    let mut found = ShellLayout { first, form: ShellForm::Zsh, ..ShellLayout::default() };
    for (word, symbol) in ShellGlobal::OF_ZSH {
        let Some(address) = program.find(open, symbol)? else { return Ok(None) };
        found.put(word, address, false);
    }
    Ok(Some(found))
}

/// The address of `the_history`, which `history_list` returns.
fn the_history(object: &Symbols, open: &mut FileBytes<'_, '_>) -> Result<Option<u64>, MissingPage> {
    let Some(function) = object.find(open, "history_list")? else { return Ok(None) };
    let code = object.bytes(open, function, bash::CODE_BYTES)?;
    Ok(code.and_then(|code| bash::operand_of(code, function)))
}

fn is_enough(found: &ShellLayout) -> bool {
    let needed = [
        ShellGlobal::TheHistory,
        ShellGlobal::Length,
        ShellGlobal::Enabled,
        ShellGlobal::Interactive,
    ];
    needed.into_iter().all(|word| found.has(word))
}

/// Finds the places of the history in `file`, the library readline of a Python. `None` if it is
/// another library.
pub(super) fn locate_readline(
    memory: &mut MachineMemory<'_>,
    files: &mut FileReader,
    (snapshot, file): (&Snapshot, Option<Index<FileRow>>),
) -> Result<Option<ShellLayout>, MissingPage> {
    FileBytes::read_with(files, memory, (snapshot, file), |open| {
        let Some(library) = Symbols::read(open)? else { return Ok(None) };
        let Some(address) = the_history(&library, open)? else { return Ok(None) };
        let file = FileIdentity::of(snapshot, file).map(|file| (file, library.segments.first));
        let mut found =
            ShellLayout { library: file, form: ShellForm::Python, ..ShellLayout::default() };
        found.put(ShellGlobal::TheHistory, address, true);
        for (word, symbol) in ShellGlobal::OF_READLINE {
            let Some(address) = library.find(open, symbol)? else { return Ok(None) };
            found.put(word, address, true);
        }
        Ok(Some(found))
    })
}

impl ShellGlobals {
    pub(super) fn push(memory: &mut ProcessMemory<'_>, places: &[u64; ShellGlobal::COUNT]) {
        for ((_, _, bytes), &place) in ShellGlobal::ALL.into_iter().zip(places) {
            memory.push(if place == 0 { u64::MAX } else { place }, bytes);
        }
    }
}

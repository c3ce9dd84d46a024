//! Where a bash keeps what is of interest: by the symbols that it, or the library that it has its history from, exports.
//!
//! What is found is in the object's own addresses, so that it holds for every process that runs the same file.

use panoptes_decoders::source::MemorySource;
use panoptes_decoders::user::bash;
use panoptes_decoders::user::elf_dynamic::{
    self, DYNAMIC_BYTES_MAX, Dynamic, GnuHash, HEADER_BYTES, PROGRAM_HEADER_BYTES, SYMBOL_BYTES,
    Segments, Symbol, SysvHash, candidates, gnu_hash, sysv_hash,
};

use super::memory::Memory;
use super::structure::{self, Pointers, Shape};
use super::words::{Word, Words};
use crate::page_cache::FileIdentity;
use crate::state::facts::is_main_executable;
use crate::walk::{MmRow, Snapshot};

/// Most libraries of a process that are searched.
const LIBRARIES_MAX: usize = 16;
/// Most symbols of one bucket of a hash table, in chunks of [`CHAIN_BYTES`].
const CHAIN_CHUNKS_MAX: u32 = 4;
const CHAIN_BYTES: u64 = 64;
/// Most symbols of one bucket of a `DT_HASH` table.
const SYSV_CHAIN_MAX: u32 = 64;
/// Longest name of a symbol that is looked up.
const NAME_BYTES_MAX: u64 = 32;

/// Something could not be read that may be there later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unread;

/// What a program is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a passing answer; nothing is allocated")]
pub(super) enum Verdict {
    /// A bash.
    Bash(Found),
    /// Something else.
    Other,
    /// Something else, unless it has only just begun.
    Silent,
    /// Not all could be read that says so.
    Later,
}

/// Where something is, in the addresses of the object that has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Place {
    address: u64,
    in_library: bool,
}

/// Where all of it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    places: [Option<Place>; Word::COUNT],
    /// The lowest address of the program, as itself knows it.
    first: u64,
    /// The library that some of it is in, and its lowest address.
    library: Option<(FileIdentity, u64)>,
    /// Where its variables are, if it exports nothing, and what is found is by their shape.
    data: Option<(u64, u64)>,
}

impl Found {
    /// A program that exports nothing, with what was found by its shape.
    fn by_shape(object: &Object, shape: Shape) -> Option<Self> {
        let mut found = Self { first: object.segments.first, ..Self::default() };
        found.data = object.segments.data;
        found.put(Word::Variables, shape.variables?.wrapping_sub(object.bias), false);
        if let Some(history) = shape.history {
            found.put(Word::TheHistory, history.wrapping_sub(object.bias), false);
        }
        Some(found)
    }

    /// Whether there is more to find.
    pub(super) fn is_whole(&self) -> bool {
        self.has(Word::TheHistory)
    }

    /// Where in a process the variables lie of a program that is known by its shape.
    pub(super) fn data(&self, snapshot: &Snapshot, mm: &MmRow) -> Option<(u64, u64)> {
        let (address, length) = self.data?;
        let bias = program_at(snapshot, mm)?.wrapping_sub(self.first);
        Some((address.wrapping_add(bias), length))
    }

    /// Where all of it is in one process; `None` where its areas do not fit.
    pub(super) fn place(&self, snapshot: &Snapshot, mm: &MmRow) -> Option<[u64; Word::COUNT]> {
        let program = program_at(snapshot, mm)?.wrapping_sub(self.first);
        let library = match self.library {
            Some((file, first)) => Some(library_at(snapshot, mm, &file)?.wrapping_sub(first)),
            None => None,
        };
        let mut places = [0; Word::COUNT];
        for (place, found) in places.iter_mut().zip(self.places) {
            let Some(found) = found else { continue };
            let bias = if found.in_library { library? } else { program };
            *place = found.address.wrapping_add(bias);
        }
        Some(places)
    }

    fn put(&mut self, word: Word, address: u64, in_library: bool) {
        self.places[word as usize] = Some(Place { address, in_library });
    }

    fn has(&self, word: Word) -> bool {
        self.places[word as usize].is_some()
    }
}

/// Where a process's program is mapped.
fn program_at(snapshot: &Snapshot, mm: &MmRow) -> Option<u64> {
    let areas = snapshot.vmas.range(&mm.vmas);
    areas.iter().find(|area| is_main_executable(snapshot, mm, area)).map(|area| area.vma.start)
}

fn library_at(snapshot: &Snapshot, mm: &MmRow, file: &FileIdentity) -> Option<u64> {
    libraries(snapshot, mm)
        .find(|&(index, _)| FileIdentity::of(snapshot, index).as_ref() == Some(file))
        .map(|(_, start)| start)
}

/// The files that a process has mapped and that are not its program, each with its lowest address.
fn libraries<'a>(snapshot: &'a Snapshot, mm: &'a MmRow) -> impl Iterator<Item = (u32, u64)> + 'a {
    let areas = snapshot.vmas.range(&mm.vmas);
    let mut before = u32::MAX;
    areas.iter().filter_map(move |area| {
        let file = area.file;
        let is_next =
            !area.vma.file.is_null() && file != before && !is_main_executable(snapshot, mm, area);
        before = if area.vma.file.is_null() { before } else { file };
        is_next.then_some((file, area.vma.start))
    })
}

/// Finds out what the program of a process is.
pub(super) fn locate<S: MemorySource>(
    memory: &mut Memory<'_, S>,
    snapshot: &Snapshot,
    mm: &MmRow,
    pointers: &mut Pointers,
) -> Verdict {
    let Some(start) = program_at(snapshot, mm) else { return Verdict::Later };
    match search(memory, snapshot, mm, start, pointers) {
        Ok(Some(found)) => Verdict::Bash(found),
        Ok(None) if is_silent(memory, start) => Verdict::Silent,
        Ok(None) => Verdict::Other,
        Err(Unread) => Verdict::Later,
    }
}

/// Whether a program exports nothing because it is linked statically.
fn is_silent<S: MemorySource>(memory: &mut Memory<'_, S>, start: u64) -> bool {
    let program = Object::read(memory, start).ok().flatten();
    program.is_some_and(|program| !program.segments.has_interpreter)
}

fn search<S: MemorySource>(
    memory: &mut Memory<'_, S>,
    snapshot: &Snapshot,
    mm: &MmRow,
    start: u64,
    pointers: &mut Pointers,
) -> Result<Option<Found>, Unread> {
    let Some(program) = Object::read(memory, start)? else { return Ok(None) };
    let is_silent = program.find(memory, Word::Enabled.symbol())?.is_none();
    if is_silent && !program.segments.has_interpreter {
        let Some((address, length)) = program.segments.data else { return Ok(None) };
        let data = (address.wrapping_add(program.bias), length);
        let shape = structure::search(memory, data, pointers)?;
        return Ok(Found::by_shape(&program, shape));
    }
    let mut found = Found { first: program.segments.first, ..Found::default() };
    // No other program calls anything so.
    for word in [Word::Enabled, Word::Interactive] {
        let Some(address) = program.find(memory, word.symbol())? else { return Ok(None) };
        found.put(word, address, false);
    }
    for word in Word::ALL {
        if !found.has(word)
            && word != Word::TheHistory
            && let Some(address) = program.find(memory, word.symbol())?
        {
            found.put(word, address, false);
        }
    }
    if let Some(address) = program.the_history(memory)? {
        found.put(Word::TheHistory, address, false);
        return Ok(is_enough(&found));
    }
    for (file, start) in libraries(snapshot, mm).take(LIBRARIES_MAX) {
        let Some(library) = Object::read(memory, start)? else { continue };
        let Some(address) = library.the_history(memory)? else { continue };
        found.put(Word::TheHistory, address, true);
        found.library = FileIdentity::of(snapshot, file).map(|file| (file, library.segments.first));
        for word in [Word::Length, Word::Base, Word::MaxEntries] {
            if !found.has(word)
                && let Some(address) = library.find(memory, word.symbol())?
            {
                found.put(word, address, true);
            }
        }
        break;
    }
    Ok(is_enough(&found))
}

fn is_enough(found: &Found) -> Option<Found> {
    let needed = [Word::TheHistory, Word::Length, Word::Enabled, Word::Interactive];
    needed.into_iter().all(|word| found.has(word)).then_some(*found)
}

/// A mapped ELF object.
struct Object {
    bias: u64,
    segments: Segments,
    dynamic: Option<(Dynamic, Table)>,
}

/// How an object's symbols are found by their names.
enum Table {
    Gnu(GnuHash),
    Sysv(SysvHash),
}

impl Object {
    /// Reads what the object that begins at `start` says of itself; `None` where that is none of ours.
    fn read<S: MemorySource>(
        memory: &mut Memory<'_, S>,
        start: u64,
    ) -> Result<Option<Self>, Unread> {
        let header = memory.read(start, HEADER_BYTES).ok_or(Unread)?;
        let Some((offset, count)) = elf_dynamic::program_headers(header) else { return Ok(None) };
        let headers = start.wrapping_add(offset);
        let headers = memory.read(headers, count * PROGRAM_HEADER_BYTES).ok_or(Unread)?;
        let Some(segments) = Segments::parse(headers) else { return Ok(None) };
        let bias = start.wrapping_sub(segments.first);
        let mut object = Self { bias, segments, dynamic: None };
        let Some((address, length)) = segments.dynamic else { return Ok(Some(object)) };
        let length = length.min(DYNAMIC_BYTES_MAX);
        let section = memory.read(address.wrapping_add(bias), length).ok_or(Unread)?;
        let Some(dynamic) = Dynamic::parse(section, bias) else { return Ok(Some(object)) };
        let table = match (dynamic.gnu_hash, dynamic.hash) {
            (Some(place), _) => {
                let header = memory.read(place, GnuHash::BYTES).ok_or(Unread)?;
                GnuHash::parse(header, place).map(Table::Gnu)
            }
            (None, Some(place)) => {
                let header = memory.read(place, SysvHash::BYTES).ok_or(Unread)?;
                SysvHash::parse(header, place).map(Table::Sysv)
            }
            (None, None) => None,
        };
        object.dynamic = table.map(|table| (dynamic, table));
        Ok(Some(object))
    }

    /// The address of a symbol that is defined here, as the object knows it.
    fn find<S: MemorySource>(
        &self,
        memory: &mut Memory<'_, S>,
        name: &str,
    ) -> Result<Option<u64>, Unread> {
        let Some((dynamic, table)) = &self.dynamic else { return Ok(None) };
        match table {
            Table::Gnu(table) => find_in_gnu(memory, dynamic, table, name.as_bytes()),
            Table::Sysv(table) => find_in_sysv(memory, dynamic, table, name.as_bytes()),
        }
    }

    /// The address of `the_history`, which `history_list` gives.
    fn the_history<S: MemorySource>(
        &self,
        memory: &mut Memory<'_, S>,
    ) -> Result<Option<u64>, Unread> {
        let Some(function) = self.find(memory, "history_list")? else { return Ok(None) };
        let address = function.wrapping_add(self.bias);
        let code = memory.read(address, bash::CODE_BYTES).ok_or(Unread)?;
        Ok(bash::operand_of(code, function))
    }
}

fn find_in_gnu<S: MemorySource>(
    memory: &mut Memory<'_, S>,
    dynamic: &Dynamic,
    table: &GnuHash,
    name: &[u8],
) -> Result<Option<u64>, Unread> {
    let hash = gnu_hash(name);
    let first = memory.half(table.bucket(hash)).ok_or(Unread)?;
    for chunk in 0..CHAIN_CHUNKS_MAX {
        let symbol = first.saturating_add(chunk * (CHAIN_BYTES / 4) as u32);
        let Some(chain) = table.chain(symbol) else { return Ok(None) };
        let mut words = [0; CHAIN_BYTES as usize];
        words.copy_from_slice(memory.read(chain, CHAIN_BYTES).ok_or(Unread)?);
        for at in candidates(&words, hash) {
            let found = defined(memory, dynamic, symbol.saturating_add(at), name)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if words.chunks_exact(4).any(|word| word[0] & 1 != 0) {
            break;
        }
    }
    Ok(None)
}

fn find_in_sysv<S: MemorySource>(
    memory: &mut Memory<'_, S>,
    dynamic: &Dynamic,
    table: &SysvHash,
    name: &[u8],
) -> Result<Option<u64>, Unread> {
    let mut symbol = memory.half(table.bucket(sysv_hash(name))).ok_or(Unread)?;
    for _ in 0..SYSV_CHAIN_MAX {
        let Some(next) = table.next(symbol).filter(|_| symbol != 0) else { break };
        let found = defined(memory, dynamic, symbol, name)?;
        if found.is_some() {
            return Ok(found);
        }
        symbol = memory.half(next).ok_or(Unread)?;
    }
    Ok(None)
}

/// The value of a symbol, if it has this name and is defined here.
fn defined<S: MemorySource>(
    memory: &mut Memory<'_, S>,
    dynamic: &Dynamic,
    index: u32,
    name: &[u8],
) -> Result<Option<u64>, Unread> {
    let symbol = memory.read(dynamic.symbol(index), SYMBOL_BYTES).and_then(Symbol::parse);
    let symbol = symbol.ok_or(Unread)?;
    let place = dynamic.strings.wrapping_add(symbol.name.into());
    let length = name.len() as u64 + 1;
    debug_assert!(length <= NAME_BYTES_MAX);
    let text = memory.read(place, length).ok_or(Unread)?;
    let is_it = text.strip_suffix(&[0]) == Some(name) && symbol.is_defined;
    Ok(is_it.then_some(symbol.value))
}

impl Words {
    /// Adds all words of a process to a batch.
    pub(super) fn push<S: MemorySource>(memory: &mut Memory<'_, S>, places: &[u64; Word::COUNT]) {
        for (word, &place) in Word::ALL.iter().zip(places) {
            memory.push(if place == 0 { u64::MAX } else { place }, word.bytes());
        }
    }
}

//! QEMU's migration streams: `migrate "exec:cat > FILE"`, `virsh dump` without `--memory-only`,
//! Proxmox's `vmstate`, and, behind a header, libvirt's save images ([`libvirt`]).
//!
//! Source: QEMU's migration/savevm.c. Sections in order, without lengths; all numbers are big
//! endian. The section `ram` begins before those of devices, and all memory is in the file when it
//! ends. Reading stops there: devices, and what follows the stream, are never looked at. The whole
//! file up to there is read once, to an [`index::RamPageIndex`].
//!
//! Limits: 4096 blocks, 1 TiB of memory, 2²⁶ differences, 1024 of them for one page, and 16 MiB of
//! XML in a save image.

mod index;
pub(crate) mod libvirt;
mod place;
mod ram;
mod sections;
mod stream;
#[cfg(test)]
mod tests;
mod xbzrle;

use std::collections::BTreeMap;
use std::ops::Range;

use panoptes_decoders::source::ReadOutcome;

use self::index::{PAGE_BYTES_MAX, RamPageContent};
use self::place::{Layout, RamRange, RamSlot, SLOTS_GUESSED, layouts};
use self::ram::{MigrationForm, Ram};
use self::sections::{MigrationSection, skip_bitmaps, skip_pbs_state};
use self::stream::{MigrationStream, Stop, damage};
use super::blocks::{BlockDump, DumpBlock, DumpIndex, RANGE_PAGES};
use super::bytes::DumpBytes;
use super::{DumpProblem, Lacks, join};

/// First bytes of a stream of the only version in use.
pub(super) const MAGIC: [u8; 8] = *b"QEVM\0\0\0\x03";

/// Elements of a stream (migration/savevm.h).
const STREAM_END: u64 = 0;
const START: u64 = 1;
const PART: u64 = 2;
const LAST_PART: u64 = 3;
const FULL: u64 = 4;
const SUBSECTION: u64 = 5;
const DESCRIPTION: u64 = 6;
const CONFIGURATION: u64 = 7;
const COMMAND: u64 = 8;
const FOOTER: u64 = 0x7e;

/// Commands (migration/savevm.c, `enum qemu_vm_cmd`).
const POSTCOPY_ADVISE: u64 = 3;
const PACKAGED: u64 = 7;

/// Usual size of a page; the configuration states any other.
const PAGE_BYTES_USUAL: usize = 4096;
/// Maximum number of elements before the end of memory: a round of migration is a few.
const ELEMENTS_MAX: u32 = 1 << 24;
/// Number of sections.
const SECTIONS_MAX: usize = 4096;
/// Number of bytes in which the first section of memory is searched behind devices.
const EARLY_BYTES: usize = 1 << 20;

/// Opens a stream; also returns what it lacks.
pub(crate) fn open(file: DumpBytes) -> Result<(BlockDump, Lacks), DumpProblem> {
    open_at(file, 0, &[])
}

/// Opens the stream at an offset. `slots` has the memory in slots whose addresses are known.
fn open_at(file: DumpBytes, at: u64, slots: &[RamSlot]) -> Result<(BlockDump, Lacks), DumpProblem> {
    let mut reading = MigrationParser::new(&file, at + MAGIC.len() as u64);
    let is_whole = match reading.run() {
        Ok(()) => true,
        Err(Stop::Cut) => false,
        Err(Stop::Problem(problem)) => return Err(problem),
    };
    let MigrationParser { ram, machine, .. } = reading;
    let ram = match ram {
        Some(ram) if ram.index.count() > 0 => ram,
        _ if is_whole => return Err(DumpProblem::NoMemory),
        _ => return Err(DumpProblem::Headers),
    };
    let page_bytes = ram.index.page_bytes() as u64;
    let layouts = layouts(&ram.blocks, &machine, slots, page_bytes);
    let Some(first) = layouts.first().cloned() else {
        return Err(DumpProblem::Header("none of its blocks can be the machine's memory"));
    };
    let missing = (ram.pages() - ram.index.count()) * page_bytes;
    let (cut_short, left_out) = if is_whole { (0, missing) } else { (missing, 0) };
    let lacks = Lacks {
        cut_short,
        left_out,
        unfinished: !is_whole,
        assumption: first.has_guesses.then_some(SLOTS_GUESSED),
        ..Lacks::default()
    };
    let regions = regions(&first.runs);
    let memory = MigrationMemory { file, ram, layouts, runs: first.runs, page_bytes };
    Ok((BlockDump::new(Box::new(memory), regions), lacks))
}

fn regions(runs: &[RamRange]) -> Vec<Range<u64>> {
    let mut regions = Vec::new();
    for run in runs {
        join(&mut regions, run.physical..run.physical + run.bytes, super::REGIONS_MAX);
    }
    regions
}

/// A stream while it is read.
struct MigrationParser<'f> {
    stream: MigrationStream<'f>,
    form: MigrationForm,
    machine: Vec<u8>,
    page_bytes: usize,
    /// What each section holds, by its number.
    sections: BTreeMap<u64, MigrationSection>,
    ram: Option<Ram>,
}

impl<'f> MigrationParser<'f> {
    fn new(file: &'f DumpBytes, at: u64) -> Self {
        Self {
            stream: MigrationStream::new(file, at),
            form: MigrationForm::default(),
            machine: Vec::new(),
            page_bytes: PAGE_BYTES_USUAL,
            sections: BTreeMap::new(),
            ram: None,
        }
    }

    /// Reads to the end of memory.
    fn run(&mut self) -> Result<(), Stop> {
        if self.stream.next_number::<1>()? == CONFIGURATION {
            self.stream.skip(1)?;
            self.read_configuration()?;
        }
        for _ in 0..ELEMENTS_MAX {
            match self.stream.number::<1>()? {
                START => self.start_section()?,
                kind @ (PART | LAST_PART) => {
                    let id = self.stream.number::<4>()?;
                    let is_ram = self.continue_section(id)?;
                    if is_ram && kind == LAST_PART {
                        return Ok(());
                    }
                }
                FULL if self.ram.is_none() => self.find_memory()?,
                COMMAND => self.pass_command()?,
                // The file of an aborted stream may continue with zeros, which look like the end.
                STREAM_END if self.ram.is_some() => return Err(Stop::Cut),
                STREAM_END | DESCRIPTION => return Err(DumpProblem::NoMemory.into()),
                _ => return Err(damage("it has an element of no known kind")),
            }
        }
        Err(damage("its memory has no end"))
    }

    fn read_configuration(&mut self) -> Result<(), Stop> {
        let length = self.stream.number::<4>()?;
        if length > 255 {
            return Err(damage("the name of its machine is too long"));
        }
        self.machine = self.stream.text(length as usize)?;
        while self.stream.next_number::<1>()? == SUBSECTION {
            self.stream.skip(1)?;
            let name = self.stream.name()?;
            let _version = self.stream.number::<4>()?;
            match name.as_slice() {
                b"configuration/target-page-bits" => {
                    let bits = self.stream.number::<4>()?;
                    let page = 1_usize.checked_shl(bits as u32).unwrap_or(0);
                    if !(PAGE_BYTES_USUAL..=PAGE_BYTES_MAX).contains(&page) {
                        return Err(damage("its pages have an impossible size"));
                    }
                    self.page_bytes = page;
                }
                b"configuration/capabilities" => {
                    for _ in 0..self.stream.number::<4>()?.min(255) {
                        match self.stream.name()?.as_slice() {
                            b"mapped-ram" => self.form.is_mapped = true,
                            b"x-ignore-shared" => self.form.ignores_shared = true,
                            _ => {}
                        }
                    }
                }
                b"configuration/uuid" => self.stream.skip(16)?,
                _ => return Err(damage("its configuration has an unknown part")),
            }
        }
        Ok(())
    }

    fn start_section(&mut self) -> Result<(), Stop> {
        let id = self.stream.number::<4>()?;
        let name = self.stream.name()?;
        let _instance = self.stream.number::<4>()?;
        let version = self.stream.number::<4>()?;
        let kind = MigrationSection::of(&name, version)?;
        let is_second = kind == MigrationSection::Ram && self.ram.is_some();
        if is_second || self.sections.len() >= SECTIONS_MAX {
            return Err(damage("it has a section twice"));
        }
        self.sections.insert(id, kind);
        self.continue_section(id).map(drop)
    }

    /// Reads the data of a section; whether it is the memory.
    fn continue_section(&mut self, id: u64) -> Result<bool, Stop> {
        let kind = self.sections.get(&id).copied();
        let kind = kind.ok_or(damage("it has a part of no known section"))?;
        match kind {
            MigrationSection::Ram => {
                let ram = self.ram.get_or_insert_with(|| Ram::new(self.page_bytes));
                ram.read_section(&mut self.stream, self.form)?;
            }
            MigrationSection::DirtyBitmap => skip_bitmaps(&mut self.stream)?,
            MigrationSection::PbsState => skip_pbs_state(&mut self.stream)?,
        }
        // Machine types before 2.4 write no footers.
        if self.stream.next_number::<1>() == Ok(FOOTER) {
            self.stream.skip(1)?;
            if self.stream.number::<4>()? != id {
                return Err(damage("a section has the end of another"));
            }
        }
        Ok(kind == MigrationSection::Ram)
    }

    fn pass_command(&mut self) -> Result<(), Stop> {
        let command = self.stream.number::<2>()?;
        let length = self.stream.number::<2>()?;
        match command {
            PACKAGED => {
                return Err(DumpProblem::Unsupported(
                    "it is a stream of postcopy migration, whose memory is not in it",
                )
                .into());
            }
            POSTCOPY_ADVISE => self.form.has_page_sizes = true,
            _ => {}
        }
        self.stream.skip(length)
    }

    /// Goes to the first section of memory. Devices that must be loaded early stand before it
    /// (virtio-mem), and have no length.
    fn find_memory(&mut self) -> Result<(), Stop> {
        const BEHIND_ID: &[u8] = b"\x03ram\0\0\0\0\0\0\0\x04";
        let from = self.stream.at();
        let left = self.stream.file().len().saturating_sub(from).min(EARLY_BYTES as u64);
        let mut bytes = vec![0; left as usize];
        if !self.stream.file().read(from, &mut bytes) {
            return Err(Stop::Cut);
        }
        let is_start = |window: &[u8]| window[0] == START as u8 && &window[5..] == BEHIND_ID;
        let place = bytes.windows(5 + BEHIND_ID.len()).position(is_start);
        let place = place.ok_or(damage("its memory was not found behind early devices"))?;
        self.stream.go_to(from + place as u64);
        Ok(())
    }
}

/// The memory of a stream.
#[derive(Debug)]
struct MigrationMemory {
    file: DumpBytes,
    ram: Ram,
    layouts: Vec<Layout>,
    /// The layout in force, in order of addresses.
    runs: Vec<RamRange>,
    page_bytes: u64,
}

impl DumpIndex for MigrationMemory {
    fn find(&mut self, address: u64) -> Option<DumpBlock> {
        let after = self.runs.partition_point(|run| run.physical <= address);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let inside = address - run.physical;
        if inside >= run.bytes {
            return None;
        }
        let page = inside / self.page_bytes;
        let block = run.first + page;
        (self.ram.index.get(block) != RamPageContent::Absent).then_some(DumpBlock {
            block,
            start: run.physical + page * self.page_bytes,
            bytes: self.page_bytes,
        })
    }

    fn load(&mut self, block: u64, target: &mut [u8]) -> ReadOutcome {
        if self.ram.index.load(&self.file, block, target) {
            ReadOutcome::Read
        } else {
            ReadOutcome::Failed
        }
    }

    fn next_data(&mut self, from: u64) -> Option<Range<u64>> {
        let has_data = |page| {
            !matches!(self.ram.index.get(page), RamPageContent::Absent | RamPageContent::Filled(0))
        };
        let first = self.runs.partition_point(|run| run.physical + run.bytes <= from);
        for run in &self.runs[first..] {
            let begin = from.saturating_sub(run.physical) / self.page_bytes;
            let pages = run.bytes / self.page_bytes;
            let Some(start) = (begin..pages).find(|page| has_data(run.first + page)) else {
                continue;
            };
            let most = (start + RANGE_PAGES).min(pages);
            let end = (start..most).find(|page| !has_data(run.first + page)).unwrap_or(most);
            let at = |page| run.physical + page * self.page_bytes;
            return Some(at(start).max(from)..at(end));
        }
        None
    }

    fn block_bytes(&self) -> usize {
        self.page_bytes as usize
    }

    fn layouts(&self) -> usize {
        self.layouts.len()
    }

    fn choose_layout(&mut self, index: usize) -> Option<Vec<Range<u64>>> {
        self.runs.clone_from(&self.layouts.get(index)?.runs);
        Some(regions(&self.runs))
    }
}

//! [`GuestMemory`]: the memory of a guest that runs on the host, read from the process of its
//! monitor: QEMU, or another one that maps it.
//!
//! Memory in a file is mapped ([`MappedMemory`]). Private memory of the process is read with
//! `process_vm_readv` (`private`). The physical addresses are a guess (`layout`). The caller tries
//! one layout after the other until it finds a kernel.
//!
//! Not for: finding such processes, whether they may be read, or what their arguments mean.

mod areas;
mod layout;
mod private;
mod process;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource, MemorySource, ReadOutcome, ReadRequest};

use super::pieces::{InnerSource, answer_pieces};
use super::timed::TimedSource;
use super::{MappedMemory, Segment, SourceError};

pub use areas::{Area, AreaBacking, AreaLabel, FileIdentity};
pub(crate) use layout::{BlockPart, layouts_of_blocks};
pub use layout::{ExpectedMemory, Machine, MemoryDevice, PlacedArea, Use, layouts};
pub use process::{GuestProcess, file_identity};

use private::{PrivateMemory, PrivateRange};

/// Number of requests passed on at once if memory is in several parts.
const SHARED_OUT: usize = 1024;
/// Largest number of mapped files of one guest: all guests share the table of guards against
/// SIGBUS.
const FILES_MAX: usize = 32;
/// What fails without permission to a process's memory, for messages.
const READ: &str = "read the memory of";
/// What fails if a file with the memory cannot be opened, for messages.
const OPEN: &str = "open the memory of";

/// The memory of a guest that runs in QEMU on the host; see the module.
#[derive(Debug)]
pub struct GuestMemory {
    process: GuestProcess,
    layouts: Vec<Vec<PlacedArea>>,
    chosen: usize,
    areas: Vec<Area>,
    parts: Vec<Box<dyn InnerSource>>,
    regions: Vec<Range<u64>>,
    /// For each region the index of its part.
    part_of: Vec<usize>,
    /// Requests being passed to a part; `places` are their indices in the batch.
    outbound: Vec<ReadRequest>,
    places: Vec<u32>,
    has_ended: bool,
}

impl GuestMemory {
    /// Opens a guest's memory in the likeliest layout.
    pub fn open(process: GuestProcess, expected: &ExpectedMemory) -> Result<Self, SourceError> {
        let (areas, layouts) = Self::look(&process, expected)?;
        let mut memory = Self {
            process,
            layouts,
            chosen: 0,
            areas,
            parts: Vec::new(),
            regions: Vec::new(),
            part_of: Vec::new(),
            outbound: Vec::with_capacity(SHARED_OUT),
            places: Vec::with_capacity(SHARED_OUT),
            has_ended: false,
        };
        memory.choose(0)?;
        // Reading uses the process id, which may belong to another process by now.
        if memory.process.has_ended() {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(failed(memory.process.pid(), READ)(error));
        }
        Ok(memory)
    }

    /// Checks whether a layout can be read, as far as that is possible without opening it: the
    /// permission, and the file systems of its files.
    pub fn permits(process: &GuestProcess, layout: &[PlacedArea]) -> Result<(), SourceError> {
        let areas = process.areas().map_err(failed(process.pid(), "read the memory map of"))?;
        let mut checked = Vec::new();
        for one in layout.iter().filter(|one| !one.is_guess) {
            let area = areas.iter().find(|area| area.range.contains(&one.address));
            if let (Some(area), AreaBacking::File { identity, .. }) = (area, &one.backing)
                && !checked.contains(identity)
            {
                checked.push(*identity);
                match process.check_mapped(&area.range, *identity) {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        return Err(failed(process.pid(), OPEN)(error));
                    }
                    // Opening it reports what else is wrong.
                    _ => {}
                }
            }
        }
        if layout.iter().all(PlacedArea::is_shared) {
            return Ok(());
        }
        let failed = failed(process.pid(), READ);
        process.pagemap().map_err(failed)?;
        private::probe(process.pid()).map_err(failed)
    }

    /// The likeliest layout, without opening anything.
    pub fn plan(
        process: &GuestProcess,
        expected: &ExpectedMemory,
    ) -> Result<Vec<PlacedArea>, SourceError> {
        Self::look(process, expected).map(|(_, mut layouts)| layouts.swap_remove(0))
    }

    /// The areas of the process, and the possible layouts: at least one.
    fn look(
        process: &GuestProcess,
        expected: &ExpectedMemory,
    ) -> Result<(Vec<Area>, Vec<Vec<PlacedArea>>), SourceError> {
        let pid = process.pid();
        let areas = process.areas().map_err(failed(pid, "read the memory map of"))?;
        let layouts = layout::layouts(&areas, expected);
        if layouts.is_empty() {
            return Err(SourceError::NoGuest { pid });
        }
        Ok((areas, layouts))
    }

    /// Switches to one of the layouts. On an error the current one stays in force.
    pub fn choose(&mut self, index: usize) -> Result<(), SourceError> {
        let Some(layout) = self.layouts.get(index) else {
            return Err(SourceError::NoGuest { pid: self.process.pid() });
        };
        let (parts, regions, part_of) = self.open_parts(layout)?;
        (self.parts, self.regions, self.part_of) = (parts, regions, part_of);
        self.chosen = index;
        Ok(())
    }

    /// The layout in force. Blocks in it that are guesses may have been left out.
    pub fn layout(&self) -> &[PlacedArea] {
        &self.layouts[self.chosen]
    }

    /// The layout that was likeliest when the memory was opened, as [`Self::plan`] would have
    /// returned.
    pub fn planned(&self) -> &[PlacedArea] {
        &self.layouts[0]
    }

    pub fn process(&self) -> &GuestProcess {
        &self.process
    }

    #[expect(clippy::type_complexity, reason = "three lists that belong together, for one caller")]
    fn open_parts(
        &self,
        layout: &[PlacedArea],
    ) -> Result<(Vec<Box<dyn InnerSource>>, Vec<Range<u64>>, Vec<usize>), SourceError> {
        let mut parts: Vec<Box<dyn InnerSource>> = Vec::new();
        // For each owner its part, or `None` if all its blocks were wrong guesses.
        let mut owners: Vec<(Option<FileIdentity>, Option<usize>)> = Vec::new();
        let mut regions = Vec::new();
        let mut part_of = Vec::new();
        for placed in layout {
            let owner = placed.file();
            let known = owners.iter().find(|(one, _)| *one == owner).map(|(_, part)| *part);
            let part = if let Some(part) = known {
                part
            } else {
                let of_owner: Vec<&PlacedArea> =
                    layout.iter().filter(|other| other.file() == owner).collect();
                let named: Vec<&PlacedArea> =
                    of_owner.iter().copied().filter(|one| !one.is_guess).collect();
                let part = match self.open_part(owner, &of_owner, parts.len()) {
                    Ok(part) => Some(part),
                    // A guess can be another mapping, such as the memory of a device.
                    Err(_) if named.is_empty() => None,
                    Err(_) if named.len() < of_owner.len() => {
                        Some(self.open_part(owner, &named, parts.len())?)
                    }
                    Err(error) => return Err(error),
                };
                let part = part.map(|part| {
                    parts.push(part);
                    parts.len() - 1
                });
                owners.push((owner, part));
                part
            };
            let region = placed.physical..placed.physical + placed.bytes;
            if let Some(part) = part
                && parts[part].regions().iter().any(|one| one.contains(&region.start))
            {
                regions.push(region);
                part_of.push(part);
            }
        }
        Ok((parts, regions, part_of))
    }

    /// Opens the blocks that are in one file, or private to the process.
    fn open_part(
        &self,
        owner: Option<FileIdentity>,
        placed: &[&PlacedArea],
        opened: usize,
    ) -> Result<Box<dyn InnerSource>, SourceError> {
        match owner {
            Some(_) if opened >= FILES_MAX => {
                Err(SourceError::GuestFiles { pid: self.process.pid(), at_most: FILES_MAX })
            }
            Some(identity) => self.open_file(identity, placed),
            None => self.open_private(placed),
        }
    }

    /// Maps the file that holds these blocks.
    fn open_file(
        &self,
        identity: FileIdentity,
        placed: &[&PlacedArea],
    ) -> Result<Box<dyn InnerSource>, SourceError> {
        let address = placed.first().map_or(0, |one| one.address);
        let file = self.file_at(address, identity)?;
        let segments = placed
            .iter()
            .filter_map(|one| match one.backing {
                AreaBacking::File { offset, .. } => {
                    Some(Segment { physical: one.physical..one.physical + one.bytes, offset })
                }
                AreaBacking::Private => None,
            })
            .collect();
        let path = PathBuf::from(format!("/proc/{}/map_files", self.process.pid()));
        Ok(Box::new(MappedMemory::from_file(file, &path, segments)?))
    }

    /// Prepares to read these private blocks from the process.
    fn open_private(&self, placed: &[&PlacedArea]) -> Result<Box<dyn InnerSource>, SourceError> {
        let pid = self.process.pid();
        let mut pieces = Vec::new();
        for one in placed {
            let file = match one.backing {
                AreaBacking::File { identity, offset, .. } => {
                    match self.file_at(one.address, identity) {
                        Ok(file) => Some((file, offset)),
                        Err(_) if one.is_guess => continue,
                        Err(error) => return Err(error),
                    }
                }
                AreaBacking::Private => None,
            };
            let physical = one.physical..one.physical + one.bytes;
            pieces.push(PrivateRange { physical, address: one.address, file });
        }
        let failed = failed(pid, READ);
        let pagemap = self.process.pagemap().map_err(failed)?;
        // Opening pagemap and reading memory are separate permissions: a security module may refuse
        // the second.
        private::probe(pid).map_err(failed)?;
        let alive = self.process.alive().map_err(failed)?;
        let memory = PrivateMemory::new(pid, alive, pagemap, pieces).map_err(failed)?;
        Ok(Box::new(TimedSource::new(Box::new(memory), self.process.key()).map_err(failed)?))
    }

    /// Opens the file that is mapped at an address.
    fn file_at(&self, address: u64, identity: FileIdentity) -> Result<std::fs::File, SourceError> {
        let pid = self.process.pid();
        let area = self.areas.iter().find(|area| area.range.contains(&address));
        let range = area.map_or(0..0, |area| area.range.clone());
        self.process.mapped_file(&range, identity).map_err(failed(pid, OPEN))
    }

    /// The part that holds all of a range.
    #[inline]
    fn part_at(&self, address: u64, bytes: u64) -> Option<usize> {
        let holds =
            |region: &Range<u64>| region.contains(&address) && bytes <= region.end - address;
        Some(self.part_of[self.regions.iter().position(holds)?])
    }

    /// Answers a request that crosses the end of a part.
    #[cold]
    fn read_across(&mut self, address: u64, target: &mut [u8]) -> ReadOutcome {
        answer_pieces(address, target, |at, target| {
            let index = self.regions.iter().position(|region| region.contains(&at));
            let index = index.ok_or(ReadOutcome::NotBacked)?;
            let count = (self.regions[index].end - at).min(target.len() as u64) as usize;
            let part = &mut self.parts[self.part_of[index]];
            let is_read = part.read_exact(PhysicalAddress(at), &mut target[..count]);
            is_read.then_some(count).ok_or(ReadOutcome::Failed)
        })
    }
}

fn failed(pid: u32, doing: &'static str) -> impl Fn(io::Error) -> SourceError + Copy {
    move |error| SourceError::Process { pid, doing, error }
}

impl MemorySource for GuestMemory {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if let [part] = self.parts.as_mut_slice() {
            part.read_batch(requests, arena);
            return;
        }
        for request in requests.iter_mut() {
            request.outcome = ReadOutcome::Pending;
        }
        for part in 0..self.parts.len() {
            let mut next = 0;
            while next < requests.len() {
                self.outbound.clear();
                self.places.clear();
                while next < requests.len() && self.outbound.len() < SHARED_OUT {
                    let request = requests[next];
                    if self.part_at(request.address.0, u64::from(request.length)) == Some(part) {
                        self.outbound.push(request);
                        self.places.push(next as u32);
                    }
                    next += 1;
                }
                self.parts[part].read_batch(&mut self.outbound, arena);
                for (place, answer) in self.places.iter().zip(&self.outbound) {
                    requests[*place as usize].outcome = answer.outcome;
                }
            }
        }
        for request in requests.iter_mut().filter(|one| one.outcome == ReadOutcome::Pending) {
            request.outcome = match request.target_range(arena.len()) {
                Some(target) if target.is_empty() => ReadOutcome::Read,
                Some(target) => self.read_across(request.address.0, &mut arena[target]),
                None => ReadOutcome::Failed,
            };
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        // The lowest range of all parts: their regions may alternate.
        let nexts = self.parts.iter_mut().filter_map(|part| part.next_data(from));
        nexts.min_by_key(|range| range.start)
    }
}

impl MachineSource for GuestMemory {
    /// A system call for the process and one for each of its files.
    fn refresh(&mut self) {
        self.has_ended |= self.process.has_ended();
        for part in &mut self.parts {
            part.refresh();
        }
    }

    fn layouts(&self) -> usize {
        self.layouts.len()
    }

    fn choose_layout(&mut self, index: usize) {
        // The files were opened for the first layout already, so this fails only if the guest is
        // gone.
        let _ = self.choose(index);
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn losses(&self, report: &mut dyn FnMut(&dyn std::fmt::Display)) {
        self.parts.iter().for_each(|part| part.losses(report));
    }
}

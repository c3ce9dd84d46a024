//! [`GuestMemory`]: the memory of a guest that runs in QEMU on this machine, taken from QEMU's process.
//!
//! Memory that is a file is mapped ([`MappedFile`]); memory that is the process's own is read by
//! `process_vm_readv` (`private`). Where in physical memory what lies is guessed (`layout`) and proven by whoever
//! then finds a kernel: try one layout after the other.
//!
//! Not for: finding such processes, whether they may be looked at, or what their arguments mean.

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
use panoptes_decoders::source::{MemorySource, Outcome, Request};

use super::{MappedFile, Refreshed, Segment, SourceError};

pub use areas::{Area, Backing};
pub use layout::{Expected, Machine, Placed};
pub use process::{GuestProcess, file_identity};

use private::{Piece, PrivateMemory};

/// Requests that are handed on at once where memory is in several parts.
const SHARED_OUT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct GuestMemory {
    process: GuestProcess,
    layouts: Vec<Vec<Placed>>,
    chosen: usize,
    areas: Vec<Area>,
    parts: Vec<Part>,
    regions: Vec<Range<u64>>,
    /// For each region its part.
    part_of: Vec<usize>,
    /// Requests on their way to a part, with their places in the batch.
    outbound: Vec<Request>,
    places: Vec<u32>,
    has_ended: bool,
}

#[derive(Debug)]
enum Part {
    File(Box<MappedFile>),
    Private(Box<PrivateMemory>),
}

impl GuestMemory {
    /// Opens a guest's memory in the layout that is likeliest.
    pub fn open(process: GuestProcess, expected: &Expected) -> Result<Self, SourceError> {
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
        Ok(memory)
    }

    /// The layout that is likeliest, without opening anything.
    pub fn plan(process: &GuestProcess, expected: &Expected) -> Result<Vec<Placed>, SourceError> {
        Self::look(process, expected).map(|(_, mut layouts)| layouts.swap_remove(0))
    }

    /// What the process has mapped, and the layouts that may be made of it, of which there is at least one.
    fn look(
        process: &GuestProcess,
        expected: &Expected,
    ) -> Result<(Vec<Area>, Vec<Vec<Placed>>), SourceError> {
        let pid = process.pid();
        let failed = |error| SourceError::Process { pid, doing: "read the memory map of", error };
        let areas = process.areas().map_err(failed)?;
        let layouts = layout::layouts(&areas, expected);
        if layouts.is_empty() {
            return Err(SourceError::NoGuest { pid });
        }
        Ok((areas, layouts))
    }

    /// How many layouts there are to try.
    pub fn layouts(&self) -> usize {
        self.layouts.len()
    }

    /// Takes one of the layouts.
    pub fn choose(&mut self, index: usize) -> Result<(), SourceError> {
        let Some(layout) = self.layouts.get(index) else {
            return Err(SourceError::NoGuest { pid: self.process.pid() });
        };
        let (parts, regions, part_of) = self.open_parts(layout)?;
        (self.parts, self.regions, self.part_of) = (parts, regions, part_of);
        self.chosen = index;
        Ok(())
    }

    /// The layout that is used.
    pub fn layout(&self) -> &[Placed] {
        &self.layouts[self.chosen]
    }

    /// The process.
    pub fn process(&self) -> &GuestProcess {
        &self.process
    }

    /// Whether the process has ended, as of the last [`Self::refresh`].
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Looks whether the process still runs, and its files are as they were: a system call or two. Between scans.
    pub fn refresh(&mut self) -> io::Result<Refreshed> {
        self.has_ended |= self.process.has_ended();
        let mut refreshed = Refreshed::Unchanged;
        for part in &mut self.parts {
            if let Part::File(file) = part
                && file.refresh()? == Refreshed::Forgotten
            {
                refreshed = Refreshed::Forgotten;
            }
        }
        Ok(refreshed)
    }

    #[expect(clippy::type_complexity, reason = "three lists that belong together, for one caller")]
    fn open_parts(
        &self,
        layout: &[Placed],
    ) -> Result<(Vec<Part>, Vec<Range<u64>>, Vec<usize>), SourceError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut owners: Vec<Option<(u32, u32, u64)>> = Vec::new();
        let mut regions = Vec::new();
        let mut part_of = Vec::new();
        for placed in layout {
            let owner = match &placed.backing {
                Backing::File { identity, shared: true, .. } => Some(*identity),
                _ => None,
            };
            regions.push(placed.physical..placed.physical + placed.bytes);
            if let Some(part) = owners.iter().position(|one| *one == owner) {
                part_of.push(part);
                continue;
            }
            let of_owner = layout.iter().filter(|other| match &other.backing {
                Backing::File { identity, shared: true, .. } => Some(*identity) == owner,
                _ => owner.is_none(),
            });
            let part = if let Some(identity) = owner {
                self.open_file(placed.address, identity, of_owner)?
            } else {
                self.open_private(of_owner)?
            };
            part_of.push(parts.len());
            parts.push(part);
            owners.push(owner);
        }
        Ok((parts, regions, part_of))
    }

    /// Maps a file that is these parts of the memory.
    fn open_file<'a>(
        &self,
        address: u64,
        identity: (u32, u32, u64),
        placed: impl Iterator<Item = &'a Placed>,
    ) -> Result<Part, SourceError> {
        let file = self.file_at(address, identity)?;
        let segments = placed
            .filter_map(|one| match one.backing {
                Backing::File { offset, .. } => {
                    Some(Segment { physical: one.physical..one.physical + one.bytes, offset })
                }
                Backing::Private => None,
            })
            .collect();
        let path = PathBuf::from(format!("/proc/{}/map_files", self.process.pid()));
        Ok(Part::File(Box::new(MappedFile::from_file(file, &path, segments)?)))
    }

    /// Gets ready to read these parts of the memory out of the process.
    fn open_private<'a>(
        &self,
        placed: impl Iterator<Item = &'a Placed>,
    ) -> Result<Part, SourceError> {
        let pid = self.process.pid();
        let mut pieces = Vec::new();
        for one in placed {
            let file = match one.backing {
                Backing::File { identity, offset, .. } => {
                    Some((self.file_at(one.address, identity)?, offset))
                }
                Backing::Private => None,
            };
            let physical = one.physical..one.physical + one.bytes;
            pieces.push(Piece { physical, address: one.address, file });
        }
        let failed = |error| SourceError::Process { pid, doing: "read the memory of", error };
        let pagemap = self.process.pagemap().map_err(failed)?;
        let number = libc::pid_t::try_from(pid).map_err(|_| SourceError::NoGuest { pid })?;
        Ok(Part::Private(Box::new(PrivateMemory::new(number, pagemap, pieces))))
    }

    /// Opens the file that is mapped where an address is.
    fn file_at(
        &self,
        address: u64,
        identity: (u32, u32, u64),
    ) -> Result<std::fs::File, SourceError> {
        let pid = self.process.pid();
        let area = self.areas.iter().find(|area| area.range.contains(&address));
        let range = area.map_or(0..0, |area| area.range.clone());
        self.process.mapped_file(&range, identity).map_err(|error| SourceError::Process {
            pid,
            doing: "open the memory of",
            error,
        })
    }

    /// The part that holds all of a range.
    #[inline]
    fn part_at(&self, address: u64, bytes: u64) -> Option<usize> {
        let holds =
            |region: &Range<u64>| region.contains(&address) && bytes <= region.end - address;
        Some(self.part_of[self.regions.iter().position(holds)?])
    }

    /// Answers a request that reaches over the end of a part.
    #[cold]
    fn read_across(&mut self, address: u64, target: &mut [u8]) -> Outcome {
        let mut done = 0;
        while done < target.len() {
            let region = address.checked_add(done as u64).and_then(|at| {
                let index = self.regions.iter().position(|region| region.contains(&at))?;
                Some((index, at))
            });
            let Some((index, at)) = region else {
                target.fill(0);
                return Outcome::NotBacked;
            };
            let left = self.regions[index].end - at;
            let count = left.min((target.len() - done) as u64) as usize;
            let part = &mut self.parts[self.part_of[index]];
            if !part.read_exact(PhysicalAddress(at), &mut target[done..done + count]) {
                return Outcome::Failed;
            }
            done += count;
        }
        Outcome::Read
    }
}

impl MemorySource for Part {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        match self {
            Self::File(part) => part.read_batch(requests, arena),
            Self::Private(part) => part.read_batch(requests, arena),
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        match self {
            Self::File(part) => part.regions(),
            Self::Private(part) => part.regions(),
        }
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        match self {
            Self::File(part) => part.next_data(from),
            Self::Private(part) => part.next_data(from),
        }
    }
}

impl MemorySource for GuestMemory {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        if let [part] = self.parts.as_mut_slice() {
            part.read_batch(requests, arena);
            return;
        }
        for request in requests.iter_mut() {
            request.outcome = Outcome::Pending;
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
        for request in requests.iter_mut().filter(|one| one.outcome == Outcome::Pending) {
            request.outcome = match request.target_range(arena.len()) {
                Some(target) if target.is_empty() => Outcome::Read,
                Some(target) => self.read_across(request.address.0, &mut arena[target]),
                None => Outcome::Failed,
            };
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        // The first of what the parts have next: they may take turns.
        let nexts = self.parts.iter_mut().filter_map(|part| part.next_data(from));
        nexts.min_by_key(|range| range.start)
    }
}

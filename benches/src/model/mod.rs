//! The fewest cache lines that a scan of a machine must read. docs/performance/scan.md has the
//! figures of this model.
//!
//! A line must be read if it holds a byte of a field that a decoder declares, of an object that the
//! scan has found. The fields are those of the bound layouts, and the addresses those of the
//! snapshot, so that nothing here is an estimate: objects that share a line share it here, too.
//! What is no structure counts by what is in use: slots of tables, entries of nodes, bytes of
//! texts, entries of page tables.
//!
//! A scan reads more: bytes between the fields, slots that are not in use, and a few objects that
//! are not modelled. [`Part::read`] tells which structure they are in. Lines that are read twice
//! count once, here and there.

mod objects;
mod trees;

use std::collections::{HashMap, HashSet};

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::{Layout, PackedLayout, u64_at};
use panoptes_decoders::paging::PageTableEntry;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_engine::walk::{Kernel, Snapshot};

/// Bytes of a cache line.
pub const LINE_BYTES: u64 = 64;

/// One kind of structure.
#[derive(Debug, Default)]
pub struct Part {
    pub name: &'static str,
    /// Number of different objects.
    pub objects: usize,
    /// Lines that hold wanted fields and are in no part before this one.
    pub lines: usize,
    /// Lines in which the engine may look for these fields: those of the spans that it fetches, or
    /// of the whole table.
    extent: HashSet<u64>,
}

impl Part {
    /// How many of the lines that were read belong to the part.
    pub fn read(&self, lines: &[PhysicalAddress]) -> usize {
        lines.iter().filter(|&&line| self.has(line)).count()
    }

    fn has(&self, address: PhysicalAddress) -> bool {
        self.extent.contains(&(address.0 / LINE_BYTES))
    }
}

/// The lines that a scan must read.
#[derive(Debug, Default)]
pub struct Model {
    pub parts: Vec<Part>,
    /// Numbers of physical lines.
    lines: HashSet<u64>,
}

impl Model {
    /// The model of the machine that was scanned.
    ///
    /// # Errors
    ///
    /// The kernel keeps its areas in a red-black tree (before 6.1).
    pub fn of(
        snapshot: &Snapshot,
        kernel: &Kernel,
        source: &mut dyn MemorySource,
    ) -> Result<Self, &'static str> {
        let mut survey =
            Survey { model: Self::default(), snapshot, kernel, source, pages: HashMap::default() };
        survey.tasks();
        survey.command_lines();
        survey.descriptors();
        survey.areas()?;
        survey.files();
        survey.sockets();
        survey.groups();
        Ok(survey.model)
    }

    /// Number of different lines.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// How many of the lines that were read belong to no part.
    pub fn others(&self, lines: &[PhysicalAddress]) -> usize {
        let is_other = |&&line: &&PhysicalAddress| !self.parts.iter().any(|part| part.has(line));
        lines.iter().filter(is_other).count()
    }

    /// Whether the line of an address must be read.
    pub fn has(&self, address: PhysicalAddress) -> bool {
        self.lines.contains(&(address.0 / LINE_BYTES))
    }
}

/// A model in the making.
struct Survey<'a> {
    model: Model,
    snapshot: &'a Snapshot,
    kernel: &'a Kernel,
    source: &'a mut dyn MemorySource,
    /// Physical addresses of kernel pages outside of the linear ranges.
    pages: HashMap<u64, Option<PhysicalAddress>>,
}

impl Survey<'_> {
    /// Begins a part. What is added goes to the last one.
    fn begin(&mut self, name: &'static str) {
        self.model.parts.push(Part { name, ..Part::default() });
    }

    /// Counts an object of the part.
    fn count(&mut self) {
        if let Some(part) = self.model.parts.last_mut() {
            part.objects += 1;
        }
    }

    /// Adds the objects of one layout at these addresses as a part.
    fn part(&mut self, name: &'static str, layout: &impl Layout, addresses: Vec<KernelVa>) {
        self.begin(name);
        for address in distinct(addresses) {
            self.count();
            self.structure(layout, address);
        }
    }

    /// Adds the fields of a structure to the part.
    fn structure(&mut self, layout: &impl Layout, address: KernelVa) {
        layout.each_field(&mut |field| {
            if field.size > 0 {
                self.want(address.plus(field.offset.into()), field.size.into());
            }
        });
        for span in layout.packing().spans() {
            self.fetch(address.plus(span.offset.into()), span.length.into());
        }
    }

    /// Adds wanted bytes that the engine reads as they are.
    fn bytes(&mut self, address: KernelVa, bytes: u64) {
        self.want(address, bytes);
        self.fetch(address, bytes);
    }

    fn want(&mut self, address: KernelVa, bytes: u64) {
        self.each_line(address, bytes, Self::want_line);
    }

    fn want_line(&mut self, line: u64) {
        if self.model.lines.insert(line)
            && let Some(part) = self.model.parts.last_mut()
        {
            part.lines += 1;
        }
    }

    fn fetch(&mut self, address: KernelVa, bytes: u64) {
        self.each_line(address, bytes, Self::fetch_line);
    }

    fn fetch_line(&mut self, line: u64) {
        if let Some(part) = self.model.parts.last_mut() {
            part.extent.insert(line);
        }
    }

    /// Calls `each` with the physical line of every line that some bytes touch.
    fn each_line(&mut self, address: KernelVa, bytes: u64, each: impl Fn(&mut Self, u64)) {
        if bytes == 0 || !address.is_plausible() {
            return;
        }
        let (first, last) =
            (address.0 / LINE_BYTES, address.0.wrapping_add(bytes - 1) / LINE_BYTES);
        for line in first..=last {
            if let Some(physical) = self.physical(KernelVa(line * LINE_BYTES)) {
                each(self, physical.0 / LINE_BYTES);
            }
        }
    }

    /// Where a kernel address is; `None` if nothing is mapped there.
    fn physical(&mut self, address: KernelVa) -> Option<PhysicalAddress> {
        let space = &self.kernel.space;
        if let Some(linear) = space.linear(address) {
            return Some(linear);
        }
        let page = address.0 / PAGE_BYTES;
        let frame = if let Some(&known) = self.pages.get(&page) {
            known
        } else {
            let found = self.translate(space.root, address.0, |_, _| ());
            self.pages.insert(page, found);
            found
        };
        Some(PhysicalAddress(frame?.0 / PAGE_BYTES * PAGE_BYTES + address.0 % PAGE_BYTES))
    }

    /// Walks the page tables at `root`, and calls `each` with the address of every entry.
    fn translate(
        &mut self,
        root: PhysicalAddress,
        address: u64,
        each: impl Fn(&mut Self, PhysicalAddress),
    ) -> Option<PhysicalAddress> {
        let levels = self.kernel.space.levels;
        let mut table = root;
        for level in (1..=levels.top()).rev() {
            let at = levels.entry_address(table, address, level);
            each(self, at);
            let mut entry = [0; 8];
            if !self.source.read_exact(at, &mut entry) {
                return None;
            }
            match levels.step(u64::from_le_bytes(entry), address, level) {
                PageTableEntry::Table(next) => table = next,
                PageTableEntry::Page(page) => return Some(page),
                PageTableEntry::NotPresent => return None,
            }
        }
        None
    }

    /// The packed copy of an object.
    fn packed(&mut self, address: KernelVa, packing: &PackedLayout) -> Option<Vec<u8>> {
        let mut copy = vec![0; packing.bytes() as usize];
        for span in packing.spans() {
            let physical = self.physical(address.plus(span.offset.into()))?;
            let target = copy.get_mut(span.packed as usize..)?.get_mut(..span.length as usize)?;
            self.source.read_exact(physical, target).then_some(())?;
        }
        Some(copy)
    }

    /// The number of eight bytes at an address, or zero.
    fn pointer(&mut self, address: KernelVa) -> u64 {
        let mut bytes = [0; 8];
        let physical = self.physical(address);
        let is_read = physical.is_some_and(|at| self.source.read_exact(at, &mut bytes));
        if is_read { u64_at(&bytes, 0) } else { 0 }
    }
}

/// The addresses without nulls and repetitions.
fn distinct(mut addresses: Vec<KernelVa>) -> Vec<KernelVa> {
    addresses.retain(|address| address.is_plausible());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

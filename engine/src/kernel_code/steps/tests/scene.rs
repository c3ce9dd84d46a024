//! A small machine made by hand, for tests of single steps: memory, a kernel with layouts, owners.
//!
//! Every field of every structure has 16 bytes of its own, in the order in which layouts are bound.
//! Not here: whole rounds, and real kernels.

#![allow(clippy::unwrap_used, dead_code, reason = "tests of each step use a part of it")]

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Member, Members};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_tables::HashKey;

use super::Step;
use crate::address::{MemoryReader, ReaderSizes};
use crate::kernel_code::baseline::{Baseline, CodeWindow};
use crate::kernel_code::check::{CHECKS, Check, CheckFacts};
use crate::kernel_code::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX};
use crate::kernel_code::owners::{CodeRange, Owner, Owners};
use crate::kernel_code::violations::{Violation, Violations};
use crate::time::Monotonic;
use crate::walk::{Kernel, ModuleScan};

const PAGE: u64 = 4096;
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const DIRECT_MAP_BYTES: u64 = 1 << 40;
/// The image, its code and its other data.
const IMAGE: Range<u64> = 0xffff_ffff_8100_0000..0xffff_ffff_8400_0000;
const IMAGE_PHYSICAL: u64 = 1 << 39;
const TEXT: Range<u64> = IMAGE.start..IMAGE.start + 0x20_0000;
/// Where the addresses of modules begin.
const MODULES: u64 = 0xffff_ffff_c000_0000;
/// Where tables of pages, and pages that they map, begin.
const PAGES_PHYSICAL: u64 = 1 << 38;
/// Bytes of a structure, unless a test sets `size` of its layout.
const STRUCTURE_BYTES: u32 = 1024;
const FIELD_BYTES: u32 = 16;
/// Bytes that a slice reads, and the most slices of a step.
const SLICE_BYTES: usize = 64 << 10;
const SLICES_MAX: usize = 10_000;

/// Bits of an entry of a page table of x86-64.
const PRESENT_WRITABLE: u64 = 3;
const NOT_EXECUTABLE: u64 = 1 << 63;
const ADDRESS_BITS: u64 = 0x000f_ffff_ffff_f000;

/// The fields that were asked for, by structure and name, with their places.
#[derive(Debug, Default)]
struct Fields {
    places: RefCell<HashMap<String, Vec<String>>>,
}

impl Members for Fields {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut places = self.places.borrow_mut();
        let fields = places.entry(structure.to_owned()).or_default();
        let known = fields.iter().position(|field| field == path);
        let index = known.unwrap_or_else(|| {
            fields.push(path.to_owned());
            fields.len() - 1
        });
        Some(Member { offset: index as u32 * FIELD_BYTES, size: 8 })
    }

    fn size_of(&self, _: &str) -> Option<u32> {
        Some(STRUCTURE_BYTES)
    }
}

/// Physical memory in which every page exists, full of zeros until something is put there.
#[derive(Debug, Default)]
struct Memory {
    pages: HashMap<u64, Vec<u8>>,
    missing: HashSet<u64>,
    /// What every byte has that nothing was put beside.
    rest: u8,
}

impl Memory {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        for (at, &byte) in (at..).zip(bytes) {
            let page =
                self.pages.entry(at / PAGE).or_insert_with(|| vec![self.rest; PAGE as usize]);
            page[(at % PAGE) as usize] = byte;
        }
    }

    fn word(&self, at: u64) -> u64 {
        let byte = |at: u64| self.pages.get(&(at / PAGE)).map_or(0, |it| it[(at % PAGE) as usize]);
        u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| byte(at + index)))
    }
}

impl MemorySource for Memory {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        ReadRequest::answer_each(requests, arena, |address, bytes| {
            let (mut at, mut bytes) = (address, bytes);
            while !bytes.is_empty() {
                if self.missing.contains(&(at / PAGE)) {
                    return ReadOutcome::NotBacked;
                }
                let start = (at % PAGE) as usize;
                let length = bytes.len().min(PAGE as usize - start);
                let (piece, rest) = bytes.split_at_mut(length);
                match self.pages.get(&(at / PAGE)) {
                    Some(page) => piece.copy_from_slice(&page[start..start + length]),
                    None => piece.fill(self.rest),
                }
                (at, bytes) = (at.wrapping_add(length as u64), rest);
            }
            ReadOutcome::Read
        });
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}

/// What a step has shown.
#[derive(Debug)]
pub(super) struct Outcome {
    facts: [CheckFacts; CHECKS],
    pub(super) violations: Vec<Violation>,
    /// Number of slices that it took.
    pub(super) slices: usize,
    /// The most bytes that a slice has read.
    pub(super) slice_bytes: usize,
}

impl Outcome {
    pub(super) fn facts(&self, check: Check) -> CheckFacts {
        self.facts[check as usize]
    }

    /// The places of the violations of a check, and where they lead.
    pub(super) fn hooks(&self, check: Check) -> Vec<(u64, u64)> {
        let rows = self.violations.iter().filter(|row| row.check == check);
        rows.map(|row| (row.place.0, row.target.0)).collect()
    }

    /// Whether a check looked at everything, and found nothing.
    pub(super) fn holds(&self, check: Check) -> bool {
        let CheckFacts { places, violations, unread, not_checked } = self.facts(check);
        let is_whole = places > 0 && unread == 0 && not_checked.is_none();
        is_whole && violations == 0 && self.hooks(check).is_empty()
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) kernel: Kernel,
    memory: Memory,
    fields: Fields,
    owners: Owners,
    /// Stays from one run of a step to the next.
    pub(super) baseline: Baseline,
    window: CodeWindow,
    used: u64,
    used_image: u64,
    used_text: u64,
    used_modules: u64,
    used_pages: u64,
}

impl Scene {
    /// A kernel with all layouts and no symbols but those of its code.
    pub(super) fn new() -> Self {
        let fields = Fields::default();
        let layouts = Layouts::bind(&fields).unwrap();
        let mut kernel = Kernel { layouts, ..Kernel::default() };
        kernel.space.direct_map = DIRECT_MAP..DIRECT_MAP + DIRECT_MAP_BYTES;
        kernel.space.image = IMAGE;
        kernel.space.image_physical = PhysicalAddress(IMAGE_PHYSICAL);
        kernel.space.root = PhysicalAddress(PAGES_PHYSICAL);
        kernel.symbols.text = Some(KernelVa(IMAGE.start));
        kernel.symbols.end = Some(KernelVa(IMAGE.end));
        kernel.symbols.stext = Some(KernelVa(TEXT.start));
        kernel.symbols.etext = Some(KernelVa(TEXT.end));
        let mut owners = Owners::new();
        owners.begin(kernel.text(), &ModuleScan::default());
        Self {
            kernel,
            memory: Memory::default(),
            fields,
            owners,
            baseline: Baseline::new(HashKey::new(0x5eed)),
            window: CodeWindow::new(),
            used: 0,
            used_image: 0,
            used_text: 0,
            used_modules: 0,
            used_pages: PAGE,
        }
    }

    /// Room for an object that the kernel has allocated.
    pub(super) fn room(&mut self, bytes: u64) -> u64 {
        let at = DIRECT_MAP + PAGE + self.used;
        self.used += bytes.next_multiple_of(64);
        at
    }

    /// Room for a structure.
    pub(super) fn structure(&mut self) -> u64 {
        self.room(STRUCTURE_BYTES.into())
    }

    /// Room for a variable of the kernel's image, behind its code.
    pub(super) fn variable(&mut self, bytes: u64) -> u64 {
        let at = TEXT.end + self.used_image;
        self.used_image += bytes.next_multiple_of(64);
        at
    }

    /// The address of another function of the kernel, with room for so much code.
    pub(super) fn function(&mut self, bytes: u64) -> u64 {
        let at = TEXT.start + self.used_text;
        self.used_text += bytes.next_multiple_of(64);
        at
    }

    /// A page of its own at the addresses of modules; nobody owns it.
    fn module_page(&mut self, is_executable: bool) -> u64 {
        let at = MODULES + self.used_modules;
        self.used_modules += 2 * PAGE;
        self.map(at, is_executable);
        at
    }

    /// An executable page that nobody owns, at the addresses of modules.
    pub(super) fn stray_code(&mut self) -> u64 {
        self.module_page(true)
    }

    /// A page of data at the addresses of modules.
    pub(super) fn module_data(&mut self) -> u64 {
        self.module_page(false)
    }

    /// An executable page with an owner.
    pub(super) fn code_of(&mut self, owner: Owner) -> u64 {
        let start = self.module_page(true);
        self.owners.add(CodeRange { start, size: PAGE as u32, owner });
        self.owners.sort();
        start
    }

    /// Two executable pages with an owner, one after the other.
    pub(super) fn two_pages_of(&mut self, owner: Owner) -> u64 {
        let start = self.module_page(true);
        self.map(start + PAGE, true);
        self.own(start, 2 * PAGE as u32, owner);
        start
    }

    /// Adds an owner of memory that exists.
    pub(super) fn own(&mut self, start: u64, size: u32, owner: Owner) {
        self.owners.add(CodeRange { start, size, owner });
        self.owners.sort();
    }

    /// The owner of an address.
    pub(super) fn owner_of(&self, at: u64) -> Owner {
        self.owners.owner_of(KernelVa(at))
    }

    /// Leaves no owners but the kernel.
    pub(super) fn disown_all(&mut self) {
        self.owners.begin(self.kernel.text(), &ModuleScan::default());
    }

    /// Maps a page of zeros at any address.
    pub(super) fn map(&mut self, at: u64, is_executable: bool) {
        let flags = if is_executable { 0 } else { NOT_EXECUTABLE };
        let leaf = self.page() | PRESENT_WRITABLE | flags;
        self.set_entry(at, 1, leaf);
    }

    /// Sets the entry of a level of page tables for an address. Makes the tables above it.
    pub(super) fn set_entry(&mut self, at: u64, level: u32, value: u64) {
        let mut table = self.kernel.space.root;
        for upper in (level + 1..=4).rev() {
            let entry = self.kernel.space.levels.entry_address(table, at, upper).0;
            if self.memory.word(entry) == 0 {
                let lower = self.page() | PRESENT_WRITABLE;
                self.memory.put(entry, &lower.to_le_bytes());
            }
            table = PhysicalAddress(self.memory.word(entry) & ADDRESS_BITS);
        }
        let entry = self.kernel.space.levels.entry_address(table, at, level).0;
        self.memory.put(entry, &value.to_le_bytes());
    }

    /// The entry of a level of page tables for an address that has one.
    pub(super) fn entry(&self, at: u64, level: u32) -> u64 {
        let (mut table, mut entry) = (self.kernel.space.root, 0);
        for upper in (level..=4).rev() {
            let place = self.kernel.space.levels.entry_address(table, at, upper).0;
            entry = self.memory.word(place);
            table = PhysicalAddress(entry & ADDRESS_BITS);
        }
        entry
    }

    /// Fills all memory that nothing was put into.
    pub(super) const fn fill(&mut self, byte: u8) {
        self.memory.rest = byte;
    }

    fn page(&mut self) -> u64 {
        let page = PAGES_PHYSICAL + self.used_pages;
        self.used_pages += PAGE;
        page
    }

    /// The physical address of any address that is mapped.
    fn physical(&self, at: u64) -> u64 {
        if let Some(linear) = self.kernel.space.linear(KernelVa(at)) {
            return linear.0;
        }
        let mut table = self.kernel.space.root;
        for level in (1..=4_u32).rev() {
            let entry = self.kernel.space.levels.entry_address(table, at, level).0;
            let entry = self.memory.word(entry);
            assert_ne!(entry, 0, "{at:#x} is not mapped");
            table = PhysicalAddress(entry & ADDRESS_BITS);
        }
        table.0 + at % PAGE
    }

    /// Puts a word at a kernel address.
    pub(super) fn put(&mut self, at: u64, word: u64) {
        self.put_bytes(at, &word.to_le_bytes());
    }

    /// The word at a kernel address.
    pub(super) fn word(&self, at: u64) -> u64 {
        self.memory.word(self.physical(at))
    }

    /// Puts bytes at a kernel address, within a page if that is not linear.
    pub(super) fn put_bytes(&mut self, at: u64, bytes: &[u8]) {
        let physical = self.physical(at);
        self.memory.put(physical, bytes);
    }

    /// Puts a C string somewhere.
    pub(super) fn text(&mut self, text: &str) -> u64 {
        let at = self.room(text.len() as u64 + 1);
        self.put_bytes(at, text.as_bytes());
        at
    }

    /// The address of a field, by the newest of its names.
    pub(super) fn field(&self, at: u64, structure: &str, path: &str) -> u64 {
        let places = self.fields.places.borrow();
        let fields = places.get(structure).unwrap();
        let index = fields.iter().position(|field| field == path);
        at + u64::from(FIELD_BYTES)
            * index.unwrap_or_else(|| panic!("no {structure}.{path}")) as u64
    }

    /// Sets a field of a structure.
    pub(super) fn set(&mut self, at: u64, structure: &str, path: &str, value: u64) {
        self.put(self.field(at, structure, path), value);
    }

    /// Makes a `struct list_head` with these links.
    pub(super) fn list(&mut self, head: u64, links: &[u64]) {
        let mut last = head;
        for &link in links.iter().chain([&head]) {
            self.put(last, link);
            self.put(link + 8, last);
            last = link;
        }
    }

    /// Makes a `struct hlist_head` with these links.
    pub(super) fn hlist(&mut self, head: u64, links: &[u64]) {
        let mut last = head;
        for &link in links.iter().chain([&0]) {
            self.put(last, link);
            last = link;
        }
    }

    /// Takes the page with an address out of memory.
    pub(super) fn lose(&mut self, at: u64) {
        let page = self.physical(at) / PAGE;
        self.memory.missing.insert(page);
    }

    /// Takes the table of a level that maps an address out of memory.
    pub(super) fn lose_table(&mut self, at: u64, level: u32) {
        let table = self.entry(at, level + 1) & ADDRESS_BITS;
        self.memory.missing.insert(table / PAGE);
    }

    /// The machine's memory, and its kernel.
    pub(super) fn parts(&mut self) -> (&mut dyn MemorySource, &Kernel) {
        (&mut self.memory, &self.kernel)
    }

    /// Runs a step to its end.
    pub(super) fn run(&mut self, step: Step) -> Outcome {
        let arena_bytes = 2 * READ_BYTES_MAX as usize;
        let sizes = ReaderSizes { objects: 64, arena_bytes, walks: 1024 };
        let mut reader = MemoryReader::new(sizes);
        let mut facts = [CheckFacts::default(); CHECKS];
        let mut violations = Violations::new();
        violations.begin_round();
        let (mut cursor, mut slice_bytes) = (Cursor::default(), 0);
        for slices in 1..SLICES_MAX {
            let mut context = CheckContext {
                source: &mut self.memory,
                kernel: &self.kernel,
                reader: &mut reader,
                owners: &mut self.owners,
                facts: &mut facts,
                violations: &mut violations,
                baseline: &mut self.baseline,
                window: &mut self.window,
                now: Monotonic::default(),
                bytes_left: SLICE_BYTES,
                bytes_read: 0,
            };
            let progress = step(&mut context, &mut cursor);
            slice_bytes = slice_bytes.max(context.bytes_read);
            if progress == Progress::Done {
                violations.settle(true);
                let rows = violations.confirmed(1).map(|row| row.violation.clone());
                return Outcome { facts, violations: rows.collect(), slices, slice_bytes };
            }
        }
        panic!("the step has no end");
    }
}

/// An address of the kernel, as symbols have it.
#[expect(clippy::unnecessary_wraps, reason = "symbols are optional")]
pub(super) const fn va(address: u64) -> Option<KernelVa> {
    Some(KernelVa(address))
}

#[test]
fn what_is_put_is_read() {
    fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
        let places = [cx.kernel().symbols.modules, cx.kernel().symbols.mod_tree];
        for place in places.into_iter().flatten() {
            let target = KernelVa(cx.word(place).unwrap());
            cx.pointer(Check::Timers, (place, "label"), target);
        }
        cursor.count += 1;
        if cursor.count < 3 { Progress::More } else { Progress::Done }
    }
    let mut scene = Scene::new();
    let (near, far) = (scene.variable(8), scene.module_data());
    let (stray, data) = (scene.stray_code(), scene.module_data());
    scene.kernel.symbols.modules = va(near);
    scene.kernel.symbols.mod_tree = va(far);
    scene.put(near, stray);
    scene.put(far, data);
    let outcome = scene.run(step);
    assert_eq!(outcome.hooks(Check::Timers), [(near, stray)]);
    assert_eq!((outcome.slices, outcome.facts(Check::Timers).places), (3, 6));
    assert_eq!(outcome.violations[0].label.as_str(), "label");
    for owner in [Owner::Bpf, Owner::Module(KernelVa(1))] {
        let code = scene.code_of(owner);
        scene.put(near, code);
        assert!(scene.run(step).holds(Check::Timers));
    }
}

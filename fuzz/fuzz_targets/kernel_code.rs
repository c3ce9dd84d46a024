//! A whole round of checks of a kernel's code, on a small machine with words of its memory changed.
//!
//! Each symbol has a place of its own. Its first word leads to itself, so that lists are empty
//! until a change makes them long or endless. Layouts have made-up fields.
//!
//! The input is which symbols and layouts the kernel lacks (one byte), then a list of changes,
//! eight bytes each: where (24 bits choose a word), what (8 bits), and 32 bits for it. A round must
//! end, and a second one must show what the first one has shown.
#![cfg_attr(fuzzing, no_main)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Member, Members};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_engine::kernel_code::{Check, CodeBuffers, KernelCode};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Monotonic;
use panoptes_engine::walk::{Kernel, Snapshot};
use panoptes_fuzz::fuzz_target;
use panoptes_profiles::Symbols;
use panoptes_tables::HashKey;

/// Changes in one input.
const CHANGES_MAX: usize = 256;
const PAGE: u64 = 4096;
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const IMAGE: u64 = 0xffff_ffff_8100_0000;
/// The image is the first part of memory: code, then a place for each symbol.
const IMAGE_BYTES: u64 = 256 << 10;
const TEXT_BYTES: u64 = 64 << 10;
const PLACE_BYTES: u64 = 512;
/// Objects are behind it, then the tables of pages, then pages of code of modules.
const TABLES: u64 = 512 << 10;
const CODE: u64 = 576 << 10;
const CODE_PAGES: u64 = 16;
const MEMORY_BYTES: u64 = 640 << 10;
const MODULES: u64 = 0xffff_ffff_c000_0000;
/// Bits of an entry of a page table.
const PRESENT_WRITABLE: u64 = 3;
const NOT_EXECUTABLE: u64 = 1 << 63;

/// Fields of 16 bytes, in the order in which they are asked for.
#[derive(Default)]
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
        Some(Member { offset: index as u32 * 16, size: 8 })
    }

    fn size_of(&self, _: &str) -> Option<u32> {
        Some(1024)
    }
}

struct Memory(Vec<u8>);

impl Memory {
    fn word(&self, at: u64) -> u64 {
        let bytes = self.0[at as usize..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    }

    fn put(&mut self, at: u64, word: u64) {
        self.0[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }
}

impl MemorySource for Memory {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        ReadRequest::answer_each(requests, arena, |address, bytes| {
            let range = (address as usize)..(address as usize).saturating_add(bytes.len());
            match self.0.get(range) {
                Some(found) => {
                    bytes.copy_from_slice(found);
                    ReadOutcome::Read
                }
                None => ReadOutcome::NotBacked,
            }
        });
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}

struct Target {
    memory: Memory,
    /// Kernels that lack nothing, or what others have.
    kernels: Vec<Kernel>,
    snapshot: Snapshot,
    buffers: CodeBuffers,
}

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new(Target::new());
}

fuzz_target!(|data: &[u8]| {
    TARGET.with_borrow_mut(|target| target.run(data));
});

impl Target {
    fn new() -> Self {
        let mut memory = Memory(vec![0; MEMORY_BYTES as usize]);
        let places = (TEXT_BYTES..IMAGE_BYTES).step_by(PLACE_BYTES as usize);
        places.for_each(|at| memory.put(at, IMAGE + at));
        (IMAGE_BYTES..TABLES).step_by(64).for_each(|at| memory.put(at, DIRECT_MAP + at));
        // One table of each level maps the pages of code. Every fourth page is data.
        for (level, index) in [(0, 511), (1, 511), (2, 0)] {
            let lower = TABLES + PAGE * (level + 1);
            memory.put(TABLES + PAGE * level + 8 * index, lower | PRESENT_WRITABLE);
        }
        for page in 0..CODE_PAGES {
            let rights = if page % 4 == 3 { NOT_EXECUTABLE } else { 0 };
            let entry = (CODE + PAGE * page) | PRESENT_WRITABLE | rights;
            memory.put(TABLES + 3 * PAGE + 8 * page, entry);
        }
        let snapshot = Snapshot::empty(&Limits { processes: 1, ..Limits::default() });
        let kernels = (0..8).map(kernel).collect();
        Self { memory, kernels, snapshot, buffers: CodeBuffers::new() }
    }

    fn run(&mut self, data: &[u8]) {
        let Some((kind, changes)) = data.split_first() else { return };
        let mut undo = Vec::new();
        for change in changes.as_chunks::<8>().0.iter().take(CHANGES_MAX) {
            undo.push(self.change(*change));
        }
        let kernel = &self.kernels[usize::from(*kind) % self.kernels.len()];
        let mut code = KernelCode::new(HashKey::new(1));
        let mut facts = Vec::new();
        for round in 1..=2 {
            let now = Monotonic::from_ns(i64::from(round) * 2_000_000_000);
            let scan = (&self.snapshot, kernel);
            code.check_at_once(&mut self.buffers, &mut self.memory, scan, now);
            assert_eq!(code.last_round().rounds, round, "a round ends");
            let all = Check::ALL.iter();
            facts.push(all.map(|&check| code.last_round().of(check).violations).collect());
        }
        let [first, second]: [Vec<u32>; 2] = facts.try_into().expect("two rounds");
        assert_eq!(first, second, "nothing has changed");
        for (at, word) in undo.into_iter().rev() {
            self.memory.put(at, word);
        }
    }

    /// Changes a word. Returns its place, and what it was.
    fn change(&mut self, change: [u8; 8]) -> (u64, u64) {
        let [low, middle, high, kind, value @ ..] = change;
        let at = u64::from(u32::from_le_bytes([low, middle, high, 0])) % (MEMORY_BYTES / 8) * 8;
        let value = u64::from(u32::from_le_bytes(value));
        let was = self.memory.word(at);
        let new = match kind % 10 {
            0 => value,
            1 => u64::MAX - value,
            2 => was ^ 1 << (value % 64),
            3 => was.wrapping_add(value & 0xffff).wrapping_sub(0x8000),
            4 => DIRECT_MAP + value % MEMORY_BYTES,
            5 => IMAGE + value % IMAGE_BYTES,
            6 => MODULES + value % (CODE_PAGES * PAGE),
            7 => (value % MEMORY_BYTES) & !(PAGE - 1) | value & 0xff | PRESENT_WRITABLE,
            8 => self.memory.word(value % (MEMORY_BYTES / 8) * 8),
            _ => 0,
        };
        self.memory.put(at, new);
        (at, was)
    }
}

/// A kernel that lacks what these bits say.
fn kernel(lacks: u8) -> Kernel {
    let layouts = Layouts::bind(&Fields::default()).expect("every field has a place");
    let mut kernel = Kernel { layouts, ..Kernel::default() };
    kernel.space.root = PhysicalAddress(TABLES);
    kernel.space.direct_map = DIRECT_MAP..DIRECT_MAP + MEMORY_BYTES;
    kernel.space.image = IMAGE..IMAGE + IMAGE_BYTES;
    let mut place = IMAGE + TEXT_BYTES;
    for name in Symbols::NAMES {
        let field = kernel.symbols.field_mut(name).expect("it has the name");
        *field = Some(KernelVa(place));
        place += PLACE_BYTES;
    }
    assert!(place <= IMAGE + IMAGE_BYTES, "each symbol has a place");
    let ends = [
        ("_text", IMAGE),
        ("_stext", IMAGE),
        ("_etext", IMAGE + TEXT_BYTES),
        ("__start_rodata", IMAGE + TEXT_BYTES),
        ("__end_rodata", IMAGE + 2 * TEXT_BYTES),
        ("_sdata", IMAGE + 2 * TEXT_BYTES),
        ("_edata", IMAGE + IMAGE_BYTES),
        ("_end", IMAGE + IMAGE_BYTES),
    ];
    for (name, end) in ends {
        *kernel.symbols.field_mut(name).expect("it has the name") = Some(KernelVa(end));
    }
    kernel.roots.init_task = KernelVa(DIRECT_MAP + IMAGE_BYTES);
    if lacks & 1 != 0 {
        // Security modules have static calls.
        kernel.symbols.security_hook_heads = None;
        kernel.layouts.security_hook_heads = None;
    }
    if lacks & 2 != 0 {
        // Each image of BPF has an area.
        kernel.symbols.pack_list = None;
    }
    if lacks & 4 != 0 {
        kernel.layouts.ftrace_ops = None;
        kernel.layouts.kprobe = None;
    }
    kernel
}

//! A whole scan and its lines, on a recorded machine with words of its memory changed after its
//! kernel was found.
//!
//! The input is a list of changes, eight bytes each: which page of those that a scan reads (16
//! bits), which word of it (9 bits), what (7 bits: a number, a bit, an address in another page or
//! in its own, another word's content, a page of zeros or of another's content), and 32 bits for
//! it. `PANOPTES_RECORDED` names the image. Without it the target takes the first image in the
//! cache folder, or the one among the sources. Now and then the target prints how much it still
//! decodes; decoding nothing at all is a failure.
#![cfg_attr(fuzzing, no_main)]

use std::cell::RefCell;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Kernel, Scope};
use panoptes_fuzz::fuzz_target;
use panoptes_sources::Replay;

#[path = "../../engine/tests/common/mod.rs"]
mod common;

use common::{Machine, Scanner, damage, entities, recorded};

const PAGE: usize = PAGE_BYTES as usize;
/// Changes in one input.
const CHANGES_MAX: usize = 256;

struct Target {
    memory: Replay,
    kernel: Kernel,
    pages: Vec<PhysicalAddress>,
    scanner: Scanner,
    undo: Vec<(PhysicalAddress, Box<[u8]>)>,
    runs: u64,
    entities: u64,
    errors: u64,
}

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new(Target::new());
}

fuzz_target!(|data: &[u8]| {
    TARGET.with_borrow_mut(|target| target.run(data));
});

impl Target {
    fn new() -> Self {
        let machine = match recorded::images().first() {
            Some(image) => Machine::open(image),
            None => Machine::in_repository(),
        };
        let pages = damage::touched_pages(&machine);
        // Small tables, so that an input can fill them.
        let limits = Limits {
            processes: 128,
            threads: 256,
            file_descriptors: 512,
            vmas: 1024,
            connections: 128,
            string_length: 256,
            containers: 16,
            ..Limits::DEFAULT
        };
        let Machine { name, memory, kernel, .. } = machine;
        eprintln!("walk: {name}, {} pages that a scan reads", pages.len());
        let scanner = Scanner::new(&limits);
        Self { memory, kernel, pages, scanner, undo: Vec::new(), runs: 0, entities: 0, errors: 0 }
    }

    fn run(&mut self, data: &[u8]) {
        for change in data.as_chunks::<8>().0.iter().take(CHANGES_MAX) {
            self.change(*change);
        }
        self.scanner.walker.forget();
        match self.scanner.walker.scan(&mut self.memory, &self.kernel, Scope::ALL) {
            Ok(snapshot) => {
                self.entities += entities(snapshot);
                recorded::each_line(snapshot, &self.kernel, &mut self.scanner.lines, |line| {
                    let text = str::from_utf8(line).expect("a line is UTF-8");
                    assert_eq!(text.find('\n'), Some(text.len() - 1), "a line is one line");
                });
            }
            Err(_) => self.errors += 1,
        }
        for (at, bytes) in self.undo.drain(..).rev() {
            assert!(self.memory.write(at, &bytes), "it was there");
        }
        self.runs += 1;
        if self.runs.is_power_of_two() || self.runs.is_multiple_of(1 << 16) {
            let Self { runs, entities, errors, .. } = self;
            eprintln!("walk: {runs} runs, {entities} entities decoded, {errors} errors");
            assert!(self.runs < 256 || self.entities > 0, "nothing is decoded any more");
        }
    }

    fn change(&mut self, change: [u8; 8]) {
        let [page_low, page_high, word_low, kind, value @ ..] = change;
        let value = u32::from_le_bytes(value);
        let page = self.page(u16::from_le_bytes([page_low, page_high]).into());
        let offset = (usize::from(word_low) | usize::from(kind & 1) << 8) * 8;
        let at = page.plus(offset as u64);
        let other = self.page(value >> 12).plus(u64::from(value & 0xfff));
        let direct_map = self.kernel.space.direct_map.start;
        let old = self.word(at);
        let new = match kind >> 1 & 15 {
            0 => u64::from(value),
            1 => u64::MAX - u64::from(value),
            2 => old ^ 1 << (value % 64),
            3 => old.wrapping_add(u64::from(value & 0xffff)).wrapping_sub(0x8000),
            4 => direct_map + page.0 + u64::from(value & 0xfff),
            5 => self.word(PhysicalAddress(other.0 & !7)),
            6 => self.kernel.space.image.start.wrapping_add(value.into()),
            7 => return self.put(page, &[0; PAGE]),
            8 => {
                let mut bytes = [0; PAGE];
                let other = PhysicalAddress(other.0 & !(PAGE_BYTES - 1));
                assert!(self.memory.read_exact(other, &mut bytes), "it is in the image");
                return self.put(page, &bytes);
            }
            _ => direct_map + other.0,
        };
        self.put(at, &new.to_le_bytes());
    }

    fn page(&self, number: u32) -> PhysicalAddress {
        self.pages[number as usize % self.pages.len()]
    }

    fn word(&mut self, at: PhysicalAddress) -> u64 {
        let mut bytes = [0; 8];
        assert!(self.memory.read_exact(at, &mut bytes), "it is in the image");
        u64::from_le_bytes(bytes)
    }

    fn put(&mut self, at: PhysicalAddress, bytes: &[u8]) {
        let mut old = vec![0; bytes.len()].into_boxed_slice();
        assert!(self.memory.read_exact(at, &mut old), "it is in the image");
        assert!(self.memory.write(at, bytes), "it is in the image");
        self.undo.push((at, old));
    }
}

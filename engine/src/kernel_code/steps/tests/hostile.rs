//! Steps over memory of random words: none panics, all end, and no slice reads without a bound.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_profiles::Symbols;

use super::super::context::{READ_COST_BYTES, SLICE_BYTES_MAX};
use super::testing::{Scene, va};
use super::*;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::READ_BYTES_MAX;
use crate::kernel_code::owners::Owner;

/// Bytes of memory that has random words, of each kind.
const VARIABLES: u64 = 64 << 10;
const OBJECTS: u64 = 32 << 10;
/// The symbols of the kernel's own code and image, which the profile vouches for.
const IMAGE: [&str; 4] = ["_text", "_end", "_stext", "_etext"];

/// Numbers of the generator xorshift64.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Places that random words lead to.
struct Places {
    variables: u64,
    objects: u64,
    code: [u64; 3],
}

impl Places {
    fn variable(&self, random: &mut Random) -> u64 {
        self.variables + 8 * random.below(VARIABLES / 8)
    }

    /// An object; those of a kind are 64 bytes apart, so that lists meet.
    fn object(&self, random: &mut Random) -> u64 {
        self.objects + 64 * random.below(OBJECTS / 64) + 16 * random.below(2)
    }

    fn word(&self, random: &mut Random) -> u64 {
        match random.below(16) {
            0..4 => 0,
            4 => random.below(3),
            5 => random.below(2048),
            6..11 => self.object(random),
            11 | 12 => self.variable(random),
            13 | 14 => self.code[random.below(3) as usize],
            _ => random.next(),
        }
    }
}

/// A machine with random words in its data and objects, and random symbols.
fn machine(seed: u64) -> Scene {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut scene = Scene::new();
    let code = [scene.stray_code(), scene.code_of(Owner::Trampoline), scene.function(4096)];
    let places =
        Places { variables: scene.variable(VARIABLES), objects: scene.room(OBJECTS), code };
    for name in Symbols::NAMES.iter().filter(|name| !IMAGE.contains(name)) {
        let place = match random.below(8) {
            0 => None,
            1 => va(places.object(&mut random)),
            2 => va(places.code[2]),
            3 => va(random.next()),
            _ => va(places.variable(&mut random)),
        };
        *scene.kernel.symbols.field_mut(name).unwrap() = place;
    }
    scene.kernel.roots.init_task = KernelVa(places.object(&mut random));
    for at in (places.variables..places.variables + VARIABLES)
        .chain(places.objects..places.objects + OBJECTS)
        .chain(places.code[0]..places.code[0] + 4096)
        .step_by(8)
    {
        let word = places.word(&mut random);
        scene.put(at, word);
    }
    // Some entries of the tables of pages lead anywhere, too.
    for _ in 0..random.below(3) {
        let at = random.next() | 1 << 63;
        let entry = random.next() & 0x8000_003f_ffff_ffff;
        scene.set_entry(at, 4, entry);
    }
    scene
}

#[test]
fn random_memory_ends_every_step() {
    for seed in 0..8 {
        let mut scene = machine(seed);
        for (number, step) in STEPS.iter().enumerate() {
            let outcome = scene.run(*step);
            let one_read = READ_BYTES_MAX as usize + 4096;
            assert!(outcome.slice_bytes < SLICE_BYTES_MAX + one_read, "{seed} {number}");
        }
    }
}

#[test]
fn lists_that_all_lead_to_themselves_end_every_step() {
    let mut scene = Scene::new();
    let object = scene.variable(8192);
    // Every word leads to its own place, whatever it is a part of.
    for at in (object..object + 8192).step_by(8) {
        scene.put(at, at);
    }
    for name in Symbols::NAMES.iter().filter(|name| !IMAGE.contains(name)) {
        *scene.kernel.symbols.field_mut(name).unwrap() = va(object + 1024);
    }
    scene.kernel.roots.init_task = KernelVa(object + 1024);
    for (number, step) in STEPS.iter().enumerate() {
        let outcome = scene.run(*step);
        assert!(outcome.slice_bytes < SLICE_BYTES_MAX + READ_BYTES_MAX as usize, "{number}");
    }
}

#[test]
fn a_slice_reads_nothing_behind_its_bound() {
    /// Follows a list without an end, as often as it can.
    fn endless(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
        let at = cx.kernel().symbols.modules.unwrap_or_default();
        let reads = SLICE_BYTES_MAX / READ_COST_BYTES;
        let count = (0..2 * reads).take_while(|_| cx.word(at).is_some()).count();
        assert_eq!(count, reads);
        let is_read = cx.read_physical(PhysicalAddress(0), 8).is_some();
        assert!(!is_read && !cx.is_executable(at));
        cx.checked(Check::Timers, 1);
        Progress::Done
    }
    let mut scene = Scene::new();
    scene.kernel.symbols.modules = va(scene.variable(8));
    let outcome = scene.run(endless);
    assert_eq!(outcome.facts(Check::Timers).places, 1);
    assert_eq!(outcome.slice_bytes, SLICE_BYTES_MAX);
}

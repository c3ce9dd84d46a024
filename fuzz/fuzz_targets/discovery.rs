//! The whole discovery, on a small synthetic machine with words of its memory changed.
//!
//! The input is a list of changes, seven bytes each: where (24 bits: any word), what (a byte
//! chooses: a number, a bit, an address in the image or the direct map), and 24 bits for it. The
//! very first byte chooses the method.
#![cfg_attr(fuzzing, no_main)]

use std::cell::RefCell;

use panoptes_decoders::paging::aarch64::Granule;
use panoptes_decoders::source::MemorySource as _;
use panoptes_fuzz::fuzz_target;
use panoptes_profiles::{DiscoveryOptions, discover};

#[path = "../../profiles/tests/common/mod.rs"]
mod common;

use common::guest::{Arm64, Guest, Kind};

thread_local! {
    static GUESTS: RefCell<[Guest; 4]> = RefCell::new({
        let arm64 = |granule, built_bits, actual_bits, beginning| {
            let arm64 = Arm64 { granule, built_bits, actual_bits, beginning };
            Guest::new(Kind { arm64: Some(arm64), ..Kind::default() })
        };
        [
            Guest::new(Kind::default()),
            Guest::new(Kind { five_levels: true, ..Kind::default() }),
            arm64(Granule::Kib4, 52, 52, 0x4000_0000),
            arm64(Granule::Kib64, 52, 48, 0x1_2000_0000),
        ]
    });
}

fuzz_target!(|data: &[u8]| {
    let Some((&road, changes)) = data.split_first() else { return };
    GUESTS.with_borrow_mut(|guests| {
        change_and_discover(&mut guests[usize::from(road & 3)], road, changes);
    });
});

fn change_and_discover(guest: &mut Guest, road: u8, changes: &[u8]) {
    let mut undo = Vec::new();
    for change in changes.as_chunks::<7>().0.iter().take(64) {
        let at = u64::from(u32::from_le_bytes([change[0], change[1], change[2], 0]) & !7);
        let value = u64::from(u32::from_le_bytes([change[4], change[5], change[6], 0]));
        let old = guest.memory[at as usize..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        undo.push((at, old));
        let new = match change[3] % 5 {
            0 => value,
            1 => old ^ 1 << (value % 64),
            2 => 0xffff_ffff_8000_0000 + value * 8,
            3 => guest.direct_map() + value * 8,
            _ => u64::MAX - value,
        };
        guest.word(at, new);
    }
    let options = DiscoveryOptions {
        use_kallsyms: road & 4 == 0,
        // The sweep for page tables reads everything, so it is rare.
        use_vmcoreinfo: road & 0xf8 != 0,
        ..DiscoveryOptions::default()
    };
    let beginning = guest.regions()[0].start;
    let _ = discover(guest, &options, &mut ());
    let moved = guest.regions()[0].start.wrapping_sub(beginning);
    guest.move_by(moved.wrapping_neg());
    for (at, old) in undo.into_iter().rev() {
        guest.word(at, old);
    }
}

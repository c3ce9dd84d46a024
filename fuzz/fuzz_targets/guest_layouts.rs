//! The areas of a monitor's process, and every layout of a guest's memory in them.
//!
//! The first byte of the input chooses the machine, the second how many areas are main memory and
//! whether the others are in slots; the rest is the text of `/proc/PID/maps`.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_sources::{Area, ExpectedMemory, Machine, MemoryDevice, PlacedArea, layouts};

const MACHINES: [Machine; 12] = [
    Machine::Q35,
    Machine::Pc,
    Machine::Microvm,
    Machine::Virt,
    Machine::Unknown,
    Machine::Firecracker,
    Machine::CloudHypervisor,
    Machine::Crosvm,
    Machine::Kvmtool,
    Machine::StratoVirt,
    Machine::Dragonball,
    Machine::Other,
];

fuzz_target!(|data: &[u8]| {
    let Some(([machine, uses], text)) = data.split_first_chunk::<2>() else { return };
    let areas = Area::parse(&String::from_utf8_lossy(text));
    assert!(areas.iter().all(|area| area.range.start < area.range.end));
    let sizes: Vec<u64> = areas.iter().map(Area::bytes).collect();
    let (main, others) = sizes.split_at(sizes.len().min(usize::from(uses % 8)));
    let plugged = if uses & 8 == 0 { &[][..] } else { others };
    let expected = ExpectedMemory {
        machine: MACHINES[usize::from(*machine) % MACHINES.len()],
        main: main.to_vec(),
        plugged: plugged.iter().map(|bytes| MemoryDevice::new(*bytes, None)).collect(),
        has_slots: uses & 16 != 0,
        ..ExpectedMemory::default()
    };
    for layout in layouts(&areas, &expected) {
        check(&layout, &areas);
    }
});

/// No two parts of a layout have the same physical address, and each is in one area, or in several
/// that touch.
fn check(layout: &[PlacedArea], areas: &[Area]) {
    for part in layout {
        assert!(part.bytes > 0 && part.physical.checked_add(part.bytes).is_some());
        let has = |address| areas.iter().any(|area| area.range.contains(&address));
        assert!(has(part.address) && has(part.address + (part.bytes - 1)));
    }
    let ends_before =
        |one: &PlacedArea, next: &PlacedArea| one.physical + one.bytes <= next.physical;
    assert!(layout.is_sorted_by(ends_before), "{layout:?}");
}

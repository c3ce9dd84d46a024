//! Which of a machine's blocks are memory, and their physical addresses.
//!
//! A stream names blocks and their sizes, but no addresses. They follow from the type of machine,
//! as for a QEMU process; the kernel's page tables choose if several are possible.

use crate::guest::{self, Machine};

/// A block of a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RamBlock {
    pub(super) name: Vec<u8>,
    pub(super) bytes: u64,
    /// Number of its first page in the index; `None` if it is no memory.
    pub(super) first: Option<u64>,
}

/// A range of physical memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RamRange {
    pub(super) physical: u64,
    pub(super) bytes: u64,
    /// Number of its first page in the index.
    pub(super) first: u64,
}

/// What a block is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    Main,
    /// Memory that `-m` or a node of NUMA has, or that is in a slot.
    Backend,
    Slot,
    Device,
}

/// Memory in a slot whose address is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RamSlot {
    /// The name of its block.
    pub(super) name: Vec<u8>,
    /// Its first physical address.
    pub(super) address: u64,
}

/// A possible layout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    pub(super) runs: Vec<RamRange>,
    /// Whether it has memory in slots whose addresses are guesses.
    pub(super) has_guesses: bool,
}

/// Smallest block that can be memory if its name does not say so.
const MEMORY_BLOCK_BYTES_MIN: u64 = 8 << 20;

/// The note on memory in slots whose addresses are unknown.
pub(super) const SLOTS_GUESSED: &str =
    "memory in slots (DIMMs) was put where QEMU puts it by default";

/// The name of a block; that of an object without its path, which machine types up to 3.1 write.
fn name_of(block: &RamBlock) -> &[u8] {
    block.name.strip_prefix(b"/objects/").unwrap_or(&block.name)
}

/// The use of a block by its name: QEMU's own names, those of libvirt and Proxmox, or an object's.
fn use_of(block: &RamBlock) -> Use {
    const MACHINES: [&[u8]; 6] =
        [b"pc.ram", b"microvm.ram", b"xen.ram", b"mach-virt.ram", b"ram", b"isa.ram"];
    let name = name_of(block);
    if MACHINES.contains(&name) {
        return Use::Main;
    }
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    // Blocks of devices have a path, an address or a kind in their names.
    let is_device = name.contains(&b'/')
        || name.contains(&b':')
        || name.contains(&b'@')
        || [&b"vram"[..], b"flash", b"bios", b".rom", b"shmem", b"acpi"].iter().any(|one| has(one))
        || block.bytes < MEMORY_BLOCK_BYTES_MIN;
    if is_device {
        Use::Device
    } else if has(b"dimm") || has(b"virtiomem") || has(b"vmem") {
        Use::Slot
    } else {
        Use::Backend
    }
}

/// Assigns pages of the index to the blocks that are memory. Returns the number of all these pages;
/// `None` if there are more than a number can count.
pub(super) fn number(blocks: &mut [RamBlock], page_bytes: u64) -> Option<u64> {
    let mut next = 0_u64;
    for block in blocks.iter_mut().filter(|block| use_of(block) != Use::Device) {
        block.first = Some(next);
        next = next.checked_add(block.bytes.div_ceil(page_bytes))?;
    }
    Some(next)
}

/// The type of machine by its name in the stream, such as `pc-q35-9.2+pve1`.
fn machine(name: &[u8]) -> Machine {
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    if has(b"q35") {
        Machine::Q35
    } else if has(b"microvm") {
        Machine::Microvm
    } else if name.starts_with(b"virt") {
        Machine::Virt
    } else if name.starts_with(b"pc") {
        Machine::Pc
    } else {
        Machine::Unknown
    }
}

/// The possible layouts, the likeliest first. `slots` has the memory in slots whose addresses are
/// known.
pub(super) fn layouts(
    blocks: &[RamBlock],
    machine_name: &[u8],
    slots: &[RamSlot],
    page_bytes: u64,
) -> Vec<Layout> {
    let mut by_use: [Vec<&RamBlock>; 3] = Default::default();
    for block in blocks.iter().filter(|block| block.first.is_some()) {
        match use_of(block) {
            Use::Main => by_use[0].push(block),
            Use::Backend => by_use[1].push(block),
            Use::Slot => by_use[2].push(block),
            Use::Device => {}
        }
    }
    // Blocks are listed by size, so nodes are put into the order of their names.
    let [main, mut backends, mut plugged] = by_use;
    backends.sort_by_key(|block| natural(&block.name));
    plugged.sort_by_key(|block| natural(&block.name));
    let mut choices: Vec<(Vec<&RamBlock>, Vec<&RamBlock>)> = Vec::new();
    if main.is_empty() {
        choices.push((backends.clone(), plugged.clone()));
        // Kata's main memory has the name of a DIMM.
        for blocks in [&backends, &plugged] {
            let Some(largest) = blocks.iter().max_by_key(|block| block.bytes) else { continue };
            let others = backends.iter().chain(&plugged).filter(|block| *block != largest);
            choices.push((vec![*largest], others.copied().collect()));
        }
    } else {
        choices.push((main, backends.into_iter().chain(plugged).collect()));
    }
    let mut found: Vec<Layout> = Vec::new();
    for (main, plugged) in choices {
        for layout in one_choice(&main, &plugged, machine(machine_name), slots, page_bytes) {
            if found.iter().all(|other| other.runs != layout.runs) {
                found.push(layout);
            }
        }
    }
    found
}

fn one_choice(
    main: &[&RamBlock],
    plugged: &[&RamBlock],
    machine: Machine,
    slots: &[RamSlot],
    page_bytes: u64,
) -> Vec<Layout> {
    if main.is_empty() {
        return Vec::new();
    }
    let sizes: Vec<u64> = main.iter().map(|block| block.bytes).collect();
    let address = |block: &RamBlock| {
        let slot = slots.iter().find(|slot| slot.name == name_of(block));
        slot.map(|slot| slot.address)
    };
    let in_slots: Vec<(u64, Option<u64>)> =
        plugged.iter().map(|block| (block.bytes, address(block))).collect();
    let has_guesses = in_slots.iter().any(|(_, address)| address.is_none());
    let blocks: Vec<&RamBlock> = main.iter().chain(plugged).copied().collect();
    let layouts = guest::layouts_of_blocks(&sizes, &in_slots, machine);
    let run = |part: &guest::BlockPart| {
        let first = blocks.get(part.block)?.first? + part.skip / page_bytes;
        Some(RamRange { physical: part.physical, bytes: part.bytes, first })
    };
    let runs = layouts.iter().map(|parts| parts.iter().filter_map(run).collect());
    let runs = runs.filter(|runs: &Vec<RamRange>| !runs.is_empty());
    runs.map(|runs| Layout { runs, has_guesses }).collect()
}

/// A key that sorts names with numbers by the numbers.
fn natural(name: &[u8]) -> (Vec<u8>, u64) {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (text, number) = name.split_at(name.len() - digits);
    let number = number.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    (text.to_vec(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn layout(blocks: &[(&str, u64)], machine: &str, slots: &[(&str, u64)]) -> Option<Layout> {
        let block = |&(name, mib): &(&str, u64)| RamBlock {
            name: name.into(),
            bytes: mib * MIB,
            first: None,
        };
        let mut blocks: Vec<RamBlock> = blocks.iter().map(block).collect();
        number(&mut blocks, 4096).unwrap();
        let slot = |&(name, address): &(&str, u64)| RamSlot { name: name.into(), address };
        let slots: Vec<RamSlot> = slots.iter().map(slot).collect();
        layouts(&blocks, machine.as_bytes(), &slots, 4096).into_iter().next()
    }

    fn runs(blocks: &[(&str, u64)], machine: &str, slots: &[(&str, u64)]) -> Vec<(u64, u64, u64)> {
        let first = layout(blocks, machine, slots).map(|layout| layout.runs).unwrap_or_default();
        first.iter().map(|run| (run.physical, run.bytes / MIB, run.first * 4096 / MIB)).collect()
    }

    // The addresses are those of `info mtree` of QEMU 7.2 for such machines.
    #[test]
    fn memory_goes_around_the_hole_of_its_machine() {
        let devices = [("vga.vram", 16), ("/rom@etc/acpi/tables", 2), ("pc.bios", 1)];
        let with = |bytes| [&[("pc.ram", bytes)], &devices[..]].concat();
        assert_eq!(runs(&with(512), "pc-q35-9.2", &[]), [(0, 512, 0)]);
        let split = [(0, 2048, 0), (1 << 32, 2048, 2048)];
        assert_eq!(runs(&with(4096), "pc-q35-9.2+pve0", &[]), split);
        let split = [(0, 3072, 0), (1 << 32, 1024, 3072)];
        assert_eq!(runs(&with(4096), "pc-i440fx-jammy", &[]), split);
        assert_eq!(runs(&[("mach-virt.ram", 4096)], "virt-9.0", &[]), [(1 << 30, 4096, 0)]);
    }

    #[test]
    fn nodes_are_joined_in_their_order() {
        let nodes = [("ram-node10", 64), ("ram-node2", 32), ("/objects/ram-node0", 16)];
        let nodes = runs(&nodes, "pc-i440fx-9.2", &[]);
        assert_eq!(nodes.len(), 3);
        let nodes = runs(&[("ram-node1", 64), ("ram-node0", 32)], "pc-i440fx-9.2", &[]);
        assert_eq!(nodes, [(0, 32, 64), (32 * MIB, 64, 0)]);
    }

    #[test]
    fn slots_are_at_whole_gibibytes_or_where_libvirt_says() {
        let blocks = [("pc.ram", 512), ("memdimm0", 256), ("memdimm1", 256)];
        let guessed = [(0, 512, 0), (1 << 32, 256, 512), ((1 << 32) + 256 * MIB, 256, 768)];
        assert_eq!(runs(&blocks, "pc-q35-9.2", &[]), guessed);
        // In the order in which they were plugged in.
        let slots = [("memdimm1", 0x1_4000_0000), ("memdimm0", 0x1_8000_0000)];
        let known = runs(&blocks, "pc-q35-9.2", &slots);
        assert_eq!(known, [(0, 512, 0), (0x1_4000_0000, 256, 768), (0x1_8000_0000, 256, 512)]);
    }

    #[test]
    fn guesses_of_addresses_are_told() {
        let has_guesses = |blocks: &[(&str, u64)], slots: &[(&str, u64)]| {
            layout(blocks, "pc-q35-9.2", slots).unwrap().has_guesses
        };
        let slots = [("memdimm0", 1 << 32)];
        assert!(!has_guesses(&[("pc.ram", 512)], &[]));
        assert!(!has_guesses(&[("ram-node0", 512), ("ram-node1", 512)], &[]));
        let blocks = [("pc.ram", 512), ("memdimm0", 256)];
        assert!(has_guesses(&blocks, &[]));
        assert!(!has_guesses(&blocks, &slots));
        assert!(has_guesses(&[("pc.ram", 512), ("memdimm0", 256), ("memdimm1", 256)], &slots));
        // A backend of any name that was plugged in.
        assert!(has_guesses(&[("pc.ram", 512), ("hot", 256)], &[]));
    }

    #[test]
    fn the_largest_slot_is_main_memory_if_there_is_no_other() {
        assert_eq!(runs(&[("dimm1", 512)], "pc-q35-9.2", &[]), [(0, 512, 0)]);
        let two = runs(&[("dimm2", 256), ("dimm1", 512)], "pc-q35-9.2", &[]);
        assert_eq!(two, [(0, 512, 256), (1 << 32, 256, 0)]);
    }

    #[test]
    fn a_backend_with_any_name_is_memory() {
        assert_eq!(runs(&[("m0", 64), ("vga.vram", 16)], "pc-q35-9.2", &[]), [(0, 64, 0)]);
        assert!(runs(&[("vga.vram", 64)], "pc-q35-9.2", &[]).is_empty());
    }
}

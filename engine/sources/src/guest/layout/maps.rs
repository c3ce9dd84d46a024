//! Where machines have their main memory in the guest's physical addresses.

use std::iter;
use std::ops::Range;

use super::{ExpectedMemory, FOUR_GIB, GIB, Machine};

/// Physical address of the memory of QEMU's arm64 machine `virt` (hw/arm/virt.c, `base_memmap`).
const VIRT_BASE: u64 = GIB;
/// Where memory above 4 GiB begins if a virtual processor is AMD's and the memory would reach the
/// addresses that its IOMMU reserves (hw/i386/pc.c, `AMD_ABOVE_1TB_START`).
const ABOVE_1TIB: u64 = 1 << 40;
/// The first of these addresses (`AMD_HT_START`).
const RESERVED_BY_AMD: u64 = 0xfd_0000_0000;
/// The limit of `pc` before it had whole GiB below the hole (`gigabyte_align`, up to
/// `pc-i440fx-1.7`), and of the memory below the hole today.
const PC_LIMIT: u64 = 0xe000_0000;
/// All addresses from here on.
const END: u64 = 1 << 52;

/// The ranges that main memory fills one after the other, and where devices begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct MachineMap {
    ranges: Vec<Range<u64>>,
    /// Devices that are memory begin here or behind the main memory, at a multiple of `whole`.
    devices: u64,
    whole: u64,
    /// Memory between the main memory and devices.
    gap: u64,
}

impl MachineMap {
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// The first address for a device that is memory, if the main memory ends at `end`.
    pub(super) fn first_device(&self, end: u64) -> Option<u64> {
        self.devices.max(end).checked_add(self.gap)?.checked_next_multiple_of(self.whole)
    }

    /// The size of the first range in bytes.
    pub(super) fn low_bytes(&self) -> u64 {
        self.ranges.first().map_or(0, |range| range.end - range.start)
    }

    fn new(ranges: Vec<Range<u64>>) -> Self {
        // cloud-hypervisor (vmm/src/memory_manager.rs, `start_addr`).
        Self { ranges, devices: FOUR_GIB, whole: 128 << 20, gap: 0 }
    }

    /// A PC: `low` bytes from 0 on, and the rest from `above` on. Devices begin at a whole GiB
    /// (hw/i386/pc.c, `pc_memory_init`).
    fn pc(low: u64, above: u64, gap: u64) -> Self {
        let ranges = vec![0..low.min(above), above..END];
        Self { ranges, devices: above, whole: GIB, gap }
    }
}

/// The maps that a guest of QEMU can have, the likeliest first.
pub(super) fn of_qemu(total: u64, expected: &ExpectedMemory) -> Vec<MachineMap> {
    let at_most = expected.low_bytes_max.filter(|bytes| bytes % 4096 == 0 && *bytes > 0);
    let q35 = {
        let usual = if total >= 0xb000_0000 { 0x8000_0000 } else { 0xb000_0000 };
        at_most.map_or(usual, |most| usual.min(most))
    };
    let pc = {
        let most = at_most.unwrap_or(PC_LIMIT);
        if total >= most { most.min(0xc000_0000) } else { most }
    };
    let microvm = if total > 0xc000_0000 { 0xc000_0000 } else { FOUR_GIB };
    let lows = match expected.machine {
        Machine::Q35 => vec![q35, pc, FOUR_GIB],
        Machine::Pc => vec![pc, q35, PC_LIMIT, FOUR_GIB],
        Machine::Microvm => vec![microvm, pc, q35, FOUR_GIB],
        Machine::Virt => Vec::new(),
        _ => vec![q35, pc, microvm, FOUR_GIB],
    };
    let mut maps: Vec<MachineMap> = Vec::new();
    let gap = expected.epc_bytes;
    for low in lows {
        let map = MachineMap::pc(low, FOUR_GIB, gap);
        let reaches = reserved_is_reached(total, low, expected);
        let high = reaches.then(|| MachineMap::pc(low, ABOVE_1TIB, gap));
        for map in [map].into_iter().chain(high) {
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
    }
    if matches!(expected.machine, Machine::Virt | Machine::Unknown) {
        // Devices begin behind the memory, also below 4 GiB (hw/arm/virt.c, `virt_set_memmap`).
        let ranges = std::iter::once(VIRT_BASE..END).collect();
        maps.push(MachineMap { ranges, devices: 0, whole: GIB, gap: 0 });
    }
    maps
}

/// Whether the memory that the guest may have reaches what AMD's IOMMU reserves
/// (hw/i386/pc.c, `pc_max_used_gpa`). Whether its processor is AMD's is not known.
fn reserved_is_reached(total: u64, low: u64, expected: &ExpectedMemory) -> bool {
    let above = total.saturating_sub(low).saturating_add(expected.epc_bytes);
    let end = FOUR_GIB.saturating_add(above);
    let room = match expected.maximum_bytes.checked_sub(total) {
        Some(more) if more > 0 => more.saturating_add(expected.slots.saturating_mul(GIB)),
        _ => 0,
    };
    let whole = |bytes: u64| bytes.checked_next_multiple_of(GIB).unwrap_or(u64::MAX);
    // The window of PCI behind it has 2 GiB with `pc`, and 32 GiB with `q35`.
    let hole = if expected.machine == Machine::Pc { 2 * GIB } else { 32 * GIB };
    whole(whole(end).saturating_add(room)).saturating_add(hole) > RESERVED_BY_AMD
}

/// The maps of another monitor, the likeliest first.
pub(super) fn of_monitor(machine: Machine) -> Vec<MachineMap> {
    const GIB_256: u64 = 256 * GIB;
    const GIB_512: u64 = 512 * GIB;
    // One hole of 1 GiB, or of 768 MiB, below 4 GiB.
    let three = || MachineMap::new(vec![0..3 * GIB, FOUR_GIB..END]);
    let more = || MachineMap::new(vec![0..0xd000_0000, FOUR_GIB..END]);
    let two = || MachineMap::new(vec![0..2 * GIB, FOUR_GIB..END]);
    let from = |start: u64| MachineMap::new(iter::once(start..END).collect());
    let (arm, arm_low) = (|| from(2 * GIB), || from(GIB));
    match machine {
        // src/vmm/src/arch/{x86_64,aarch64}/layout.rs; up to v1.12 the hole has 768 MiB.
        Machine::Firecracker => vec![
            MachineMap::new(vec![0..3 * GIB, FOUR_GIB..GIB_256, GIB_512..END]),
            more(),
            MachineMap::new(vec![2 * GIB..GIB_256, GIB_512..END]),
        ],
        // arch/src/{x86_64,aarch64}/layout.rs.
        Machine::CloudHypervisor => {
            vec![three(), MachineMap::new(vec![GIB..0xfc00_0000, FOUR_GIB..END])]
        }
        // crosvm: x86_64/src/lib.rs, aarch64/src/lib.rs; kvmtool: x86/kvm.c, `kvm__arch_init`,
        // arm64/include/asm/kvm.h.
        Machine::Crosvm | Machine::Kvmtool => vec![more(), arm()],
        // machine/src/micro_common, machine/src/standard_common (`MEM_LAYOUT`).
        Machine::StratoVirt => vec![three(), two(), arm_low()],
        // dbs_boot/src/{x86_64,aarch64}/layout.rs.
        Machine::Dragonball => vec![three(), arm()],
        _ => {
            vec![
                three(),
                more(),
                two(),
                MachineMap::new(vec![0..FOUR_GIB, FOUR_GIB..END]),
                arm(),
                arm_low(),
            ]
        }
    }
}

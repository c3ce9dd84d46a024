//! Layouts of QEMU and of other monitors.

use super::*;

const MIB: u64 = 1 << 20;

fn private(start: u64, bytes: u64) -> Area {
    Area { range: start..start + bytes, backing: AreaBacking::Private, label: AreaLabel::None }
}

fn memory(machine: Machine, sizes: &[u64]) -> ExpectedMemory {
    ExpectedMemory { machine, main: sizes.to_vec(), ..ExpectedMemory::default() }
}

/// The likeliest layout as (physical, address, bytes).
fn first(areas: &[Area], expected: &ExpectedMemory) -> Vec<(u64, u64, u64)> {
    let layouts = layouts(areas, expected);
    layouts[0].iter().map(|one| (one.physical, one.address, one.bytes)).collect()
}

// From `info mtree` of QEMU 7.2 for these machines.
#[test]
fn memory_is_split_as_the_machines_split_it() {
    let at = 0x7f00_0000_0000;
    let check = |machine, mib: u64, expected: &[(u64, u64)]| {
        let bytes = mib * MIB;
        let found = first(&[private(at, bytes)], &memory(machine, &[bytes]));
        let mut done = 0;
        let expected: Vec<(u64, u64, u64)> = expected
            .iter()
            .map(|&(physical, bytes)| {
                done += bytes;
                (physical, at + done - bytes, bytes)
            })
            .collect();
        assert_eq!(found, expected, "{machine:?} {mib}");
    };
    check(Machine::Q35, 512, &[(0, 512 * MIB)]);
    check(Machine::Q35, 2815, &[(0, 2815 * MIB)]);
    check(Machine::Q35, 2816, &[(0, 2048 * MIB), (1 << 32, 768 * MIB)]);
    check(Machine::Pc, 3583, &[(0, 3583 * MIB)]);
    check(Machine::Pc, 3584, &[(0, 3072 * MIB), (1 << 32, 512 * MIB)]);
    check(Machine::Virt, 8192, &[(1 << 30, 8192 * MIB)]);
    // hw/i386/microvm.c: only more than 3 GiB are split.
    check(Machine::Microvm, 3072, &[(0, 3072 * MIB)]);
    check(Machine::Microvm, 3200, &[(0, 3072 * MIB), (1 << 32, 128 * MIB)]);
}

#[test]
fn the_split_can_be_moved() {
    let area = [private(0x7f00_0000_0000, 2048 * MIB)];
    let mut expected = memory(Machine::Q35, &[2048 * MIB]);
    expected.low_bytes_max = Some(1 << 30);
    let split = [(0, 0x7f00_0000_0000, 1024 * MIB), (1 << 32, 0x7f00_4000_0000, 1024 * MIB)];
    assert_eq!(first(&area, &expected), split);
    expected.machine = Machine::Pc;
    assert_eq!(first(&area, &expected), split);
}

// -numa node,memdev=n0 -numa node,memdev=n1 with a dimm, as QEMU 7.2 maps them: the first one
// has the highest address.
#[test]
fn nodes_follow_one_another_and_slots_follow_them() {
    let areas = [
        private(0x7fb4_efa0_0000, 256 * MIB),
        private(0x7fb4_ffc0_0000, 256 * MIB),
        private(0x7fb5_0fe0_0000, 256 * MIB),
    ];
    let mut expected = memory(Machine::Pc, &[256 * MIB, 256 * MIB]);
    expected.plugged = vec![MemoryDevice::new(256 * MIB, None)];
    assert_eq!(
        first(&areas, &expected),
        [
            (0, 0x7fb5_0fe0_0000, 256 * MIB),
            (0x1000_0000, 0x7fb4_ffc0_0000, 256 * MIB),
            (1 << 32, 0x7fb4_efa0_0000, 256 * MIB),
        ]
    );
    // The other order of the nodes is tried too.
    assert!(layouts(&areas, &expected).iter().any(|one| one[0].address == 0x7fb4_ffc0_0000));
}

// -m 4G,slots=4,maxmem=16G with dimms of 130M and 128M.
#[test]
fn slots_begin_at_a_whole_gib_and_are_aligned() {
    let areas = [
        private(0x7f00_0000_0000, 128 * MIB),
        private(0x7f10_0000_0000, 130 * MIB),
        private(0x7f20_0000_0000, 4096 * MIB),
    ];
    let mut expected = memory(Machine::Q35, &[4096 * MIB]);
    expected.has_slots = true;
    let placed: Vec<u64> = first(&areas, &expected).iter().map(|one| one.0).collect();
    assert_eq!(placed, [0, 1 << 32, 0x1_8000_0000, 0x1_8820_0000]);
}

#[test]
fn memory_may_touch_other_areas_or_be_cut_up() {
    let areas = [
        private(0x7f00_0000_0000, 8 * MIB),
        private(0x7f00_0080_0000, 512 * MIB),
        private(0x7f10_0000_0000, 100 * MIB),
        private(0x7f10_0640_0000, 100 * MIB),
    ];
    assert_eq!(
        first(&areas, &memory(Machine::Q35, &[512 * MIB])),
        [(0, 0x7f00_0080_0000, 512 * MIB)]
    );
    assert_eq!(
        first(&areas, &memory(Machine::Q35, &[200 * MIB])),
        [(0, 0x7f10_0000_0000, 200 * MIB)]
    );
}

#[test]
fn a_wrong_size_is_ignored() {
    let areas = [private(0x1000_0000, 64 * MIB), private(0x7f10_0000_0000, 8 * MIB)];
    assert_eq!(first(&areas, &memory(Machine::Q35, &[1 << 60])), [(0, 0x1000_0000, 64 * MIB)]);
    assert_eq!(
        layouts(&[private(0x1000, 4096)], &ExpectedMemory::default()),
        Vec::<Vec<PlacedArea>>::new()
    );
    // Plugged memory that overlaps other memory or exceeds the address space is left out.
    let mut expected = memory(Machine::Q35, &[64 * MIB]);
    for at in [0, u64::MAX - 4095] {
        expected.plugged = vec![MemoryDevice::new(8 * MIB, Some(at))];
        assert_eq!(first(&areas, &expected), [(0, 0x1000_0000, 64 * MIB)]);
    }
}

#[test]
fn guesses_are_limited_and_marked_as_guesses() {
    let mut areas: Vec<Area> =
        (0..100).map(|n| private(0x1000_0000 + (n << 28), 128 * MIB)).collect();
    areas.push(private(0x7f20_0000_0000, 4096 * MIB));
    let mut expected = memory(Machine::Q35, &[4096 * MIB]);
    expected.plugged = vec![MemoryDevice::new(128 * MIB, None)];
    expected.has_slots = true;
    let layout = layouts(&areas, &expected).swap_remove(0);
    // The main memory is in two pieces.
    assert_eq!(layout.len(), GUESSED_BLOCKS_MAX + 1);
    assert_eq!(layout.iter().filter(|one| one.is_guess).count(), GUESSED_BLOCKS_MAX - 2);
}

#[test]
fn many_small_areas_cost_little() {
    // First each area is a block of its own, then all areas are one block.
    let begin = std::time::Instant::now();
    for step in [0x2000, 0x1000] {
        let mut areas: Vec<Area> =
            (0..1 << 17).map(|n| private(0x1000_0000 + n * step, 0x1000)).collect();
        areas.push(private(0x7f20_0000_0000, 512 * MIB));
        let found = first(&areas, &memory(Machine::Q35, &[512 * MIB]));
        assert_eq!(found[0].2, 512 * MIB);
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// An area of a shared file.
fn file(start: u64, bytes: u64, inode: u64, offset: u64, label: AreaLabel) -> Area {
    let backing = AreaBacking::File { identity: (0, 1, inode), offset, shared: true };
    Area { range: start..start + bytes, backing, label }
}

/// The physical addresses of the likeliest layout, each with the address in the process.
fn places(areas: &[Area], expected: &ExpectedMemory) -> Vec<(u64, u64)> {
    first(areas, expected).into_iter().map(|(physical, address, _)| (physical, address)).collect()
}

// `-m 256M` and a DIMM, an NVDIMM or shared memory of 256 MiB. QEMU makes objects first, so the
// DIMM has the higher address (system/vl.c, `qemu_create_late_backends`).
#[test]
fn of_equal_blocks_the_order_of_the_arguments_tells_which_is_which() {
    let (above, below) = (0x7f20_0000_0000, 0x7f10_0000_0000);
    let areas = [private(below, 256 * MIB), private(above, 256 * MIB)];
    let mut expected = memory(Machine::Q35, &[256 * MIB]);
    expected.plugged = vec![MemoryDevice::new(256 * MIB, None)];
    expected.order = vec![Use::Plugged(0), Use::Main(0)];
    assert_eq!(places(&areas, &expected), [(0, below), (1 << 32, above)]);
    // Memory that no device has (`ivshmem-plain` is a device of the bus).
    expected.plugged.clear();
    expected.other = vec![256 * MIB];
    expected.order = vec![Use::Other(0), Use::Main(0)];
    assert_eq!(places(&areas, &expected), [(0, below)]);
    // The other order is tried, too.
    assert!(layouts(&areas, &expected).iter().any(|one| one[0].address == above));
    expected.order = vec![Use::Main(0), Use::Other(0)];
    assert_eq!(places(&areas, &expected), [(0, above)]);
}

// hw/arm/virt.c, `virt_set_memmap`: devices begin at a whole GiB behind 1 GiB and the memory.
#[test]
fn devices_of_arm64_begin_behind_its_memory() {
    let check = |mib: u64, at: u64| {
        let areas = [private(0x7f10_0000_0000, 128 * MIB), private(0x7f20_0000_0000, mib * MIB)];
        let mut expected = memory(Machine::Virt, &[mib * MIB]);
        expected.plugged = vec![MemoryDevice::new(128 * MIB, None)];
        let found = places(&areas, &expected);
        assert_eq!(found, [(1 << 30, 0x7f20_0000_0000), (at, 0x7f10_0000_0000)], "{mib} MiB");
    };
    check(512, 2 << 30);
    check(1024, 2 << 30);
    check(1025, 3 << 30);
    check(4096, 5 << 30);
}

// hw/mem/memory-device.c, `memory_device_get_free_addr`.
#[test]
fn a_device_without_an_address_has_the_lowest_gap() {
    let (one, other) = (0x7f10_0000_0000, 0x7f00_0000_0000);
    let areas = |bytes| {
        [private(other, bytes), private(one, 256 * MIB), private(0x7f20_0000_0000, 1024 * MIB)]
    };
    let mut expected = memory(Machine::Q35, &[1024 * MIB]);
    let given = (4 << 30) + 768 * MIB;
    expected.plugged =
        vec![MemoryDevice::new(256 * MIB, Some(given)), MemoryDevice::new(512 * MIB, None)];
    let found = places(&areas(512 * MIB), &expected);
    assert_eq!(found[1..], [(4 << 30, other), (given, one)]);
    expected.plugged[1].bytes = 896 * MIB;
    let found = places(&areas(896 * MIB), &expected);
    assert_eq!(found[1..], [(given, one), (5 << 30, other)]);
}

// hw/mem/nvdimm.c, `nvdimm_prepare_memory_region`: labels are at the end, and what is left is
// rounded down to 2 MiB.
#[test]
fn labels_of_an_nvdimm_take_no_addresses() {
    let (nvdimm, dimm) = (0x7f10_0000_0000, 0x7f00_0000_0000);
    let areas = [
        private(dimm, 256 * MIB),
        private(nvdimm, 512 * MIB),
        private(0x7f20_0000_0000, 1024 * MIB),
    ];
    let mut expected = memory(Machine::Q35, &[1024 * MIB]);
    let labelled = MemoryDevice { label_bytes: 128 << 10, ..MemoryDevice::new(512 * MIB, None) };
    expected.plugged = vec![labelled, MemoryDevice::new(256 * MIB, None)];
    assert_eq!(
        first(&areas, &expected)[1..],
        [(4 << 30, nvdimm, 510 * MIB), ((4 << 30) + 510 * MIB, dimm, 256 * MIB)]
    );
}

// Kata's image is an NVDIMM that the guest may only read: it has no writable area.
#[test]
fn memory_that_the_guest_only_reads_takes_addresses_and_no_area() {
    let dimm = 0x7f00_0000_0000;
    let areas = [private(dimm, 256 * MIB), private(0x7f20_0000_0000, 2048 * MIB)];
    let mut expected = memory(Machine::Q35, &[2048 * MIB]);
    let image = MemoryDevice { is_read_only: true, ..MemoryDevice::new(256 * MIB, None) };
    expected.plugged = vec![image, MemoryDevice::new(256 * MIB, None)];
    assert_eq!(places(&areas, &expected)[1..], [((4 << 30) + 256 * MIB, dimm)]);
}

#[test]
fn devices_have_the_alignment_of_their_pages() {
    let (one, other) = (0x7f10_0000_0000, 0x7f00_0000_0000);
    let areas = [
        file(other, 1024 * MIB, 8, 0, AreaLabel::None),
        file(one, 512 * MIB, 7, 0, AreaLabel::None),
        private(0x7f20_0000_0000, 256 * MIB),
    ];
    let mut expected = memory(Machine::Q35, &[256 * MIB]);
    expected.plugged =
        vec![MemoryDevice::new(512 * MIB, None), MemoryDevice::new(1024 * MIB, None)];
    let usual = [(4 << 30, one), ((4 << 30) + 512 * MIB, other)];
    let aligned = [(4 << 30, one), (5 << 30, other)];
    assert_eq!(places(&areas, &expected)[1..], usual);
    // Whether the pages have 1 GiB is not in the arguments, so that is tried, too.
    let at =
        |layout: &[PlacedArea]| layout[1..].iter().map(|one| (one.physical, one.address)).collect();
    let all: Vec<Vec<(u64, u64)>> =
        layouts(&areas, &expected).iter().map(|layout| at(layout)).collect();
    assert!(all.iter().any(|one| *one == aligned), "{all:x?}");
    // It is, if `align=` or `hugetlbsize=` gives it.
    expected.plugged[1].alignment = Some(1 << 30);
    assert_eq!(places(&areas, &expected)[1..], aligned);
}

// hw/i386/pc.c, `pc_set_amd_above_4g_mem_start`: what Proxmox gives a guest on EPYC that can be
// plugged memory (qemu-server's Memory.pm, `get_max_mem`), 4 TiB.
#[test]
fn memory_above_4_gib_may_begin_at_1_tib() {
    let dimm = 0x7f00_0000_0000;
    let areas = [private(dimm, 512 * MIB), private(0x7f20_0000_0000, 1024 * MIB)];
    let mut expected = memory(Machine::Pc, &[1024 * MIB]);
    expected.plugged = vec![MemoryDevice::new(512 * MIB, None)];
    let devices = |expected: &ExpectedMemory| -> Vec<u64> {
        let mut all: Vec<u64> =
            layouts(&areas, expected).iter().map(|layout| layout[1].physical).collect();
        all.dedup();
        all
    };
    assert_eq!(devices(&expected), [4 << 30]);
    (expected.maximum_bytes, expected.slots) = (4 << 40, 255);
    assert!(devices(&expected).starts_with(&[4 << 30, 1 << 40]), "{:x?}", devices(&expected));
    // 1012 GiB are the most: 2 GiB of PCI's window and 1 GiB for each slot are counted.
    (expected.maximum_bytes, expected.slots) = (1004 << 30, 2);
    assert_eq!(devices(&expected), [4 << 30]);
    expected.slots = 4;
    assert!(devices(&expected).contains(&(1 << 40)));
}

// As Incus starts QEMU: the sizes are in a file (`-readconfig`).
#[test]
fn without_sizes_the_names_of_files_tell_what_is_memory() {
    let (above, below) = (0x7f20_0000_0000, 0x7f10_0000_0000);
    let areas = [
        private(0x7f00_0000_0000, 8192 * MIB),
        file(below, 1024 * MIB, 8, 0, AreaLabel::Qemu),
        file(above, 512 * MIB, 7, 0, AreaLabel::Qemu),
    ];
    let expected = ExpectedMemory { has_slots: true, ..ExpectedMemory::default() };
    let layout = first(&areas, &expected);
    assert_eq!(layout[..2], [(0, above, 512 * MIB), (512 * MIB, below, 1024 * MIB)]);
    // The second one may have been plugged in.
    let is_plugged = |layout: &Vec<PlacedArea>| {
        layout.iter().any(|one| one.address == below && one.physical == 4 << 30)
    };
    assert!(layouts(&areas, &expected).iter().any(is_plugged));
    // Memory without a name is the largest.
    let areas = [private(above, 64 * MIB), private(below, 512 * MIB)];
    assert_eq!(first(&areas, &ExpectedMemory::default()), [(0, below, 512 * MIB)]);
}

// system/physmem.c, `file_ram_alloc`: `-m 3000M` in pages of 1 GiB.
#[test]
fn a_file_may_be_larger_than_its_memory() {
    let areas = [file(0x7f00_0000_0000, 3072 * MIB, 7, 0, AreaLabel::None)];
    assert_eq!(
        first(&areas, &memory(Machine::Q35, &[3000 * MIB])),
        [(0, 0x7f00_0000_0000, 2048 * MIB), (1 << 32, 0x7f00_8000_0000, 952 * MIB)]
    );
}

// hw/i386/sgx.c: sections of the EPC follow the memory, and push devices up.
#[test]
fn memory_of_sgx_is_before_devices() {
    let areas = [private(0x7f10_0000_0000, 128 * MIB), private(0x7f20_0000_0000, 4096 * MIB)];
    let mut expected = memory(Machine::Q35, &[4096 * MIB]);
    expected.plugged = vec![MemoryDevice::new(128 * MIB, None)];
    assert_eq!(places(&areas, &expected)[2], (6 << 30, 0x7f10_0000_0000));
    expected.epc_bytes = 80 * MIB;
    assert_eq!(places(&areas, &expected)[2], (7 << 30, 0x7f10_0000_0000));
}

fn of(machine: Machine) -> ExpectedMemory {
    ExpectedMemory { machine, ..ExpectedMemory::default() }
}

// src/vmm/src/arch/x86_64/layout.rs of v1.13 and newer, and of v1.12 and older.
#[test]
fn regions_of_firecracker_have_areas_of_their_own_or_one_for_all() {
    let (above, below) = (0x7f20_0000_0000, 0x7f10_0000_0000);
    let noise = private(0x7f00_0000_0000, 8 * MIB);
    let areas = [noise.clone(), private(below, 1024 * MIB), private(above, 3072 * MIB)];
    let expected = [(0, above, 3072 * MIB), (4 << 30, below, 1024 * MIB)];
    assert_eq!(first(&areas, &of(Machine::Firecracker)), expected);
    // Without a page between them, the kernel makes one area of both.
    let areas = [noise, private(below, 4096 * MIB)];
    assert_eq!(
        first(&areas, &of(Machine::Firecracker)),
        [(0, below + 1024 * MIB, 3072 * MIB), (4 << 30, below, 1024 * MIB)]
    );
    let areas = [private(below, 512 * MIB)];
    assert_eq!(first(&areas, &of(Machine::Firecracker)), [(0, below, 512 * MIB)]);
    let areas = [private(below, 768 * MIB), private(above, 3328 * MIB)];
    let older = [(0, above, 3328 * MIB), (4 << 30, below, 768 * MIB)];
    let is_older = |layout: &Vec<PlacedArea>| {
        layout.iter().map(|one| (one.physical, one.address, one.bytes)).eq(older)
    };
    assert!(layouts(&areas, &of(Machine::Firecracker)).iter().any(is_older));
}

#[test]
fn one_file_of_firecracker_has_its_regions_in_order() {
    let (above, below) = (0x7f20_0000_0000, 0x7f10_0000_0000);
    // The second region has the higher address.
    let areas = [
        file(below, 3072 * MIB, 7, 0, AreaLabel::Firecracker),
        file(above, 256 * MIB, 7, 3072 * MIB, AreaLabel::Firecracker),
        private(0x7f00_0000_0000, 8192 * MIB),
    ];
    assert_eq!(
        first(&areas, &of(Machine::Firecracker)),
        [(0, below, 3072 * MIB), (4 << 30, above, 256 * MIB)]
    );
}

// vmm/src/memory_manager.rs: a file for each region.
#[test]
fn cloud_hypervisor_has_a_file_for_each_region() {
    let (above, below) = (0x7f20_0000_0000, 0x7f10_0000_0000);
    let areas = [
        file(below, 1024 * MIB, 8, 0, AreaLabel::CloudHypervisor),
        file(above, 3072 * MIB, 7, 0, AreaLabel::CloudHypervisor),
    ];
    assert_eq!(
        first(&areas, &of(Machine::CloudHypervisor)),
        [(0, above, 3072 * MIB), (4 << 30, below, 1024 * MIB)]
    );
}

// x86_64/src/lib.rs, `arch_memory_regions`: also the first MiB is in two regions.
#[test]
fn crosvm_has_small_regions_and_one_file() {
    let at = 0x7f10_0000_0000;
    let kib = 1_u64 << 10;
    let low = 0xd000_0000 - MIB;
    let areas = [
        file(at, 1024 * MIB, 7, MIB + low, AreaLabel::Crosvm),
        file(at + 1024 * MIB, low, 7, MIB, AreaLabel::Crosvm),
        file(at + 1024 * MIB + low, 384 * kib, 7, 640 * kib, AreaLabel::Crosvm),
        file(at + 1024 * MIB + low + 384 * kib, 640 * kib, 7, 0, AreaLabel::Crosvm),
    ];
    let physical: Vec<(u64, u64)> = first(&areas, &of(Machine::Crosvm))
        .into_iter()
        .map(|(physical, _, bytes)| (physical, bytes))
        .collect();
    let expected = [(0, 640 * kib), (640 * kib, 384 * kib), (MIB, low), (4 << 30, 1024 * MIB)];
    assert_eq!(physical, expected);
}

// x86/kvm.c, `kvm__arch_init`: one mapping, of which the hole is inaccessible.
#[test]
fn kvmtool_has_a_hole_in_its_mapping() {
    let at = 0x7f10_0000_0000;
    let areas = [private(at, 0xd000_0000), private(at + (4 << 30), 1024 * MIB)];
    assert_eq!(
        first(&areas, &of(Machine::Kvmtool)),
        [(0, at, 0xd000_0000), (4 << 30, at + (4 << 30), 1024 * MIB)]
    );
}

#[test]
fn layouts_of_an_unknown_monitor_are_few() {
    let areas: Vec<Area> =
        (0..200).map(|n| private(0x1000_0000 + (n << 36), (n + 8) * 64 * MIB)).collect();
    let all = layouts(&areas, &of(Machine::Other));
    assert!((1..=64).contains(&all.len()), "{}", all.len());
    assert!(layouts(&[private(0x1000, 4096)], &of(Machine::Other)).is_empty());
}

//! `/proc/PID/maps`: the areas of a process that can be a guest's memory.
//!
//! The format is that of fs/proc/task_mmu.c, `show_map_vma`. The process chooses the names in it,
//! so they are never opened.

use std::ops::Range;

/// Largest number of areas; no QEMU has more. Further areas are ignored.
const AREAS_MAX: usize = 1 << 14;

/// One area of a process's memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Area {
    /// Addresses in the process.
    pub range: Range<u64>,
    pub backing: AreaBacking,
    pub label: AreaLabel,
}

/// What the name of an area's file claims. The process chooses it, so it only orders attempts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AreaLabel {
    #[default]
    None,
    /// Memory of QEMU: `memory-backend-memfd` (backends/hostmem-memfd.c), or a file that it made in
    /// a folder (`qemu_back_mem.*`, system/physmem.c).
    Qemu,
    /// `guest_mem` of Firecracker (src/vmm/src/vstate/memory.rs).
    Firecracker,
    /// `ch_ram` of cloud-hypervisor (vmm/src/memory_manager.rs): one file for each region.
    CloudHypervisor,
    /// `crosvm_guest` of crosvm (vm_memory/src/guest_memory.rs).
    Crosvm,
    /// `stratovirt_anon_mem` of StratoVirt (address_space/src/host_mmap.rs).
    StratoVirt,
}

impl AreaLabel {
    /// Each label with the beginning of the last part of its names.
    const NAMES: [(&'static str, Self); 6] = [
        ("memfd:memory-backend-memfd", Self::Qemu),
        ("qemu_back_mem.", Self::Qemu),
        ("memfd:guest_mem", Self::Firecracker),
        ("memfd:ch_ram", Self::CloudHypervisor),
        ("memfd:crosvm_guest", Self::Crosvm),
        ("memfd:stratovirt_anon_mem", Self::StratoVirt),
    ];

    fn of(name: &str) -> Self {
        let last = name.rsplit('/').next().unwrap_or_default();
        let known = Self::NAMES.iter().find(|(begin, _)| last.starts_with(begin));
        known.map_or(Self::None, |(_, label)| *label)
    }
}

/// Major and minor device number and inode of a file, as maps shows them.
pub type FileIdentity = (u32, u32, u64);

/// The memory or the file behind an area.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AreaBacking {
    /// Anonymous memory of the process.
    Private,
    /// A file, possibly without a name, such as a memfd.
    File {
        identity: FileIdentity,
        /// Offset in the file at which the area begins, in bytes.
        offset: u64,
        /// Whether writes go to the file.
        shared: bool,
    },
}

impl AreaBacking {
    /// Returns the backing of the rest of an area, without its first `bytes`; `None` after an
    /// overflow.
    pub(super) fn after(&self, bytes: u64) -> Option<Self> {
        match *self {
            Self::Private => Some(Self::Private),
            Self::File { identity, offset, shared } => {
                Some(Self::File { identity, offset: offset.checked_add(bytes)?, shared })
            }
        }
    }
}

impl Area {
    /// The areas in the text of `/proc/PID/maps` that can be a guest's memory: readable, writable,
    /// not executable, no heap or stack.
    pub fn parse(text: &str) -> Vec<Self> {
        text.lines().filter_map(parse_line).take(AREAS_MAX).collect()
    }

    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether `next` begins where this area ends and continues the same backing.
    pub(super) fn is_continued_by(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && self.backing.after(self.bytes()).is_some_and(|backing| backing == next.backing)
    }
}

/// Whether a list of areas has a virtual processor of KVM: an area of its descriptor
/// (virt/kvm/kvm_main.c, `create_vcpu_fd`), which belongs to no disk. A file can have such a name,
/// but only behind its folder.
pub(super) fn has_processor(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(3);
        let device = words.next().unwrap_or_default();
        let name = words.nth(1).unwrap_or_default();
        device.starts_with("00:") && name.starts_with("anon_inode:kvm-vcpu:")
    })
}

fn parse_line(line: &str) -> Option<Area> {
    // start-end permissions offset device inode [name]
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let range = hex(start)?..hex(end)?;
    let permissions = words.next()?.as_bytes();
    let offset = hex(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let device = |text| u32::from_str_radix(text, 16).ok();
    let (major, minor) = (device(major)?, device(minor)?);
    let inode: u64 = words.next()?.parse().ok()?;
    let name = words.next().unwrap_or("");
    let [b'r', b'w', b'-', sharing] = permissions else { return None };
    let is_special = name.starts_with('[') && !name.starts_with("[anon");
    let is_whole = range.start < range.end && (range.start | range.end | offset) % 4096 == 0;
    if !is_whole || is_special || name.starts_with("anon_inode:") {
        return None;
    }
    let shared = *sharing == b's';
    let backing = match (inode, shared) {
        (0, false) => AreaBacking::Private,
        (0, true) => return None,
        _ => AreaBacking::File { identity: (major, minor, inode), offset, shared },
    };
    Some(Area { range, backing, label: AreaLabel::of(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_kernel_writes_them() {
        let text = "\
55d3b39cb000-55d3b3dd2000 r--p 00000000 fe:00 10199047                   /usr/bin/qemu-system-x86_64
55d3b9f30000-55d3bae43000 rw-p 00000000 00:00 0                          [heap]
7fce8c021000-7fce90000000 ---p 00000000 00:00 0 
7fce93e00000-7fceb3e00000 rw-p 00000000 00:00 0 
7fceb4000000-7fcef3fff000 rwxp 00000000 00:00 0 
7fceb5000000-7fceb5003000 rw-s 00000000 00:0e 1036                       anon_inode:kvm-vcpu:0
7f59e3fff000-7f5a03fff000 rw-s 00001000 00:01 13194                      \
/memfd:memory-backend-memfd (deleted)
7f8b67fff000-7f8b87fff000 rw-p 00000000 fe:00 10059841                   /tmp/x y
";
        let areas = Area::parse(text);
        let starts: Vec<u64> = areas.iter().map(|area| area.range.start).collect();
        assert_eq!(starts, [0x7fce_93e0_0000, 0x7f59_e3ff_f000, 0x7f8b_67ff_f000]);
        assert_eq!(areas[0].backing, AreaBacking::Private);
        assert_eq!(areas[0].bytes(), 512 << 20);
        let identity = (0, 1, 13194);
        assert_eq!(areas[1].backing, AreaBacking::File { identity, offset: 0x1000, shared: true });
        let identity = (0xfe, 0, 10_059_841);
        assert_eq!(areas[2].backing, AreaBacking::File { identity, offset: 0, shared: false });
    }

    #[test]
    fn names_of_files_tell_whose_memory_they_claim_to_be() {
        let label = |name: &str| {
            Area::parse(&format!(
                "7f0000000000-7f0010000000 rw-s 00000000 00:01 7 {name} (deleted)\n"
            ))[0]
                .label
        };
        assert_eq!(label("/memfd:memory-backend-memfd"), AreaLabel::Qemu);
        assert_eq!(label("/dev/hugepages/qemu_back_mem._objects_mem0.aBcDeF"), AreaLabel::Qemu);
        assert_eq!(label("/memfd:guest_mem"), AreaLabel::Firecracker);
        assert_eq!(label("/memfd:ch_ram"), AreaLabel::CloudHypervisor);
        assert_eq!(label("/memfd:crosvm_guest"), AreaLabel::Crosvm);
        assert_eq!(label("/memfd:x"), AreaLabel::None);
        assert_eq!(label("/dev/zero"), AreaLabel::None);
    }

    #[test]
    fn only_a_descriptor_of_kvm_is_a_processor() {
        let line = |device: &str, name: &str| {
            format!("7fceb5000000-7fceb5003000 rw-s 00000000 {device} 1036    {name}\n")
        };
        assert!(has_processor(&line("00:0e", "anon_inode:kvm-vcpu:0")));
        // A file of that name has a folder, and is on a disk or in memory.
        assert!(!has_processor(&line("00:0e", "/tmp/anon_inode:kvm-vcpu:0")));
        assert!(!has_processor(&line("fe:01", "anon_inode:kvm-vcpu:0")));
        assert!(!has_processor(&line("00:0e", "anon_inode:[eventpoll] anon_inode:kvm-vcpu:0")));
        assert!(!has_processor("anon_inode:kvm-vcpu:0"));
    }

    #[test]
    fn invalid_lines_are_ignored() {
        for line in ["", "x", "5-3 rw-p 0 0:0 0", "1000-0 rw-p 0 0:0 0", "1000-2001 rw-p 0 0:0 0"] {
            assert_eq!(Area::parse(line), [], "{line}");
        }
    }
}

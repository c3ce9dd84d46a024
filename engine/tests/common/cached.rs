//! A minimal handmade machine with one file in its page cache, all of it in the direct map.
//!
//! For tests that damage it and for the fuzz target; guests test what real kernels have.
#![allow(dead_code, unreachable_pub, reason = "each user takes a part of it")]

use std::collections::BTreeMap;
use std::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Member, Members, PackedField};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_engine::page_cache::FileIdentity;
use panoptes_engine::walk::Kernel;

/// Bytes of the machine's memory, at physical address 0.
pub const MEMORY_BYTES: usize = 16 << 20;
/// Virtual address of the direct map.
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// Physical addresses of single objects.
pub const INODE: u64 = 0x1_0000;
pub const MAPPING: u64 = 0x1_1000;
pub const SUPER_BLOCK: u64 = 0x1_2000;
const FILE_SYSTEM_TYPE: u64 = 0x1_3000;
const OVERLAY_INODE: u64 = 0x1_4020;
const OVERLAY_SUPER_BLOCK: u64 = 0x1_5000;
const NODES: u64 = 0x2_0000;
const NODE_BYTES: u64 = 1024;
const VMEMMAP: u64 = 0x10_0000;
const PAGE_STRUCT_BYTES: u64 = 64;
/// Physical address of the first page frame for content.
const FRAMES: u64 = 0x20_0000;
pub const PAGE: usize = 4096;

/// `PG_uptodate`
const UPTODATE: u64 = 1 << 3;
pub const EXT4: u64 = 0xef53;
pub const TMPFS: u64 = 0x0102_1994;
pub const HUGETLBFS: u64 = 0x9584_58f6;
const OVERLAYFS: u64 = 0x794c_7630;

/// The structures' fields, at offsets similar to those of real kernels.
struct Fields;

impl Members for Fields {
    #[allow(clippy::match_same_arms, reason = "it is a table")]
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let (offset, size) = match (structure, path) {
            ("inode", "i_mode") => (0, 2),
            ("inode", "i_sb") => (40, 8),
            ("inode", "i_mapping") => (48, 8),
            ("inode", "i_ino") => (64, 8),
            ("inode", "i_size") => (80, 8),
            ("inode", "i_mtime_sec") => (96, 8),
            ("inode", "i_mtime_nsec") => (104, 4),
            ("inode", "i_ctime_sec") => (112, 8),
            ("inode", "i_ctime_nsec") => (120, 4),
            ("inode", "i_blkbits") => (134, 1),
            ("inode", _) => (136, 4),
            ("address_space", "host") => (0, 8),
            ("address_space", "i_pages.xa_head") => (16, 8),
            ("address_space", "nrpages") => (88, 8),
            ("super_block", "s_dev") => (16, 4),
            ("super_block", "s_magic") => (96, 8),
            ("super_block", "s_type") => (40, 8),
            ("file_system_type", "fs_flags") => (8, 4),
            ("xa_node", "shift") => (0, 1),
            ("xa_node", "count") => (2, 1),
            ("xa_node", "slots") => (40, 512),
            ("page", "flags") => (0, 8),
            ("page", "compound_head") => (8, 8),
            ("page", "mapping") => (24, 8),
            ("page", "index") => (32, 8),
            ("page", "compound_info" | "__folio_index") => return None,
            ("pageflags", "PG_uptodate") => (3, 0),
            _ => (0, 8),
        };
        Some(Member { offset, size })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        match structure {
            "page" => Some(PAGE_STRUCT_BYTES as u32),
            // This kernel has no overlays.
            _ if structure.starts_with("ovl_") => None,
            _ => Some(1024),
        }
    }
}

/// The types of the module with overlayfs: a `struct ovl_inode` as in kernels before v6.0.
pub struct OverlayFields;

impl Members for OverlayFields {
    fn member(&self, _: &str, path: &str) -> Option<Member> {
        let offset = match path {
            "lowerdata" => 0,
            "flags" => 24,
            "vfs_inode.i_sb" => 32 + 40,
            "__upperdentry" => 32 + 1024,
            _ => return None,
        };
        Some(Member { offset, size: 8 })
    }

    fn size_of(&self, _: &str) -> Option<u32> {
        Some(32 + 1024 + 24)
    }
}

/// A machine with one file.
#[derive(Clone, Debug)]
pub struct Cached {
    pub memory: Vec<u8>,
    pub kernel: Kernel,
    pub file: FileIdentity,
    /// Entries of the tree by index: `struct page` and order.
    pages: BTreeMap<u64, (u64, u32)>,
    next_frame: u64,
    next_node: u64,
    pub batches: u64,
}

impl MemorySource for Cached {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.batches += 1;
        let memory = &self.memory;
        ReadRequest::answer_each(requests, arena, |address, bytes| {
            let end = address.checked_add(bytes.len() as u64);
            let range = end.and_then(|end| memory.get(address as usize..end as usize));
            match range {
                Some(found) => bytes.copy_from_slice(found),
                None => return ReadOutcome::NotBacked,
            }
            ReadOutcome::Read
        });
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}

impl Cached {
    /// A file of `size` bytes on a filesystem with this magic number, without pages in memory.
    pub fn new(size: u64, magic: u64) -> Self {
        let layouts = Layouts::bind(&Fields).expect("all fields are there");
        let mut kernel = Kernel { layouts, ..Kernel::default() };
        kernel.space.direct_map = DIRECT_MAP..DIRECT_MAP + MEMORY_BYTES as u64;
        kernel.space.vmemmap_base = DIRECT_MAP + VMEMMAP;
        let mut machine = Self {
            memory: vec![0; MEMORY_BYTES],
            kernel,
            file: FileIdentity {
                inode: KernelVa(DIRECT_MAP + INODE),
                device: 0x80_0001,
                number: 4711,
                change_time_ns: 1_700_000_000_000_000_007,
                modify_time_ns: 1_600_000_000_000_000_005,
                size,
            },
            pages: BTreeMap::new(),
            next_frame: FRAMES / PAGE as u64,
            next_node: NODES,
            batches: 0,
        };
        let block_bits = if magic == HUGETLBFS { 21 } else { 12 };
        for (field, value) in [
            ("i_mode", 0o100_644),
            ("i_sb", DIRECT_MAP + SUPER_BLOCK),
            ("i_mapping", DIRECT_MAP + MAPPING),
            ("i_ino", 4711),
            ("i_size", size),
            ("i_mtime_sec", 1_600_000_000),
            ("i_mtime_nsec", 5),
            ("i_ctime_sec", 1_700_000_000),
            ("i_ctime_nsec", 7),
            ("i_blkbits", block_bits),
        ] {
            machine.set(INODE, "inode", field, value);
        }
        machine.set(SUPER_BLOCK, "super_block", "s_dev", 0x80_0001);
        machine.set(SUPER_BLOCK, "super_block", "s_magic", magic);
        machine.set(SUPER_BLOCK, "super_block", "s_type", DIRECT_MAP + FILE_SYSTEM_TYPE);
        machine.set(FILE_SYSTEM_TYPE, "file_system_type", "fs_flags", u64::from(magic == EXT4));
        machine
    }

    /// A file with all pages in memory, in single frames.
    pub fn whole(content: &[u8], magic: u64) -> Self {
        let mut machine = Self::new(content.len() as u64, magic);
        for (index, page) in (0..).zip(content.chunks(PAGE)) {
            machine.add(index, 0, page);
        }
        machine.plant();
        machine
    }

    /// Puts an overlay over the file, with a modification time of its own if its attributes alone
    /// were copied up. The machine's file is then that of the overlay.
    pub fn lay_over(&mut self, modified_seconds: u64) {
        let (inode, overlay) = (INODE as usize, OVERLAY_INODE as usize);
        self.memory.copy_within(inode..inode + 1024, overlay);
        self.set(OVERLAY_INODE, "inode", "i_sb", DIRECT_MAP + OVERLAY_SUPER_BLOCK);
        self.set(OVERLAY_INODE, "inode", "i_mtime_sec", modified_seconds);
        self.memory[overlay - 32..overlay - 24]
            .copy_from_slice(&(DIRECT_MAP + INODE).to_le_bytes());
        self.set(OVERLAY_SUPER_BLOCK, "super_block", "s_dev", 0x2d);
        self.set(OVERLAY_SUPER_BLOCK, "super_block", "s_magic", OVERLAYFS);
        self.set(OVERLAY_SUPER_BLOCK, "super_block", "s_type", DIRECT_MAP + FILE_SYSTEM_TYPE);
        self.file = FileIdentity {
            inode: KernelVa(DIRECT_MAP + OVERLAY_INODE),
            device: 0x2d,
            modify_time_ns: modified_seconds as i64 * 1_000_000_000 + 5,
            ..self.file
        };
    }

    /// Writes a field of a structure.
    pub fn set(&mut self, at: u64, structure: &str, field: &str, value: u64) {
        let member = Fields.member(structure, field).expect("it is known");
        let field = PackedField { offset: member.offset, size: member.size, packed: 0 };
        let start = at as usize + field.offset as usize;
        self.memory[start..start + field.size as usize]
            .copy_from_slice(&value.to_le_bytes()[..field.size as usize]);
    }

    /// Puts `1 << order` pages with this content at an index; returns the physical address of their
    /// `struct page`.
    pub fn add(&mut self, index: u64, order: u32, content: &[u8]) -> u64 {
        let count = 1 << order;
        let frame = self.next_frame.next_multiple_of(count);
        self.next_frame = frame + count;
        let start = frame as usize * PAGE;
        self.memory[start..start + content.len()].copy_from_slice(content);
        let head = VMEMMAP + frame * PAGE_STRUCT_BYTES;
        self.set(head, "page", "flags", UPTODATE);
        self.set(head, "page", "mapping", DIRECT_MAP + MAPPING);
        self.set(head, "page", "index", index);
        for tail in 1..count {
            let at = head + tail * PAGE_STRUCT_BYTES;
            self.set(at, "page", "compound_head", (DIRECT_MAP + head) | 1);
        }
        self.pages.insert(index, (DIRECT_MAP + head, order));
        head
    }

    /// Puts an entry that is not a page at an index.
    pub fn add_entry(&mut self, index: u64, entry: u64) {
        self.pages.insert(index, (entry, 0));
    }

    /// Removes the page at an index.
    pub fn remove(&mut self, index: u64) {
        self.pages.remove(&index);
    }

    /// Writes the tree.
    pub fn plant(&mut self) {
        let last = self.pages.iter().map(|(index, (_, order))| index + (1 << order) - 1).max();
        let head = match last {
            None => 0,
            Some(0) => self.pages[&0].0,
            Some(last) => {
                let mut shift = 0;
                while last >> shift >> 6 != 0 {
                    shift += 6;
                }
                self.node(shift, 0) | 2
            }
        };
        self.set(MAPPING, "address_space", "i_pages.xa_head", head);
        self.set(MAPPING, "address_space", "nrpages", self.pages.len() as u64);
        self.set(MAPPING, "address_space", "host", DIRECT_MAP + INODE);
    }

    /// Writes a node and all nodes below it; returns its address.
    fn node(&mut self, shift: u32, base: u64) -> u64 {
        let at = self.next_node;
        self.next_node += NODE_BYTES;
        assert!(self.next_node <= VMEMMAP, "there is room for the nodes");
        self.set(at, "xa_node", "shift", shift.into());
        for slot in 0..64_u64 {
            let (first, last) = (base + (slot << shift), base + ((slot + 1) << shift) - 1);
            let covering = self.pages.range(..=first).next_back();
            let covering = covering.map(|(&index, &(page, order))| (index, page, order));
            let value = match covering {
                Some((index, page, order)) if order >= shift && index + (1 << order) > first => {
                    let own = (index - base) >> shift;
                    if own == slot { page } else { own << 2 | 2 }
                }
                _ if shift > 0 && self.pages.range(first..=last).next().is_some() => {
                    self.node(shift - 6, first) | 2
                }
                _ => 0,
            };
            let start = at as usize + 40 + slot as usize * 8;
            self.memory[start..start + 8].copy_from_slice(&value.to_le_bytes());
        }
        DIRECT_MAP + at
    }
}

//! Address spaces: areas, their trees, and the pages with the arguments (mm/mmap.c).

use std::collections::{BTreeMap, BTreeSet};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::vm_area_struct::{
    VM_EXEC, VM_GROWSDOWN, VM_MAYSHARE, VM_READ, VM_WRITE,
};
use panoptes_decoders::source::PAGE_BYTES;

use crate::machine::Machine;

/// Where anonymous areas are put, downwards.
const MMAP_TOP: u64 = 0x7fff_f7c0_0000;

/// `MM_MT_FLAGS` (include/linux/mm_types.h); the height of the tree is above them.
const MM_MT_FLAGS: u32 = 0x303;
const MT_FLAGS_HEIGHT_OFFSET: u32 = 2;

/// Size of a `struct anon_vma` (include/linux/rmap.h); nothing but its address is read.
const ANON_VMA_BYTES: u32 = 128;

/// Offsets of a maple tree and of its flags in `mm_struct`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapleTree {
    pub(crate) offset: u32,
    pub(crate) flags: u32,
}

/// An area to be mapped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Area {
    pub start: u64,
    pub end: u64,
    /// `VM_*`
    pub flags: u64,
    /// Path of the mapped file.
    pub path: Option<String>,
    /// Offset in the file, in pages.
    pub page_offset: u64,
}

/// An area of an address space.
#[derive(Clone, Debug)]
pub(crate) struct Vma {
    address: KernelVa,
    end: u64,
    flags: u64,
    file: Option<KernelVa>,
    page_offset: u64,
    /// `struct vm_special_mapping *`
    special: KernelVa,
}

/// An address space.
#[derive(Clone, Debug)]
pub(crate) struct Mm {
    pgd: KernelVa,
    exe: Option<KernelVa>,
    pub(crate) areas: BTreeMap<u64, Vma>,
    /// Nodes of the maple tree.
    nodes: Vec<KernelVa>,
    /// Where the kernel reaches the page at the top of the stack.
    stack_page: Option<(u64, KernelVa)>,
    /// The same for the first page of the heap.
    heap_page: Option<(u64, KernelVa)>,
}

impl Machine {
    /// A new address space without areas.
    pub(crate) fn new_mm(&mut self) -> KernelVa {
        let layout = self.layouts().mm_struct;
        let mm = self.memory.allocate(layout.size);
        let root = self.kernel.symbol("init_top_pgt");
        let pgd = self.memory.new_user_root(root);
        self.memory.point(mm, layout.pgd, pgd);
        let (areas, nodes) = (BTreeMap::new(), Vec::new());
        let (stack_page, heap_page) = (None, None);
        self.mms.insert(mm, Mm { pgd, exe: None, areas, nodes, stack_page, heap_page });
        mm
    }

    /// `dup_mm` (kernel/fork.c): a copy of an address space. The copy of the stack's page stands
    /// for the copy that the first write would make.
    pub(crate) fn dup_mm(&mut self, from: KernelVa) -> KernelVa {
        let layout = self.layouts().mm_struct;
        let mm = self.new_mm();
        let old = self.mms[&from].clone();
        for field in [
            layout.arg_start,
            layout.arg_end,
            layout.env_start,
            layout.env_end,
            layout.start_brk,
            layout.brk,
            layout.start_stack,
        ] {
            let value = self.memory.get(from, field);
            self.memory.put(mm, field, value);
        }
        for field in [layout.context_flags, layout.vdso].into_iter().flatten() {
            let value = self.memory.get(from, field);
            self.memory.put(mm, field, value);
        }
        if let Some(exe) = old.exe {
            self.set_exe(mm, exe);
        }
        if let Some((va, page)) = old.stack_page {
            let bytes = self.memory.read(page, PAGE_BYTES as usize).to_vec();
            self.write_stack_page(mm, va, &bytes);
        }
        if let Some((va, _)) = old.heap_page {
            self.fill_heap_page(mm, va);
        }
        for (&start, vma) in &old.areas {
            self.add_vma(mm, start, vma);
        }
        self.store_areas(mm);
        mm
    }

    /// Sets the executable of an address space; takes a reference to the file.
    pub(crate) fn set_exe(&mut self, mm: KernelVa, file: KernelVa) {
        self.use_file(file);
        let field = self.layouts().mm_struct.exe_file;
        self.memory.point(mm, field, file);
        self.mms.get_mut(&mm).expect("the address space exists").exe = Some(file);
    }

    /// Fills the page at the top of the stack.
    pub(crate) fn write_stack_page(&mut self, mm: KernelVa, va: u64, bytes: &[u8]) {
        let pgd = self.mms[&mm].pgd;
        let page = self.memory.map_user(pgd, va);
        self.memory.write(page, bytes);
        if self.has_heap_pages {
            self.fill_anonymous_page(page, anon_vma(mm, va), va / PAGE_BYTES);
        }
        self.mms.get_mut(&mm).expect("the address space exists").stack_page = Some((va, page));
    }

    /// Begins the heap of an address space with a page of its own.
    pub(crate) fn fill_heap_page(&mut self, mm: KernelVa, va: u64) {
        let pgd = self.mms[&mm].pgd;
        let page = self.memory.map_user(pgd, va);
        self.fill_anonymous_page(page, anon_vma(mm, va), va / PAGE_BYTES);
        self.mms.get_mut(&mm).expect("the address space exists").heap_page = Some((va, page));
    }

    /// `exit_mmap`: frees an address space. No two processes of a machine share one.
    pub(crate) fn drop_mm(&mut self, mm: KernelVa) {
        let row = self.mms.remove(&mm).expect("the address space exists");
        let layouts = self.layouts();
        for vma in row.areas.into_values() {
            self.memory.release(vma.address, layouts.vm_area_struct.size);
            if let Some(file) = vma.file {
                self.drop_file(file);
            }
        }
        self.bury_nodes(row.nodes);
        if let Some(exe) = row.exe {
            self.drop_file(exe);
        }
        if self.has_heap_pages {
            for (_, page) in row.heap_page.into_iter().chain(row.stack_page) {
                self.clear_page(page);
            }
        }
        self.memory.free_user_pages(row.pgd);
        self.memory.release(mm, layouts.mm_struct.size);
    }

    /// Adds an area with a reference to an open file; the tree does not have it yet.
    pub(crate) fn add_area(&mut self, mm: KernelVa, area: &Area, file: Option<KernelVa>) {
        let vma = Vma {
            address: KernelVa::NULL,
            end: area.end,
            flags: area.flags,
            file,
            page_offset: area.page_offset,
            special: KernelVa::NULL,
        };
        self.add_vma(mm, area.start, &vma);
    }

    /// Adds one of the kernel's special mappings, such as `[vdso]`.
    pub(crate) fn add_special(&mut self, mm: KernelVa, area: &Area, special: KernelVa) {
        let vma = Vma {
            address: KernelVa::NULL,
            end: area.end,
            flags: area.flags,
            file: None,
            page_offset: 0,
            special,
        };
        self.add_vma(mm, area.start, &vma);
    }

    fn add_vma(&mut self, mm: KernelVa, start: u64, vma: &Vma) {
        let layout = self.layouts().vm_area_struct;
        let address = self.memory.allocate(layout.size);
        if let Some(file) = vma.file {
            self.use_file(file);
        }
        let operations = match (vma.file, vma.special.is_null()) {
            (Some(_), _) => self.kernel.code(2),
            (None, false) => self.kernel.code(3),
            (None, true) => KernelVa::NULL,
        };
        if self.has_heap_pages && vma.file.is_none() && vma.special.is_null() {
            self.memory.point(address, layout.anon_vma, anon_vma(mm, start));
        }
        for (field, value) in [
            (layout.vm_start, start),
            (layout.vm_end, vma.end),
            (layout.vm_flags, vma.flags),
            (layout.vm_mm, mm.0),
            (layout.vm_file, vma.file.unwrap_or_default().0),
            (layout.vm_pgoff, vma.page_offset),
            (layout.vm_ops, operations.0),
            (layout.vm_private_data, vma.special.0),
        ] {
            self.memory.put(address, field, value);
        }
        let areas = &mut self.mms.get_mut(&mm).expect("the address space exists").areas;
        let overlaps = areas.range(..vma.end).next_back().is_some_and(|(_, last)| last.end > start);
        assert!(!overlaps, "areas do not overlap: {start:#x}");
        areas.insert(start, Vma { address, ..vma.clone() });
    }

    /// Writes the tree of an address space anew. The old nodes are marked dead, as those that the
    /// kernel replaces; it replaces only what changes.
    pub(crate) fn store_areas(&mut self, mm: KernelVa) {
        let layouts = self.layouts();
        let row = &self.mms[&mm];
        let areas: Vec<_> =
            row.areas.iter().map(|(&start, vma)| (start, vma.end, vma.address)).collect();
        let old = row.nodes.clone();
        let count = areas.len() as u64;
        let nodes =
            if let (Some(node), Some(root)) = (&layouts.maple_node, layouts.mm_struct.ma_root) {
                let place = self.maple_tree().unwrap_or_default();
                let tree = mm.plus(place.offset.into());
                let built = self.memory.build_maple_tree(node, tree, &areas);
                let flags = MM_MT_FLAGS | built.height << MT_FLAGS_HEIGHT_OFFSET;
                self.memory.write(mm.plus(place.flags.into()), &flags.to_le_bytes());
                self.memory.put(mm, root, built.root);
                built.nodes
            } else {
                self.link_areas(mm, &areas);
                let root = self.memory.build_red_black_tree(&layouts.vm_area_struct, &areas);
                self.memory.put_optional(mm, layouts.mm_struct.mm_rb, root.0);
                Vec::new()
            };
        self.memory.put(mm, layouts.mm_struct.map_count, count);
        self.bury_nodes(old);
        self.mms.get_mut(&mm).expect("the address space exists").nodes = nodes;
    }

    /// Where the maple tree is in an address space; `None` before v6.1.
    pub(crate) fn maple_tree(&self) -> Option<MapleTree> {
        let root = self.kernel.layouts.mm_struct.ma_root?.offset;
        // A lock, the flags, the root (include/linux/maple_tree.h). The spinlock of a real-time
        // kernel is a `rt_mutex_base` of 32 bytes.
        let is_real_time = self.release().contains("-rt-");
        let (lock, flags) = if is_real_time { (32, 8) } else { (4, 4) };
        Some(MapleTree { offset: root - lock - flags, flags: root - flags })
    }

    /// The list of areas that kernels had beside the red-black tree: `mmap` is the first field of
    /// `mm_struct`; `vm_next` and `vm_prev` follow `vm_end` (include/linux/mm_types.h, v5.10).
    fn link_areas(&mut self, mm: KernelVa, areas: &[(u64, u64, KernelVa)]) {
        let next = u64::from(self.layouts().vm_area_struct.vm_end.offset) + 8;
        let mut previous = KernelVa::NULL;
        let mut place = mm;
        for &(_, _, vma) in areas {
            self.memory.put_word(vma.plus(next + 8), previous.0);
            self.memory.put_word(place, vma.0);
            (previous, place) = (vma, vma.plus(next));
        }
        self.memory.put_word(place, 0);
    }

    /// `mte_set_node_dead` (lib/maple_tree.c): a replaced node is its own parent.
    fn bury_nodes(&mut self, nodes: Vec<KernelVa>) {
        let Some(layout) = self.layouts().maple_node else { return };
        for node in nodes {
            self.memory.point(node, layout.parent, node);
            self.memory.release(node, layout.size);
        }
    }

    /// Maps areas into a process; a file that does not exist is made.
    pub fn map(&mut self, pid: u32, areas: &[Area]) {
        let mm = self.process(pid).mm.expect("the process has an address space");
        for area in areas {
            let file = area.path.as_ref().map(|path| {
                let node = self.file_at(path);
                self.new_file(node, KernelVa::NULL)
            });
            self.add_area(mm, area, file);
            if let Some(file) = file {
                self.drop_file(file);
            }
        }
        self.store_areas(mm);
    }

    /// Maps `count` private anonymous areas of `pages` pages, with holes between them; returns the
    /// lowest address.
    pub fn map_anonymous(&mut self, pid: u32, count: u32, pages: u64) -> u64 {
        let mm = self.process(pid).mm.expect("the process has an address space");
        let below = self.mms[&mm].areas.keys().find(|&&start| start >= MMAP_TOP / 2);
        let mut top = below.copied().unwrap_or(MMAP_TOP);
        let mut areas = Vec::new();
        for _ in 0..count {
            let end = top - PAGE_BYTES;
            top = end - pages * PAGE_BYTES;
            let flags = VM_READ | VM_WRITE;
            areas.push(Area { start: top, end, flags, path: None, page_offset: top / PAGE_BYTES });
        }
        self.map(pid, &areas);
        top
    }

    /// Unmaps the area that begins at `start`.
    pub fn unmap(&mut self, pid: u32, start: u64) {
        let mm = self.process(pid).mm.expect("the process has an address space");
        let areas = &mut self.mms.get_mut(&mm).expect("the address space exists").areas;
        let vma = areas.remove(&start).expect("an area begins there");
        self.store_areas(mm);
        if let Some(file) = vma.file {
            self.drop_file(file);
        }
        self.memory.release(vma.address, self.kernel.layouts.vm_area_struct.size);
    }

    /// Changes the `VM_*` flags of the area that begins at `start` (`mprotect`).
    pub fn protect(&mut self, pid: u32, start: u64, flags: u64) {
        let mm = self.process(pid).mm.expect("the process has an address space");
        let areas = &mut self.mms.get_mut(&mm).expect("the address space exists").areas;
        let vma = areas.get_mut(&start).expect("an area begins there");
        vma.flags = flags;
        let (address, field) = (vma.address, self.kernel.layouts.vm_area_struct.vm_flags);
        self.memory.put(address, field, flags);
    }

    /// Writes to the private area that begins at `start` (`__anon_vma_prepare`, mm/rmap.c); what
    /// is written is not in memory.
    pub fn write_to_area(&mut self, pid: u32, start: u64) {
        let mm = self.process(pid).mm.expect("the process has an address space");
        let vma = self.mms[&mm].areas.get(&start).expect("an area begins there").address;
        let anon_vma = self.memory.allocate(ANON_VMA_BYTES);
        let field = self.kernel.layouts.vm_area_struct.anon_vma;
        self.memory.point(vma, field, anon_vma);
    }

    /// Writes bytes into one page of a process's memory, which is in memory then.
    pub fn write_user(&mut self, pid: u32, address: u64, bytes: &[u8]) {
        let mm = self.process(pid).mm.expect("the process has an address space");
        let pgd = self.mms[&mm].pgd;
        let at = address % PAGE_BYTES;
        assert!(at + bytes.len() as u64 <= PAGE_BYTES, "they are in one page");
        let page = self.memory.user_page(pgd, address - at);
        let page = page.unwrap_or_else(|| self.memory.map_user(pgd, address - at));
        self.memory.write(page.plus(at), bytes);
    }

    /// The physical addresses of all pages of processes' own memory.
    pub fn user_pages(&self) -> BTreeSet<u64> {
        self.mms.values().flat_map(|mm| self.memory.user_pages(mm.pgd)).collect()
    }

    /// The path of a process's executable; `None` without an address space.
    pub fn executable(&self, pid: u32) -> Option<String> {
        let file = self.mms[&self.process(pid).mm?].exe?;
        Some(self.path_of(self.files[&file].node))
    }

    /// The areas of a process, ascending; none without an address space.
    pub fn areas(&self, pid: u32) -> Vec<Area> {
        let Some(mm) = self.process(pid).mm else { return Vec::new() };
        let path = |file: KernelVa| self.path_of(self.files[&file].node);
        let area = |(&start, vma): (&u64, &Vma)| Area {
            start,
            end: vma.end,
            flags: vma.flags,
            path: vma.file.map(path),
            page_offset: vma.page_offset,
        };
        self.mms[&mm].areas.iter().map(area).collect()
    }
}

/// The address space stands for the `struct anon_vma` of each area, that of the stack apart.
const fn anon_vma(mm: KernelVa, at: u64) -> KernelVa {
    mm.plus(if at < MMAP_TOP { 16 } else { 32 })
}

/// The areas of a fresh program beside its special mappings: its executable, the C library, heap
/// and stack. `slide` is a random multiple of the page size.
pub(crate) fn program_areas(executable: &str, slide: u64) -> Vec<Area> {
    let code = 0x5555_5555_4000 + slide;
    let library = MMAP_TOP + slide;
    let stack = 0x7fff_fe00_0000 + slide;
    let area = |start: u64, pages: u64, flags: u64, path: Option<&str>, page_offset: u64| Area {
        start,
        end: start + pages * PAGE_BYTES,
        flags,
        path: path.map(str::to_owned),
        page_offset,
    };
    let library_path = Some("/usr/lib/x86_64-linux-gnu/libc.so.6");
    let heap = code + 0x10_0000;
    vec![
        area(code, 4, VM_READ, Some(executable), 0),
        area(code + 0x4000, 16, VM_READ | VM_EXEC, Some(executable), 4),
        area(code + 0x1_4000, 4, VM_READ | VM_WRITE, Some(executable), 20),
        area(heap, 33, VM_READ | VM_WRITE, None, heap / PAGE_BYTES),
        area(library, 38, VM_READ, library_path, 0),
        area(library + 0x2_6000, 341, VM_READ | VM_EXEC, library_path, 38),
        area(library + 0x17_b000, 6, VM_READ | VM_WRITE, library_path, 379),
        area(stack, 33, VM_READ | VM_WRITE | VM_GROWSDOWN, None, stack / PAGE_BYTES),
    ]
}

/// The permissions of `VM_*` flags as /proc/PID/maps shows them.
pub fn permissions(flags: u64) -> String {
    let letter = |flag: u64, letter: char| if flags & flag != 0 { letter } else { '-' };
    let shared = if flags & VM_MAYSHARE != 0 { 's' } else { 'p' };
    [letter(VM_READ, 'r'), letter(VM_WRITE, 'w'), letter(VM_EXEC, 'x'), shared].iter().collect()
}

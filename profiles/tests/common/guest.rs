//! A machine of 16 MiB with the parts of a kernel that discovery reads: page tables, a VMCOREINFO,
//! a symbol table, types, and two tasks. An arm64 machine has its own page tables and VMCOREINFO,
//! and its memory does not begin at 0; the addresses are valid on both architectures.

use std::fmt::Write;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::PF_KTHREAD;
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::paging::PageTableEntry;
use panoptes_decoders::paging::aarch64::{self, Granule};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_profiles::btf::Btf;

use super::kallsyms_writer::compress;
use super::types::{kernel_and_overlay_btf, kernel_btf};

pub(crate) const RELEASE: &str = "6.1.0-test";
pub(crate) const BUILD_ID: &str = "00112233445566778899aabbccddeeff00112233";
pub(crate) const DIRECT_MAP: u64 = 0xffff_8881_4000_0000;
pub(crate) const VMEMMAP: u64 = 0xffff_ea00_4000_0000;

const MEMORY_BYTES: usize = 16 << 20;
const IMAGE_BYTES: u64 = 4 << 20;
/// Physical address of the image in a guest with only one.
const IMAGE_PHYSICAL: u64 = 2 << 20;
const IMAGE: u64 = 0xffff_ffff_8000_0000 + (38 << 20);

/// Offsets in the image.
mod at {
    pub(super) const ROOT: u64 = 0x1_0000;
    pub(super) const LEVEL4: u64 = 0x1_1000;
    pub(super) const LEVEL3: u64 = 0x1_2000;
    pub(super) const LEVEL2: u64 = 0x1_3000;
    pub(super) const FIXMAP: u64 = 0x1_4000;
    pub(super) const UPPER: u64 = 0x1_5000;
    pub(super) const DIRECT: u64 = 0x1_6000;
    pub(super) const VMEMMAP: u64 = 0x1_7000;
    pub(super) const VMEMMAP_LOW: u64 = 0x1_8000;
    pub(super) const UTS: u64 = 0x2_0000;
    pub(super) const BANNER: u64 = 0x2_1000;
    pub(super) const INIT_TASK: u64 = 0x3_0000;
    pub(super) const INIT_PID: u64 = 0x3_4000;
    pub(super) const PID_NS: u64 = 0x3_5000;
    pub(super) const NSPROXY: u64 = 0x3_6000;
    pub(super) const NET: u64 = 0x3_7000;
    pub(super) const CLOCK: u64 = 0x3_8000;
    pub(super) const BASES: u64 = 0x3_9000;
    pub(super) const HASHINFO: u64 = 0x3_a000;
    pub(super) const CACHE_NAME: u64 = 0x3_b000;
    pub(super) const BTF_MODULES: u64 = 0x3_c000;
    pub(super) const SYMBOLS: u64 = 0x4_0000;
    pub(super) const BTF: u64 = 0x10_0000;
    /// arm64's tables, one every 64 KiB from here on; the first is the root.
    pub(super) const ARM64_TABLES: u64 = 0x20_0000;
}

/// Offsets after the image: tasks and their objects, addressed by the direct map.
mod slab {
    pub(super) const TASK: u64 = 0x10_0000;
    pub(super) const PID: u64 = 0x10_4000;
    pub(super) const NODE: u64 = 0x10_5000;
    pub(super) const MM: u64 = 0x10_6000;
    pub(super) const FILES: u64 = 0x10_7000;
    pub(super) const FDT: u64 = 0x10_8000;
    pub(super) const CACHE: u64 = 0x10_9000;
    pub(super) const MODULE: u64 = 0x10_a000;
    pub(super) const MODULE_BTF: u64 = 0x10_b000;
    pub(super) const MODULE_TYPES: u64 = 0x10_c000;
    pub(super) const PAGES: u64 = 0x20_0000;
}

/// The properties of the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) five_levels: bool,
    pub(crate) arm64: Option<Arm64>,
    /// Physical address of the VMCOREINFO, if there is one.
    pub(crate) vmcoreinfo: Option<u64>,
    pub(crate) btf: bool,
    /// Whether overlayfs is a module, with its types in the module.
    pub(crate) overlay_module: bool,
    pub(crate) calendar_seconds: u64,
}

/// The properties of an arm64 guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm64 {
    pub(crate) granule: Granule,
    /// Address bits, as built (`VA_BITS`) and as the processor supports.
    pub(crate) built_bits: u32,
    pub(crate) actual_bits: u32,
    /// Start of memory.
    pub(crate) beginning: u64,
}

impl Arm64 {
    pub(crate) fn levels(self) -> aarch64::Aarch64Levels {
        aarch64::Aarch64Levels::new(self.granule, self.built_bits, self.actual_bits)
            .expect("they can be")
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            five_levels: false,
            arm64: None,
            vmcoreinfo: Some(0xf0_0018),
            btf: true,
            overlay_module: false,
            calendar_seconds: 1_750_000_000,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) memory: Vec<u8>,
    region: Range<u64>,
    pub(crate) layouts: Layouts,
    /// Physical address of the first task.
    pub(crate) init_task: u64,
    /// Physical address of process 1's task.
    pub(crate) task: u64,
    image_physical: u64,
    /// Whether the source can be moved.
    pub(crate) movable: bool,
}

impl Guest {
    pub(crate) fn new(kind: Kind) -> Self {
        let mut guest = Self::empty();
        guest.boot(kind, IMAGE_PHYSICAL);
        guest
    }

    /// A machine with empty memory.
    pub(crate) fn empty() -> Self {
        let btf = kernel_btf();
        let layouts = Btf::parse(&btf).expect("the generated BTF parses");
        let layouts = Layouts::bind(&layouts).expect("the generated BTF has every field");
        Self {
            memory: vec![0; MEMORY_BYTES],
            region: 0..MEMORY_BYTES as u64,
            layouts,
            init_task: 0,
            task: 0,
            image_physical: 0,
            movable: false,
        }
    }

    /// Puts a kernel at a physical address; one at another address remains, as after a warm reboot.
    pub(crate) fn boot(&mut self, kind: Kind, image_physical: u64) {
        self.image_physical = image_physical;
        match kind.arm64 {
            None => self.page_tables(kind.five_levels),
            Some(arm64) => self.arm64_page_tables(arm64),
        }
        self.movable |= kind.arm64.is_some();
        self.tasks();
        let layouts = self.layouts.clone();
        let uts = layouts.uts_namespace;
        self.text(self.image(at::UTS) + u64::from(uts.release.offset), RELEASE);
        // The offset that VMCOREINFO has: the third text of 65 bytes.
        self.text(self.image(at::UTS) + u64::from(uts.release.offset) + 256 + 130, RELEASE);
        self.text(self.image(at::UTS) + u64::from(uts.release.offset) + 256, "Linux");
        self.text(self.image(at::BANNER), &format!("Linux version {RELEASE} (builder) #1"));
        self.put(self.image(at::CLOCK) + 8, layouts.timekeeper.xtime_sec, kind.calendar_seconds);
        self.word(self.image(at::BASES), self.direct_map());
        self.word(self.image(at::BASES) + 8, VMEMMAP);
        if kind.btf {
            let (kernel, overlay) = kernel_and_overlay_btf();
            let btf = if kind.overlay_module { &kernel } else { &kernel_btf() };
            self.bytes(self.image(at::BTF), btf);
            if kind.overlay_module {
                self.overlay_module(&overlay);
            }
        }
        let symbols = self.symbols(kind.btf, kind.arm64.is_some());
        if let Some(at) = kind.vmcoreinfo {
            let text = self.vmcoreinfo(kind, &symbols);
            self.text(at, &text);
        }
    }

    /// Physical address of an offset in the image.
    pub(crate) fn image(&self, at: u64) -> u64 {
        self.image_physical + at
    }

    /// Physical address of the initial pid namespace.
    pub(crate) fn pid_namespace(&self) -> u64 {
        self.image(at::PID_NS)
    }

    /// Physical address of the pointer to the root of its tree of numbers.
    pub(crate) fn pid_idr_root(&self) -> u64 {
        self.pid_namespace() + self.layouts.pid_idr_root()
    }

    /// Physical address of the only node of that tree.
    pub(crate) fn pid_node(&self) -> u64 {
        self.behind(slab::NODE)
    }

    /// Physical address of the `struct pid` of process 1.
    pub(crate) fn pid(&self) -> u64 {
        self.behind(slab::PID)
    }

    pub(crate) fn word(&mut self, physical: u64, value: u64) {
        self.bytes(physical, &value.to_le_bytes());
    }

    /// Writes a field of the object at a physical address.
    pub(crate) fn put(&mut self, object: u64, field: PackedField, value: u64) {
        let bytes = &value.to_le_bytes()[..field.size.min(8) as usize];
        self.bytes(object + u64::from(field.offset), bytes);
    }

    pub(crate) fn text(&mut self, physical: u64, text: &str) {
        self.bytes(physical, text.as_bytes());
        self.bytes(physical + text.len() as u64, &[0]);
    }

    fn bytes(&mut self, physical: u64, bytes: &[u8]) {
        self.memory[physical as usize..physical as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Physical address of an offset after the image.
    const fn behind(&self, at: u64) -> u64 {
        self.image_physical + IMAGE_BYTES - (1 << 20) + at
    }

    fn entry(&mut self, table: u64, index: u64, value: u64) {
        self.word(table + index * 8, value);
    }

    fn page_tables(&mut self, five_levels: bool) {
        let table = |physical: u64| physical | 0x63;
        let start = self.image_physical;
        let image = |at| start + at;
        let (root, level3, level2) = (image(at::ROOT), image(at::LEVEL3), image(at::LEVEL2));
        let top = if five_levels { image(at::LEVEL4) } else { root };
        if five_levels {
            self.entry(root, 511, table(top));
        }
        self.entry(top, 511, table(level3));
        self.entry(level3, 510, table(level2));
        self.entry(level3, 511, table(image(at::FIXMAP)));
        for page in 0..IMAGE_BYTES >> 21 {
            let index = ((IMAGE >> 21) & 511) + page;
            self.entry(level2, index, (self.image_physical + (page << 21)) | 0xe3);
        }
        // The direct map: a page of 1 GiB. The array of pages: one page of 2 MiB at the right
        // address.
        let index = |address: u64, level: u64| (address >> (12 + 9 * (level - 1))) & 511;
        if five_levels {
            let upper = image(at::UPPER);
            self.entry(root, index(DIRECT_MAP_FIVE, 5), table(upper));
            self.entry(upper, index(DIRECT_MAP_FIVE, 4), table(image(at::DIRECT)));
            self.entry(image(at::DIRECT), index(DIRECT_MAP_FIVE, 3), 0xe3);
            self.entry(top, index(VMEMMAP, 4), table(image(at::VMEMMAP)));
        } else {
            self.entry(root, index(DIRECT_MAP, 4), table(image(at::DIRECT)));
            self.entry(image(at::DIRECT), index(DIRECT_MAP, 3), 0xe3);
            self.entry(root, index(VMEMMAP, 4), table(image(at::VMEMMAP)));
        }
        self.entry(image(at::VMEMMAP), index(VMEMMAP, 3), table(image(at::VMEMMAP_LOW)));
        let pages = self.behind(slab::PAGES) & !((2 << 20) - 1);
        self.entry(image(at::VMEMMAP_LOW), 0, pages | 0xe3);
    }

    /// Maps the image and the array of pages by pages, the direct map by blocks.
    fn arm64_page_tables(&mut self, arm64: Arm64) {
        let levels = arm64.levels();
        let page = levels.bytes(1);
        let mut tables = 1;
        for at in (0..IMAGE_BYTES).step_by(page as usize) {
            self.arm64_map(arm64, &mut tables, (IMAGE + at, self.image_physical + at), 1);
        }
        let pages = self.behind(slab::PAGES) & !((2 << 20) - 1);
        for at in (0..(MEMORY_BYTES as u64 / page * PAGE_STRUCT_BYTES)).step_by(page as usize) {
            self.arm64_map(arm64, &mut tables, (VMEMMAP + at, pages + at), 1);
        }
        for at in (0..MEMORY_BYTES as u64).step_by(levels.bytes(2) as usize) {
            self.arm64_map(arm64, &mut tables, (DIRECT_MAP + at, at), 2);
        }
        assert!(tables <= 16, "the tables fit");
    }

    /// Maps an address to an offset in memory, and adds the tables that it needs.
    fn arm64_map(&mut self, arm64: Arm64, tables: &mut u64, (va, offset): (u64, u64), level: u32) {
        let levels = arm64.levels();
        let mut table = self.image(at::ARM64_TABLES);
        for above in (level + 1..=levels.top()).rev() {
            let entry = levels.entry_address(PhysicalAddress(table), va, above).0;
            let old =
                self.memory[entry as usize..].first_chunk().copied().map_or(0, u64::from_le_bytes);
            let next = if let PageTableEntry::Table(next) = levels.step(old, va, above) {
                next.0 - arm64.beginning
            } else {
                *tables += 1;
                self.image(at::ARM64_TABLES) + ((*tables - 1) << 16)
            };
            self.word(entry, (next + arm64.beginning) | 3);
            table = next;
        }
        let entry = levels.entry_address(PhysicalAddress(table), va, level).0;
        let kind = if level == 1 { 0x403 } else { 0x401 };
        self.word(entry, (offset + arm64.beginning) | kind);
    }

    fn tasks(&mut self) {
        let layouts = self.layouts.clone();
        let t = &layouts.task_struct;
        let (init, task) = (self.image(at::INIT_TASK), self.behind(slab::TASK));
        (self.init_task, self.task) = (init, task);
        let in_image = |at: u64| IMAGE + at;
        let direct_map = self.direct_map();
        let in_map = |physical: u64| direct_map + physical;
        let (init_va, task_va) = (in_image(at::INIT_TASK), in_map(task));
        let link = |va: u64| va + u64::from(t.tasks.offset);
        let (mm, files, fdt) = (
            in_map(self.behind(slab::MM)),
            in_map(self.behind(slab::FILES)),
            in_map(self.behind(slab::FDT)),
        );
        let pid_va = in_map(self.behind(slab::PID));
        let node_va = in_map(self.behind(slab::NODE));
        let cache_va = in_map(self.behind(slab::CACHE));
        let pgd_va = in_map(self.image(at::ROOT));
        for (at, pid, comm) in [(init, 0, "swapper/0"), (task, 1, "init")] {
            let (own, other) = if pid == 0 { (init_va, task_va) } else { (task_va, init_va) };
            self.text(at + u64::from(t.comm.offset), comm);
            self.put(at, t.pid, pid);
            self.put(at, t.tgid, pid);
            self.put(at, t.group_leader, own);
            self.put(at, t.real_parent, init_va);
            self.put(at, t.tasks, link(other));
            self.word(at + u64::from(t.tasks.offset) + 8, link(other));
            self.put(at, t.nsproxy, in_image(at::NSPROXY));
        }
        self.put(init, t.flags, u64::from(PF_KTHREAD));
        self.put(init, t.thread_pid, in_image(at::INIT_PID));
        self.put(task, t.thread_pid, pid_va);
        self.put(task, t.mm, mm);
        self.put(task, t.files, files);
        let ns = u64::from(layouts.pid.numbers.offset + layouts.upid.ns.offset);
        self.word(self.image(at::INIT_PID) + ns, in_image(at::PID_NS));
        let nsproxy = self.image(at::NSPROXY);
        self.put(nsproxy, layouts.nsproxy.net_ns, in_image(at::NET));
        self.put(nsproxy, layouts.nsproxy.uts_ns, in_image(at::UTS));
        self.put(self.image(at::NET), layouts.net.hashinfo, in_image(at::HASHINFO));
        // The tree of pids: one node, with the `struct pid` of process 1.
        self.word(self.pid_idr_root(), node_va + 2);
        let node = self.behind(slab::NODE);
        self.word(node + u64::from(layouts.xa_node.slots.offset) + 8, pid_va);
        let links = task_va + u64::from(t.pid_links.offset);
        self.put(self.behind(slab::PID), layouts.pid.tasks, links);
        let number = u64::from(layouts.pid.numbers.offset + layouts.upid.nr.offset);
        self.word(self.behind(slab::PID) + number, 1);
        self.put(self.behind(slab::MM), layouts.mm_struct.pgd, pgd_va);
        self.put(self.behind(slab::FILES), layouts.files_struct.fdt, fdt);
        self.put(self.behind(slab::FDT), layouts.fdtable.max_fds, 64);
        // The `struct page` of the task's page, and its slab cache: fields are at offset 8.
        let pages = self.behind(slab::PAGES) & !((2 << 20) - 1);
        let page = pages + (task >> 12) * PAGE_STRUCT_BYTES;
        self.word(page + 8, cache_va);
        self.word(self.behind(slab::CACHE) + 8, in_image(at::CACHE_NAME));
        self.text(self.image(at::CACHE_NAME), "task_struct");
    }

    /// Writes the list of the types of modules, with that of overlayfs alone.
    fn overlay_module(&mut self, types: &[u8]) {
        let module_layout = self.layouts.btf_module.expect("it is bound");
        let btf_layout = self.layouts.btf.expect("it is bound");
        let (module, btf) = (self.behind(slab::MODULE), self.behind(slab::MODULE_BTF));
        let data = self.behind(slab::MODULE_TYPES);
        let map = self.direct_map();
        let link = map + module + u64::from(module_layout.list.offset);
        self.word(self.image(at::BTF_MODULES), link);
        self.put(module, module_layout.list, IMAGE + at::BTF_MODULES);
        self.put(module, module_layout.btf, map + btf);
        self.put(btf, btf_layout.data, map + data);
        self.put(btf, btf_layout.data_size, types.len() as u64);
        let name = btf_layout.name.expect("it is bound");
        self.text(btf + u64::from(name.offset), "overlay");
        self.bytes(data, types);
    }

    /// Start of the direct map in this guest's page tables.
    pub(crate) fn direct_map(&self) -> u64 {
        let root = self.image(at::ROOT) as usize;
        let five =
            self.memory[root + 511 * 8..][..8] == (self.image(at::LEVEL4) | 0x63).to_le_bytes();
        if five { DIRECT_MAP_FIVE } else { DIRECT_MAP }
    }

    /// Writes the symbol table; returns the lines of VMCOREINFO for it.
    fn symbols(&mut self, btf: bool, arm64: bool) -> String {
        let btf_end = at::BTF + kernel_btf().len() as u64;
        let mut symbols = vec![
            ("T_text", 0),
            ("T_stext", if arm64 { ARM64_HEAD_BYTES } else { 0 }),
            ("B_end", IMAGE_BYTES),
            ("Dinit_task", at::INIT_TASK),
            ("Dinit_pid_ns", at::PID_NS),
            ("Binit_net", at::NET),
            ("Dinit_uts_ns", at::UTS),
            ("Btk_core", at::CLOCK),
            ("Dbtf_modules", at::BTF_MODULES),
        ];
        if !arm64 {
            symbols.extend([("Dpage_offset_base", at::BASES), ("Dvmemmap_base", at::BASES + 8)]);
        }
        if btf {
            symbols.extend([("R__start_BTF", at::BTF), ("R__stop_BTF", btf_end)]);
        }
        let names: Vec<&str> = symbols.iter().map(|(name, _)| *name).collect();
        let tables = compress(&names);
        let mut offsets = Vec::new();
        for (_, at) in &symbols {
            // Negative: counted down from the base minus one.
            offsets.extend((-1 - *at as i32).to_le_bytes());
        }
        let base = IMAGE.to_le_bytes();
        let mut at = at::SYMBOLS;
        let mut lines = String::new();
        for (name, bytes) in [
            ("num_syms", &(symbols.len() as u32).to_le_bytes()[..]),
            ("names", &tables.names),
            ("token_table", &tables.token_table),
            ("token_index", &tables.token_index),
            ("offsets", &offsets),
            ("relative_base", &base),
        ] {
            self.bytes(self.image(at), bytes);
            let address = IMAGE + at;
            writeln!(lines, "SYMBOL(kallsyms_{name})={address:x}").expect("text is written");
            at += (bytes.len() as u64).next_multiple_of(16);
        }
        lines
    }

    fn vmcoreinfo(&self, kind: Kind, symbols: &str) -> String {
        let phys_base = self.image_physical.wrapping_sub(IMAGE - 0xffff_ffff_8000_0000) as i64;
        let release = u64::from(self.layouts.uts_namespace.release.offset) + 256;
        if let Some(arm64) = kind.arm64 {
            // KASLR moves the memory in the direct map, which begins at `PAGE_OFFSET`.
            let moved = DIRECT_MAP.wrapping_sub(u64::MAX << arm64.built_bits) as i64;
            let phys_offset = arm64.beginning.wrapping_add_signed(-moved);
            let pages = moved / arm64.levels().bytes(1) as i64;
            let vmemmap_start = VMEMMAP.wrapping_add_signed(-pages * PAGE_STRUCT_BYTES as i64);
            return format!(
                "OSRELEASE={RELEASE}\nBUILD-ID={BUILD_ID}\nPAGESIZE={}\n\
                 SYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)={release}\n\
                 SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={:x}\n{symbols}\
                 NUMBER(VA_BITS)={}\nNUMBER(VMEMMAP_START)={vmemmap_start:#x}\n\
                 NUMBER(kimage_voffset)={:#x}\nNUMBER(PHYS_OFFSET)={phys_offset:#x}\n\
                 NUMBER(TCR_EL1_T1SZ)={:#x}\nKERNELOFFSET=1600000\n",
                arm64.levels().bytes(1),
                IMAGE + at::UTS,
                IMAGE + at::ARM64_TABLES,
                IMAGE + ARM64_HEAD_BYTES,
                arm64.built_bits,
                IMAGE.wrapping_sub(self.image_physical + arm64.beginning),
                64 - arm64.actual_bits,
            );
        }
        format!(
            "OSRELEASE={RELEASE}\nBUILD-ID={BUILD_ID}\nPAGESIZE=4096\n\
             SYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)={release}\n\
             SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={IMAGE:x}\n{symbols}\
             NUMBER(phys_base)={phys_base}\nNUMBER(pgtable_l5_enabled)={}\n\
             KERNELOFFSET=1600000\nNUMBER(sme_mask)=0\n",
            IMAGE + at::UTS,
            IMAGE + at::ROOT,
            u8::from(kind.five_levels),
        )
    }
}

/// Start of the direct map with five levels.
const DIRECT_MAP_FIVE: u64 = 0xff11_0001_4000_0000;

/// Size of the image's head, before arm64's code.
const ARM64_HEAD_BYTES: u64 = 64 << 10;

/// Size of the `struct page` in the BTF of `types`.
const PAGE_STRUCT_BYTES: u64 = 64;

impl MemorySource for Guest {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        for request in requests {
            let Some(target) = request.target_range(arena.len()) else {
                request.outcome = ReadOutcome::Failed;
                continue;
            };
            let start = request.address.0.checked_sub(self.region.start);
            let start = start.and_then(|start| usize::try_from(start).ok()).unwrap_or(usize::MAX);
            let source =
                start.checked_add(target.len()).and_then(|end| self.memory.get(start..end));
            request.outcome = match source {
                Some(source) => {
                    arena[target].copy_from_slice(source);
                    ReadOutcome::Read
                }
                None => ReadOutcome::NotBacked,
            };
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        std::slice::from_ref(&self.region)
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        if self.movable {
            let start = self.region.start.wrapping_add(bytes);
            self.region = start..start + MEMORY_BYTES as u64;
        }
        self.movable
    }
}

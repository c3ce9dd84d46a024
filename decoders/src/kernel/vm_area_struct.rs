//! `struct vm_area_struct` (include/linux/mm_types.h): one mapped area.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct vm_area_struct` (include/linux/mm_types.h).
    pub struct VmAreaStruct("vm_area_struct") {
        /// First address.
        vm_start: ["vm_start"],
        /// First address after it.
        vm_end: ["vm_end"],
        /// `VM_*`.
        vm_flags: ["vm_flags"],
        /// The address space that it belongs to.
        vm_mm: ["vm_mm"],
        /// The mapped file; null when anonymous.
        vm_file: ["vm_file"],
        /// Offset in the file, in pages.
        vm_pgoff: ["vm_pgoff"],
        /// Operations; null when anonymous.
        vm_ops: ["vm_ops"],
        /// `struct anon_vma *`: by what the kernel finds the pages of its own again, which it gets with the first one
        /// that is written to (`__anon_vma_prepare`, mm/rmap.c).
        anon_vma: ["anon_vma"],
        /// For special mappings their `struct vm_special_mapping`.
        vm_private_data: ["vm_private_data"],
        /// `struct anon_vma_name *`, where the kernel is built with it.
        anon_name?: ["anon_name"],
        /// Link in the red-black tree of areas, before there was a maple tree: an `rb_node` of the area with
        /// lower addresses.
        rb_left?: ["vm_rb.rb_left"],
        /// The same of the one with higher addresses.
        rb_right?: ["vm_rb.rb_right"],
        /// The `rb_node` itself.
        vm_rb?: ["vm_rb"],
        /// Where an area of a file hangs in that file's tree. Until Linux commit d09e8ca6cb93 ("mm: anonymous
        /// shared memory naming") (in v6.2) it shared its place with `anon_name`.
        shared?: ["shared"],
    }
}

crate::layout! {
    /// `struct vm_special_mapping` (include/linux/mm_types.h): what the vDSO and its kind are.
    pub struct VmSpecialMapping("vm_special_mapping") {
        /// A C string in the kernel: `[vdso]`.
        name: ["name"],
    }
}

crate::layout! {
    /// `struct anon_vma_name` (include/linux/mm_types.h), whose text follows it.
    pub struct AnonVmaName("anon_vma_name") {
        /// How often it is used.
        kref: ["kref"],
    }
}

impl VmAreaStruct {
    /// Whether areas of files can have names of their own.
    fn names_shared(&self) -> bool {
        self.anon_name.is_some_and(|name| {
            self.shared.is_none_or(|shared| {
                name.offset < shared.offset || name.offset >= shared.offset + shared.size
            })
        })
    }
}

/// Longest name of an anonymous area in bytes with its NUL (`ANON_VMA_NAME_MAX_LEN`, kernel/sys.c).
pub const ANON_VMA_NAME_BYTES_MAX: usize = 80;

/// `VM_READ` (include/linux/mm.h).
pub const VM_READ: u64 = 0x1;
/// `VM_WRITE`
pub const VM_WRITE: u64 = 0x2;
/// `VM_EXEC`
pub const VM_EXEC: u64 = 0x4;
/// `VM_MAYSHARE`: what /proc shows as `s`.
pub const VM_MAYSHARE: u64 = 0x80;
/// `VM_GROWSDOWN`: a stack that grows by itself, on machines where stacks grow down.
pub const VM_GROWSDOWN: u64 = 0x100;
/// `VM_NORESERVE`: mapped with `MAP_NORESERVE`, as address space that is only kept free is. Permissions may change, this
/// does not.
pub const VM_NORESERVE: u64 = 0x20_0000;

/// What a `vm_area_struct` says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// `VM_*`.
    pub flags: u64,
    /// `struct mm_struct *`
    pub mm: KernelVa,
    /// `struct file *`
    pub file: KernelVa,
    /// Offset in the file, in pages.
    pub page_offset: u64,
    /// `struct anon_vma *`; null until a page of its own was written.
    pub anon_vma: KernelVa,
    /// `const struct vm_operations_struct *`
    pub ops: KernelVa,
    /// `void *`
    pub private_data: KernelVa,
    /// `struct anon_vma_name *`
    pub anon_name: KernelVa,
    /// Areas below it in a red-black tree, lower addresses first; null where there is none, or no such tree.
    pub children: [KernelVa; 2],
}

impl Vma {
    /// Decodes the packed copy of an area.
    pub fn decode(layout: &VmAreaStruct, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let child = |link| match (view.optional(link), layout.vm_rb) {
            (Some(node), Some(vm_rb)) if node != 0 => KernelVa(node).minus(u64::from(vm_rb.offset)),
            _ => KernelVa::NULL,
        };
        let file = view.pointer(layout.vm_file);
        let anon_name = layout.anon_name.filter(|_| file.is_null() || layout.names_shared());
        Self {
            start: view.unsigned(layout.vm_start),
            end: view.unsigned(layout.vm_end),
            flags: view.unsigned(layout.vm_flags),
            mm: view.pointer(layout.vm_mm),
            file,
            page_offset: view.unsigned(layout.vm_pgoff),
            anon_vma: view.pointer(layout.anon_vma),
            ops: view.pointer(layout.vm_ops),
            private_data: view.pointer(layout.vm_private_data),
            anon_name: KernelVa(view.optional(anon_name).unwrap_or(0)),
            children: [child(layout.rb_left), child(layout.rb_right)],
        }
    }

    /// The permissions as /proc/PID/maps prints them: `r-xp`.
    pub const fn permissions(&self) -> &'static str {
        permissions(self.flags)
    }
}

/// `VM_*` as /proc/PID/maps prints them (`show_vma_header_prefix`, fs/proc/task_mmu.c).
pub const fn permissions(flags: u64) -> &'static str {
    const TEXTS: [&str; 16] = [
        "---p", "r--p", "-w-p", "rw-p", "--xp", "r-xp", "-wxp", "rwxp", //
        "---s", "r--s", "-w-s", "rw-s", "--xs", "r-xs", "-wxs", "rwxs",
    ];
    let shared = if flags & VM_MAYSHARE != 0 { 8 } else { 0 };
    TEXTS[(flags & (VM_READ | VM_WRITE | VM_EXEC)) as usize | shared]
}

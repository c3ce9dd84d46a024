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
        /// `struct mm_struct *` that it belongs to.
        vm_mm: ["vm_mm"],
        /// `struct file *`; null for anonymous areas.
        vm_file: ["vm_file"],
        /// Offset in the file, in pages.
        vm_pgoff: ["vm_pgoff"],
        /// `const struct vm_operations_struct *`; null for anonymous areas.
        vm_ops: ["vm_ops"],
        /// `struct anon_vma *`: finds the area's private pages for the kernel. Allocated with the
        /// first private page that is written (`__anon_vma_prepare`, mm/rmap.c).
        anon_vma: ["anon_vma"],
        /// `struct vm_special_mapping *` for special mappings.
        vm_private_data: ["vm_private_data"],
        /// `struct anon_vma_name *`, if the kernel is built with it.
        anon_name?: ["anon_name"],
        /// `rb_node` of the child with lower addresses, in the red-black tree of areas that
        /// preceded the maple tree.
        rb_left?: ["vm_rb.rb_left"],
        /// `rb_node` of the child with higher addresses.
        rb_right?: ["vm_rb.rb_right"],
        /// The area's own `rb_node`.
        vm_rb?: ["vm_rb"],
        /// Link of a file's area in the tree of that file. Until Linux commit d09e8ca6cb93 ("mm:
        /// anonymous shared memory naming") (in v6.2), it shared its place with `anon_name`.
        shared?: ["shared"],
    }
}

crate::layout! {
    /// `struct vm_special_mapping` (include/linux/mm_types.h): describes the vDSO and similar
    /// mappings.
    pub struct VmSpecialMapping("vm_special_mapping") {
        /// A C string in kernel memory, such as `[vdso]`.
        name: ["name"],
    }
}

crate::layout! {
    /// `struct anon_vma_name` (include/linux/mm_types.h); the text follows it.
    pub struct AnonVmaName("anon_vma_name") {
        /// Reference count.
        kref: ["kref"],
    }
}

impl VmAreaStruct {
    /// Whether areas of files can have names, too.
    fn names_shared(&self) -> bool {
        self.anon_name.is_some_and(|name| {
            self.shared.is_none_or(|shared| {
                name.offset < shared.offset || name.offset >= shared.offset + shared.size
            })
        })
    }
}

/// `VM_READ` (include/linux/mm.h).
pub const VM_READ: u64 = 0x1;
/// `VM_WRITE`
pub const VM_WRITE: u64 = 0x2;
/// `VM_EXEC`
pub const VM_EXEC: u64 = 0x4;
/// `VM_MAYSHARE`: printed as `s` in /proc/PID/maps.
pub const VM_MAYSHARE: u64 = 0x80;
/// `VM_GROWSDOWN`: a stack that grows by itself, on architectures where stacks grow down.
pub const VM_GROWSDOWN: u64 = 0x100;
/// `VM_NORESERVE`: mapped with `MAP_NORESERVE`, as reserved address space is. Unlike the
/// permissions, it never changes.
pub const VM_NORESERVE: u64 = 0x20_0000;

/// Kept fields of a `struct vm_area_struct`. A machine has hundreds of thousands of these.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// `VM_*`.
    pub flags: u64,
    /// `struct file *`
    pub file: KernelVa,
    /// Offset in the file, in pages.
    pub page_offset: u64,
    /// `struct anon_vma *`; null until a private page is written.
    pub anon_vma: KernelVa,
}

/// Where a `struct vm_area_struct` belongs, and what names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VmaLinks {
    /// `struct mm_struct *`
    pub mm: KernelVa,
    /// `const struct vm_operations_struct *`
    pub ops: KernelVa,
    /// `void *`
    pub private_data: KernelVa,
    /// `struct anon_vma_name *`
    pub anon_name: KernelVa,
    /// Children in the red-black tree, lower addresses first; null without a child or a tree.
    pub children: [KernelVa; 2],
}

impl Vma {
    /// Decodes the packed copy of a `struct vm_area_struct`.
    #[inline]
    pub fn decode(layout: &VmAreaStruct, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            start: view.unsigned(layout.vm_start),
            end: view.unsigned(layout.vm_end),
            flags: view.unsigned(layout.vm_flags),
            file: view.pointer(layout.vm_file),
            page_offset: view.unsigned(layout.vm_pgoff),
            anon_vma: view.pointer(layout.anon_vma),
        }
    }

    /// The permissions as printed in /proc/PID/maps, such as `r-xp`.
    pub const fn permissions(&self) -> &'static str {
        permissions(self.flags)
    }
}

impl VmaLinks {
    /// Decodes the packed copy of a `struct vm_area_struct`.
    #[inline]
    pub fn decode(layout: &VmAreaStruct, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let child = |link| match (view.optional(link), layout.vm_rb) {
            (Some(node), Some(vm_rb)) if node != 0 => KernelVa(node).minus(u64::from(vm_rb.offset)),
            _ => KernelVa::NULL,
        };
        let is_anonymous = || view.pointer(layout.vm_file).is_null();
        let anon_name = layout.anon_name.filter(|_| is_anonymous() || layout.names_shared());
        Self {
            mm: view.pointer(layout.vm_mm),
            ops: view.pointer(layout.vm_ops),
            private_data: view.pointer(layout.vm_private_data),
            anon_name: KernelVa(view.optional(anon_name).unwrap_or(0)),
            children: [child(layout.rb_left), child(layout.rb_right)],
        }
    }
}

/// Formats `VM_*` as /proc/PID/maps does (`show_vma_header_prefix`, fs/proc/task_mmu.c).
pub const fn permissions(flags: u64) -> &'static str {
    const TEXTS: [&str; 16] = [
        "---p", "r--p", "-w-p", "rw-p", "--xp", "r-xp", "-wxp", "rwxp", //
        "---s", "r--s", "-w-s", "rw-s", "--xs", "r-xs", "-wxs", "rwxs",
    ];
    let shared = if flags & VM_MAYSHARE != 0 { 8 } else { 0 };
    TEXTS[(flags & (VM_READ | VM_WRITE | VM_EXEC)) as usize | shared]
}

//! `struct mm_struct` (include/linux/mm_types.h): an address space.

crate::layout! {
    /// `struct mm_struct` (include/linux/mm_types.h).
    pub struct MmStruct("mm_struct") {
        /// Kernel address of the top page table.
        pgd: ["pgd"],
        /// Root of the maple tree of areas. Since Linux commit d4af56c5c7c6 ("mm: start tracking
        /// VMAs with maple tree") (in v6.1).
        ma_root?: ["mm_mt.ma_root"],
        /// Root of the red-black tree of areas in earlier kernels.
        mm_rb?: ["mm_rb.rb_node"],
        /// `struct file *` of the executable.
        exe_file: ["exe_file"],
        /// Number of areas.
        map_count: ["map_count"],
        /// Start of the arguments in the process's memory.
        arg_start: ["arg_start"],
        arg_end: ["arg_end"],
        /// Start of the environment.
        env_start: ["env_start"],
        env_end: ["env_end"],
        /// Start of the heap.
        start_brk: ["start_brk"],
        /// End of the heap.
        brk: ["brk"],
        /// An address in the initial stack.
        start_stack: ["start_stack"],
        /// Address of the vDSO (x86).
        vdso?: ["context.vdso"],
        /// `MM_CONTEXT_*` bits (x86).
        context_flags?: ["context.flags"],
        /// Number of the address space (x86): each new one has a higher number than all before it
        /// (`init_new_context`, arch/x86/include/asm/mmu_context.h).
        ctx_id?: ["context.ctx_id"],
    }
}

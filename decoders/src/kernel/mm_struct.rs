//! `struct mm_struct` (include/linux/mm_types.h): an address space.

crate::layout! {
    /// `struct mm_struct` (include/linux/mm_types.h).
    pub struct MmStruct("mm_struct") {
        /// Top page table (a kernel address).
        pgd: ["pgd"],
        /// Root of the maple tree of areas. Since Linux commit d4af56c5c7c6 ("mm: start tracking VMAs with
        /// maple tree") (in v6.1).
        ma_root?: ["mm_mt.ma_root"],
        /// Root of the red-black tree of areas, before that.
        mm_rb?: ["mm_rb.rb_node"],
        /// `struct file *` of the executable.
        exe_file: ["exe_file"],
        /// How many areas there are.
        map_count: ["map_count"],
        /// Where the arguments begin in the process's memory.
        arg_start: ["arg_start"],
        /// Where they end.
        arg_end: ["arg_end"],
        /// Where the environment begins.
        env_start: ["env_start"],
        /// Where it ends.
        env_end: ["env_end"],
        /// Where the heap begins.
        start_brk: ["start_brk"],
        /// Where it ends.
        brk: ["brk"],
        /// An address in the initial stack.
        start_stack: ["start_stack"],
        /// Where the vDSO is mapped (x86).
        vdso?: ["context.vdso"],
        /// `MM_CONTEXT_*` bits (x86).
        context_flags?: ["context.flags"],
    }
}

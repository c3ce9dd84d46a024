//! `struct files_struct` and `struct fdtable` (include/linux/fdtable.h): a process's open files.

crate::layout! {
    /// `struct files_struct` (include/linux/fdtable.h).
    pub struct FilesStruct("files_struct") {
        /// The table in use.
        fdt: ["fdt"],
    }
}

crate::layout! {
    /// `struct fdtable` (include/linux/fdtable.h).
    pub struct Fdtable("fdtable") {
        /// Capacity in descriptors, a multiple of 64.
        max_fds: ["max_fds"],
        /// Array of `struct file *`.
        fd: ["fd"],
        /// Bitmap of those that close on exec.
        close_on_exec: ["close_on_exec"],
        /// Bitmap of those in use.
        open_fds: ["open_fds"],
    }
}

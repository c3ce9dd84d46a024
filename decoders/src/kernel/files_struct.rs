//! `struct files_struct` and `struct fdtable` (include/linux/fdtable.h): the open files of a
//! process.

crate::layout! {
    /// `struct files_struct` (include/linux/fdtable.h).
    pub struct FilesStruct("files_struct") {
        /// `struct fdtable *` in use.
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
        /// Bitmap of the descriptors that are closed on exec.
        close_on_exec: ["close_on_exec"],
        /// Bitmap of the descriptors in use.
        open_fds: ["open_fds"],
    }
}

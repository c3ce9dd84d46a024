//! `struct io_ring_ctx` (include/linux/io_uring_types.h; fs/io_uring.c before v6.0): the files that
//! a ring holds without a descriptor.
//!
//! `private_data` of an `[io_uring]` file is its ring. Its table of registered files has two forms:
//! that of v5.15 to v6.12, which v5.10.162 has too, and that of later kernels. In v5.13 and v5.14
//! it has two levels under the same name, and the engine does not read it. Earlier ones have other
//! names.

crate::layout! {
    /// `struct io_ring_ctx`. A kernel has one of the two tables.
    pub struct IoRingCtx("io_ring_ctx") {
        /// Number of slots in the table. Part of the table since v6.13.
        nr_user_files?: ["file_table.data.nr", "nr_user_files"],
        /// Array of `struct io_rsrc_node *`, since v6.13.
        nodes?: ["file_table.data.nodes"],
        /// Array of `struct io_fixed_file` before.
        files?: ["file_table.files"],
        /// Number of registered buffers.
        nr_user_bufs?: ["buf_table.nr", "nr_user_bufs"],
    }
}

crate::layout! {
    /// `struct io_fixed_file` (io_uring/filetable.h, v5.13 to v6.12).
    pub struct IoFixedFile("io_fixed_file") {
        /// `struct file *` with flags in the lowest bits.
        file_ptr: ["file_ptr"],
    }
}

crate::layout! {
    /// `struct io_rsrc_node` (io_uring/rsrc.h).
    pub struct IoRsrcNode("io_rsrc_node") {
        /// `struct file *` with flags in the lowest bits. Since v6.13.
        file_ptr?: ["file_ptr"],
    }
}

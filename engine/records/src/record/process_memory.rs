//! `process_memory_details` (guide §11.5).

use crate::json::text::Text;

use super::macros::details;
use super::value::{AreaPermissions, MemoryAddress};

details! {
    /// A memory area of a process.
    pub struct ProcessMemoryDetails<'a> "process_memory_details" {
        /// The tgid.
        process_id: u32,
        /// Address of the first byte.
        virtual_memory_area_start_address: MemoryAddress,
        /// Address after the last byte.
        virtual_memory_area_end_address: MemoryAddress,
        /// `r-xp`
        memory_permissions: AreaPermissions,
        /// Whether the area maps the inode of the process's executable.
        is_main_process_executable: Option<bool>,
        /// Left out for areas without a file.
        file_path: Option<Text<'a>>,
        /// The last component of the path.
        file_name: Option<Text<'a>>,
        /// `[heap]`, `[stack]`, `[vdso]`, `[anon:…]`
        memory_name: Option<Text<'a>>,
    }
}

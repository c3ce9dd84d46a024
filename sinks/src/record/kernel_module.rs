//! The attributes of a kernel module, for scan lines.

use crate::json::text::Text;

use super::macros::details;

details! {
    /// A loaded module.
    pub struct KernelModuleDetails<'a> "kernel_module_details" {
        /// Its name.
        kernel_module_name: Text<'a>,
        /// Its size in memory.
        kernel_module_size: Option<u64>,
    }
}

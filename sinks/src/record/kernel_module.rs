//! The attributes of a kernel module, for scan lines.

use crate::json::text::Text;

use super::macros::details;

details! {
    /// A loaded kernel module.
    pub struct KernelModuleDetails<'a> "kernel_module_details" {
        kernel_module_name: Text<'a>,
        /// Size in memory, in bytes.
        kernel_module_size: Option<u64>,
    }
}

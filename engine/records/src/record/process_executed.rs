//! `process_executed_details`: a process became another program. An addition to the guide.

use crate::json::text::Text;

use super::macros::details;
use super::value::{AreaPermissions, Objects};

details! {
    /// What an exec replaced, and what the new program's start has mapped.
    pub struct ProcessExecutedDetails<'a> "process_executed_details" {
        /// Path of the program that the process ran before; left out if no scan saw that program.
        process_previous_executable_path: Option<Text<'a>>,
        /// The files that the kernel and the loader mapped, in the order of their addresses; left
        /// out if no scan saw them.
        process_mapped_files: Option<Objects<'a, MappedFileDetails<'a>>>,
        /// Number of these files, those included that the list has no room for.
        process_mapped_files_count: Option<u64>,
    }
}

details! {
    /// A mapped file.
    pub struct MappedFileDetails<'a> "mapped_file" {
        /// Absolute path; left out if it could not be read.
        file_path: Option<Text<'a>>,
        /// The permissions of all its areas together.
        memory_permissions: AreaPermissions,
    }
}

//! `elf_file_details` (guide §11.6).

use crate::json::text::Text;
use crate::words::words;

use super::macros::details;
use super::value::Hash;

details! {
    /// An executable or a library.
    pub struct ElfFileDetails<'a> "elf_file_details" {
        elf_file_inode_number: Option<u64>,
        /// The last component of the path.
        elf_file_name: Option<Text<'a>>,
        elf_file_type: Option<ElfFileType>,
        /// The absolute path.
        elf_file_path: Option<Text<'a>>,
        /// SHA-256 of the whole file.
        elf_file_hash_sha256: Option<Hash<32>>,
        /// SHA-1 of the whole file.
        elf_file_hash_sha1: Option<Hash<20>>,
        /// MD5 of the whole file.
        elf_file_hash_md5: Option<Hash<16>>,
        elf_file_size_bytes: Option<u64>,
        /// Whether it is the executable of the process.
        is_main_process_executable: Option<bool>,
    }
}

words! {
    /// The type by `e_type`. A position-independent executable is a shared object.
    pub enum ElfFileType {
        Executable = "EXECUTABLE",
        SharedObject = "SHARED_OBJECT",
        Relocatable = "RELOCATABLE",
        Core = "CORE",
    }
}

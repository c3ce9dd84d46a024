//! `file_details` (not in the guide).

use crate::json::text::Text;
use crate::json::time::Timestamp;

use super::file_descriptor::FileType;
use super::macros::details;
use super::value::{DeviceNumber, Hash, Permissions};

details! {
    /// A file at a path that matters.
    pub struct FileDetails<'a> "file_details" {
        /// From the root of process 1.
        file_path: Text<'a>,
        /// The path by which it was found first, if it was renamed since.
        file_previous_path: Option<Text<'a>>,
        file_type: Option<FileType>,
        /// `st_ino`. Left out, with all of the file as it is now, if the path has no file any more.
        file_inode_number: Option<u64>,
        /// `st_dev`
        file_inode_device_identifier: Option<DeviceNumber>,
        /// `st_mode & 07777`
        file_inode_permissions: Option<Permissions>,
        /// `st_uid`
        file_inode_uid: Option<u32>,
        /// `st_gid`
        file_inode_gid: Option<u32>,
        /// `st_size`
        file_inode_size_bytes: Option<u64>,
        file_inode_hash_sha1: Option<Hash<20>>,
        file_inode_hash_sha256: Option<Hash<32>>,
        file_inode_hash_md5: Option<Hash<16>>,
        /// `st_ctim`
        file_inode_change_time_iso_8601_ns: Option<Timestamp>,
        /// `st_mtim`
        file_inode_modify_time_iso_8601_ns: Option<Timestamp>,
        /// `st_atim`
        file_inode_access_time_iso_8601_ns: Option<Timestamp>,
        /// What the path named before; left out, with the next ones, if that is not known.
        file_previous_inode_number: Option<u64>,
        file_previous_inode_size_bytes: Option<u64>,
        file_previous_inode_modify_time_iso_8601_ns: Option<Timestamp>,
        /// Only for `file_permissions_changed`, as the next two.
        file_previous_inode_permissions: Option<Permissions>,
        file_previous_inode_uid: Option<u32>,
        file_previous_inode_gid: Option<u32>,
        /// If a program of this content has run.
        file_previous_inode_hash_sha1: Option<Hash<20>>,
        file_previous_inode_hash_sha256: Option<Hash<32>>,
        file_previous_inode_hash_md5: Option<Hash<16>>,
        /// Capabilities that the program gives to a user who starts it, by their names in
        /// `capabilities(7)`. Only for `file_permissions_changed`.
        file_capabilities: Option<&'a [Text<'a>]>,
        /// How many names of files of this type became new in its folder at once, with this one;
        /// left out if it is alone.
        file_new_names_count: Option<u64>,
        /// The paths of the others; the first ones if there are many.
        file_new_names: Option<&'a [Text<'a>]>,
    }
}

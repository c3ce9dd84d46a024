//! `file_descriptor_details` (guide §11.3).

use crate::json::text::Text;
use crate::json::time::Timestamp;
use crate::json::{Full, JsonWriter};
use crate::schema_type::SchemaType;
use crate::words::words;

use super::macros::details;
use super::value::{DeviceNumber, Hash, Permissions, Scalar};

details! {
    /// An open file of a process.
    pub struct FileDescriptorDetails<'a> "file_descriptor_details" {
        /// Left out of a file that an io_uring holds without a descriptor.
        file_descriptor_index: Option<u32>,
        /// Only of a file that an io_uring holds without a descriptor: its place among the files
        /// registered there.
        file_descriptor_ring_slot: Option<u32>,
        /// As `readlink /proc/PID/fd/N`.
        file_descriptor_name: Option<Text<'a>>,
        /// Its path when it was open, if it was renamed since. Only for
        /// `file_descriptor_file_content_change`.
        file_descriptor_previous_name: Option<Text<'a>>,
        file_descriptor_file_type: Option<FileType>,
        file_descriptor_file_mode: Option<FileMode>,
        /// `st_ino`
        file_descriptor_inode_number: Option<u64>,
        /// `st_dev`
        file_descriptor_inode_device_identifier: Option<DeviceNumber>,
        /// `st_mode & 07777`
        file_descriptor_inode_permissions: Option<Permissions>,
        /// `st_uid`
        file_descriptor_inode_uid: Option<u32>,
        /// `st_gid`
        file_descriptor_inode_gid: Option<u32>,
        /// `st_size`
        file_descriptor_inode_size_bytes: Option<u64>,
        /// Whether the /proc link ends in ` (deleted)`.
        file_descriptor_inode_deleted: Option<bool>,
        /// Only for `file_descriptor_file_content_change`.
        file_descriptor_inode_hash_sha1: Option<Hash<20>>,
        /// Only for `file_descriptor_file_content_change`.
        file_descriptor_inode_hash_sha256: Option<Hash<32>>,
        /// Only for `file_descriptor_file_content_change`.
        file_descriptor_inode_hash_md5: Option<Hash<16>>,
        /// All threads that share the table, ascending.
        file_descriptor_thread_id_array: Option<&'a [u32]>,
        /// `st_ctim`
        file_descriptor_inode_change_time_iso_8601_ns: Option<Timestamp>,
        /// `st_mtim`
        file_descriptor_inode_modify_time_iso_8601_ns: Option<Timestamp>,
        /// `st_atim`
        file_descriptor_inode_access_time_iso_8601_ns: Option<Timestamp>,
    }
}

words! {
    /// The type of an open file.
    pub enum FileType {
        Unknown = "UNKNOWN",
        Regular = "REGULAR",
        Directory = "DIRECTORY",
        Symlink = "SYMLINK",
        CharacterDevice = "CHARACTER_DEVICE",
        BlockDevice = "BLOCK_DEVICE",
        Tty = "TTY",
        Pipe = "PIPE",
        Fifo = "FIFO",
        Socket = "SOCKET",
        Eventfd = "EVENTFD",
        Epoll = "EPOLL",
        Timerfd = "TIMERFD",
        Signalfd = "SIGNALFD",
        Inotify = "INOTIFY",
        Fanotify = "FANOTIFY",
        Memfd = "MEMFD",
        IoUring = "IO_URING",
        Pidfd = "PIDFD",
        Bpf = "BPF",
        PerfEvent = "PERF_EVENT",
        Userfaultfd = "USERFAULTFD",
        DmaBuf = "DMA_BUF",
        Namespace = "NAMESPACE",
        AnonInode = "ANON_INODE",
    }
}

words! {
    /// The access mode of an open file; the first word of its mode.
    pub enum FileAccess {
        ReadOnly = "READ_ONLY",
        WriteOnly = "WRITE_ONLY",
        ReadWrite = "READ_WRITE",
        Path = "PATH",
    }
}

/// The mode of an open file: `READ_WRITE|APPEND|CLOSE_ON_EXEC`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileMode {
    pub access: FileAccess,
    /// The words after it: an OR of this type's constants.
    pub flags: u16,
}

macro_rules! file_flags {
    ($($name:ident $bit:literal;)*) => {
        impl FileMode {
            $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: u16 = 1 << $bit;)*

            /// The words of the flags in the order in which they are written, which is that of
            /// their bits.
            const FLAG_WORDS: &[&str] = &[$(concat!("|", stringify!($name)),)*];
        }
    };
}

file_flags! {
    APPEND 0;
    NONBLOCK 1;
    ASYNC 2;
    DIRECT 3;
    SYNC 4;
    DSYNC 5;
    NOATIME 6;
    DIRECTORY 7;
    NOFOLLOW 8;
    TMPFILE 9;
    LARGE_FILE 10;
    CLOSE_ON_EXEC 11;
}

impl Scalar for FileMode {
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        if self.flags == 0 {
            return out.word(before, self.access.word());
        }
        out.raw(before.as_bytes())?;
        out.raw(b"\"")?;
        out.raw(self.access.word().as_bytes())?;
        for (bit, word) in Self::FLAG_WORDS.iter().enumerate() {
            if self.flags >> bit & 1 != 0 {
                out.raw(word.as_bytes())?;
            }
        }
        out.raw(b"\"")
    }

    fn schema() -> SchemaType {
        SchemaType::Pattern("^(READ_ONLY|WRITE_ONLY|READ_WRITE|PATH)(\\|[A-Z_]+)*$")
    }
}

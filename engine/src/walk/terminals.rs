//! Terminals behind descriptors. [`super::special_files`] joins the two ends of a pseudoterminal.
//!
//! They are read in the same batches as the sockets ([`super::connections`]): the
//! `tty_file_private` behind the open file, then the `tty_struct` behind that.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::device_numbers;
use panoptes_tables::Index;

/// One terminal that a descriptor leads to: a real one, or one end of a pseudoterminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct TerminalRow {
    /// `struct tty_struct *`
    pub address: KernelVa,
    /// `struct tty_struct *` of a pseudoterminal's other end.
    pub link_address: KernelVa,
    /// The other end, if a descriptor leads to it.
    pub link: Option<Index<Self>>,
    /// Number within its driver.
    pub number: u32,
    /// Whether it is the master end of a pseudoterminal (`/dev/ptmx`).
    pub is_master: bool,
}

/// Whether a character device belongs to terminals: virtual consoles and serial lines (4),
/// /dev/tty, /dev/console and /dev/ptmx (5), pseudoterminals (2, 3, 136 to 143)
/// (Documentation/admin-guide/devices.txt).
pub(super) fn may_be_terminal(device: u32) -> bool {
    matches!(device_numbers(device).0, 2..=5 | 136..=143)
}

/// Whether a character device is a terminal (Documentation/admin-guide/devices.txt): virtual
/// consoles and serial lines (4), /dev/tty, /dev/console and /dev/ptmx (5), pseudoterminals (2, 3,
/// 128 to 143), ttyACM (166), ttyUSB (188), low-density serial lines (204), hypervisor consoles
/// (229).
pub fn is_terminal(device: u32) -> bool {
    matches!(device_numbers(device).0, 2..=5 | 128..=143 | 166 | 188 | 204 | 229)
}

/// Whether a device is the master end of a pseudoterminal: /dev/ptmx, or a BSD-style master (major
/// 2).
pub(super) fn is_master(device: u32) -> bool {
    matches!(device_numbers(device), (5, 2) | (2, _))
}

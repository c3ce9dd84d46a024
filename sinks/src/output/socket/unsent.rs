//! How much of what was sent is still on this side.
#![allow(unsafe_code, reason = "no crate has a safe call of this ioctl")]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// Bytes that the peer's kernel has not confirmed (TCP), or that the peer has not read (a Unix
/// socket; the kernel counts its own overhead, too): SIOCOUTQ in tcp(7) and unix(7).
pub(super) fn unsent(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // SIOCOUTQ and TIOCOUTQ are one number (include/uapi/linux/sockios.h).
    // SAFETY: this operation exists for every socket, and the kernel writes one int.
    let query = unsafe { Getter::<{ libc::TIOCOUTQ as Opcode }, libc::c_int>::new() };
    // SAFETY: the operation only writes its result, into the query's own memory. On a descriptor
    // of another kind it fails or does the same.
    let bytes = unsafe { ioctl(socket, query)? };
    Ok(u64::try_from(bytes).unwrap_or(0))
}

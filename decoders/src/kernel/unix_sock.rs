//! `struct unix_sock` (include/net/af_unix.h): a socket between processes of one machine.

crate::layout! {
    /// `struct unix_sock` (include/net/af_unix.h).
    pub struct UnixSock("unix_sock") {
        /// `struct sock *` that it is connected to.
        peer: ["peer"],
    }
}

/// `AF_UNIX` (include/linux/socket.h).
pub const AF_UNIX: u16 = 1;

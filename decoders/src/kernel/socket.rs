//! `struct socket` (include/linux/net.h): what a socket's descriptor leads to.

crate::layout! {
    /// `struct socket` (include/linux/net.h).
    pub struct Socket("socket") {
        /// `struct file *`, back.
        file: ["file"],
        /// `struct sock *`
        sk: ["sk"],
    }
}

crate::layout! {
    /// `struct socket_alloc` (include/net/sock.h): a socket with its inode.
    pub struct SocketAlloc("socket_alloc") {
        /// The inode's number. A subflow of Multipath TCP that has a socket of its own, which no descriptor
        /// leads to, has that of the connection's (`mptcp_subflow_create_socket`, net/mptcp/subflow.c).
        ino: ["vfs_inode.i_ino"],
    }
}

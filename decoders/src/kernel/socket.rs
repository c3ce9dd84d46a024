//! `struct socket` (include/linux/net.h): the object that a socket's descriptor leads to.

crate::layout! {
    /// `struct socket` (include/linux/net.h).
    pub struct Socket("socket") {
        /// `struct file *` of the socket.
        file: ["file"],
        /// `struct sock *`
        sk: ["sk"],
    }
}

crate::layout! {
    /// `struct socket_alloc` (include/net/sock.h): a socket and its inode.
    pub struct SocketAlloc("socket_alloc") {
        /// Inode number. A subflow of Multipath TCP with a socket of its own, which no descriptor
        /// leads to, has the number of its connection (`mptcp_subflow_create_socket`,
        /// net/mptcp/subflow.c).
        ino: ["vfs_inode.i_ino"],
    }
}

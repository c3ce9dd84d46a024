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

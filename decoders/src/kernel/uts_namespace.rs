//! `struct uts_namespace` (include/linux/utsname.h): the host name and the kernel release.

crate::layout! {
    /// `struct uts_namespace` (include/linux/utsname.h).
    pub struct UtsNamespace("uts_namespace") {
        /// Host name, 65 bytes with its NUL.
        nodename: ["name.nodename"],
        /// Kernel release: `6.1.0-37-amd64`.
        release: ["name.release"],
    }
}

//! `struct uts_namespace` (include/linux/utsname.h): names of the machine and the kernel.

crate::layout! {
    /// `struct uts_namespace` (include/linux/utsname.h).
    pub struct UtsNamespace("uts_namespace") {
        /// Host name, 65 bytes with its NUL.
        nodename: ["name.nodename"],
        /// Kernel release: `6.1.0-37-amd64`.
        release: ["name.release"],
    }
}

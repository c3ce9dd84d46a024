//! `struct tty_struct` and `struct tty_file_private` (include/linux/tty.h): terminals.

crate::layout! {
    /// `struct tty_file_private` (include/linux/tty.h): connects an open file to its terminal.
    pub struct TtyFilePrivate("tty_file_private") {
        /// `struct tty_struct *`
        tty: ["tty"],
        /// `struct file *` that it belongs to.
        file: ["file"],
    }
}

crate::layout! {
    /// `struct tty_struct` (include/linux/tty.h): one terminal, or one end of a pseudoterminal.
    pub struct TtyStruct("tty_struct") {
        /// `struct tty_struct *`: the other end of a pseudoterminal.
        link: ["link"],
        /// Number among the terminals of its driver.
        index: ["index"],
    }
}

//! `struct tty_struct` and `struct tty_file_private` (include/linux/tty.h): terminals.

crate::layout! {
    /// `struct tty_file_private` (include/linux/tty.h): what the open file of a terminal leads to.
    pub struct TtyFilePrivate("tty_file_private") {
        /// `struct tty_struct *`
        tty: ["tty"],
        /// `struct file *`, back.
        file: ["file"],
    }
}

crate::layout! {
    /// `struct tty_struct` (include/linux/tty.h): one terminal, or one end of a pseudoterminal.
    pub struct TtyStruct("tty_struct") {
        /// `struct tty_struct *`: of a pseudoterminal its other end.
        link: ["link"],
        /// Its number among those of its driver.
        index: ["index"],
    }
}

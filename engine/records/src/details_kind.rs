//! The kinds of details objects, which the table of activities names. `record` has the objects.

macro_rules! kinds {
    ($($variant:ident)*) => {
        /// The kind of a details object.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum DetailsKind {
            $(#[doc = concat!("`", stringify!($variant), "Details`")] $variant,)*
        }

        impl DetailsKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}

kinds! {
    Process
    Thread
    FileDescriptor
    NetworkConnection
    ProcessMemory
    ElfFile
    Container
    ShellHistory
    ReverseShell
    Package
    File
    SystemActivity
    ProcessExecuted
    KernelModule
    KernelCode
    EbpfProgram
}

//! The checks: one row for each kind of place that code is reached from, or that code is in.

/// Lists the checks: the name in output, and what is checked.
macro_rules! checks {
    ($( $(#[$doc:meta])* $check:ident: $name:literal, $kind:ident; )*) => {
        /// One check of the kernel's code.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Check {
            $( $(#[$doc])* $check, )*
        }

        impl Check {
            /// All checks, in the order of output.
            pub const ALL: &[Self] = &[$(Self::$check),*];

            /// The name in output.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$check => $name, )*
                }
            }

            /// What a violation is.
            pub const fn kind(self) -> ViolationKind {
                match self {
                    $( Self::$check => ViolationKind::$kind, )*
                }
            }
        }
    };
}

/// What a violation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ViolationKind {
    /// A way into the kernel leads where it should not.
    Hook,
    /// Memory is executable that nobody owns.
    CodeWithoutOwner,
    /// Code or read-only data is not what it was.
    TextModified,
}

checks! {
    /// The entries of the tables of system calls.
    SystemCallTables: "system_call_tables", Hook;
    /// The branches in the functions that dispatch system calls.
    SystemCallDispatch: "system_call_dispatch", Hook;
    /// The gates of the table of interrupt descriptors.
    InterruptDescriptors: "interrupt_descriptors", Hook;
    /// The functions of `ftrace_ops_list`, of its users, and direct calls.
    FtraceHandlers: "ftrace_handlers", Hook;
    /// The handlers of kprobes and kretprobes.
    Kprobes: "kprobes", Hook;
    /// The functions of tracepoints.
    Tracepoints: "tracepoints", Hook;
    /// The handlers of uprobes.
    Uprobes: "uprobes", Hook;
    /// The functions of security modules.
    LsmHooks: "lsm_hooks", Hook;
    /// The hooks of netfilter of each network namespace.
    NetfilterHooks: "netfilter_hooks", Hook;
    /// The functions that receive packets by type.
    PacketTypes: "packet_types", Hook;
    /// The functions of protocols and of their sockets.
    Protocols: "protocols", Hook;
    /// The chains of notifiers.
    NotifierChains: "notifier_chains", Hook;
    /// The functions of files below /proc.
    ProcFiles: "proc_files", Hook;
    /// The functions of the roots of mounted file systems.
    FileSystems: "file_systems", Hook;
    /// The functions of line disciplines and of terminals.
    Terminals: "terminals", Hook;
    /// The functions that load programs.
    BinaryFormats: "binary_formats", Hook;
    /// The functions of timers.
    Timers: "timers", Hook;
    /// The functions of work items.
    WorkItems: "work_items", Hook;
    /// The start functions of kernel threads.
    KernelThreads: "kernel_threads", Hook;
    /// Pointers in the kernel's read-only data.
    ReadOnlyPointers: "read_only_pointers", Hook;
    /// Pointers in the kernel's writable data.
    WritablePointers: "writable_pointers", Hook;
    /// Pointers in the data of modules.
    ModulePointers: "module_pointers", Hook;
    /// Executable pages.
    ExecutablePages: "executable_pages", CodeWithoutOwner;
    /// Pages that are writable and executable at once.
    WritableExecutablePages: "writable_executable_pages", CodeWithoutOwner;
    /// Executable pages of the direct map.
    DirectMap: "direct_map", CodeWithoutOwner;
    /// The kernel's code.
    KernelText: "kernel_text", TextModified;
    /// The kernel's read-only data.
    ReadOnlyData: "read_only_data", TextModified;
    /// The code of modules.
    ModuleText: "module_text", TextModified;
}

/// Number of checks.
pub(super) const CHECKS: usize = Check::ALL.len();

/// What the last round has shown of a check.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CheckFacts {
    /// Number of places that were checked.
    pub places: u64,
    /// Number of places that violate it.
    pub violations: u32,
    /// Number of places that could not be read.
    pub unread: u64,
    /// Why nothing, or not all, was checked.
    pub not_checked: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        for (index, check) in Check::ALL.iter().enumerate() {
            assert!(Check::ALL[..index].iter().all(|other| other.name() != check.name()));
        }
    }
}

//! `kernel_code_details` and `integrity_check_details`: the integrity of a kernel's code. Additions
//! to the guide.

use crate::json::text::Text;
use crate::json::time::Timestamp;
use crate::words::words;

use super::macros::details;
use super::value::{Hex, MemoryAddress};

details! {
    /// A place by which the kernel's code is not as it should be.
    pub struct KernelCodeDetails<'a> "kernel_code_details" {
        /// The name of the check, as in a line `integrity_check` of a scan.
        kernel_code_check: &'static str,
        /// The pointer, byte or page that violates the check.
        kernel_code_address: MemoryAddress,
        /// The symbol of that place: `x64_sys_call+0x12`.
        kernel_code_symbol: Option<Text<'a>>,
        /// What the place belongs to, as far as the check knows: `IPv4 pre-routing`, `vector 14`.
        kernel_code_label: Option<Text<'a>>,
        /// The symbol of the function that is hooked.
        kernel_code_function: Option<Text<'a>>,
        /// The address of that function.
        kernel_code_function_address: Option<MemoryAddress>,
        /// What the hooked function shows or acts on: what the machine shows of it may be wrong.
        kernel_code_listing: Option<KernelListing>,
        /// The address to which the place leads.
        kernel_code_target: Option<MemoryAddress>,
        /// The symbol of that address.
        kernel_code_target_symbol: Option<Text<'a>>,
        /// The owner of the code to which the place leads, or else of the place.
        kernel_code_owner: Option<KernelCodeOwner>,
        /// The name of the owner, if it is a kernel module.
        kernel_module_name: Option<Text<'a>>,
        /// The bytes of code as they were, from that place on.
        kernel_code_bytes_before: Option<Hex<'a>>,
        /// The bytes of code as they are.
        kernel_code_bytes_after: Option<Hex<'a>>,
        /// When a check first saw it. Lines of a scan lack it.
        kernel_code_first_seen: Option<Timestamp>,
        /// What to do, in one sentence.
        kernel_code_advice: Option<&'static str>,
    }
}

words! {
    /// What functions of the kernel show, or act on.
    pub enum KernelListing {
        /// All that system calls return.
        SystemCalls = "system_calls",
        /// Files and folders, those below /proc included.
        Files = "files",
        Processes = "processes",
        /// Sockets and their packets.
        Sockets = "sockets",
        /// Kernel modules, symbols, and lists of hooks.
        Modules = "modules",
        /// Messages of the kernel and of its audit.
        Logs = "logs",
        /// BPF programs, maps and links.
        Bpf = "bpf_programs",
    }
}

words! {
    /// The owner of code.
    pub enum KernelCodeOwner {
        /// The kernel: its text, its trampolines and its slots for probes.
        Kernel = "kernel",
        /// A module that the kernel's list has.
        Module = "module",
        /// A BPF program.
        Bpf = "bpf",
        Nobody = "nobody",
    }
}

details! {
    /// What a round has shown of one check of the kernel's code.
    pub struct IntegrityCheckDetails "integrity_check_details" {
        /// The name of the check.
        check: &'static str,
        /// `holds` says that every place was read and is as it should be. If a place was not
        /// checked, the verdict is `violated` or `not_checked`.
        verdict: IntegrityVerdict,
        /// Number of places that were checked.
        places: u64,
        /// Number of places that violate the check.
        violations: u64,
        /// Number of places that could not be read.
        unread: u64,
        /// Why places were not checked, or none.
        reason: Option<&'static str>,
    }
}

words! {
    /// What a round says of one check.
    pub enum IntegrityVerdict {
        /// Some places were not checked, or none was. Those that were are as they should be.
        NotChecked = "not_checked",
        /// Every place was read, and each is as it should be.
        Holds = "holds",
        /// At least one place is not as it should be.
        Violated = "violated",
    }
}

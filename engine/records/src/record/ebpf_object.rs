//! `ebpf_object`: a program, a map, a link or an attachment of eBPF, in the lines of a scan. An
//! addition to the guide.

use crate::json::text::Text;
use crate::words::words;

use super::macros::details;
use super::value::{Hex, MemoryAddress, Namespace};

details! {
    /// A program, a map, a link or an attachment of eBPF.
    pub struct EbpfObjectDetails<'a> "ebpf_object_details" {
        ebpf_object: EbpfObjectKind,
        /// The number that the kernel gave it; programs, maps and links have numbers of their own.
        /// 0 for an attachment, which has none.
        ebpf_id: u32,
        /// As bpftool prints it; a number if it is newer than Panoptes.
        ebpf_type: Text<'a>,
        /// Left out if it has none, as links have.
        ebpf_name: Option<Text<'a>>,
        /// The first bytes of the SHA-1 of a program's instructions.
        ebpf_tag: Option<Hex<'a>>,
        /// What a link attaches its program for, or a program was loaded for.
        ebpf_attach_type: Option<Text<'a>>,
        /// Number of instructions of a program.
        ebpf_instruction_count: Option<u32>,
        /// Its machine code. Left out if the kernel interprets the program.
        ebpf_image_address: Option<MemoryAddress>,
        /// Bytes.
        ebpf_image_size: Option<u32>,
        /// Nanoseconds from the start of the machine until the program was loaded.
        ebpf_load_time: Option<u64>,
        /// The user who loaded the program.
        ebpf_user_id: Option<u32>,
        /// Number of maps that the program uses.
        ebpf_map_count: Option<u32>,
        /// The function of the kernel that the program is made for.
        ebpf_function: Option<Text<'a>>,
        /// The helpers that the program calls and that change what others see or do.
        ebpf_helpers: Option<&'a [EbpfHelper]>,
        /// Bytes of a key of a map, and of a value.
        ebpf_key_size: Option<u32>,
        ebpf_value_size: Option<u32>,
        ebpf_max_entries: Option<u32>,
        /// `BPF_F_*` of a map, as a number.
        ebpf_map_flags: Option<u32>,
        /// The program of a link.
        ebpf_program_id: Option<u32>,
        /// The function where a link attaches its program, or the first one.
        ebpf_target_address: Option<MemoryAddress>,
        /// Number of functions, if there are several.
        ebpf_target_count: Option<u32>,
        ebpf_target_tracepoint: Option<Text<'a>>,
        ebpf_target_interface_index: Option<u32>,
        ebpf_target_control_group_id: Option<u64>,
        ebpf_target_network_namespace: Option<Namespace>,
        /// The first process that has a descriptor of it, or of a link to it.
        ebpf_holder_process_id: Option<u32>,
        /// The first file of a bpffs that holds it: the path from the root of that filesystem on,
        /// which is usually mounted on `/sys/fs/bpf`.
        ebpf_pinned_path: Option<Text<'a>>,
        /// Whether the kernel's own list of its kind lacks it. Left out if the list has it.
        ebpf_is_unlisted: Option<bool>,
    }
}

words! {
    /// A kind of object of eBPF.
    pub enum EbpfObjectKind {
        Program = "program",
        Map = "map",
        Link = "link",
        /// A program in a place without a link: an interface, a filter of `tc`, a control group or
        /// a performance event.
        Attachment = "attachment",
    }
}

words! {
    /// A helper that changes what others see or do.
    pub enum EbpfHelper {
        ProbeWriteUser = "bpf_probe_write_user",
        OverrideReturn = "bpf_override_return",
        /// Or `bpf_send_signal_thread`.
        SendSignal = "bpf_send_signal",
    }
}

//! `ebpf_program_details`: a program of eBPF, and the link that attaches it. An addition to the
//! guide.
//!
//! Lines of a scan have other objects, which `ebpf_object` describes.

use crate::json::text::Text;
use crate::json::time::Timestamp;
use crate::words::words;

use super::ebpf_object::EbpfHelper;
use super::macros::details;
use super::value::{Hex, MemoryAddress};

details! {
    /// A program of eBPF.
    pub struct EbpfProgramDetails<'a> "ebpf_program_details" {
        /// The number that the kernel gave it; 0 if it has none any more.
        ebpf_program_id: u32,
        /// As bpftool prints it; a number if it is newer than Panoptes.
        ebpf_program_type: Option<Text<'a>>,
        ebpf_program_name: Option<Text<'a>>,
        /// The first bytes of the SHA-1 of its instructions.
        ebpf_program_tag: Option<Hex<'a>>,
        /// Number of its instructions.
        ebpf_program_size: Option<u32>,
        /// Its machine code. Left out if the kernel interprets the program.
        ebpf_program_image_address: Option<MemoryAddress>,
        ebpf_program_loaded_time_iso_8601_ns: Option<Timestamp>,
        /// The user who loaded it.
        ebpf_program_user_id: Option<u32>,
        /// The helpers that it calls and that change what others see or do.
        ebpf_program_helpers: Option<&'a [EbpfHelper]>,
        /// What the link attaches it for, or what it was loaded for.
        ebpf_program_attach_type: Option<Text<'a>>,
        /// The place where the link attaches it: a function of the kernel by its name or address, a
        /// tracepoint by its name, `interface 2`, `cgroup 1234` or `net:[4026531840]`.
        ebpf_program_attach_target: Option<Text<'a>>,
        /// The number of the link that attaches it. Left out if none does: the place itself has the
        /// program.
        ebpf_program_link_id: Option<u32>,
        /// The first file of a bpffs that holds the program, or else its link: the path from the
        /// root of that filesystem on, which is usually mounted on `/sys/fs/bpf`.
        ebpf_program_pinned_path: Option<Text<'a>>,
        /// The views of the kernel's programs that show it, if the IDR does not.
        ebpf_program_views: Option<&'a [EbpfProgramView]>,
    }
}

words! {
    /// A view of the kernel's programs of eBPF.
    pub enum EbpfProgramView {
        /// The IDR, whose programs `bpftool` lists.
        Idr = "idr",
        /// The list of symbols of eBPF.
        Symbols = "symbols",
        /// A link or a descriptor that leads to it.
        Reference = "reference",
        /// A place that runs it without a link: an interface, a filter, a control group or an
        /// event.
        Attachment = "attachment",
        /// A file of a bpffs.
        Pin = "pin",
    }
}

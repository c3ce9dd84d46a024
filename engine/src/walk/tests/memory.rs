//! Memory made by hand, for tests of single rounds: a direct map, and counters of what is read.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::HashMap;
use std::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::{Member, Members};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};

use crate::limits::Limits;
use crate::walk::{
    Budget, Index, Kernel, ProcessRow, ScannedMemory, ThreadRow, UserGroupIds, Walker,
};
use panoptes_tables::HashKey;

const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const DIRECT_MAP_BYTES: u64 = 1 << 40;
const PAGE: u64 = 4096;
/// Size of every structure without another one.
const STRUCTURE_BYTES: u32 = 1024;
/// Fields of `struct task_struct`; each has 16 bytes of its own.
const OF_TASK: [&str; 17] = [
    "tasks",
    "pid",
    "tgid",
    "comm",
    "flags",
    "__state",
    "exit_state",
    "mm",
    "files",
    "fs",
    "signal",
    "nsproxy",
    "real_cred",
    "real_parent",
    "group_leader",
    "thread_pid",
    "thread_node",
];

/// The structures' fields.
struct Fields;

impl Members for Fields {
    #[allow(clippy::match_same_arms, reason = "it is a table")]
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let (offset, size) = match (structure, path) {
            ("fdtable", "max_fds") => (0, 4),
            ("fdtable", "fd") => (8, 8),
            ("fdtable", "close_on_exec") => (16, 8),
            ("fdtable", "open_fds") => (24, 8),
            ("task_struct", "pid_links") => (512, 64),
            ("task_struct", "start_boottime" | "self_exec_id" | "se.sum_exec_runtime") => (640, 8),
            ("task_struct", "stack") => (704, 8),
            ("task_struct", _) => {
                let size = match path {
                    "pid" | "tgid" | "flags" | "__state" | "exit_state" => 4,
                    "tasks" | "comm" | "thread_node" => 16,
                    _ => 8,
                };
                (OF_TASK.iter().position(|&field| field == path)? as u32 * 16, size)
            }
            ("dentry", "d_flags") => (0, 4),
            ("dentry", "d_seq") => (4, 4),
            ("dentry", "d_parent") => (8, 8),
            ("dentry", "d_name.name") => (16, 8),
            ("dentry", "d_name.len") => (24, 4),
            ("dentry", "d_inode" | "d_op" | "d_sb") => (32, 8),
            ("dentry", "d_sib.next") => (80, 8),
            ("dentry", "d_children.first") => (88, 8),
            ("dentry", "d_u.d_alias.next") => (96, 8),
            ("dentry", "d_hash.pprev") => (104, 8),
            ("dentry", _) => (40, 40),
            ("fs_struct", "root.dentry") => (8, 8),
            ("inode", "i_mode") => (0, 2),
            ("inode", "i_nlink") => (4, 4),
            ("inode", "i_ino") => (8, 8),
            ("inode", "i_size") => (16, 8),
            ("inode", "i_sb") => (24, 8),
            ("inode", "i_mtime_sec") => (32, 8),
            ("inode", "i_ctime_sec") => (40, 8),
            ("inode", "i_dentry.first") => (56, 8),
            ("inode", "i_uid.val") => (64, 4),
            ("inode", "i_gid.val") => (68, 4),
            ("inode", _) => (48, 8),
            ("io_ring_ctx", "nr_user_files") => (0, 4),
            ("io_ring_ctx", "file_table.files") => (8, 8),
            ("io_ring_ctx", _) => return None,
            ("io_rsrc_node", "file_ptr") => (16, 8),
            ("file", "private_data") => (24, 8),
            ("file", "f_inode") => (32, 8),
            ("file", "f_path.mnt") => (8, 8),
            ("file", "f_path.dentry") => (16, 8),
            ("mount", "mnt.mnt_root") => (8, 8),
            ("mount", "mnt_parent") => (16, 8),
            ("mount", "mnt_mountpoint") => (24, 8),
            ("mount", "mnt_mounts.next") => (32, 8),
            ("mount", "mnt_child.next") => (48, 8),
            ("css_set", "dfl_cgrp") => (8, 8),
            ("css_set", "subsys") => (16, 24),
            ("css_set", _) => (64, 16),
            ("kernfs_node", "__parent") => (8, 8),
            ("cred", "user_ns") => (8, 8),
            ("cred", "cap_permitted.val") => (16, 8),
            ("cred", "cap_ambient.val") => (24, 8),
            ("user_namespace", "owner.val") => (8, 4),
            ("pid", "level") => (0, 4),
            ("pid", "tasks") => (8, 8),
            ("pid", "numbers") => (16, 16),
            ("pid_namespace", "idr") => (8, 16),
            ("nsproxy", "net_ns") => (8, 8),
            ("nsproxy", "ipc_ns") => (16, 8),
            ("ipc_ids", "in_use") => (0, 4),
            ("ipc_ids", _) => (8, 8),
            ("msg_queue", "q_perm.deleted") => (0, 1),
            ("msg_queue", "q_perm.id") => (4, 4),
            ("msg_queue", "q_stime") => (8, 8),
            ("msg_queue", "q_rtime") => (16, 8),
            ("msg_queue", "q_lspid") => (24, 8),
            ("msg_queue", "q_lrpid") => (32, 8),
            ("xa_node", "slots") => (64, 512),
            ("inet_hashinfo", "ehash") => (0, 8),
            ("inet_hashinfo", "ehash_mask") => (8, 4),
            ("inet_hashinfo", _) => return None,
            ("sock_common", "skc_daddr") => (0, 4),
            ("sock_common", "skc_rcv_saddr") => (4, 4),
            ("sock_common", "skc_family") => (16, 2),
            ("sock_common", "skc_state") => (18, 1),
            ("sock_common", "skc_net.net") => (48, 8),
            ("sock_common", "skc_v6_daddr" | "skc_v6_rcv_saddr") => (56, 16),
            ("sock_common", "skc_nulls_node") => (104, 16),
            ("sock_common", _) => (32, 4),
            ("udp_table", "mask") => (8, 4),
            ("net", "ipv4.tcp_death_row.hashinfo") => (32, 8),
            ("vm_area_struct", "vm_end") => (8, 8),
            ("vm_area_struct", "vm_mm") => (16, 8),
            ("vm_area_struct", "vm_rb.rb_left") => (24, 8),
            ("bpf_prog", "tag") => (32, 8),
            ("bpf_prog", "aux") => (40, 8),
            ("bpf_prog", "bpf_func") => (48, 8),
            ("bpf_prog", path) => {
                let all = ["type", "expected_attach_type", "len", "jited_len"];
                (all.iter().position(|&field| field == path)? as u32 * 4, 4)
            }
            ("bpf_prog_aux", "ksym.start") => (64, 8),
            ("bpf_prog_aux", "ksym.end") => (72, 8),
            ("bpf_prog_aux", "ksym.lnode") => (144, 16),
            ("bpf_prog_aux", "name") => (48, 16),
            ("bpf_prog_aux", "used_map_cnt") => (8, 4),
            ("bpf_prog_aux", "id") => (12, 4),
            ("bpf_prog_aux", "prog") => (16, 8),
            ("bpf_prog_aux", "user") => (24, 8),
            ("bpf_prog_aux", "load_time") => (32, 8),
            ("bpf_prog_aux", "attach_func_name") => (40, 8),
            ("bpf_ksym", "end") => (8, 8),
            ("bpf_ksym", "lnode") => (80, 16),
            ("bpf_ksym", "prog") => (96, 1),
            ("bpf_map", "name") => (32, 16),
            ("bpf_map", path) => {
                let all = ["map_type", "key_size", "value_size", "max_entries", "map_flags", "id"];
                (all.iter().position(|&field| field == path)? as u32 * 4, 4)
            }
            ("bpf_link", "id") => (8, 4),
            ("bpf_link", "type") => (12, 4),
            ("bpf_link", "prog") => (16, 8),
            ("bpf_link", "attach_type") => (24, 4),
            (
                "bpf_tracing_link"
                | "bpf_raw_tp_link"
                | "bpf_cgroup_link"
                | "bpf_netns_link"
                | "bpf_xdp_link"
                | "tcx_link"
                | "netkit_link"
                | "bpf_kprobe_multi_link",
                "attach_type" | "type" | "location",
            ) => return None,
            ("bpf_kprobe_multi_link", "cnt") => (40, 4),
            (
                "bpf_tracing_link"
                | "bpf_raw_tp_link"
                | "bpf_cgroup_link"
                | "bpf_netns_link"
                | "bpf_xdp_link"
                | "tcx_link"
                | "netkit_link"
                | "bpf_kprobe_multi_link",
                _,
            ) => (32, 8),
            ("idr", "idr_rt.xa_head") => (0, 8),
            ("idr", "idr_next") => (8, 4),
            ("user_struct", _) => (8, 4),
            ("module", "state") => (0, 4),
            ("module", "list") => (8, 16),
            ("module", "name") => (24, 56),
            ("module", "mkobj.kobj.entry") => (88, 16),
            ("module", "mkobj.kobj.kset") => (112, 8),
            ("module", "mkobj.kobj.sd") => (120, 8),
            ("module", "version") => (184, 8),
            ("module", "srcversion") => (192, 8),
            ("module", "mem") => (200, 7 * 72),
            ("module", "taints") => (704, 8),
            ("module", "sect_attrs") => (712, 8),
            ("module", "notes_attrs") => (720, 8),
            ("module", "source_list") => (728, 16),
            ("module", "refcnt.counter") => (744, 4),
            ("module", _) => return None,
            ("module_memory", "size") => (8, 4),
            ("module_memory", "mtn") => (16, 56),
            ("mod_tree_root", "root.seq.seqcount.sequence") => (0, 4),
            ("mod_tree_root", "root.tree") => (8, 16),
            ("mod_tree_node", "node.node") => (8, 48),
            ("module_use", "source_list") => (0, 16),
            ("module_use", "source") => (32, 8),
            ("module_kobject", "kobj.entry") => (8, 16),
            ("module_kobject", "mod") => (64, 8),
            ("pt_regs", "orig_ax") => (120, 8),
            ("pt_regs", "cs") => (136, 8),
            ("pt_regs", _) => return None,
            ("rb_node", "rb_right") => (8, 8),
            ("rb_node", "rb_left") => (16, 8),
            ("bin_attribute", "private") => (24, 8),
            ("module_sect_attrs", _) => (32, 8),
            ("module_sect_attr", _) => (64, 8),
            ("module_notes_attrs", "notes") => (8, 4),
            ("module_notes_attrs", "attrs") => (16, 0),
            ("net_device", "dev.parent") => (48, 8),
            ("net_device", "dev_list") => (16, 16),
            ("net_device", "ip_ptr") => (32, 8),
            ("net_device", "ip6_ptr") => (40, 8),
            ("net_device", "xdp_state") => (64, 48),
            ("net_device", "xdp_prog") => (112, 8),
            ("net_device", "tcx_ingress") => (120, 8),
            ("net_device", "tcx_egress") => (128, 8),
            ("net_device", "miniq_ingress") => (136, 8),
            ("net_device", "miniq_egress") => (144, 8),
            ("bpf_mprog_entry", "parent") => (512, 8),
            ("bpf_mprog_bundle", "count") => (512, 4),
            ("bpf_mprog_entry" | "bpf_mprog_bundle", _) => (0, 512),
            ("tcx_entry", "bundle.count") => (520, 4),
            ("tcf_proto", "root") => (8, 8),
            ("tcf_proto", "ops") => (16, 8),
            ("tcf_proto_ops", "kind") => (16, 16),
            ("cgroup", "self.sibling") => (64, 16),
            ("cgroup", "self.children") => (80, 16),
            ("cgroup", "bpf.effective") => (96, 64),
            ("cgroup", "bpf.progs") => (160, 64),
            ("cgroup_root", _) => (336, 16),
            ("bpf_prog_list", "prog") => (16, 8),
            ("bpf_prog_list", "link") => (24, 8),
            ("perf_event", "prog") => (16, 8),
            ("perf_event", "tp_event") => (24, 8),
            ("file_system_type", "fs_supers") => (64, 8),
            ("super_block", "s_instances") => (64, 16),
            _ => (0, 8),
        };
        Some(Member { offset, size })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        Some(match structure {
            "module_memory" => 72,
            "rb_node" => 24,
            "bin_attribute" => 64,
            "pt_regs" => 168,
            _ => STRUCTURE_BYTES,
        })
    }
}

/// Memory in which every page exists, full of zeros until something is put there.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    pages: HashMap<u64, Vec<u8>>,
    /// Memory that cannot be read.
    pub(crate) missing: Vec<Range<u64>>,
    used: u64,
    pub(crate) batches: u64,
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
}

impl MemorySource for Sparse {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.batches += 1;
        self.requests += requests.len() as u64;
        self.bytes += requests.iter().map(|request| u64::from(request.length)).sum::<u64>();
        ReadRequest::answer_each(requests, arena, |address, bytes| {
            if self.missing.iter().any(|range| range.contains(&(address + DIRECT_MAP))) {
                return ReadOutcome::NotBacked;
            }
            let mut at = address;
            let mut bytes = bytes;
            while !bytes.is_empty() {
                let start = (at % PAGE) as usize;
                let length = bytes.len().min(PAGE as usize - start);
                let (piece, rest) = bytes.split_at_mut(length);
                match self.pages.get(&(at / PAGE)) {
                    Some(page) => piece.copy_from_slice(&page[start..start + length]),
                    None => piece.fill(0),
                }
                (bytes, at) = (rest, at + length as u64);
            }
            ReadOutcome::Read
        });
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}

impl Sparse {
    /// Room for an object.
    pub(crate) fn room(&mut self, bytes: u64) -> u64 {
        let at = DIRECT_MAP + PAGE + self.used;
        self.used += bytes.next_multiple_of(64);
        assert!(self.used < DIRECT_MAP_BYTES - PAGE);
        at
    }

    /// Room for a structure.
    pub(crate) fn structure(&mut self) -> u64 {
        self.room(STRUCTURE_BYTES.into())
    }

    fn bytes_at(&mut self, at: u64, length: usize) -> &mut [u8] {
        let address = at - DIRECT_MAP;
        let page = self.pages.entry(address / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
        &mut page[(address % PAGE) as usize..][..length]
    }

    pub(crate) fn put(&mut self, at: u64, value: u64) {
        self.bytes_at(at, 8).copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn get(&mut self, at: u64) -> u64 {
        let bytes = self.bytes_at(at, 8).first_chunk().copied().unwrap();
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn set_bit(&mut self, bitmap: u64, bit: u32) {
        self.bytes_at(bitmap + u64::from(bit) / 8, 1)[0] |= 1 << (bit % 8);
    }

    /// Writes a field of a structure.
    pub(crate) fn set(&mut self, at: u64, structure: &str, path: &str, value: u64) {
        let member = Fields.member(structure, path).unwrap();
        let size = member.size.min(8) as usize;
        self.bytes_at(at + u64::from(member.offset), size)
            .copy_from_slice(&value.to_le_bytes()[..size]);
    }

    /// Address of a field of a structure.
    pub(crate) fn field(at: u64, structure: &str, path: &str) -> u64 {
        at + u64::from(Fields.member(structure, path).unwrap().offset)
    }

    /// Runs some rounds of a walk over this memory.
    pub(in crate::walk) fn walk<T>(
        &mut self,
        walker: &mut Walker,
        kernel: &Kernel,
        rounds: impl FnOnce(&mut Walker, &mut ScannedMemory<'_>) -> T,
    ) -> T {
        self.walk_within(walker, kernel, Budget::NONE, rounds)
    }

    /// The same within a budget.
    pub(in crate::walk) fn walk_within<T>(
        &mut self,
        walker: &mut Walker,
        kernel: &Kernel,
        budget: Budget<'_>,
        rounds: impl FnOnce(&mut Walker, &mut ScannedMemory<'_>) -> T,
    ) -> T {
        rounds(walker, &mut ScannedMemory::new(self, kernel, budget))
    }
}

/// Adds a process of a user to a scan. The first one is process 1.
pub(crate) fn add_process(walker: &mut Walker, memory: &mut Sparse, uid: u32) -> Index<ProcessRow> {
    let address = va(memory.structure());
    let tgid = walker.snapshot.processes.len() as u32 + 1;
    let task = Task { address, tgid, ..Task::default() };
    let leader = walker.snapshot.threads.row_of(address.0, || ThreadRow::new(task)).unwrap();
    let ids = Some(UserGroupIds { uid, ..UserGroupIds::default() });
    let process = ProcessRow { ids, ..ProcessRow::new(leader) };
    let process = walker.snapshot.processes.push(process).unwrap();
    walker.snapshot.by_pid.push(process).unwrap();
    process
}

/// A kernel with these fields.
pub(crate) fn kernel() -> Kernel {
    let layouts = Layouts::bind(&Fields).unwrap();
    let mut kernel = Kernel { layouts, ..Kernel::default() };
    kernel.space.direct_map = DIRECT_MAP..DIRECT_MAP + DIRECT_MAP_BYTES;
    kernel
}

pub(crate) fn walker(limits: &Limits) -> Walker {
    Walker::new(limits, HashKey::new(0x5eed))
}

/// Limits of a small machine.
pub(crate) fn small() -> Limits {
    Limits {
        processes: 256,
        threads: 1024,
        file_descriptors: 4096,
        vmas: 4096,
        connections: 4096,
        containers: 16,
        ..Limits::default()
    }
}

pub(crate) const fn va(address: u64) -> KernelVa {
    KernelVa(address)
}

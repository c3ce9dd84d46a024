//! One file for each kernel structure, named as the kernel names it.
//!
//! Each file declares a layout (the fields that Panoptes reads) and decodes a packed copy into
//! plain values. [`Layouts`] has all layouts; a profile fills them in.

pub mod address_space;
pub mod bpf;
pub mod bpf_attach;
pub mod bpf_link;
pub mod bpf_names;
pub mod bpf_pin;
pub mod btf;
pub mod cgroup;
pub mod code;
pub mod cred;
pub mod dentry;
pub mod dma_buf;
pub mod file;
pub mod files_struct;
pub mod fs_struct;
pub mod hooks;
pub mod inet_hashinfo;
pub mod inode;
pub mod io_uring;
pub mod kobject;
pub mod maple_tree;
pub mod mm_struct;
pub mod module;
pub mod mount;
pub mod msg_queue;
pub mod mutex;
pub mod net;
pub mod net_device;
pub mod nsproxy;
pub mod ovl_inode;
pub mod page;
pub mod pid;
pub mod pt_regs;
pub mod rb_tree;
pub mod rq;
pub mod signal_struct;
pub mod sock;
pub mod socket;
pub mod super_block;
pub mod task_struct;
pub mod timekeeper;
pub mod tty;
pub mod udp_table;
pub mod unix_sock;
pub mod uts_namespace;
pub mod vm_area_struct;
pub mod xarray;

use crate::layout::{Layout, Members, MissingMember};

/// Declares all layouts: first of structures that every kernel has, then of structures that some
/// kernels lack, and then of those that only checks of the kernel's code need.
macro_rules! layouts {
    (
        $( $(#[$doc:meta])* $field:ident : $layout:ty ),* ;
        $( $(#[$some_doc:meta])* $some:ident ? : $some_layout:ty ),* ;
        $( $of_check:ident ? : $check_layout:ty ),* $(,)?
    ) => {
        /// Every layout that the decoders declare, bound to one kernel.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct Layouts {
            $( $(#[$doc])* pub $field: $layout, )*
            $( $(#[$some_doc])* pub $some: Option<$some_layout>, )*
            $( pub $of_check: Option<$check_layout>, )*
        }

        impl Layouts {
            /// Binds all layouts. The structures after the first semicolon may be missing. Those
            /// after the second one may also lack fields: a check of the kernel's code that needs
            /// them is not made.
            ///
            /// # Errors
            ///
            /// The first required field that is missing.
            pub fn bind(members: &dyn Members) -> Result<Self, MissingMember> {
                Ok(Self {
                    $( $field: <$layout as Layout>::bind(members)?, )*
                    $( $some: match members.size_of(<$some_layout as Layout>::STRUCTURE) {
                        Some(_) => Some(<$some_layout as Layout>::bind(members)?),
                        None => None,
                    }, )*
                    $( $of_check: <$check_layout as Layout>::bind(members).ok(), )*
                })
            }
        }
    };
}

layouts! {
    address_space: address_space::AddressSpace,
    cred: cred::Cred,
    dentry: dentry::Dentry,
    dentry_alias: dentry::DentryAlias,
    dentry_tree: dentry::DentryTree,
    dst_entry: sock::DstEntry,
    fdtable: files_struct::Fdtable,
    file: file::File,
    files_struct: files_struct::FilesStruct,
    file_system_type: super_block::FileSystemType,
    fs_struct: fs_struct::FsStruct,
    idr: xarray::Idr,
    in_device: net_device::InDevice,
    in_ifaddr: net_device::InIfaddr,
    inet6_dev: net_device::Inet6Dev,
    inet6_ifaddr: net_device::Inet6Ifaddr,
    inet_hashinfo: inet_hashinfo::InetHashinfo,
    inet_listen_hashbucket: inet_hashinfo::InetListenHashbucket,
    inet_timewait_sock: sock::InetTimewaitSock,
    inode: inode::Inode,
    inode_lock: inode::InodeLock,
    inode_names: inode::InodeNames,
    /// The part of `struct inode` far from the rest.
    inode_private: inode::InodePrivate,
    mm_struct: mm_struct::MmStruct,
    mnt_namespace: nsproxy::MntNamespace,
    mount: mount::Mount,
    mount_tree: mount::MountTree,
    net: net::Net,
    net_device: net_device::NetDevice,
    net_device_index: net_device::NetDeviceIndex,
    ns_common: nsproxy::NsCommon,
    nsproxy: nsproxy::Nsproxy,
    page: page::Page,
    pid: pid::Pid,
    pid_namespace: pid::PidNamespace,
    proc_ns_operations: nsproxy::ProcNsOperations,
    signal_children: signal_struct::SignalChildren,
    signal_struct: signal_struct::SignalStruct,
    sock: sock::Sock,
    sock_common: sock::SockCommon,
    socket: socket::Socket,
    socket_alloc: socket::SocketAlloc,
    super_block: super_block::SuperBlock,
    task_stack: task_struct::TaskStack,
    task_struct: task_struct::TaskStruct,
    tcp_sock: sock::TcpSock,
    timekeeper: timekeeper::Timekeeper,
    upid: pid::Upid,
    user_namespace: cred::UserNamespace,
    uts_namespace: uts_namespace::UtsNamespace,
    vm_area_struct: vm_area_struct::VmAreaStruct,
    vm_special_mapping: vm_area_struct::VmSpecialMapping,
    xa_node: xarray::XaNode,
    xa_node_tree: xarray::XaNodeTree;
    /// Since Linux commit 9a10064f5625 ("mm: add a field to store names for private anonymous
    /// memory") (in v5.17).
    anon_vma_name?: vm_area_struct::AnonVmaName,
    /// Since Linux commit 54a611b60590 ("Maple Tree: add new data structure") (in v6.1).
    maple_node?: maple_tree::MapleNode,
    backing_file?: file::BackingFile,
    bin_attribute?: kobject::BinAttribute,
    btf?: btf::BtfObject,
    /// Since Linux commit 36e68442d1af ("bpf: Load and verify kernel module BTFs") (in v5.11).
    btf_module?: btf::BtfModule,
    cfs_rq?: rq::CfsRunQueue,
    cgroup?: cgroup::Cgroup,
    cgroup_subsys_state?: cgroup::CgroupSubsysState,
    css_set?: cgroup::CssSet,
    device?: kobject::Device,
    device_driver?: kobject::DeviceDriver,
    dma_buf?: dma_buf::DmaBuf,
    file_operations?: file::FileOperations,
    io_fixed_file?: io_uring::IoFixedFile,
    io_ring_ctx?: io_uring::IoRingCtx,
    io_rsrc_node?: io_uring::IoRsrcNode,
    ipc_ids?: msg_queue::IpcIds,
    ipc_namespace?: msg_queue::IpcNamespace,
    kernfs_iattrs?: cgroup::KernfsIattrs,
    kernfs_node?: cgroup::KernfsNode,
    kset?: kobject::Kset,
    mod_tree_node?: module::ModTreeNode,
    mod_tree_root?: module::ModTreeRoot,
    module?: module::ModuleStructure,
    module_kobject?: kobject::ModuleKobject,
    module_layout?: module::ModuleLayout,
    module_memory?: module::ModuleMemory,
    module_notes_attrs?: module::ModuleNotesAttrs,
    module_sect_attr?: module::ModuleSectAttr,
    module_sect_attrs?: module::ModuleSectAttrs,
    module_use?: module::ModuleUse,
    msg_queue?: msg_queue::MsgQueue,
    mutex?: mutex::Mutex,
    /// The part of `struct net_device` that leads to its driver.
    net_device_parent?: net_device::NetDeviceParent,
    /// `enum pageflags`
    page_flags?: page::PageFlags,
    /// In a module unless overlayfs is built in, as the next two.
    ovl_entry?: ovl_inode::OvlEntry,
    ovl_inode?: ovl_inode::OvlInode,
    ovl_path?: ovl_inode::OvlPath,
    pt_regs?: pt_regs::PtRegs,
    rb_node?: rb_tree::RbNode,
    rq?: rq::RunQueue,
    tty_file_private?: tty::TtyFilePrivate,
    tty_struct?: tty::TtyStruct,
    udp_hslot?: udp_table::UdpHslot,
    udp_table?: udp_table::UdpTable,
    /// In a module unless AF_UNIX is built in.
    unix_sock?: unix_sock::UnixSock;
    atomic_notifier_head?: hooks::AtomicNotifierHead,
    blocking_notifier_head?: hooks::BlockingNotifierHead,
    bpf_cgroup?: bpf_attach::BpfCgroup,
    bpf_cgroup_link?: bpf_link::BpfCgroupLink,
    bpf_cgroup_root?: bpf_attach::BpfCgroupRoot,
    bpf_kprobe_multi_link?: bpf_link::BpfKprobeMultiLink,
    bpf_ksym?: bpf::BpfKsym,
    bpf_link?: bpf_link::BpfLinkStructure,
    bpf_map?: bpf::BpfMapStructure,
    bpf_mprog_bundle?: bpf_attach::BpfMprogBundle,
    bpf_mprog_entry?: bpf_attach::BpfMprogEntry,
    bpf_net_device?: bpf_attach::BpfNetDevice,
    bpf_netns_link?: bpf_link::BpfNetnsLink,
    bpf_prog?: bpf::BpfProgStructure,
    bpf_prog_aux?: bpf::BpfProgAux,
    bpf_prog_list?: bpf_attach::BpfProgList,
    bpf_prog_pack?: code::BpfProgPack,
    bpf_raw_event_map?: bpf_link::BpfRawEventMap,
    bpf_raw_tp_link?: bpf_link::BpfRawTpLink,
    bpf_tracing_link?: bpf_link::BpfTracingLink,
    bpf_trampoline?: bpf_link::BpfTrampoline,
    bpf_xdp_link?: bpf_link::BpfXdpLink,
    delayed_work?: hooks::DelayedWork,
    dentry_inode?: hooks::DentryInode,
    dyn_ftrace?: code::DynFtrace,
    fgraph_ops?: code::FgraphOps,
    file_system_mounts?: bpf_pin::FileSystemMounts,
    fprobe?: code::Fprobe,
    fprobe_hlist?: code::FprobeHlist,
    fprobe_hlist_node?: code::FprobeHlistNode,
    ftrace_func_entry?: code::FtraceFuncEntry,
    ftrace_hash?: code::FtraceHash,
    ftrace_ops?: code::FtraceOps,
    ftrace_ops_hash?: code::FtraceOpsHash,
    ftrace_page?: code::FtracePage,
    inet_protosw?: hooks::InetProtosw,
    inode_ops?: hooks::InodeOps,
    kernel_task?: hooks::KernelTask,
    kernfs_number?: bpf_link::KernfsNumber,
    kernfs_id?: code::KernfsId,
    klp_func?: code::KlpFunc,
    klp_ops?: code::KlpOps,
    kprobe?: code::Kprobe,
    kprobe_insn_cache?: code::KprobeInsnCache,
    kprobe_insn_page?: code::KprobeInsnPage,
    kretprobe?: code::Kretprobe,
    kthread?: hooks::Kthread,
    linux_binfmt?: hooks::LinuxBinfmt,
    lsm_static_call?: hooks::LsmStaticCall,
    mini_qdisc?: bpf_attach::MiniQdisc,
    module_sites?: code::ModuleSites,
    net_device_hooks?: hooks::NetDeviceHooks,
    net_hooks?: hooks::NetHooks,
    net_hotdata?: code::NetHotdata,
    netkit_link?: bpf_link::NetkitLink,
    nf_hook_entries?: hooks::NfHookEntries,
    notifier_block?: hooks::NotifierBlock,
    optimized_kprobe?: code::OptimizedKprobe,
    packet_type?: hooks::PacketType,
    perf_event?: bpf_attach::PerfEvent,
    proc_dir_entry?: hooks::ProcDirEntry,
    proto?: hooks::Proto,
    raw_notifier_head?: hooks::RawNotifierHead,
    security_hook_heads?: hooks::SecurityHookHeads,
    security_hook_list?: hooks::SecurityHookList,
    smp_alt_module?: code::SmpAltModule,
    super_block_of_type?: bpf_pin::SuperBlockOfType,
    super_block_ops?: hooks::SuperBlockOps,
    tcf_proto?: bpf_attach::TcfProto,
    tcf_proto_ops?: bpf_attach::TcfProtoOps,
    tcx_entry?: bpf_attach::TcxEntry,
    tcx_link?: bpf_link::TcxLink,
    timer_base?: hooks::TimerBase,
    timer_list?: hooks::TimerList,
    trace_event_call?: bpf_attach::TraceEventCall,
    tracepoint?: bpf_link::Tracepoint,
    tracepoint_func?: hooks::TracepointFunc,
    tracepoint_hooks?: hooks::TracepointHooks,
    tty_driver?: hooks::TtyDriver,
    tty_ldisc?: hooks::TtyLdisc,
    tty_ops?: hooks::TtyOps,
    uprobe?: code::Uprobe,
    uprobe_consumer?: code::UprobeConsumer,
    user_struct?: bpf::UserStruct,
    vm_struct?: code::VmStruct,
    vmap_area?: code::VmapArea,
    work_struct?: hooks::WorkStruct,
    worker?: hooks::Worker,
    worker_pool?: hooks::WorkerPool,
}

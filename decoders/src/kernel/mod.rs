//! One file for each kernel structure, named as the kernel names it.
//!
//! Each declares its layout (the fields that we use) and decodes a packed copy into plain facts.
//! [`Layouts`] is all of them together: what a profile fills in.

pub mod address_space;
pub mod btf;
pub mod cgroup;
pub mod cred;
pub mod dentry;
pub mod dma_buf;
pub mod file;
pub mod files_struct;
pub mod fs_struct;
pub mod inet_hashinfo;
pub mod inode;
pub mod maple_tree;
pub mod mm_struct;
pub mod mount;
pub mod net;
pub mod net_device;
pub mod nsproxy;
pub mod ovl_inode;
pub mod page;
pub mod pid;
pub mod rq;
pub mod signal_struct;
pub mod sock;
pub mod socket;
pub mod super_block;
pub mod task_struct;
pub mod timekeeper;
pub mod tty;
pub mod unix_sock;
pub mod uts_namespace;
pub mod vm_area_struct;
pub mod xarray;

use crate::layout::{Layout, Members, Missing};

/// Declares all layouts: first those of structures that every kernel has, then those that some lack.
macro_rules! layouts {
    (
        $( $(#[$doc:meta])* $field:ident : $layout:ty ),* ;
        $( $(#[$some_doc:meta])* $some:ident ? : $some_layout:ty ),* $(,)?
    ) => {
        /// Every layout that the decoders declare, bound to one kernel.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct Layouts {
            $( $(#[$doc])* pub $field: $layout, )*
            $( $(#[$some_doc])* pub $some: Option<$some_layout>, )*
        }

        impl Layouts {
            /// Binds all of them; the first required field that is missing is the error. Structures that
            /// only some kernels have are those after the semicolon.
            pub fn bind(members: &dyn Members) -> Result<Self, Missing> {
                Ok(Self {
                    $( $field: <$layout as Layout>::bind(members)?, )*
                    $( $some: match members.size_of(<$some_layout as Layout>::STRUCTURE) {
                        Some(_) => Some(<$some_layout as Layout>::bind(members)?),
                        None => None,
                    }, )*
                })
            }
        }
    };
}

layouts! {
    /// `struct address_space`
    address_space: address_space::AddressSpace,
    /// `struct cred`
    cred: cred::Cred,
    /// `struct dentry`
    dentry: dentry::Dentry,
    /// `struct dst_entry`
    dst_entry: sock::DstEntry,
    /// `struct fdtable`
    fdtable: files_struct::Fdtable,
    /// `struct file`
    file: file::File,
    /// `struct files_struct`
    files_struct: files_struct::FilesStruct,
    /// `struct file_system_type`
    file_system_type: super_block::FileSystemType,
    /// `struct fs_struct`
    fs_struct: fs_struct::FsStruct,
    /// `struct idr`
    idr: xarray::Idr,
    /// `struct in_device`
    in_device: net_device::InDevice,
    /// `struct in_ifaddr`
    in_ifaddr: net_device::InIfaddr,
    /// `struct inet6_dev`
    inet6_dev: net_device::Inet6Dev,
    /// `struct inet6_ifaddr`
    inet6_ifaddr: net_device::Inet6Ifaddr,
    /// `struct inet_hashinfo`
    inet_hashinfo: inet_hashinfo::InetHashinfo,
    /// `struct inet_listen_hashbucket`
    inet_listen_hashbucket: inet_hashinfo::InetListenHashbucket,
    /// `struct inet_timewait_sock`
    inet_timewait_sock: sock::InetTimewaitSock,
    /// `struct inode`
    inode: inode::Inode,
    /// `struct inode`, its lock
    inode_lock: inode::InodeLock,
    /// `struct inode`, its far end
    inode_private: inode::InodePrivate,
    /// `struct mm_struct`
    mm_struct: mm_struct::MmStruct,
    /// `struct mnt_namespace`
    mnt_namespace: nsproxy::MntNamespace,
    /// `struct mount`
    mount: mount::Mount,
    /// `struct net`
    net: net::Net,
    /// `struct net_device`
    net_device: net_device::NetDevice,
    /// `struct net_device`, its number alone
    net_device_index: net_device::NetDeviceIndex,
    /// `struct ns_common`
    ns_common: nsproxy::NsCommon,
    /// `struct nsproxy`
    nsproxy: nsproxy::Nsproxy,
    /// `struct page`
    page: page::Page,
    /// `struct pid`
    pid: pid::Pid,
    /// `struct pid_namespace`
    pid_namespace: pid::PidNamespace,
    /// `struct proc_ns_operations`
    proc_ns_operations: nsproxy::ProcNsOperations,
    /// `struct signal_struct`
    signal_struct: signal_struct::SignalStruct,
    /// `struct sock`
    sock: sock::Sock,
    /// `struct sock_common`
    sock_common: sock::SockCommon,
    /// `struct socket`
    socket: socket::Socket,
    /// `struct socket_alloc`
    socket_alloc: socket::SocketAlloc,
    /// `struct super_block`
    super_block: super_block::SuperBlock,
    /// `struct task_struct`
    task_struct: task_struct::TaskStruct,
    /// `struct tcp_sock`
    tcp_sock: sock::TcpSock,
    /// `struct timekeeper`
    timekeeper: timekeeper::Timekeeper,
    /// `struct upid`
    upid: pid::Upid,
    /// `struct uts_namespace`
    uts_namespace: uts_namespace::UtsNamespace,
    /// `struct vm_area_struct`
    vm_area_struct: vm_area_struct::VmAreaStruct,
    /// `struct vm_special_mapping`
    vm_special_mapping: vm_area_struct::VmSpecialMapping,
    /// `struct xa_node`
    xa_node: xarray::XaNode;
    /// `struct anon_vma_name`, since Linux commit 9a10064f5625 ("mm: add a field to store names for private
    /// anonymous memory") (in v5.17).
    anon_vma_name?: vm_area_struct::AnonVmaName,
    /// `struct maple_node`, since Linux commit 54a611b60590 ("Maple Tree: add new data structure") (in v6.1).
    maple_node?: maple_tree::MapleNode,

    /// `struct backing_file`
    backing_file?: file::BackingFile,
    /// `struct btf`
    btf?: btf::BtfObject,
    /// `struct btf_module`, since Linux commit 36e68442d1af ("bpf: Load and verify kernel module BTFs") (in v5.11).
    btf_module?: btf::BtfModule,
    /// `struct cfs_rq`
    cfs_rq?: rq::CfsRunQueue,
    /// `struct cgroup`
    cgroup?: cgroup::Cgroup,
    /// `struct cgroup_subsys_state`
    cgroup_subsys_state?: cgroup::CgroupSubsysState,
    /// `struct css_set`
    css_set?: cgroup::CssSet,
    /// `struct dma_buf`
    dma_buf?: dma_buf::DmaBuf,
    /// `struct kernfs_node`
    kernfs_node?: cgroup::KernfsNode,
    /// `enum pageflags`
    page_flags?: page::PageFlags,
    /// `struct ovl_entry`; it and the next two are a module's, where overlayfs is not built in.
    ovl_entry?: ovl_inode::OvlEntry,
    /// `struct ovl_inode`
    ovl_inode?: ovl_inode::OvlInode,
    /// `struct ovl_path`
    ovl_path?: ovl_inode::OvlPath,
    /// `struct rq`
    rq?: rq::RunQueue,
    /// `struct tty_file_private`
    tty_file_private?: tty::TtyFilePrivate,
    /// `struct tty_struct`
    tty_struct?: tty::TtyStruct,
    /// `struct unix_sock`; a module's, where AF_UNIX is not built in.
    unix_sock?: unix_sock::UnixSock,
}

//! Turns facts into details objects: the source of each attribute of guide §11.
//!
//! Records and scan lines use the same functions, so that they cannot differ. These functions read
//! no memory, know no time, and do not decide what is reported.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use panoptes_decoders::kernel::file::FMODE_PATH;
use panoptes_decoders::kernel::inode::{Attributes, device_numbers, mode};
use panoptes_decoders::kernel::module::ModuleStage;
use panoptes_decoders::kernel::sock::{IPPROTO_TCP, IPPROTO_UDP, TcpState};
use panoptes_decoders::kernel::super_block::FilesKind;
use panoptes_decoders::kernel::task_struct::TaskState;
use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE};
use panoptes_decoders::layout::c_string;
use panoptes_records::json::address::MacAddress;
use panoptes_records::json::command_line::CommandLine;
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::container::ContainerDetails;
use panoptes_records::record::file::FileDetails;
use panoptes_records::record::file_descriptor::{
    FileAccess, FileDescriptorDetails, FileMode, FileType,
};
use panoptes_records::record::interface::WorkloadInterface;
use panoptes_records::record::kernel_module::{
    KernelModuleDetails, KernelModuleSignature, KernelModuleState,
};
use panoptes_records::record::network_connection::{
    ConnectionProtocol, ConnectionState, NetworkConnectionDetails,
};
use panoptes_records::record::process::{ProcessDetails, ProcessState};
use panoptes_records::record::process_memory::ProcessMemoryDetails;
use panoptes_records::record::thread::ThreadDetails;
use panoptes_records::record::value::{
    AreaPermissions, DeviceNumber, Flat, Hash, Hex, MemoryAddress, Namespace, Permissions,
};
use panoptes_records::record::workload::ContainerContext;

use super::module_words::ModuleWords;
use super::subject_names::path;
use crate::container_config::ImageReference;
use crate::detect::file_content::paths::set_ids;
use crate::page_cache::Partial;
use crate::state::container::ContainerFacts;
use crate::state::facts::{
    AreaFacts, ConnectionFacts, DescriptorFacts, FileName, InodeFacts, OpenFlags, ProcessFacts,
    ThreadFacts,
};
use crate::state::modules::ModuleFacts;
use crate::walk::{
    InterfaceRow, Machine, Snapshot, UNREAD_DEVICE, is_terminal, number_of, slot_of,
};

/// Describes a process. `tsc_khz` is the rate of the machine's clock in kHz, if known.
pub fn process<'a>(facts: &ProcessFacts<'a>, tsc_khz: Option<u32>) -> ProcessDetails<'a> {
    let line = |bytes| {
        if facts.command_line_cut { CommandLine::cut(bytes) } else { CommandLine::new(bytes) }
    };
    let numbers = &facts.numbers;
    ProcessDetails {
        process_name: facts.name.into(),
        process_id: facts.process_id,
        process_self_exec_id: facts.self_exec_id.map(u64::from),
        process_hash_sha256: facts.executable_hashes.map(|hashes| Hash(hashes.sha256)),
        process_hash_sha1: facts.executable_hashes.map(|hashes| Hash(hashes.sha1)),
        process_hash_md5: facts.executable_hashes.map(|hashes| Hash(hashes.md5)),
        process_file_size_bytes: facts.executable_size,
        process_executable_path: facts.executable.map(Text::new),
        process_current_working_directory: facts.directory.map(Text::new),
        process_command_line_arguments: facts.command_line.map(line),
        process_creation_time_iso_8601_ns: numbers.creation_time_ns.get().map(Timestamp::from_ns),
        process_parent_process_id: numbers.parent_process_id.get(),
        process_real_user_id: numbers.ids.map(|ids| ids.uid),
        process_real_group_id: numbers.ids.map(|ids| ids.gid),
        process_effective_user_id: numbers.ids.map(|ids| ids.euid),
        process_effective_group_id: numbers.ids.map(|ids| ids.egid),
        process_login_user_id: numbers.login_user_id.get(),
        process_audit_session_id: numbers.audit_session_id.get(),
        process_state: numbers
            .state
            .map(|(state, exit_state)| process_state(TaskState::of(state, exit_state))),
        process_cpu_clock_cycles: numbers
            .cpu_time_ns
            .get()
            .zip(tsc_khz)
            .and_then(|(time_ns, khz)| cycles(time_ns, khz)),
        process_cpu_time_ns: numbers.cpu_time_ns.get(),
        process_pid_namespace: namespace("pid", numbers.pid_namespace),
        process_mount_points_namespace: namespace("mnt", numbers.mount_namespace),
        process_network_namespace: namespace("net", numbers.network_namespace),
        process_container_id: facts.container.map(Text::new),
        process_began_while_not_watched: facts.began_unwatched.then_some(true),
        process_recovered: facts.was_recovered.then_some(true),
    }
}

pub fn thread(facts: &ThreadFacts) -> ThreadDetails {
    ThreadDetails {
        thread_id: facts.thread_id,
        thread_self_exec_id: Some(facts.self_exec_id.into()),
        thread_exit_state: facts.exit_state,
    }
}

pub fn file_descriptor<'a>(facts: &DescriptorFacts<'a>) -> FileDescriptorDetails<'a> {
    let inode = facts.inode;
    FileDescriptorDetails {
        file_descriptor_index: number_of(facts.index),
        file_descriptor_ring_slot: slot_of(facts.index),
        file_descriptor_name: facts.name.map(|name| match name {
            FileName::Text(text) => Text::new(text),
            FileName::Numbered(kind, number) => Text::numbered(kind, number),
        }),
        file_descriptor_file_type: inode.and_then(|inode| file_type(&inode, facts)),
        file_descriptor_file_mode: facts.open.map(|open| file_mode(open, facts.close_on_exec)),
        file_descriptor_inode_number: inode.map(|inode| inode.number),
        file_descriptor_inode_device_identifier: inode.map(|inode| device(inode.device)),
        file_descriptor_inode_permissions: inode.map(|inode| Permissions(inode.mode & 0o7777)),
        file_descriptor_inode_uid: inode.map(|inode| inode.uid),
        file_descriptor_inode_gid: inode.map(|inode| inode.gid),
        file_descriptor_inode_size_bytes: inode.map(|inode| inode.size),
        file_descriptor_inode_deleted: facts.name.map(|_| facts.deleted),
        file_descriptor_thread_id_array: (!facts.threads.is_empty()).then_some(facts.threads),
        file_descriptor_inode_change_time_iso_8601_ns: inode.and_then(|i| time(i.change_time_ns)),
        file_descriptor_inode_modify_time_iso_8601_ns: inode.and_then(|i| time(i.modify_time_ns)),
        file_descriptor_inode_access_time_iso_8601_ns: inode.and_then(|i| time(i.access_time_ns)),
        ..FileDescriptorDetails::default()
    }
}

/// Describes a kernel module, without what only lines of a scan have.
pub(super) fn kernel_module<'a>(
    facts: &'a ModuleFacts,
    words: &'a ModuleWords,
) -> KernelModuleDetails<'a> {
    let text = |text: &'a str| (!text.is_empty()).then(|| Text::from(text));
    let build_id = facts.build_id.bytes();
    let is_hidden = !words.missing.is_empty();
    KernelModuleDetails {
        kernel_module_name: facts.name().into(),
        kernel_module_size: facts.bytes,
        kernel_module_state: Some(module_state(facts.stage)),
        kernel_module_reference_count: facts.references.get(),
        kernel_module_taints: text(&words.taints),
        kernel_module_source_version: text(&facts.source_version),
        kernel_module_build_id: (!build_id.is_empty()).then_some(Hex(build_id)),
        kernel_module_signature: facts.is_signed.map(|is_signed| {
            if is_signed {
                KernelModuleSignature::Verified
            } else {
                KernelModuleSignature::Unverified
            }
        }),
        kernel_module_address: (!facts.text.is_null()).then_some(MemoryAddress(facts.text.0)),
        kernel_module_views: is_hidden.then_some(&words.shown),
        kernel_module_missing_views: is_hidden.then_some(&words.missing),
        ..KernelModuleDetails::default()
    }
}

const fn module_state(stage: ModuleStage) -> KernelModuleState {
    match stage {
        ModuleStage::Live => KernelModuleState::Live,
        ModuleStage::Coming => KernelModuleState::Loading,
        ModuleStage::Going => KernelModuleState::Unloading,
        ModuleStage::Unformed => KernelModuleState::Unformed,
    }
}

pub fn container<'a>(facts: &ContainerFacts<'a>) -> ContainerDetails<'a> {
    ContainerDetails {
        container_id: Text::new(facts.id),
        container_runtime: facts.runtime.map(|runtime| runtime.name().into()),
        container_cgroup_path: facts.path.map(Text::new),
        container_pid_namespace: namespace("pid", facts.pid_namespace),
        container_mount_points_namespace: namespace("mnt", facts.mount_namespace),
        container_network_namespace: namespace("net", facts.network_namespace),
        container_first_process_id: facts.first_process_id,
        container_parent_id: facts.parent.map(Text::new),
        container_hostname: facts.host_name.map(Text::new),
        container_pod_uid: facts.pod_uid.map(Text::new),
    }
}

/// Describes the container of a record. `address`, that of its pod, is left out if unknown.
pub fn container_context<'a>(
    facts: &ContainerFacts<'a>,
    image: ImageReference<'a>,
    address: Option<IpAddr>,
    machine: &'a Machine,
) -> ContainerContext<'a> {
    let node = &machine.hostname[..];
    ContainerContext {
        container_id: Some(Text::new(facts.id)),
        container_name: facts.name().map(Text::new),
        container_image_name: image.name.map(Text::from),
        container_image_digest: image.digest.map(Text::from),
        pod_uid: facts.pod_uid.map(Text::new),
        pod_name: facts.pod_name().map(Text::new),
        pod_ip_address: address,
        node_name: (facts.pod_uid.is_some() && !node.is_empty()).then(|| Text::new(node)),
    }
}

pub fn memory<'a>(facts: &AreaFacts<'a>) -> ProcessMemoryDetails<'a> {
    ProcessMemoryDetails {
        process_id: facts.process_id,
        virtual_memory_area_start_address: MemoryAddress(facts.start),
        virtual_memory_area_end_address: MemoryAddress(facts.end),
        memory_permissions: permissions(facts.flags),
        is_main_process_executable: (!facts.executable_unknown).then_some(facts.is_main_executable),
        file_path: facts.file.map(Text::new),
        file_name: facts.file.map(|path| Text::new(last_component(path))),
        memory_name: facts.name.map(Text::new),
    }
}

/// The permissions in `VM_*` flags.
pub fn permissions(flags: u64) -> AreaPermissions {
    AreaPermissions {
        read: flags & VM_READ != 0,
        write: flags & VM_WRITE != 0,
        execute: flags & VM_EXEC != 0,
        shared: flags & VM_MAYSHARE != 0,
    }
}

/// Describes a connection, without its times and other holders, which only records have.
pub fn network_connection<'a>(
    facts: &ConnectionFacts,
    interface_row: Option<&'a InterfaceRow>,
) -> NetworkConnectionDetails<'a> {
    let counters = facts.counters;
    let average = |bytes: u64, segments: u32| bytes.checked_div(segments.into());
    NetworkConnectionDetails {
        file_descriptor_id: facts.descriptor.and_then(number_of),
        connection_state: connection_state(facts.state),
        protocol: protocol(facts.protocol),
        source_ip_address: facts.source.into(),
        source_port: facts.source_port,
        destination_ip_address: facts.destination.into(),
        destination_port: facts.destination_port,
        tcp_bytes_in: counters.map(|counters| counters.bytes_in),
        tcp_bytes_out: counters.map(|counters| counters.bytes_out),
        tcp_segments_in: counters.map(|counters| counters.segments_in.into()),
        tcp_segments_out: counters.map(|counters| counters.segments_out.into()),
        interface: interface_row.map(|row| Flat(interface(row))),
        tcp_average_bytes_in: counters
            .and_then(|counters| average(counters.bytes_in, counters.data_segments_in)),
        tcp_average_bytes_out: counters
            .and_then(|counters| average(counters.bytes_out, counters.data_segments_out)),
        network_namespace: namespace("net", facts.network_namespace),
        ..NetworkConnectionDetails::default()
    }
}

/// Maps the IP protocol number (include/uapi/linux/in.h).
const fn protocol(number: u16) -> ConnectionProtocol {
    match number {
        IPPROTO_TCP => ConnectionProtocol::Tcp,
        IPPROTO_UDP | 136 => ConnectionProtocol::Udp,
        1 | 58 => ConnectionProtocol::Icmp,
        132 => ConnectionProtocol::Sctp,
        33 => ConnectionProtocol::Dccp,
        _ => ConnectionProtocol::Raw,
    }
}

/// The interface that a connection uses: the bound device, else the one that its route leaves
/// through, else the loopback device when the peer's address is one of the machine's own (the
/// kernel's local routes lead there), else the interface with the connection's own address. If an
/// interface could not be read, it may be the one of these, so nothing but a known device counts.
pub fn interface_of<'a>(
    snapshot: &'a Snapshot,
    facts: &ConnectionFacts,
) -> Option<&'a InterfaceRow> {
    let namespace = |row: &&InterfaceRow| row.network_namespace == facts.network_namespace;
    let known = if facts.bound_device != 0 { facts.bound_device } else { facts.route_device };
    let owns = |row: &InterfaceRow, address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => row.ipv4.contains(&address),
        IpAddr::V6(address) => row.ipv6.contains(&address),
    };
    let mut local = snapshot.interfaces.iter().filter(namespace);
    if let Some(row) = local.clone().find(|row| known != 0 && row.index == known) {
        Some(row)
    } else if facts.bound_device != 0
        || facts.route_device == UNREAD_DEVICE
        || !snapshot.has_all_interfaces()
    {
        None
    } else if local.clone().any(|row| owns(row, facts.destination)) {
        local.find(|row| row.ipv4.iter().any(Ipv4Addr::is_loopback))
    } else {
        local.find(|row| owns(row, facts.source))
    }
}

pub fn interface(row: &InterfaceRow) -> WorkloadInterface<'_> {
    WorkloadInterface {
        workload_network_interface_name: Text::new(c_string(&row.name)),
        workload_network_interface_mac_address: row.mac.map(MacAddress),
        workload_network_interface_ipv4_address: &row.ipv4,
        workload_network_interface_ipv6_address: &row.ipv6,
    }
}

/// A namespace as /proc links to it; `None` if its number is unknown.
pub fn namespace(kind: &'static str, number: u32) -> Option<Namespace> {
    (number != 0).then_some(Namespace::new(kind, number.into()))
}

fn process_state(state: TaskState) -> ProcessState {
    match state {
        TaskState::Running => ProcessState::Running,
        TaskState::Sleeping => ProcessState::Sleeping,
        TaskState::DiskSleep => ProcessState::DiskSleep,
        TaskState::Stopped => ProcessState::Stopped,
        TaskState::TracingStop => ProcessState::TracingStop,
        TaskState::Dead => ProcessState::Dead,
        TaskState::Zombie => ProcessState::Zombie,
        TaskState::Parked => ProcessState::Parked,
        TaskState::Idle => ProcessState::Idle,
    }
}

/// Converts nanoseconds of run time to cycles of a clock: kHz × ns = 10⁻⁶ cycles.
fn cycles(time_ns: u64, khz: u32) -> Option<u64> {
    u64::try_from(u128::from(time_ns) * u128::from(khz) / 1_000_000).ok()
}

fn time(ns: i64) -> Option<Timestamp> {
    // A saturated value is not a time.
    (ns != i64::MAX && ns != i64::MIN).then_some(Timestamp::from_ns(ns))
}

/// Adds to a reason that a file has no hashes, since it is not all in memory. Text that does not
/// fit is cut off.
pub(super) fn add_partial(reason: &mut impl fmt::Write, partial: Partial) {
    let Partial { resident, pages, .. } = partial;
    let _ = write!(reason, "; no hashes: {resident} of {pages} pages are in memory");
}

/// Adds to a reason by which path a file was found first, before it was renamed. Text that does not
/// fit is cut off.
pub(super) fn add_previous(reason: &mut impl fmt::Write, previous: &[u8]) {
    let _ = write!(reason, "; it was {} until it was renamed", path(Some(previous)));
}

/// Adds to a reason that a file is set-uid or set-gid, if it is. Text that does not fit is cut off.
pub(super) fn add_set_id(reason: &mut impl fmt::Write, mode: u16, (uid, gid): (u32, u32)) {
    let _ = match set_ids(mode) {
        (true, _) => write!(reason, "; it is set-uid and runs with the rights of user {uid}"),
        (false, true) => write!(reason, "; it is set-gid and runs with the rights of group {gid}"),
        (false, false) => Ok(()),
    };
}

pub(super) fn device(number: u32) -> DeviceNumber {
    let (major, minor) = device_numbers(number);
    DeviceNumber { major, minor }
}

/// A file that a path names: its path, type and attributes. The type is left out if it is another
/// one than that of the files, folders and links that are compared.
pub(super) fn named_file<'a>(path: &'a [u8], inode: &Attributes, device: u32) -> FileDetails<'a> {
    let file_type = match inode.kind() {
        mode::S_IFREG => Some(FileType::Regular),
        mode::S_IFDIR => Some(FileType::Directory),
        mode::S_IFLNK => Some(FileType::Symlink),
        _ => None,
    };
    FileDetails {
        file_path: path.into(),
        file_type,
        file_inode_number: Some(inode.ino),
        file_inode_device_identifier: Some(self::device(device)),
        file_inode_permissions: Some(Permissions(inode.mode & 0o7777)),
        file_inode_uid: Some(inode.uid),
        file_inode_gid: Some(inode.gid),
        file_inode_size_bytes: Some(inode.size),
        file_inode_change_time_iso_8601_ns: Some(Timestamp::from_ns(inode.ctime_ns)),
        file_inode_modify_time_iso_8601_ns: Some(Timestamp::from_ns(inode.mtime_ns)),
        file_inode_access_time_iso_8601_ns: Some(Timestamp::from_ns(inode.atime_ns)),
        ..FileDetails::default()
    }
}

/// The part after the last slash, or the whole name without one.
pub(super) fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn connection_state(state: TcpState) -> ConnectionState {
    match state {
        TcpState::Established => ConnectionState::Established,
        TcpState::SynSent => ConnectionState::SynSent,
        TcpState::SynReceived => ConnectionState::SynReceived,
        TcpState::FinWait1 => ConnectionState::FinWait1,
        TcpState::FinWait2 => ConnectionState::FinWait2,
        TcpState::TimeWait => ConnectionState::TimeWait,
        TcpState::Closed => ConnectionState::Closed,
        TcpState::CloseWait => ConnectionState::CloseWait,
        TcpState::LastAck => ConnectionState::LastAck,
        TcpState::Listen => ConnectionState::Listen,
        TcpState::Closing => ConnectionState::Closing,
    }
}

/// `O_*` of x86-64 and the generic ABI (include/uapi/asm-generic/fcntl.h), with the mode of each.
const OPEN_FLAGS: [(u32, u32, u16); 11] = [
    (0o2000, 0o2000, FileMode::APPEND),
    (0o4000, 0o4000, FileMode::NONBLOCK),
    (0o20000, 0o20000, FileMode::ASYNC),
    (0o40000, 0o40000, FileMode::DIRECT),
    // O_SYNC is `__O_SYNC | O_DSYNC`: DSYNC applies only without `__O_SYNC`.
    (0o4_000_000, 0o4_000_000, FileMode::SYNC),
    (0o4_010_000, 0o10000, FileMode::DSYNC),
    (0o1_000_000, 0o1_000_000, FileMode::NOATIME),
    (0o200_000, 0o200_000, FileMode::DIRECTORY),
    (0o400_000, 0o400_000, FileMode::NOFOLLOW),
    (0o20_000_000, 0o20_000_000, FileMode::TMPFILE),
    (0o100_000, 0o100_000, FileMode::LARGE_FILE),
];
/// `O_ACCMODE`
const O_ACCMODE: u32 = 0o3;
/// `O_PATH`
const O_PATH: u32 = 0o10_000_000;

fn file_mode(open: OpenFlags, close_on_exec: bool) -> FileMode {
    let access = match open.flags & O_ACCMODE {
        _ if open.flags & O_PATH != 0 || open.mode & FMODE_PATH != 0 => FileAccess::Path,
        0 => FileAccess::ReadOnly,
        1 => FileAccess::WriteOnly,
        _ => FileAccess::ReadWrite,
    };
    let flags = OPEN_FLAGS
        .iter()
        .filter(|(mask, value, _)| open.flags & mask == *value)
        .fold(0, |flags, (_, _, flag)| flags | flag);
    let close_on_exec = if close_on_exec { FileMode::CLOSE_ON_EXEC } else { 0 };
    FileMode { access, flags: flags | close_on_exec }
}

/// The type of an open file; `None` if only its name tells, and that could not be read.
fn file_type(inode: &InodeFacts, facts: &DescriptorFacts<'_>) -> Option<FileType> {
    let is_regular = inode.mode & mode::S_IFMT == mode::S_IFREG;
    match inode.files {
        // Inodes of these filesystems have no type of their own, or that of a regular file.
        FilesKind::AnonInodes => facts.name.map(|_| anonymous_type(text(facts))),
        FilesKind::Namespaces => Some(FileType::Namespace),
        FilesKind::Pidfds => Some(FileType::Pidfd),
        FilesKind::DmaBufs => Some(FileType::DmaBuf),
        FilesKind::Tmpfs | FilesKind::HugePages if is_regular && facts.lacks_name() => None,
        _ => Some(own_type(inode, facts)),
    }
}

/// The type of an open file by the mode of its inode.
fn own_type(inode: &InodeFacts, facts: &DescriptorFacts<'_>) -> FileType {
    match inode.mode & mode::S_IFMT {
        // memfd_create gives a file of the kernel's own tmpfs or hugetlbfs this name (mm/memfd.c).
        mode::S_IFREG
            if matches!(inode.files, FilesKind::Tmpfs | FilesKind::HugePages)
                && facts.floating
                && text(facts).starts_with(b"/memfd:") =>
        {
            FileType::Memfd
        }
        mode::S_IFREG => FileType::Regular,
        mode::S_IFDIR => FileType::Directory,
        mode::S_IFLNK => FileType::Symlink,
        mode::S_IFCHR if is_terminal(inode.special_device) => FileType::Tty,
        mode::S_IFCHR => FileType::CharacterDevice,
        mode::S_IFBLK => FileType::BlockDevice,
        mode::S_IFIFO if inode.files == FilesKind::Pipes => FileType::Pipe,
        mode::S_IFIFO => FileType::Fifo,
        mode::S_IFSOCK => FileType::Socket,
        _ => FileType::Unknown,
    }
}

fn text<'a>(facts: &DescriptorFacts<'a>) -> &'a [u8] {
    match facts.name {
        Some(FileName::Text(text)) => text,
        _ => b"",
    }
}

/// The type of an anonymous inode, by the name from `anon_inode_getfile`.
fn anonymous_type(name: &[u8]) -> FileType {
    match name.strip_prefix(b"anon_inode:").unwrap_or(name) {
        b"[eventfd]" => FileType::Eventfd,
        b"[eventpoll]" => FileType::Epoll,
        b"[timerfd]" => FileType::Timerfd,
        b"[signalfd]" => FileType::Signalfd,
        b"inotify" => FileType::Inotify,
        b"[fanotify]" => FileType::Fanotify,
        b"[io_uring]" => FileType::IoUring,
        b"[pidfd]" => FileType::Pidfd,
        b"[perf_event]" => FileType::PerfEvent,
        b"[userfaultfd]" => FileType::Userfaultfd,
        b"btf" => FileType::Bpf,
        name if name.starts_with(b"bpf") => FileType::Bpf,
        _ => FileType::AnonInode,
    }
}

//! The machine of the golden records: `web-1` with its bash, its socket and its mapped library.
#![allow(dead_code, reason = "each test uses its part")]

use std::net::{Ipv4Addr, Ipv6Addr};

use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::Limits;
use panoptes_records::json::address::MacAddress;
use panoptes_records::json::command_line::{CommandLine, CommandText};
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::{Confidence, Detection};
use panoptes_records::record::file_descriptor::{
    FileAccess, FileDescriptorDetails, FileMode, FileType,
};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::{BluefieldInterface, BluefieldSystem, WorkloadInterface};
use panoptes_records::record::network_connection::{
    ConnectionProtocol, ConnectionState, NetworkConnectionDetails,
};
use panoptes_records::record::process::{ProcessDetails, ProcessState};
use panoptes_records::record::process_memory::ProcessMemoryDetails;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::value::{
    AreaPermissions, DeviceNumber, Flat, IndexedObjects, MemoryAddress, Namespace, Permissions,
    Uuid,
};
use panoptes_records::record::workload::{ContainerContext, Workload};
use panoptes_records::record::{Details, Record};

/// 2026-11-20T07:31:46.905224659Z
pub(crate) const NOW_NS: i64 = 1_795_159_906_905_224_659;
/// 2026-11-20T07:31:46.811203117Z
pub(crate) const CREATED_NS: i64 = 1_795_159_906_811_203_117;
pub(crate) const STRING_LENGTH: usize = 1024;
pub(crate) const CONTAINER_ID: &str =
    "3f1d0a7c52e90a7c52e90a7c52e90a7c52e90a7c52e90a7c52e90a7c52e94b6d";

const OOB_IPV4: [Ipv4Addr; 1] = [Ipv4Addr::new(192, 0, 2, 7)];
const OOB_IPV6: [Ipv6Addr; 1] = [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)];
const LO_IPV4: [Ipv4Addr; 1] = [Ipv4Addr::LOCALHOST];
const LO_IPV6: [Ipv6Addr; 1] = [Ipv6Addr::LOCALHOST];
const ETH0_IPV4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 16)];
const ETH0_IPV6: [Ipv6Addr; 1] = [Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe12, 0x3456)];

/// A header that names no machine.
pub(crate) fn service_header() -> RecordHeader {
    service_header_in(Dialect::Panoptes)
}

pub(crate) fn service_header_in(dialect: Dialect) -> RecordHeader {
    let interfaces = [BluefieldInterface {
        bluefield_network_interface_name: "oob_net0".into(),
        bluefield_network_interface_mac_address: Some(MacAddress([0xb8, 0xce, 0xf6, 0, 0, 1])),
        bluefield_network_interface_ipv4_address: &OOB_IPV4,
        bluefield_network_interface_ipv6_address: &OOB_IPV6,
    }];
    let watcher =
        BluefieldSystem { bluefield_networking_interfaces: Some(IndexedObjects(&interfaces)) };
    RecordHeader::in_dialect(dialect, &"NONE".into(), &watcher, Limits::new(STRING_LENGTH))
}

/// A header for `web-1`.
pub(crate) fn web_1_header() -> RecordHeader {
    web_1_header_in(Dialect::Panoptes)
}

pub(crate) fn web_1_header_in(dialect: Dialect) -> RecordHeader {
    let mut header = service_header_in(dialect);
    set_web_1(&mut header);
    header
}

/// Makes the header one for `web-1`.
pub(crate) fn set_web_1(header: &mut RecordHeader) {
    let lo = WorkloadInterface {
        workload_network_interface_name: "lo".into(),
        workload_network_interface_mac_address: Some(MacAddress([0; 6])),
        workload_network_interface_ipv4_address: &LO_IPV4,
        workload_network_interface_ipv6_address: &LO_IPV6,
    };
    header.set_workload(&Workload {
        unique_identifier: Some("web-1".into()),
        os_version: Some("Linux Kernel 6.1".into()),
        boot_uuid: Some(Uuid(0x5f0e_5a63_7a52_4d0b_9a39_3a5e_0a4c_6b11_u128.to_be_bytes())),
        hostname: Some("web-1".into()),
        workload_networking_interfaces: Some(IndexedObjects(&[lo, eth0()])),
        ..Workload::default()
    });
}

pub(crate) fn eth0() -> WorkloadInterface<'static> {
    WorkloadInterface {
        workload_network_interface_name: "eth0".into(),
        workload_network_interface_mac_address: Some(MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        workload_network_interface_ipv4_address: &ETH0_IPV4,
        workload_network_interface_ipv6_address: &ETH0_IPV6,
    }
}

pub(crate) fn bash() -> ProcessDetails<'static> {
    ProcessDetails {
        process_name: "bash".into(),
        process_id: 714,
        process_self_exec_id: Some(2),
        process_file_size_bytes: Some(1_265_648),
        process_executable_path: Some("/usr/bin/bash".into()),
        process_current_working_directory: Some("/root".into()),
        process_command_line_arguments: Some(CommandLine::new(b"bash\0-i\0")),
        process_creation_time_iso_8601_ns: Some(Timestamp::from_ns(CREATED_NS)),
        process_parent_process_id: Some(702),
        process_real_user_id: Some(0),
        process_real_group_id: Some(0),
        process_effective_user_id: Some(0),
        process_effective_group_id: Some(0),
        process_login_user_id: Some(1000),
        process_audit_session_id: Some(3),
        process_state: Some(ProcessState::Sleeping),
        process_cpu_clock_cycles: Some(18_340_211),
        process_pid_namespace: Some(Namespace::new("pid", 4_026_531_836)),
        process_mount_points_namespace: Some(Namespace::new("mnt", 4_026_531_841)),
        process_network_namespace: Some(Namespace::new("net", 4_026_531_840)),
        ..ProcessDetails::default()
    }
}

pub(crate) fn stdin_socket() -> FileDescriptorDetails<'static> {
    FileDescriptorDetails {
        file_descriptor_index: Some(0),
        file_descriptor_name: Some(Text::numbered("socket", 13_731)),
        file_descriptor_file_type: Some(FileType::Socket),
        file_descriptor_file_mode: Some(FileMode { access: FileAccess::ReadWrite, flags: 0 }),
        file_descriptor_inode_number: Some(13_731),
        file_descriptor_inode_device_identifier: Some(DeviceNumber { major: 0, minor: 8 }),
        file_descriptor_inode_permissions: Some(Permissions(0o777)),
        file_descriptor_inode_uid: Some(0),
        file_descriptor_inode_gid: Some(0),
        file_descriptor_inode_size_bytes: Some(0),
        file_descriptor_inode_deleted: Some(false),
        file_descriptor_thread_id_array: Some(&[714]),
        ..FileDescriptorDetails::default()
    }
}

pub(crate) fn connection() -> NetworkConnectionDetails<'static> {
    NetworkConnectionDetails {
        file_descriptor_id: Some(0),
        connection_state: ConnectionState::Established,
        protocol: ConnectionProtocol::Tcp,
        source_ip_address: [10, 0, 2, 15].into(),
        source_port: 58_848,
        destination_ip_address: [203, 0, 113, 9].into(),
        destination_port: 4444,
        tcp_bytes_in: Some(6),
        tcp_bytes_out: Some(2500),
        tcp_segments_in: Some(6),
        tcp_segments_out: Some(7),
        interface: Some(Flat(eth0())),
        tcp_connection_creation_time_iso_8601_ns: Some(Timestamp::from_ns(CREATED_NS)),
        network_namespace: Some(Namespace::new("net", 4_026_531_840)),
        ..NetworkConnectionDetails::default()
    }
}

pub(crate) fn libc_text() -> ProcessMemoryDetails<'static> {
    ProcessMemoryDetails {
        process_id: 714,
        virtual_memory_area_start_address: MemoryAddress(0x7f1c_2a00_0000),
        virtual_memory_area_end_address: MemoryAddress(0x7f1c_2a1d_5000),
        memory_permissions: AreaPermissions {
            read: true,
            execute: true,
            ..AreaPermissions::default()
        },
        is_main_process_executable: Some(false),
        file_path: Some("/usr/lib/x86_64-linux-gnu/libc.so.6".into()),
        file_name: Some("libc.so.6".into()),
        memory_name: None,
    }
}

pub(crate) fn pod() -> ContainerContext<'static> {
    ContainerContext {
        container_id: Some(CONTAINER_ID.into()),
        pod_uid: Some("0d1e2f30-1111-2222-3333-444455556666".into()),
        pod_name: Some("web-7f9c".into()),
        pod_ip_address: Some([10, 42, 0, 17].into()),
        ..ContainerContext::default()
    }
}

pub(crate) fn limit_reached() -> SystemActivityDetails<'static> {
    SystemActivityDetails {
        reason: "the table of processes is full; new ones are not tracked until some end".into(),
        limit: Some("processes"),
        capacity: Some(4096),
        untracked: Some(17),
        ..SystemActivityDetails::default()
    }
}

pub(crate) fn shell_detection() -> Detection<'static> {
    detection(
        "bash (714) reads standard input from and writes standard output to a connection it did \
         not accept, 10.0.2.15:58848 -> 203.0.113.9:4444"
            .into(),
    )
}

pub(crate) fn detection(reason: CommandText<'_>) -> Detection<'_> {
    let first_seen = Timestamp::from_ns(1_795_159_906_811_203_117);
    Detection::new(reason, &["T1059.004"], Confidence::High, first_seen, 2)
}

/// A record without parents, for each kind of details that an activity can have.
pub(crate) fn plain_record<'a>(process: &'a ProcessDetails<'a>) -> Record<'a> {
    Record::new(Activity::ProcessCreated, Details::Process(process))
}

//! What of a record goes where in the events of each class.
//!
//! What belongs to one object of an event is in parts that follow each other.

use super::super::mapping::value::ValueForm;
use super::super::mapping::{ObjectMapping, Pair};

const fn same(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Same)
}

const fn number(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Number)
}

const fn text(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Text)
}

const fn time(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Milliseconds)
}

const fn part(object: &'static str, at: &'static str, pairs: &'static [Pair]) -> ObjectMapping {
    ObjectMapping { object, at, pairs }
}

const fn hash(from: &'static str, to: &'static str, algorithm: u32) -> Pair {
    Pair::new(from, to, ValueForm::Hash(algorithm)).beside()
}

const fn file_name(from: &'static str) -> Pair {
    Pair::new(from, "file.name", ValueForm::LastName)
}

const MD5: u32 = 1;
const SHA_1: u32 = 2;
const SHA_256: u32 = 3;

/// `metadata` and `device`, of every event. The version is that of the schema.
const METADATA: ObjectMapping = part(
    "",
    "metadata",
    &[
        Pair::constant("version", "\"1.8.0\""),
        Pair::constant("profiles", "[\"container\",\"host\",\"security_control\"]"),
        same("message_id", "uid"),
        same("vendor_name", "product.vendor_name"),
        same("product_name", "product.name"),
        same("product_version", "product.version"),
    ],
);
const NAME: ObjectMapping = part("activity_data", "metadata", &[same("name", "event_code")]);
const INCIDENT: ObjectMapping =
    part("detection", "metadata", &[same("incident_id", "correlation_uid")]);
const DEVICE: ObjectMapping = part(
    "workload_information",
    "device",
    &[
        text("unique_identifier", "name"),
        same("hostname", "hostname"),
        same("kernel_boot_id", "boot_uid"),
        same("os_version", "os.name"),
        Pair::constant("os.type_id", "200").beside(),
    ],
);
const DEVICE_CONTAINER: ObjectMapping = part(
    "container_context",
    "device.container",
    &[
        same("container_id", "uid"),
        same("container_name", "name"),
        Pair::new("pod_uid", "pod_uuid", ValueForm::Uuid),
        same("container_image_digest", "image.uid"),
        same("container_image_name", "image.uid").otherwise(),
        same("container_image_name", "image.name"),
    ],
);
const DEVICE_END: ObjectMapping = part("", "device", &[Pair::constant("type_id", "0").beside()]);

const PROCESS_PAIRS: &[Pair] = &[
    number("process_id", "pid"),
    same("process_name", "name"),
    same("process_command_line_arguments", "cmd_line"),
    same("process_current_working_directory", "working_directory"),
    time("process_creation_time_iso_8601_ns", "created_time"),
    text("process_effective_user_id", "user.uid"),
    number("process_parent_process_id", "parent_process.pid"),
    same("process_container_id", "container.uid"),
    file_name("process_executable_path"),
    same("process_executable_path", "file.path"),
    Pair::constant("file.type_id", "1").beside(),
    number("process_file_size_bytes", "file.size").beside(),
    hash("process_hash_sha256", "file.hashes.0", SHA_256),
    hash("process_hash_sha1", "file.hashes.1", SHA_1),
    hash("process_hash_md5", "file.hashes.2", MD5),
];
/// The process that an event is about, and the one that an activity is of.
const SUBJECT: ObjectMapping = part("process_details", "process", PROCESS_PAIRS);
const ACTOR: ObjectMapping = part("process_details", "actor.process", PROCESS_PAIRS);
/// The parent is who makes a process.
const PARENT: ObjectMapping =
    part("process_details", "", &[number("process_parent_process_id", "actor.process.pid")]);

/// What the schema requires, though the record may not know it.
const NO_DEVICE: Pair =
    Pair::constant("device", "{\"name\":\"unknown\",\"type_id\":0}").otherwise();
const NO_ACTOR: Pair = Pair::constant("actor", "{\"app_name\":\"unknown\"}").otherwise();
const DEVICE_OR_NONE: ObjectMapping = part("", "", &[NO_DEVICE]);
const ACTOR_OR_NONE: ObjectMapping = part("", "", &[NO_ACTOR]);
const PROCESS_OR_NONE: ObjectMapping =
    part("", "", &[Pair::constant("process", "{\"uid\":\"unknown\"}").otherwise()]);
const FILE_OR_NONE: ObjectMapping =
    part("", "", &[Pair::constant("file", "{\"name\":\"unknown\",\"type_id\":0}").otherwise()]);

const REASON: ObjectMapping = part("system_activity_details", "", &[same("reason", "message")]);

/// `type_id` of a file.
const FILE_TYPE: ValueForm = ValueForm::Words(
    &[
        ("UNKNOWN", 0),
        ("REGULAR", 1),
        ("DIRECTORY", 2),
        ("CHARACTER_DEVICE", 3),
        ("TTY", 3),
        ("BLOCK_DEVICE", 4),
        ("SOCKET", 5),
        ("PIPE", 6),
        ("FIFO", 6),
        ("SYMLINK", 7),
    ],
    99,
);
const DESCRIPTOR_PAIRS: &[Pair] = &[
    file_name("file_descriptor_name"),
    Pair::new("file_descriptor_name", "file.path", ValueForm::Path),
    Pair::new("file_descriptor_file_type", "file.type_id", FILE_TYPE).beside(),
    text("file_descriptor_inode_number", "file.uid").beside(),
    number("file_descriptor_inode_size_bytes", "file.size").beside(),
    text("file_descriptor_inode_uid", "file.owner.uid").beside(),
    time("file_descriptor_inode_access_time_iso_8601_ns", "file.accessed_time").beside(),
    time("file_descriptor_inode_modify_time_iso_8601_ns", "file.modified_time").beside(),
    hash("file_descriptor_inode_hash_sha256", "file.hashes.0", SHA_256),
    hash("file_descriptor_inode_hash_sha1", "file.hashes.1", SHA_1),
    hash("file_descriptor_inode_hash_md5", "file.hashes.2", MD5),
];
const FILE_PAIRS: &[Pair] = &[
    file_name("file_path"),
    same("file_path", "file.path"),
    Pair::new("file_type", "file.type_id", FILE_TYPE).beside(),
    text("file_inode_number", "file.uid").beside(),
    number("file_inode_size_bytes", "file.size").beside(),
    text("file_inode_uid", "file.owner.uid").beside(),
    time("file_inode_access_time_iso_8601_ns", "file.accessed_time").beside(),
    time("file_inode_modify_time_iso_8601_ns", "file.modified_time").beside(),
    hash("file_inode_hash_sha256", "file.hashes.0", SHA_256),
    hash("file_inode_hash_sha1", "file.hashes.1", SHA_1),
    hash("file_inode_hash_md5", "file.hashes.2", MD5),
];
const ELF_PAIRS: &[Pair] = &[
    same("elf_file_name", "file.name"),
    file_name("elf_file_path").otherwise(),
    same("elf_file_path", "file.path"),
    Pair::constant("file.type_id", "1").beside(),
    text("elf_file_inode_number", "file.uid").beside(),
    number("elf_file_size_bytes", "file.size").beside(),
    hash("elf_file_hash_sha256", "file.hashes.0", SHA_256),
    hash("elf_file_hash_sha1", "file.hashes.1", SHA_1),
    hash("elf_file_hash_md5", "file.hashes.2", MD5),
];
/// `protocol_num`: numbers of IANA.
const PROTOCOL: ValueForm = ValueForm::Words(
    &[("TCP", 6), ("UDP", 17), ("ICMP", 1), ("SCTP", 132), ("DCCP", 33), ("RAW", 255)],
    255,
);
const CONNECTION_PAIRS: &[Pair] = &[
    same("source_ip_address", "src_endpoint.ip"),
    number("source_port", "src_endpoint.port"),
    same("workload_network_interface_name", "src_endpoint.interface_name"),
    same("destination_ip_address", "dst_endpoint.ip"),
    number("destination_port", "dst_endpoint.port"),
    Pair::new("protocol", "connection_info.protocol_name", ValueForm::Lower),
    Pair::new("protocol", "connection_info.protocol_num", PROTOCOL),
    Pair::constant("connection_info.direction_id", "0").beside(),
];
/// What only an event of the network has.
const TRAFFIC: ObjectMapping = part(
    "network_connection_details",
    "",
    &[
        number("tcp_bytes_in", "traffic.bytes_in"),
        number("tcp_bytes_out", "traffic.bytes_out"),
        number("tcp_segments_in", "traffic.packets_in"),
        number("tcp_segments_out", "traffic.packets_out"),
        time("tcp_connection_creation_time_iso_8601_ns", "start_time"),
        time("tcp_connection_termination_time_iso_8601_ns", "end_time"),
    ],
);
/// What only a finding has.
const CONFIDENCE: ValueForm = ValueForm::Words(&[("low", 1), ("medium", 2), ("high", 3)], 0);
const FINDING_ID: ObjectMapping = part("", "finding_info", &[same("message_id", "uid")]);
const FINDING_TITLE: ObjectMapping =
    part("activity_data", "finding_info", &[same("name", "title")]);
const FINDING_INFO: ObjectMapping = part(
    "detection",
    "",
    &[
        same("reason", "finding_info.desc"),
        Pair::new("mitre_attack", "finding_info.attacks", ValueForm::Attacks),
        time("first_seen", "finding_info.first_seen_time"),
        Pair::new("earlier_message_ids", "finding_info.related_events", ValueForm::RelatedEvents),
        Pair::new("confidence", "confidence_id", CONFIDENCE),
        same("reason", "message"),
    ],
);

pub(super) const BASE: &[ObjectMapping] =
    &[METADATA, NAME, INCIDENT, DEVICE, DEVICE_CONTAINER, DEVICE_END, REASON, ACTOR];

pub(super) const PROCESS: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    DEVICE_OR_NONE,
    SUBJECT,
    PROCESS_OR_NONE,
    PARENT,
    ACTOR_OR_NONE,
];

pub(super) const MEMORY: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    DEVICE_OR_NONE,
    ACTOR,
    ACTOR_OR_NONE,
    part(
        "process_memory_details",
        "",
        &[
            same("virtual_memory_area_start_address", "base_address"),
            number("process_id", "process.pid"),
        ],
    ),
    PROCESS_OR_NONE,
];

pub(super) const FILE: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    DEVICE_OR_NONE,
    ACTOR,
    ACTOR_OR_NONE,
    part("file_descriptor_details", "", DESCRIPTOR_PAIRS),
    part("file_details", "", FILE_PAIRS),
    FILE_OR_NONE,
];

pub(super) const KERNEL_EXTENSION: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    DEVICE_OR_NONE,
    ACTOR,
    ACTOR_OR_NONE,
    part(
        "kernel_module_details",
        "driver",
        &[same("kernel_module_name", "file.name"), Pair::constant("file.type_id", "1")],
    ),
    // A program of eBPF has no file.
    part(
        "ebpf_program_details",
        "driver",
        &[
            same("ebpf_program_name", "file.name"),
            same("ebpf_program_type", "file.name").otherwise(),
            Pair::constant("file.name", "\"unknown\"").otherwise(),
            Pair::constant("file.type_id", "99"),
        ],
    ),
];

pub(super) const SCRIPT: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    DEVICE_OR_NONE,
    ACTOR,
    ACTOR_OR_NONE,
    part(
        "shell_history_details",
        "script",
        &[
            Pair::new(
                "shell_command_execution_history",
                "script_content.value",
                ValueForm::Commands,
            ),
            Pair::constant("script_content.value", "\"\"").otherwise(),
            Pair::constant("type_id", "6"),
        ],
    ),
];

pub(super) const NETWORK: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    ACTOR,
    part("network_connection_details", "", CONNECTION_PAIRS),
    TRAFFIC,
];

pub(super) const CONTAINER: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    ACTOR,
    part(
        "container_details",
        "app",
        &[same("container_id", "uid"), same("container_hostname", "name")],
    ),
];

pub(super) const PACKAGE: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    ACTOR,
    part("package_details", "app", &[same("package_program", "name")]),
    part("", "", &[Pair::constant("app", "{\"name\":\"unknown\"}").otherwise()]),
];

/// Panoptes is what starts, stops and has limits.
pub(super) const SERVICE: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    part("", "app", &[same("product_name", "name"), same("product_version", "version")]),
    REASON,
];

pub(super) const FINDING: &[ObjectMapping] = &[
    METADATA,
    NAME,
    INCIDENT,
    DEVICE,
    DEVICE_CONTAINER,
    DEVICE_END,
    FINDING_ID,
    FINDING_TITLE,
    FINDING_INFO,
    part("process_details", "evidences.0.process", PROCESS_PAIRS),
    part("file_descriptor_details", "evidences.0", DESCRIPTOR_PAIRS),
    part("file_details", "evidences.0", FILE_PAIRS),
    part("elf_file_details", "evidences.0", ELF_PAIRS),
    part("network_connection_details", "evidences.0", CONNECTION_PAIRS),
];

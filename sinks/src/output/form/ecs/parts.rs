//! What of a record goes where in an event.
//!
//! What belongs to one object of an event is in parts that follow each other; `event` is the first.

use super::super::mapping::value::ValueForm;
use super::super::mapping::{ObjectMapping, Pair};

const fn same(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Same)
}

const fn number(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Number)
}

/// A keyword, which the record may have as a number.
const fn text(from: &'static str, to: &'static str) -> Pair {
    Pair::new(from, to, ValueForm::Text)
}

const fn file_name(from: &'static str) -> Pair {
    Pair::new(from, "name", ValueForm::LastName)
}

const fn part(object: &'static str, at: &'static str, pairs: &'static [Pair]) -> ObjectMapping {
    ObjectMapping { object, at, pairs }
}

/// All parts, of which a record has some.
pub(super) const PARTS: &[ObjectMapping] = &[
    part("", "event", &[same("message_id", "id")]),
    part("activity_data", "event", &[same("name", "action")]),
    part("detection", "event", &[same("reason", "reason")]),
    part("network_connection_details", "", CONNECTION),
    part("", "", OBSERVER),
    part("workload_information", "host", HOST),
    part("container_context", "container", CONTEXT),
    part("container_details", "", CONTAINER),
    part("detection", "threat", THREAT),
    part("process_details", "process", PROCESS),
    part("thread_details", "process.thread", &[number("thread_id", "id")]),
    part("process_memory_details", "", MEMORY),
    part("file_descriptor_details", "file", DESCRIPTOR),
    part("file_details", "file", FILE),
    part("elf_file_details", "file", ELF),
    part("system_activity_details", "", &[same("reason", "message")]),
];

const CONNECTION: &[Pair] = &[
    same("tcp_connection_creation_time_iso_8601_ns", "event.start"),
    same("tcp_connection_termination_time_iso_8601_ns", "event.end"),
    number("tcp_connection_overall_duration_ns", "event.duration"),
    Pair::new("protocol", "network.transport", ValueForm::Lower),
    same("source_ip_address", "source.ip"),
    number("source_port", "source.port"),
    number("tcp_bytes_out", "source.bytes"),
    number("tcp_segments_out", "source.packets"),
    same("destination_ip_address", "destination.ip"),
    number("destination_port", "destination.port"),
    number("tcp_bytes_in", "destination.bytes"),
    number("tcp_segments_in", "destination.packets"),
];

const OBSERVER: &[Pair] = &[
    same("vendor_name", "observer.vendor"),
    same("product_name", "observer.product"),
    same("product_version", "observer.version"),
    Pair::constant("observer.type", "\"sensor\"").beside(),
    Pair::new("severity", "log.level", ValueForm::Lower),
];

const HOST: &[Pair] = &[
    text("unique_identifier", "name"),
    same("hostname", "hostname"),
    same("kernel_boot_id", "boot.id"),
    same("os_version", "os.full"),
    Pair::constant("os.type", "\"linux\"").beside(),
];

const CONTEXT: &[Pair] = &[
    same("container_id", "id"),
    same("container_name", "name"),
    same("container_image_name", "image.name"),
];

/// A container that starts or ends; the context of its process is itself.
const CONTAINER: &[Pair] = &[
    same("container_id", "container.id").otherwise(),
    same("container_runtime", "container.runtime"),
];

const THREAT: &[Pair] = &[
    Pair::new("mitre_attack", "technique.id", ValueForm::Techniques),
    Pair::new("mitre_attack", "technique.subtechnique.id", ValueForm::Subtechniques),
    Pair::constant("framework", "\"MITRE ATT&CK\"").beside(),
];

const PROCESS: &[Pair] = &[
    number("process_id", "pid"),
    same("process_name", "name"),
    same("process_executable_path", "executable"),
    same("process_command_line_arguments", "command_line"),
    same("process_command_line_argument_list", "args"),
    same("process_current_working_directory", "working_directory"),
    same("process_creation_time_iso_8601_ns", "start"),
    same("process_hash_sha256", "hash.sha256"),
    same("process_hash_sha1", "hash.sha1"),
    same("process_hash_md5", "hash.md5"),
    number("process_parent_process_id", "parent.pid"),
    text("process_effective_user_id", "user.id"),
    text("process_real_user_id", "real_user.id"),
    text("process_effective_group_id", "group.id"),
    text("process_real_group_id", "real_group.id"),
];

const MEMORY: &[Pair] = &[
    number("process_id", "process.pid").otherwise(),
    same("file_path", "file.path"),
    same("file_name", "file.name"),
];

const DESCRIPTOR: &[Pair] = &[
    file_name("file_descriptor_name"),
    Pair::new("file_descriptor_name", "path", ValueForm::Path),
    text("file_descriptor_inode_number", "inode"),
    same("file_descriptor_inode_device_identifier", "device"),
    same("file_descriptor_inode_permissions", "mode"),
    text("file_descriptor_inode_uid", "uid"),
    text("file_descriptor_inode_gid", "gid"),
    number("file_descriptor_inode_size_bytes", "size"),
    same("file_descriptor_inode_hash_sha256", "hash.sha256"),
    same("file_descriptor_inode_hash_sha1", "hash.sha1"),
    same("file_descriptor_inode_hash_md5", "hash.md5"),
    same("file_descriptor_inode_change_time_iso_8601_ns", "ctime"),
    same("file_descriptor_inode_modify_time_iso_8601_ns", "mtime"),
    same("file_descriptor_inode_access_time_iso_8601_ns", "accessed"),
];

const FILE: &[Pair] = &[
    file_name("file_path"),
    same("file_path", "path"),
    text("file_inode_number", "inode"),
    same("file_inode_device_identifier", "device"),
    same("file_inode_permissions", "mode"),
    text("file_inode_uid", "uid"),
    text("file_inode_gid", "gid"),
    number("file_inode_size_bytes", "size"),
    same("file_inode_hash_sha256", "hash.sha256"),
    same("file_inode_hash_sha1", "hash.sha1"),
    same("file_inode_hash_md5", "hash.md5"),
    same("file_inode_change_time_iso_8601_ns", "ctime"),
    same("file_inode_modify_time_iso_8601_ns", "mtime"),
    same("file_inode_access_time_iso_8601_ns", "accessed"),
];

const ELF: &[Pair] = &[
    same("elf_file_name", "name"),
    same("elf_file_path", "path"),
    text("elf_file_inode_number", "inode"),
    number("elf_file_size_bytes", "size"),
    same("elf_file_hash_sha256", "hash.sha256"),
    same("elf_file_hash_sha1", "hash.sha1"),
    same("elf_file_hash_md5", "hash.md5"),
];

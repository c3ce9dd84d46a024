//! What known consumers of DOCA Argus read, by their own sources, but for GPUs, of which there are
//! no records. Kernel modules, which few machines load while they are watched, have a test of their
//! own. The live tests of the program have these lists, too.

use panoptes_records::record::DetailsKind;
use serde_json::Value;

/// The fields of one thing that a consumer reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    /// The JSON pointer to the object that has them.
    at: &'static str,
    names: &'static [&'static str],
}

/// What a consumer reads, of every record and of records that have such a thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    pub(crate) name: &'static str,
    always: &'static [Fields],
    process: &'static [Fields],
    connection: &'static [Fields],
    descriptor: &'static [Fields],
    shell: &'static [Fields],
}

impl Consumer {
    pub(crate) const ALL: [Self; 3] = [SIEM, COLLECTOR, TOPOLOGY];

    /// The JSON pointers to what it reads of a record that has these [`THINGS`].
    pub(crate) fn fields(&self, has: [bool; THINGS.len()]) -> impl Iterator<Item = String> {
        let Self { always, process, connection, descriptor, shell, .. } = *self;
        let of_things = [process, connection, descriptor, shell].into_iter().zip(has);
        let of_things = of_things.filter(|(_, has)| *has).map(|(fields, _)| fields);
        let all = of_things.chain([always]).flatten();
        all.flat_map(|Fields { at, names }| names.iter().map(move |name| format!("{at}/{name}")))
    }
}

/// The things that consumers read if a record has them.
pub(crate) const THINGS: [DetailsKind; 4] = [
    DetailsKind::Process,
    DetailsKind::NetworkConnection,
    DetailsKind::FileDescriptor,
    DetailsKind::ReverseShell,
];

/// Whether all values are strings.
pub(crate) fn scalars_are_strings(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(_) => true,
        Value::Array(all) => all.iter().all(scalars_are_strings),
        Value::Object(all) => all.values().all(scalars_are_strings),
    }
}

const WORKLOAD: &str = "/workload_information";
const CONTAINER: &str = "/workload_information/container_context";
const DATA: &str = "/activity_data";
const PROCESS: &str = "/activity_data/process_details";
const CONNECTION: &str = "/activity_data/network_connection_details";
const DESCRIPTOR: &str = "/activity_data/file_descriptor_details";

/// The rules of a SIEM vendor for parsing and modelling.
const SIEM: Consumer = Consumer {
    name: "a SIEM pack",
    always: &[
        Fields {
            at: "",
            names: &[
                "vendor_name",
                "product_name",
                "product_version",
                "message_type",
                "severity",
                "message_id",
                "occurred_message_time_iso_8601_ns",
            ],
        },
        Fields { at: WORKLOAD, names: &["unique_identifier", "hostname", "os_version"] },
        Fields {
            at: "/bluefield_system_information/bluefield_networking_interfaces/0",
            names: &["bluefield_network_interface_name", "bluefield_network_interface_mac_address"],
        },
        Fields {
            at: CONTAINER,
            names: &[
                "container_id",
                "container_image_name",
                "container_image_digest",
                "pod_name",
                "pod_ip_address",
            ],
        },
        Fields { at: DATA, names: &["name"] },
    ],
    process: &[Fields {
        at: PROCESS,
        names: &[
            "process_name",
            "process_command_line_arguments",
            "process_hash_sha256",
            "process_hash_md5",
            "process_executable_path",
            "process_container_id",
        ],
    }],
    connection: &[
        Fields {
            at: CONNECTION,
            names: &["protocol", "local_address", "local_port", "peer_address", "peer_port"],
        },
        Fields {
            at: "/activity_data/network_connection_details/workload_network_interface_ipv6_address",
            names: &["0"],
        },
    ],
    descriptor: &[],
    shell: &[],
};

/// The collector of a demonstration.
const COLLECTOR: Consumer = Consumer {
    name: "a collector that tails the log",
    always: &[
        Fields {
            at: "",
            names: &["message_type", "severity", "message_id", "occurred_message_time_iso_8601_ns"],
        },
        Fields { at: WORKLOAD, names: &["unique_identifier", "hostname"] },
        Fields { at: CONTAINER, names: &["pod_name", "pod_uid", "container_name", "node_name"] },
        Fields { at: DATA, names: &["name"] },
    ],
    process: &[Fields {
        at: PROCESS,
        names: &[
            "process_name",
            "process_command_line_arguments",
            "process_executable_path",
            "process_hash_sha256",
        ],
    }],
    connection: &[Fields {
        at: CONNECTION,
        names: &[
            "protocol",
            "connection_state",
            "local_address",
            "local_port",
            "peer_address",
            "peer_port",
        ],
    }],
    descriptor: &[],
    shell: &[
        Fields {
            at: "/activity_data/process_list/0/process_details",
            names: &[
                "process_name",
                "process_command_line_arguments",
                "process_executable_path",
                "process_hash_sha256",
            ],
        },
        Fields {
            at: "/activity_data/process_list/0/process_details/network_connection_list/0\
                 /network_connection_details",
            names: &["peer_address", "peer_port", "local_address", "local_port", "protocol"],
        },
    ],
};

/// A tool that draws the topology of machines.
const TOPOLOGY: Consumer = Consumer {
    name: "a topology tool",
    always: &[
        Fields {
            at: "",
            names: &[
                "product_name",
                "product_version",
                "schema_version",
                "message_id",
                "occurred_message_time_iso_8601_ns",
            ],
        },
        Fields {
            at: WORKLOAD,
            names: &["unique_identifier", "hostname", "boot_uuid", "os_version"],
        },
        Fields {
            at: "/workload_information/workload_networking_interfaces/1",
            names: &["workload_network_interface_name", "workload_network_interface_mac_address"],
        },
        Fields {
            at: "/workload_information/workload_networking_interfaces/1\
                 /workload_network_interface_ipv4_address",
            names: &["0"],
        },
        Fields { at: DATA, names: &["name"] },
    ],
    process: &[Fields {
        at: PROCESS,
        names: &[
            "process_id",
            "process_name",
            "process_self_exec_id",
            "process_parent_process_id",
            "process_executable_path",
            "process_command_line_arguments",
            "process_creation_time_iso_8601_ns",
            "process_real_user_id",
            "process_real_group_id",
            "process_container_id",
            "process_current_working_directory",
            "process_pid_namespace",
            "process_mount_points_namespace",
            "process_network_namespace",
        ],
    }],
    connection: &[Fields {
        at: CONNECTION,
        names: &[
            "source_ip_address",
            "source_port",
            "destination_ip_address",
            "destination_port",
            "local_address",
            "local_port",
            "peer_address",
            "peer_port",
            "connection_state",
            "file_descriptor_id",
            "workload_network_interface_name",
            "workload_network_interface_mac_address",
            "tcp_bytes_in",
            "tcp_bytes_out",
            "tcp_connection_creation_time_iso_8601_ns",
        ],
    }],
    descriptor: &[Fields {
        at: DESCRIPTOR,
        names: &[
            "file_descriptor_index",
            "file_descriptor_file_type",
            "file_descriptor_name",
            "file_descriptor_file_mode",
            "file_descriptor_inode_number",
            "file_descriptor_inode_device_identifier",
        ],
    }],
    shell: &[],
};

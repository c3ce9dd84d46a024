//! Checks the records of a run against what the consumers of DOCA Argus read.
//!
//! Each field that a consumer reads is in every record that has such a thing, as a string. It may
//! be missing only for a reason of [`ABSENCES`], which the records themselves show.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::record::DetailsKind;
use serde_json::Value;

use crate::consumers::{Consumer, THINGS, scalars_are_strings};
use crate::record::Record;
use crate::watcher::panoptes;

/// The beginning of the ids of containers for which the configuration has an image.
pub(crate) const WITH_IMAGE: &str = "4f1c";

/// How many mistakes are shown.
const SHOWN: usize = 20;

/// Activities of the service itself, or of one of its outputs.
const SERVICE: [&str; 10] = [
    "service_initialization_started",
    "service_initialization_successful",
    "service_initialization_failed",
    "service_gracefully_shutdown",
    "details_gathering_failed",
    "records_dropped",
    "configuration_reloaded",
    "configuration_refused",
    "invalid_sbom_configuration_file",
    "invalid_sbom_configuration_folder",
];
/// Activities of the search for a machine's kernel.
const SEARCH: [&str; 11] = [
    "host_initialization_started",
    "host_initialization_failed",
    "load_mem_regions_successful",
    "load_mem_regions_failed",
    "os_identifier_found",
    "os_identifier_discovery_extended",
    "loading_profile_candidate",
    "profile_parsing_failed",
    "profile_verification_successful",
    "profile_verification_failed",
    "no_matching_profile_found",
];

/// Why fields can be missing.
struct Absence {
    /// JSON pointers; `*` stands for the rest.
    fields: &'static [&'static str],
    why: &'static str,
    /// Whether that is so in a record, by the records before it.
    is_so: fn(&Known, &Record, &str) -> bool,
}

impl Absence {
    fn is_about(&self, field: &str) -> bool {
        self.fields.iter().any(|one| match one.strip_suffix('*') {
            Some(beginning) => field.starts_with(beginning),
            None => field == *one,
        })
    }
}

const CONTAINER: &str = "/workload_information/container_context/*";
const INTERFACES: &str = "/workload_information/workload_networking_interfaces/*";
/// What the kernel keeps of a process as long as it runs.
const OF_RUNNING: [&str; 5] = [
    "/activity_data/process_details/process_executable_path",
    "/activity_data/process_details/process_command_line_arguments",
    "/activity_data/process_details/process_current_working_directory",
    "/activity_data/process_details/process_mount_points_namespace",
    "/activity_data/process_details/process_network_namespace",
];

const ABSENCES: &[Absence] = &[
    Absence {
        fields: &["/workload_information/*"],
        why: "it is about the service, and no machine",
        is_so: |_, record, _| record.system().is_empty() && SERVICE.contains(&record.name()),
    },
    Absence {
        fields: &[
            "/workload_information/os_version",
            "/workload_information/hostname",
            "/workload_information/boot_uuid",
            INTERFACES,
        ],
        why: "while a kernel is searched, no more than the name of the machine is known",
        is_so: |_, record, _| {
            SEARCH.contains(&record.name()) || record.is("unable_to_determine_target_os")
        },
    },
    Absence {
        fields: &[INTERFACES],
        why: "the first scan follows",
        is_so: |_, record, _| record.is("host_initialization_successful"),
    },
    Absence {
        fields: &[CONTAINER, "/activity_data/process_details/process_container_id"],
        why: "it happened in no container",
        is_so: |_, record, _| context(record).is_null() && !names_a_container(record),
    },
    Absence {
        fields: &["/workload_information/container_context/container_name"],
        why: "the runtime has an id for it instead, or the table of containers is full",
        is_so: |known, record, _| {
            let id = container_id(record);
            let is_hexadecimal = id.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hexadecimal && id.len() == 64 || known.is_full(record, "containers")
        },
    },
    Absence {
        fields: &["/workload_information/container_context/container_image*"],
        why: "the kernel does not know images, and the configuration has none for it",
        is_so: |_, record, _| {
            let id = container_id(record);
            !id.is_empty() && (record.system() != "guest" || !id.starts_with(WITH_IMAGE))
        },
    },
    Absence {
        fields: &[
            "/workload_information/container_context/pod_*",
            "/workload_information/container_context/node_name",
        ],
        why: "it is in no pod",
        is_so: |_, record, _| {
            !container_id(record).is_empty() && context(record)["pod_uid"].is_null()
        },
    },
    Absence {
        fields: &[
            "/workload_information/container_context/pod_name",
            "/workload_information/container_context/pod_ip_address",
        ],
        why: "the pod has the machine's host name and its interfaces, or had when it was last read",
        is_so: |_, record, _| context(record)["pod_uid"].is_string(),
    },
    Absence {
        fields: &["/activity_data/process_details/process_hash_*"],
        why: "no record waits until the content of the program is known",
        is_so: |known, record, field| !known.has_had(record, field),
    },
    Absence {
        fields: &["/activity_data/process_details/process_hash_*"],
        why: "the process is described as it was before, when it wrote a file",
        is_so: |_, record, _| {
            record.is("file_descriptor_file_content_change") || record.is("package_files_changed")
        },
    },
    Absence {
        fields: &["/activity_data/process_details/process_hash_*"],
        why: "the full table has forgotten them",
        is_so: |known, record, _| known.is_full(record, "processes"),
    },
    Absence {
        fields: &[
            "/activity_data/process_details/process_parent_process_id",
            "/activity_data/process_details/process_pid_namespace",
            "/activity_data/process_details/process_real_group_id",
            "/activity_data/process_details/process_real_user_id",
        ],
        why: "it was recovered after its end",
        is_so: |_, record, _| record.process()["process_recovered"] == "true",
    },
    Absence {
        fields: &OF_RUNNING,
        why: "it was seen only while it began, called exec or ended",
        is_so: |known, record, field| {
            record.process()["process_state"] != "S (sleeping)" && !known.has_had(record, field)
        },
    },
    Absence {
        fields: &OF_RUNNING,
        why: "it wrote a file, and was seen then only while it called exec or ended",
        is_so: |_, record, _| {
            record.is("file_descriptor_file_content_change")
                && record.process()["process_state"] != "S (sleeping)"
        },
    },
    Absence {
        fields: &OF_RUNNING,
        why: "the full table had no room for it while it ran",
        is_so: |known, record, _| {
            record.process()["process_state"] != "S (sleeping)"
                && known.is_full(record, "processes")
        },
    },
    Absence {
        fields: &OF_RUNNING,
        why: "it is a thread of the kernel",
        is_so: |_, record, _| record.process()["process_parent_process_id"] == "2",
    },
    Absence {
        fields: &["/activity_data/process_details/process_command_line_arguments"],
        why: "the process has unmapped them",
        is_so: |_, record, _| record.process_name() == "no-more-args",
    },
    Absence {
        fields: &["/activity_data/process_details"],
        why: "all processes of the container have ended",
        is_so: |_, record, _| record.is("container_terminated"),
    },
    Absence {
        fields: &["/activity_data/process_details"],
        why: "the processes have ended, or are many",
        is_so: |_, record, _| {
            record.is("events_summed_up") && record.reason().contains("not tracked any more")
        },
    },
    Absence {
        fields: &["/activity_data/process_details"],
        why: "no scan saw the process in the system call that loads or unloads the module",
        is_so: |_, record, _| record.details("kernel_module").is_object(),
    },
    Absence {
        fields: &["/activity_data/process_details"],
        why: "no scan saw a process with a descriptor of the program",
        is_so: |_, record, _| record.details("ebpf_program").is_object(),
    },
    Absence {
        fields: &[
            "/activity_data/process_details",
            "/activity_data/file_descriptor_details",
            "/activity_data/network_connection_details/file_descriptor_id",
        ],
        why: "no process has the socket: it is not accepted yet, closed, or being passed on",
        is_so: |known, record, _| {
            let details = record.details("network_connection");
            details["file_descriptor_id"].is_null()
                && (details["connection_state"] != "ESTABLISHED"
                    || !known.was_held(record)
                    || !known.is_held_later(record)
                    || record.process_name() == "zoo-sockets")
        },
    },
    Absence {
        fields: &["/activity_data/process_details/*"],
        why: "it ended before its connection, and the table of processes had been full",
        // There is room for a part of the processes that have ended. Of the others, the connection
        // keeps the number and the name.
        is_so: |known, record, _| {
            let is_connection = record.details("network_connection").is_object();
            let is_named = !record.process_name().is_empty();
            is_connection
                && is_named
                && record.life().is_none()
                && known.is_full(record, "processes")
        },
    },
    Absence {
        fields: &[
            "/activity_data/file_descriptor_details",
            "/activity_data/network_connection_details/file_descriptor_id",
        ],
        why: "the descriptor is gone, too",
        is_so: |_, record, _| record.is("network_connection_terminated"),
    },
    Absence {
        fields: &["/activity_data/network_connection_details/tcp_bytes_*"],
        why: "in these states the kernel may keep no more than the ends",
        is_so: |_, record, _| {
            let state = &record.details("network_connection")["connection_state"];
            ["TIME_WAIT", "FIN_WAIT_2", "SYN_RECEIVED"].iter().any(|one| state == one)
        },
    },
    Absence {
        fields: &["/activity_data/network_connection_details/tcp_bytes_*"],
        why: "it ended in the scan that found it",
        is_so: |known, record, _| known.was_short(record),
    },
    Absence {
        fields: &[
            "/activity_data/network_connection_details/tcp_connection_creation_time_iso_8601_ns",
        ],
        why: "the table of connections is full, and does not have it",
        is_so: |known, record, _| {
            record.is("reverse_shell_detected") && known.is_full(record, "connections")
        },
    },
    Absence {
        fields: &["/activity_data/file_descriptor_details/file_descriptor_name"],
        why: "the path is longer than the kernel's longest",
        is_so: |_, record, _| record.process_name() == "zoo-files",
    },
];

fn context(record: &Record) -> &Value {
    &record.0["workload_information"]["container_context"]
}

fn container_id(record: &Record) -> &str {
    context(record)["container_id"].as_str().unwrap_or("")
}

/// Whether a record names a container elsewhere than in its context.
fn names_a_container(record: &Record) -> bool {
    record.process()["process_container_id"].is_string() || record.details("container").is_object()
}

/// The namespace of a connection.
fn network(record: &Record) -> String {
    format!("{} {}", record.boot(), record.details("network_connection")["network_namespace"])
}

/// What the records so far have shown.
#[derive(Debug, Default)]
struct Known {
    /// The fields of each process since its last exec.
    fields: HashSet<String>,
    /// The connections that a process has held.
    held: HashSet<String>,
    /// Number of later records of the whole run which show that a process holds a connection.
    holds_left: HashMap<String, usize>,
    /// The tables of systems that have been full.
    full: HashSet<String>,
    /// The connections of the whole run whose end was reported by the scan that found them, with
    /// the time of that.
    short: HashSet<String>,
}

impl Known {
    fn field_of(record: &Record, field: &str) -> String {
        let process = record.process();
        let times =
            [&process["process_creation_time_iso_8601_ns"], &process["process_self_exec_id"]];
        format!("{} {} {times:?} {field}", record.boot(), record.process_id())
    }

    fn connection(record: &Record) -> String {
        let details = record.details("network_connection");
        let ends = ["local_address", "local_port", "peer_address", "peer_port"];
        format!("{} {:?}", network(record), ends.map(|end| &details[end]))
    }

    /// Whether an earlier record of the process has this field.
    fn has_had(&self, record: &Record, field: &str) -> bool {
        self.fields.contains(&Self::field_of(record, field))
    }

    /// Whether a later record shows that a process has this connection.
    fn is_held_later(&self, record: &Record) -> bool {
        self.holds_left.get(&Self::connection(record)).is_some_and(|&left| left > 0)
    }

    /// Whether an earlier record shows that a process has this connection.
    fn was_held(&self, record: &Record) -> bool {
        self.held.contains(&Self::connection(record))
    }

    /// What a whole run shows.
    fn of(run: &[Record]) -> Self {
        let ends = |name: &'static str| -> HashSet<String> {
            run.iter().filter(|record| record.is(name)).map(Self::connection_at).collect()
        };
        let created = ends("network_connection_created");
        let short = ends("network_connection_terminated").intersection(&created).cloned().collect();
        let mut holds_left = HashMap::new();
        for record in run.iter().filter(|record| Self::shows_holder(record)) {
            *holds_left.entry(Self::connection(record)).or_default() += 1;
        }
        Self { holds_left, short, ..Self::default() }
    }

    fn shows_holder(record: &Record) -> bool {
        record.details("network_connection")["file_descriptor_id"].is_string()
    }

    fn connection_at(record: &Record) -> String {
        format!("{} {}", record.time(), Self::connection(record))
    }

    /// Whether the scan of this record found the connection, and its end.
    fn was_short(&self, record: &Record) -> bool {
        self.short.contains(&Self::connection_at(record))
    }

    /// Whether a table of the record's system has been full.
    fn is_full(&self, record: &Record, limit: &str) -> bool {
        self.full.contains(&format!("{} {limit}", record.system()))
    }

    fn note(&mut self, record: &Record) {
        // In the middle of an exec, only the mapping of the program names the program.
        let is_program = record.details("process_memory")["is_main_process_executable"] == "true";
        for key in record.process().as_object().into_iter().flat_map(|details| details.keys()) {
            if is_program && key == "process_executable_path" {
                continue;
            }
            let field = format!("/activity_data/process_details/{key}");
            self.fields.insert(Self::field_of(record, &field));
        }
        if Self::shows_holder(record) {
            let connection = Self::connection(record);
            *self.holds_left.entry(connection.clone()).or_default() -= 1;
            self.held.insert(connection);
        }
        let limit = &record.details("system_activity")["limit"];
        if let Some(limit) = limit.as_str() {
            self.full.insert(format!("{} {limit}", record.system()));
        }
    }
}

/// The schema that the program prints of records in this form.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = panoptes(&["schema", "--doca-argus"]).stdout;
    jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap()
});

/// The key of a kind of details: `ElfFile` has `elf_file_details`.
fn key(kind: DetailsKind) -> String {
    let mut key = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !key.is_empty() {
            key.push('_');
        }
        key.push(letter.to_ascii_lowercase());
    }
    key + "_details"
}

/// The JSON pointers to what a record of this activity should have and has not, and to what it has.
fn fields(record: &Record) -> (Vec<String>, Vec<String>) {
    let info = Activity::from_name(record.name()).expect("the activity exists").info();
    let has = |kind: &DetailsKind| record.0["activity_data"][key(*kind)].is_object();
    let objects = info.parents_in(Dialect::DocaArgus).iter().chain([&info.own]);
    let missing = objects.filter(|kind| !has(kind));
    let missing = missing.map(|kind| format!("/activity_data/{}", key(*kind)));
    let wanted = Consumer::ALL.iter().flat_map(|one| one.fields(THINGS.each_ref().map(has)));
    let (there, not): (Vec<String>, Vec<String>) =
        wanted.partition(|field| record.0.pointer(field).is_some());
    let mut missing: Vec<String> = missing.chain(not).collect();
    missing.sort_unstable();
    missing.dedup();
    (missing, there)
}

/// Checks the records of a program's runs, each in its order. Every field must be in some record.
#[track_caller]
pub(crate) fn check(runs: &[Vec<Record>]) {
    let mut mistakes: BTreeMap<(String, &str), (usize, &Record)> = BTreeMap::new();
    let (mut reasons, mut seen) = ([0; ABSENCES.len()], HashSet::new());
    for run in runs {
        let mut known = Known::of(run);
        for record in run {
            assert!(scalars_are_strings(&record.0), "{record}");
            assert!(!record.0.to_string().contains("\"1970-01-01T"), "{record}");
            let error = SCHEMA.iter_errors(&record.0).next().map(|error| error.to_string());
            assert_eq!(error, None, "{record}");
            let (missing, there) = fields(record);
            for field in missing {
                let is_it = |absence: &Absence| {
                    absence.is_about(&field) && (absence.is_so)(&known, record, &field)
                };
                match ABSENCES.iter().position(is_it) {
                    Some(reason) => reasons[reason] += 1,
                    None => mistakes.entry((field, record.name())).or_insert((0, record)).0 += 1,
                }
            }
            seen.extend(there);
            known.note(record);
        }
    }
    for (Absence { why, .. }, count) in ABSENCES.iter().zip(reasons) {
        println!("{count:6} fields are missing: {why}");
    }
    let shown: Vec<String> = mistakes
        .iter()
        .take(SHOWN)
        .map(|((field, _), (count, record))| format!("{count} without {field}: {record}"))
        .collect();
    assert!(mistakes.is_empty(), "{} mistakes:\n    {}", mistakes.len(), shown.join("\n    "));
    for consumer in Consumer::ALL {
        let all = consumer.fields([true; THINGS.len()]);
        let never: Vec<String> = all.filter(|field| !seen.contains(field)).collect();
        assert!(never.is_empty(), "{} reads {never:?}, which no record has", consumer.name);
    }
}

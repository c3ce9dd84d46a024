//! Objects of a scan or a truth by kind and identity.
//!
//! An identity is what two readers of the same moment must agree on before anything else can be
//! compared. Attributes that they may get wrong (a thread array, a namespace) are not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// Distinguishes an object from all others of its kind.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    kind: String,
    numbers: Vec<u64>,
    text: String,
    /// Several objects may share the rest: descriptor tables of single threads, sockets in
    /// different namespaces. Their order distinguishes them.
    ordinal: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    by_key: BTreeMap<Key, Value>,
}

/// One reader's objects of one kind, without those of excluded processes.
pub(super) type Side<'a> = BTreeMap<&'a Key, &'a Value>;

impl Objects {
    pub(super) fn collect(values: Vec<Value>) -> Self {
        let mut groups: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for value in values {
            if let Some(key) = Key::of(&value) {
                groups.entry(key).or_default().push(value);
            }
        }
        let mut by_key = BTreeMap::new();
        for (key, mut group) in groups {
            group.sort_by_cached_key(order_within);
            for (ordinal, value) in group.into_iter().enumerate() {
                by_key.insert(Key { ordinal, ..key.clone() }, value);
            }
        }
        Self { by_key }
    }

    pub(super) fn of_kind<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.by_key.iter().filter(move |(key, _)| key.kind == kind)
    }

    /// Objects of a kind, without those of excluded processes.
    pub(super) fn without<'a>(&'a self, kind: &'a str, excluded: &BTreeSet<u64>) -> Side<'a> {
        let is_excluded = |value: &Value| {
            value["process_id"].as_u64().is_some_and(|process| excluded.contains(&process))
        };
        self.of_kind(kind).filter(|(_, value)| !is_excluded(value)).collect()
    }

    /// Process ids of kernel workers, which the kernel starts and ends at any time.
    pub(super) fn kworkers(&self) -> BTreeSet<u64> {
        self.of_kind("process")
            .filter(|(_, value)| {
                value["process_name"].as_str().is_some_and(|name| name.starts_with("kworker/"))
            })
            .filter_map(|(_, value)| value["process_id"].as_u64())
            .collect()
    }
}

impl Key {
    /// The identity of a line; `None` if its kind is not compared.
    fn of(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_u64();
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let kind = value["kind"].as_str()?;
        // A number that is absent sorts and compares as the largest.
        let or_none = |n: Option<u64>| n.unwrap_or(u64::MAX);
        let process = or_none(number("process_id"));
        let (numbers, text) = match kind {
            "process" => (vec![process], String::new()),
            "thread" => (vec![process, or_none(number("thread_id"))], String::new()),
            "file_descriptor" => {
                (vec![process, or_none(number("file_descriptor_index"))], String::new())
            }
            "memory" => {
                let start = text("virtual_memory_area_start_address");
                let start = start.trim_start_matches("0x");
                let start = u64::from_str_radix(start, 16).unwrap_or(u64::MAX);
                (vec![process, start], String::new())
            }
            "connection" => (
                vec![
                    process,
                    or_none(number("file_descriptor_id")),
                    or_none(number("source_port")),
                    or_none(number("destination_port")),
                ],
                format!("{} {}", text("source_ip_address"), text("destination_ip_address")),
            ),
            "container" => (Vec::new(), text("container_cgroup_path")),
            // No list of the kernel has them.
            "ebpf_object" if text("ebpf_object") == "attachment" => return None,
            "ebpf_object" => (vec![or_none(number("ebpf_id"))], text("ebpf_object")),
            "kernel_module" => (Vec::new(), text("kernel_module_name")),
            "interface" => (
                Vec::new(),
                format!(
                    "{} {}",
                    text("network_namespace"),
                    text("workload_network_interface_name")
                ),
            ),
            _ => return None,
        };
        Some(Self { kind: kind.to_owned(), numbers, text, ordinal: 0 })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind)?;
        for (position, number) in self.numbers.iter().enumerate() {
            if *number == u64::MAX {
                write!(formatter, " -")?;
            } else if self.kind == "memory" && position == 1 {
                write!(formatter, " {number:#x}")?;
            } else {
                write!(formatter, " {number}")?;
            }
        }
        if !self.text.is_empty() {
            write!(formatter, " {}", self.text)?;
        }
        if self.ordinal > 0 {
            write!(formatter, " ({})", self.ordinal + 1)?;
        }
        Ok(())
    }
}

/// The order of objects with the same identity: by first thread, by namespace.
fn order_within(value: &Value) -> (u64, String) {
    let thread = value["file_descriptor_thread_id_array"][0].as_u64().unwrap_or_default();
    (thread, value["network_namespace"].as_str().unwrap_or_default().to_owned())
}

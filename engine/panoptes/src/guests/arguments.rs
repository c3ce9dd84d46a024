//! Parses QEMU's arguments: a guest's name, machine and memory.
//!
//! Any user can start a process with any arguments, so they are not trusted: names are made
//! printable, sizes only select among existing areas, and no path is ever opened.
//!
//! The syntax is QEMU's: `-option key=value,key=value`, with `,,` for a comma, or JSON for
//! `-object` and `-device` (util/keyval.c, qemu-options.hx).

mod keys;
#[cfg(test)]
mod tests;

use crate::config::printable;
use keys::QemuOptionKeys;
use panoptes_sources::{ExpectedMemory, Machine, MemoryDevice, Use};

/// Maximum number of memory blocks that are read.
const BLOCKS_MAX: usize = 256;
/// Maximum length of a name; the rest is cut.
const GUEST_NAME_BYTES_MAX: usize = 255;
/// Maximum number of further names of a guest.
const OTHER_NAMES_MAX: usize = 4;

/// The arguments of a guest that Panoptes uses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Arguments {
    /// Printable.
    pub name: Option<String>,
    /// What else users call it, such as its number in Proxmox. Printable.
    pub other_names: Vec<String>,
    /// In lower case.
    pub uuid: Option<String>,
    pub memory: ExpectedMemory,
    /// The technology that encrypts its memory, if any.
    pub encryption: Option<&'static str>,
    /// The value of `-cpu`: the last one holds.
    pub processor: Option<String>,
}

/// The state of the parser.
#[derive(Debug, Default)]
struct QemuArgumentParser {
    arguments: Arguments,
    proxmox_id: Option<String>,
    /// Names in paths of tools that give QEMU no name, or a shorter one.
    of_path: Option<String>,
    instance: Option<String>,
    memory_bytes: Option<u64>,
    /// Whether the sizes of memory may be in a file.
    has_file: bool,
    main: Option<String>,
    backends: Vec<Backend>,
    nodes: Vec<(u64, String)>,
    /// The devices that are memory, each with its backend's id.
    slots: Vec<(String, MemoryDevice)>,
    /// The same of devices in JSON, which QEMU makes after all others (system/vl.c,
    /// `qemu_create_cli_devices`).
    late_slots: Vec<(String, MemoryDevice)>,
}

/// An object that is memory.
#[derive(Debug)]
struct Backend {
    /// The id by which other options refer to it.
    id: String,
    bytes: u64,
    alignment: Option<u64>,
    is_read_only: bool,
}

impl Arguments {
    /// Parses a command line in the form of /proc/PID/cmdline.
    pub fn parse(command_line: &[u8]) -> Self {
        let mut reading = QemuArgumentParser::default();
        let mut words = command_line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned());
        let program = words.next().unwrap_or_default();
        reading.arguments.memory.machine = if program.contains("aarch64") {
            Machine::Virt
        } else if program.contains("i386") || program.contains("x86_64") {
            // QEMU's default.
            Machine::Pc
        } else {
            Machine::Unknown
        };
        while let Some(word) = words.next() {
            reading.take_path(&word);
            // Two dashes mean the same as one.
            let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                continue;
            };
            if !READ.contains(&option) && !TEXTS.contains(&option) {
                continue;
            }
            if let Some(value) = words.next() {
                reading.take_path(&value);
                reading.take(option, &value);
            }
        }
        reading.finish()
    }

    /// Adds another name, made printable, if it is not known.
    pub(super) fn add_name(&mut self, name: &str) {
        let Some(name) = shown(name) else { return };
        let is_known = self.name.as_ref() == Some(&name) || self.other_names.contains(&name);
        if !is_known && self.other_names.len() < OTHER_NAMES_MAX {
            self.other_names.push(name);
        }
    }
}

/// The options that are parsed.
const READ: [&str; 13] = [
    "name",
    "uuid",
    "id",
    "smbios",
    "machine",
    "M",
    "m",
    "object",
    "numa",
    "device",
    "cpu",
    "readconfig",
    "pidfile",
];

/// Options whose value may be any text, of which a guest's own user may choose some: it may look
/// like another option.
const TEXTS: [&str; 5] = ["append", "kernel", "initrd", "fw_cfg", "acpitable"];

/// Folders of tools whose next part is the name of a guest that QEMU is not told: systemd-vmspawn,
/// Multipass and minikube.
const NAMING_FOLDERS: [&str; 3] =
    ["/run/systemd/vmspawn/", "/vault/instances/", "/.minikube/machines/"];

/// Folders of Incus and LXD, whose next part is the name of a guest behind that of its project.
const INSTANCE_FOLDERS: [&str; 3] = ["/run/incus/", "/lxd/logs/", "/log/lxd/"];

/// The part of a path behind a folder, if another part follows.
fn part_behind(word: &str, folders: &[&str]) -> Option<String> {
    let rest = folders.iter().find_map(|folder| word.split_once(folder).map(|(_, rest)| rest))?;
    let (part, _) = rest.split_once('/')?;
    (!part.is_empty()).then(|| part.to_owned())
}

impl QemuArgumentParser {
    /// Takes the names that are in a path.
    fn take_path(&mut self, word: &str) {
        if self.of_path.is_none() {
            self.of_path = part_behind(word, &NAMING_FOLDERS);
        }
        if self.instance.is_none() {
            self.instance = part_behind(word, &INSTANCE_FOLDERS);
        }
    }

    fn take(&mut self, option: &str, value: &str) {
        match option {
            // QEMU merges all of them (`merge_lists`, system/vl.c): one without a name keeps it.
            "name" => {
                let name = QemuOptionKeys::read(value, "guest").text("guest");
                self.arguments.name = name.or(self.arguments.name.take());
            }
            "uuid" => self.set_uuid(value),
            // Proxmox sets its own number.
            "id" => self.proxmox_id = Some(value.to_owned()),
            "smbios" => {
                let keys = QemuOptionKeys::read(value, "type");
                if keys.text("type").as_deref() == Some("1")
                    && let Some(text) = keys.text("uuid")
                {
                    self.set_uuid(&text);
                }
            }
            "cpu" => self.arguments.processor = Some(value.to_owned()),
            "machine" | "M" => self.machine(&QemuOptionKeys::read(value, "type")),
            "m" => {
                let keys = QemuOptionKeys::read(value, "size");
                // Only in this option, a number without a unit is in MiB.
                let size = |key| keys.size(key, 1 << 20).filter(|bytes| *bytes > 0);
                self.memory_bytes = size("size").or(self.memory_bytes);
                let memory = &mut self.arguments.memory;
                memory.maximum_bytes = size("maxmem").unwrap_or(memory.maximum_bytes);
                memory.slots = keys.size("slots", 1).unwrap_or(memory.slots);
                // Devices that are memory need room: slots, or for virtio-mem only `maxmem`.
                memory.has_slots = memory.slots > 0 || memory.maximum_bytes > 0;
            }
            "object" => self.object(&QemuOptionKeys::read(value, "qom-type")),
            "numa" => {
                let keys = QemuOptionKeys::read(value, "type");
                if keys.text("type").as_deref() == Some("node")
                    && let Some(backend) = keys.text("memdev")
                    && self.nodes.len() < BLOCKS_MAX
                {
                    let number = keys.size("nodeid", 1).unwrap_or(self.nodes.len() as u64);
                    self.nodes.push((number, backend));
                }
            }
            "device" => self.device(&QemuOptionKeys::read(value, "driver")),
            "readconfig" => self.has_file = true,
            _ => {}
        }
    }

    /// Both options set the same variable (`qemu_uuid`): the last one holds.
    fn set_uuid(&mut self, text: &str) {
        self.arguments.uuid = uuid(text).or(self.arguments.uuid.take());
    }

    fn device(&mut self, keys: &QemuOptionKeys) {
        let driver = keys.text("driver").unwrap_or_default();
        let Some((_, key)) = MEMORY_DEVICES.iter().find(|(name, _)| *name == driver) else {
            return;
        };
        let Some(backend) = keys.text("memdev") else { return };
        if self.slots.len() + self.late_slots.len() >= BLOCKS_MAX {
            return;
        }
        let label_bytes = keys.size("label-size", 1).filter(|_| driver == "nvdimm").unwrap_or(0);
        let at = keys.size(key, 1).filter(|at| *at != 0);
        let device = MemoryDevice { label_bytes, ..MemoryDevice::new(0, at) };
        let slots = match keys {
            QemuOptionKeys::List(_) => &mut self.slots,
            QemuOptionKeys::Json(_) => &mut self.late_slots,
        };
        slots.push((backend, device));
    }

    fn machine(&mut self, keys: &QemuOptionKeys) {
        if let Some(kind) = keys.text("type").filter(|kind| !kind.is_empty()) {
            self.arguments.memory.machine = machine_of(&kind);
        }
        self.main = keys.text("memory-backend").or(self.main.take());
        let most = keys.size("max-ram-below-4g", 1);
        self.arguments.memory.low_bytes_max = most.or(self.arguments.memory.low_bytes_max);
        let encrypts = |key| keys.text(key).is_some_and(|id| !id.is_empty());
        if encrypts("memory-encryption") || encrypts("confidential-guest-support") {
            self.arguments.encryption.get_or_insert("confidential guest support");
        }
    }

    fn object(&mut self, keys: &QemuOptionKeys) {
        let kind = keys.text("qom-type").unwrap_or_default();
        if let Some((_, what)) = ENCRYPTING.iter().find(|(object, _)| *object == kind) {
            self.arguments.encryption = Some(what);
        }
        if kind.starts_with("memory-backend-")
            && let (Some(id), Some(bytes)) = (keys.text("id"), keys.size("size", 1))
            && self.backends.len() < BLOCKS_MAX
        {
            if kind == "memory-backend-epc" {
                let epc = &mut self.arguments.memory.epc_bytes;
                *epc = epc.saturating_add(bytes);
            }
            let page = || keys.size("hugetlbsize", 1).filter(|bytes| *bytes > 0);
            let alignment = keys.size("align", 1).filter(|bytes| *bytes > 0).or_else(page);
            let is_read_only =
                keys.text("readonly").is_some_and(|text| text == "on" || text == "true");
            self.backends.push(Backend { id, bytes, alignment, is_read_only });
        }
    }

    fn backend(&self, id: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.id == id)
    }

    fn bytes_of(&self, id: &str) -> Option<u64> {
        self.backend(id).map(|backend| backend.bytes)
    }

    /// The devices with their backends' sizes, in the order in which QEMU makes them.
    fn devices(&mut self) -> Vec<(String, MemoryDevice)> {
        let mut slots = std::mem::take(&mut self.slots);
        slots.append(&mut self.late_slots);
        slots.retain_mut(|(id, device)| {
            let Some(backend) = self.backend(id) else { return false };
            (device.bytes, device.alignment) = (backend.bytes, backend.alignment);
            device.is_read_only = backend.is_read_only;
            true
        });
        slots
    }

    fn finish(mut self) -> Arguments {
        self.nodes.sort_by_key(|(number, _)| *number);
        let slots = self.devices();
        let mut main_ids: Vec<&str> = self.nodes.iter().map(|(_, id)| id.as_str()).collect();
        if main_ids.is_empty() {
            main_ids.extend(self.main.as_deref().filter(|id| self.bytes_of(id).is_some()));
        }
        let mut main: Vec<u64> = main_ids.iter().map(|id| self.bytes_of(id).unwrap_or(0)).collect();
        let mut other = Vec::new();
        let mut order: Vec<Use> = self
            .backends
            .iter()
            .map(|Backend { id, bytes, .. }| {
                let place = |mut ids: core::slice::Iter<'_, &str>| ids.position(|name| name == id);
                if let Some(at) = place(main_ids.iter()) {
                    return Use::Main(at);
                }
                if let Some(at) = slots.iter().position(|(name, _)| name == id) {
                    return Use::Plugged(at);
                }
                other.push(*bytes);
                Use::Other(other.len() - 1)
            })
            .collect();
        // Sizes may be in the file, which is not read: it is a path of the process's own.
        let is_unknown = self.has_file && self.memory_bytes.is_none();
        if main.is_empty() && is_unknown {
            self.arguments.memory.has_slots = true;
            if self.arguments.memory.machine == Machine::Pc {
                self.arguments.memory.machine = Machine::Unknown;
            }
        } else if main.is_empty() {
            // The memory of `-m` is made behind all objects. 128 MiB is QEMU's default
            // (hw/core/machine.c, `default_ram_size`).
            main.push(self.memory_bytes.unwrap_or(128 << 20));
            order.push(Use::Main(0));
        }
        let plugged = slots.into_iter().map(|(_, device)| device).collect();
        let mut arguments = self.arguments;
        let memory = &mut arguments.memory;
        (memory.main, memory.plugged) = (main, plugged);
        (memory.other, memory.order) = (other, order);
        let name = arguments.name.or_else(|| self.proxmox_id.clone()).or(self.of_path);
        arguments.name = shown(&name.unwrap_or_default());
        for other in [self.proxmox_id, self.instance].into_iter().flatten() {
            arguments.add_name(&other);
        }
        arguments
    }
}

/// The machine of a type, as `-machine help` lists them; Proxmox adds `+pve0` to some.
fn machine_of(kind: &str) -> Machine {
    let begins = |word: &str| kind.starts_with(word);
    if kind.contains("q35") {
        Machine::Q35
    } else if begins("virt") {
        Machine::Virt
    } else if begins("microvm") {
        Machine::Microvm
    } else if begins("pc") || begins("isapc") || begins("ubuntu") || begins("xenfv") {
        Machine::Pc
    } else {
        Machine::Unknown
    }
}

/// Devices that are memory, each with the key of its address (hw/mem and hw/virtio): `addr` of a
/// PCI device is its place on the bus.
const MEMORY_DEVICES: [(&str, &str); 6] = [
    ("pc-dimm", "addr"),
    ("nvdimm", "addr"),
    ("virtio-mem-pci", "memaddr"),
    ("virtio-mem-device", "memaddr"),
    ("virtio-pmem-pci", "memaddr"),
    ("virtio-pmem-device", "memaddr"),
];

/// Objects that hide a guest's memory from its host.
const ENCRYPTING: [(&str, &str); 5] = [
    ("sev-guest", "AMD SEV"),
    ("sev-snp-guest", "AMD SEV-SNP"),
    ("tdx-guest", "Intel TDX"),
    ("pef-guest", "POWER PEF"),
    ("s390-pv-guest", "s390 Secure Execution"),
];

/// A UUID in its hyphenated form; `None` if the text is no UUID.
pub(super) fn uuid(text: &str) -> Option<String> {
    uuid::Uuid::try_parse(text).ok().map(|uuid| uuid.hyphenated().to_string())
}

/// Makes a name printable and short enough for a system's name; `None` if it is empty.
pub(super) fn shown(name: &str) -> Option<String> {
    let mut end = name.len().min(GUEST_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let name = printable(&name[..end]);
    (!name.is_empty()).then_some(name)
}

//! Parses QEMU's arguments: a guest's name, machine and memory.
//!
//! Any user can start a process with any arguments, so they are not trusted: names are made
//! printable, sizes only select among existing areas, and no path is ever opened.
//!
//! The syntax is QEMU's: `-option key=value,key=value`, with `,,` for a comma, or JSON for
//! `-object` and `-device` (util/keyval.c, qemu-options.hx).

use panoptes_sources::{Expected, Machine, Use};
use serde_json::{Map, Value};

use crate::config::printable;

/// Maximum number of memory blocks that are read.
const BLOCKS_MAX: usize = 256;
/// Maximum length of a name; the rest is cut.
const NAME_BYTES_MAX: usize = 255;

/// The arguments of a guest that Panoptes uses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Arguments {
    /// Printable.
    pub name: Option<String>,
    /// In lower case.
    pub uuid: Option<String>,
    pub memory: Expected,
    /// The technology that encrypts its memory, if any.
    pub encryption: Option<&'static str>,
    /// The value of `-cpu`: the last one holds.
    pub processor: Option<String>,
}

/// The state of the parser.
#[derive(Debug, Default)]
struct Reading {
    arguments: Arguments,
    proxmox_id: Option<String>,
    memory_bytes: Option<u64>,
    main: Option<String>,
    /// Each memory backend's id, by which other options refer to it, and its size.
    backends: Vec<(String, u64)>,
    nodes: Vec<(u64, String)>,
    slots: Vec<(String, Option<u64>)>,
}

impl Arguments {
    /// Parses a command line in the form of /proc/PID/cmdline.
    pub fn parse(command_line: &[u8]) -> Self {
        let mut reading = Reading::default();
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
            // Two dashes mean the same as one.
            let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                continue;
            };
            if READ.contains(&option)
                && let Some(value) = words.next()
            {
                reading.take(option, &value);
            }
        }
        reading.finish()
    }
}

/// The options that are parsed.
const READ: [&str; 11] =
    ["name", "uuid", "id", "smbios", "machine", "M", "m", "object", "numa", "device", "cpu"];

impl Reading {
    fn take(&mut self, option: &str, value: &str) {
        match option {
            // QEMU merges all of them (`merge_lists`, system/vl.c): one without a name keeps it.
            "name" => {
                let name = Keys::read(value, "guest").text("guest");
                self.arguments.name = name.or(self.arguments.name.take());
            }
            "uuid" => self.set_uuid(value),
            // Proxmox sets its own number.
            "id" => self.proxmox_id = Some(value.to_owned()),
            "smbios" => {
                let keys = Keys::read(value, "type");
                if keys.text("type").as_deref() == Some("1")
                    && let Some(text) = keys.text("uuid")
                {
                    self.set_uuid(&text);
                }
            }
            "cpu" => self.arguments.processor = Some(value.to_owned()),
            "machine" | "M" => self.machine(&Keys::read(value, "type")),
            "m" => {
                let keys = Keys::read(value, "size");
                // Only in this option, a number without a unit is in MiB.
                self.memory_bytes = keys.size("size", 1 << 20).or(self.memory_bytes);
                // Devices that are memory need room: slots, or for virtio-mem only `maxmem`.
                let is_set = |key| keys.text(key).is_some_and(|text| text != "0");
                self.arguments.memory.has_slots |= is_set("slots") || is_set("maxmem");
            }
            "object" => self.object(&Keys::read(value, "qom-type")),
            "numa" => {
                let keys = Keys::read(value, "type");
                if keys.text("type").as_deref() == Some("node")
                    && let Some(backend) = keys.text("memdev")
                    && self.nodes.len() < BLOCKS_MAX
                {
                    let number = keys.size("nodeid", 1).unwrap_or(self.nodes.len() as u64);
                    self.nodes.push((number, backend));
                }
            }
            "device" => {
                let keys = Keys::read(value, "driver");
                let driver = keys.text("driver").unwrap_or_default();
                let key = MEMORY_DEVICES.iter().find(|(name, _)| *name == driver);
                if let Some((_, key)) = key
                    && let Some(backend) = keys.text("memdev")
                    && self.slots.len() < BLOCKS_MAX
                {
                    let at = keys.size(key, 1).filter(|at| *at != 0);
                    self.slots.push((backend, at));
                }
            }
            _ => {}
        }
    }

    /// Both options set the same variable (`qemu_uuid`): the last one holds.
    fn set_uuid(&mut self, text: &str) {
        self.arguments.uuid = uuid(text).or(self.arguments.uuid.take());
    }

    fn machine(&mut self, keys: &Keys) {
        if let Some(kind) = keys.text("type") {
            self.arguments.memory.machine = if kind.contains("q35") {
                Machine::Q35
            } else if kind == "virt" || kind.starts_with("virt-") {
                Machine::Virt
            } else if kind.starts_with("microvm") {
                Machine::Microvm
            } else if kind.starts_with("pc") {
                Machine::Pc
            } else {
                Machine::Unknown
            };
        }
        self.main = keys.text("memory-backend").or(self.main.take());
        let most = keys.size("max-ram-below-4g", 1);
        self.arguments.memory.low_bytes_max = most.or(self.arguments.memory.low_bytes_max);
        let encrypts = |key| keys.text(key).is_some_and(|id| !id.is_empty());
        if encrypts("memory-encryption") || encrypts("confidential-guest-support") {
            self.arguments.encryption.get_or_insert("confidential guest support");
        }
    }

    fn object(&mut self, keys: &Keys) {
        let kind = keys.text("qom-type").unwrap_or_default();
        if let Some((_, what)) = ENCRYPTING.iter().find(|(object, _)| *object == kind) {
            self.arguments.encryption = Some(what);
        }
        if kind.starts_with("memory-backend-")
            && let (Some(id), Some(bytes)) = (keys.text("id"), keys.size("size", 1))
            && self.backends.len() < BLOCKS_MAX
        {
            self.backends.push((id, bytes));
        }
    }

    fn bytes_of(&self, id: &str) -> Option<u64> {
        self.backends.iter().find(|(name, _)| name == id).map(|(_, bytes)| *bytes)
    }

    fn finish(mut self) -> Arguments {
        self.nodes.sort_by_key(|(number, _)| *number);
        self.slots.retain(|(id, _)| self.backends.iter().any(|(name, _)| name == id));
        let mut main_ids: Vec<&str> = self.nodes.iter().map(|(_, id)| id.as_str()).collect();
        if main_ids.is_empty() {
            main_ids.extend(self.main.as_deref().filter(|id| self.bytes_of(id).is_some()));
        }
        let mut main: Vec<u64> = main_ids.iter().map(|id| self.bytes_of(id).unwrap_or(0)).collect();
        let mut other = Vec::new();
        let mut order: Vec<Use> = self
            .backends
            .iter()
            .map(|(id, bytes)| {
                let place = |mut ids: core::slice::Iter<'_, &str>| ids.position(|name| name == id);
                if let Some(at) = place(main_ids.iter()) {
                    return Use::Main(at);
                }
                if let Some(at) = self.slots.iter().position(|(name, _)| name == id) {
                    return Use::Plugged(at);
                }
                other.push(*bytes);
                Use::Other(other.len() - 1)
            })
            .collect();
        if main.is_empty() {
            // The memory of `-m` is made behind all objects. 128 MiB is QEMU's default
            // (hw/core/machine.c, `default_ram_size`).
            main.push(self.memory_bytes.unwrap_or(128 << 20));
            order.push(Use::Main(0));
        }
        let slots = self.slots.iter();
        let plugged = slots.map(|(id, at)| (self.bytes_of(id).unwrap_or(0), *at)).collect();
        let mut arguments = self.arguments;
        let memory = &mut arguments.memory;
        (memory.main, memory.plugged) = (main, plugged);
        (memory.other, memory.order) = (other, order);
        arguments.name = shown(&arguments.name.or(self.proxmox_id).unwrap_or_default());
        arguments
    }
}

/// Devices that are memory, each with the key of its address (hw/mem and hw/virtio): `addr` of a PCI
/// device is its place on the bus.
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

/// The keys of one option.
#[derive(Debug)]
enum Keys {
    List(Vec<(String, String)>),
    Json(Map<String, Value>),
}

impl Keys {
    /// `implied` is the key of a first value that has no key.
    fn read(text: &str, implied: &str) -> Self {
        if text.starts_with('{')
            && let Ok(Value::Object(map)) = serde_json::from_str(text)
        {
            return Self::Json(map);
        }
        let mut list = Vec::new();
        for (index, part) in split_at_commas(text).into_iter().enumerate() {
            list.push(match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None if index == 0 => (implied.to_owned(), part),
                None => (part, "on".to_owned()),
            });
        }
        Self::List(list)
    }

    /// A value as text; the last one if the key is given twice.
    fn text(&self, key: &str) -> Option<String> {
        match self {
            Self::List(list) => {
                list.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone())
            }
            Self::Json(map) => match map.get(key)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            },
        }
    }

    /// A size in bytes; `unit` applies to a number without a unit.
    fn size(&self, key: &str, unit: u64) -> Option<u64> {
        size(&self.text(key)?, unit)
    }
}

/// Splits at single commas; two commas are one comma of the value.
fn split_at_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character != ',' {
            parts.last_mut().expect("there is one from the start").push(character);
        } else if rest.next_if_eq(&',').is_some() {
            parts.last_mut().expect("there is one from the start").push(',');
        } else {
            parts.push(String::new());
        }
    }
    parts
}

/// Parses `512M`, `1.5G`, `0x40000000`, or a number of `unit`.
fn size(text: &str, unit: u64) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = match suffix {
        "" => unit,
        "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(unit),
        Some((whole, part)) if part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit()) => {
            let digits = u32::try_from(part.len()).ok()?;
            let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
            let part = u128::from(part) * u128::from(unit) / 10_u128.pow(digits);
            let part = u64::try_from(part).ok()?;
            whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
        }
        Some(_) => None,
    }
}

/// A UUID in its hyphenated form; `None` if the text is no UUID.
fn uuid(text: &str) -> Option<String> {
    uuid::Uuid::try_parse(text).ok().map(|uuid| uuid.hyphenated().to_string())
}

/// Makes a name printable and short enough for a system's name; `None` if it is empty.
fn shown(name: &str) -> Option<String> {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let name = printable(&name[..end]);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn parse(line: &str) -> Arguments {
        Arguments::parse(line.replace(' ', "\0").as_bytes())
    }

    #[test]
    fn the_last_processor_holds() {
        let arguments = parse("qemu-system-x86_64 -cpu max -m 256M -cpu qemu32,+pae");
        assert_eq!(arguments.processor.as_deref(), Some("qemu32,+pae"));
        assert_eq!(parse("qemu-system-x86_64 -m 256M").processor, None);
    }

    #[test]
    fn as_libvirt_starts_it() {
        let line = "/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S -object \
            {\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\",\"file\":\"/x\"} \
            -machine pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram \
            -accel kvm -m 2048 -object \
            {\"qom-type\":\"memory-backend-ram\",\"id\":\"pc.ram\",\"size\":2147483648} \
            -overcommit mem-lock=off -smp 2,sockets=2 \
            -uuid 4DEA22B3-1d52-d8f3-2516-782e98ab3fa0 -no-user-config";
        let arguments = parse(line);
        assert_eq!(arguments.name.as_deref(), Some("web"));
        assert_eq!(arguments.uuid.as_deref(), Some("4dea22b3-1d52-d8f3-2516-782e98ab3fa0"));
        assert_eq!(arguments.memory.machine, Machine::Q35);
        assert_eq!(arguments.memory.main, [2048 * MIB]);
        assert!(!arguments.memory.has_slots && arguments.encryption.is_none());
    }

    #[test]
    fn as_proxmox_starts_it() {
        let line = "/usr/bin/kvm -id 101 -name web,debug-threads=on -no-shutdown \
            -smbios type=1,uuid=3b8e5d10-5b06-4c12-8c35-7e4bd3d5b1a2 -smp 4 -m 4096 \
            -machine type=pc+pve0";
        let arguments = parse(line);
        assert_eq!(arguments.name.as_deref(), Some("web"));
        assert_eq!(arguments.uuid.as_deref(), Some("3b8e5d10-5b06-4c12-8c35-7e4bd3d5b1a2"));
        assert_eq!(arguments.memory.machine, Machine::Pc);
        assert_eq!(arguments.memory.main, [4096 * MIB]);
        assert_eq!(parse("/usr/bin/kvm -id 101").name.as_deref(), Some("101"));
    }

    #[test]
    fn memory_in_nodes_and_slots() {
        let arguments = parse(
            "qemu-system-x86_64 -m size=512M,slots=4,maxmem=2G -M q35,max-ram-below-4g=1G \
             -object memory-backend-ram,id=d1,size=256M \
             -device pc-dimm,id=dimm1,memdev=d1,addr=0x100000000 \
             -object memory-backend-memfd,id=n1,size=300M \
             -object memory-backend-ram,id=n0,size=212M \
             -numa node,memdev=n1,nodeid=1 -numa node,nodeid=0,memdev=n0",
        );
        let expected = Expected {
            machine: Machine::Q35,
            main: vec![212 * MIB, 300 * MIB],
            plugged: vec![(256 * MIB, Some(1 << 32))],
            other: Vec::new(),
            order: vec![Use::Plugged(0), Use::Main(1), Use::Main(0)],
            has_slots: true,
            low_bytes_max: Some(1 << 30),
        };
        assert_eq!(arguments.memory, expected);
        assert_eq!(
            parse("qemu-system-aarch64 -M virt,gic-version=3").memory.machine,
            Machine::Virt
        );
    }

    #[test]
    fn names_are_merged_and_the_last_uuid_holds() {
        let name = |line: &str| parse(line).name;
        assert_eq!(name("q -name web -name debug-threads=on").as_deref(), Some("web"));
        assert_eq!(name("q -name web -name process=x,guest=db").as_deref(), Some("db"));
        assert_eq!(name("q -name foo=1").as_deref(), None);
        assert_eq!(
            name("q -name guest=foo=1,,bar=2,debug-threads=on").as_deref(),
            Some("foo=1,bar=2")
        );
        let [one, two] =
            ["1", "2"].map(|last| format!("4dea22b3-1d52-d8f3-2516-782e98ab3fa{last}"));
        let both = format!("q -uuid {one} -smbios type=1,uuid={two}");
        assert_eq!(parse(&both).uuid, Some(two.clone()));
        let both = format!("q -smbios type=1,uuid={two} -uuid {one} -smbios type=1,serial=7");
        assert_eq!(parse(&both).uuid, Some(one));
    }

    #[test]
    fn devices_of_virtio_are_memory() {
        let memory = parse(
            "qemu-system-x86_64 -M q35 -m 512M,maxmem=4G -object memory-backend-ram,id=v,size=1G \
             -device virtio-mem-pci,id=vm0,memdev=v,requested-size=256M,addr=0x7,memaddr=0x140000000",
        )
        .memory;
        assert_eq!(memory.plugged, [(1 << 30, Some(0x1_4000_0000))]);
        assert!(memory.has_slots);
    }

    #[test]
    fn encryption_is_detected() {
        let check = |line: &str, expected| assert_eq!(parse(line).encryption, expected, "{line}");
        check(
            "q -object sev-guest,id=s,cbitpos=47 -machine q35,memory-encryption=s",
            Some("AMD SEV"),
        );
        check(
            "q -machine q35,confidential-guest-support=t \
             -object {\"qom-type\":\"tdx-guest\",\"id\":\"t\"}",
            Some("Intel TDX"),
        );
        check("q -object sev-snp-guest,id=s", Some("AMD SEV-SNP"));
        check("q -machine q35,confidential-guest-support=x", Some("confidential guest support"));
        check("q -name sev-guest -machine q35", None);
    }

    #[test]
    fn commas_and_sizes_are_qemus() {
        assert_eq!(split_at_commas("a=b,,c,d"), ["a=b,c", "d"]);
        assert_eq!(size("512", MIB), Some(512 * MIB));
        assert_eq!(size("1.5G", 1), Some(1536 * MIB));
        assert_eq!(size("0x1000", MIB), Some(4096));
        for wrong in ["", "M", "-1", "1.2.3G", "99999999999999999T", "1Q", "18446744073709551616"] {
            assert_eq!(size(wrong, 1), None, "{wrong}");
        }
    }

    #[test]
    fn a_hostile_name_is_made_harmless() {
        let arguments = Arguments::parse(b"q\0-name\0guest=a\x1b[2J\nb\xff,debug-threads=on\0");
        let name = arguments.name.unwrap();
        assert!(!name.chars().any(char::is_control), "{name:?}");
        let long = format!("q\0-name\0{}\0", "ä".repeat(9000));
        assert!(Arguments::parse(long.as_bytes()).name.unwrap().len() <= NAME_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Arguments::parse(&bytes);
        }

        #[test]
        fn no_options_make_reading_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "-m", "-object", "-numa", "-device", "-machine", "-name", "-smbios", "memdev=a",
                    "node,memdev=a,nodeid=9", "memory-backend-ram,id=a,size=1.99999T", "{\"a\":",
                    "pc-dimm,memdev=a,addr=0xffffffffffffffff", ",,,", "=", "size=0x",
                    "{\"size\":-1}",
                ]),
                0..20,
            )
        ) {
            let _ = Arguments::parse(words.join("\0").as_bytes());
        }
    }
}

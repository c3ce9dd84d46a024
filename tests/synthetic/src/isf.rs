//! The machine for Volatility 3: its memory as a raw file, and a table of symbols.
//!
//! The table has the types that Volatility's plugins for processes, arguments, areas and open
//! files read, with the offsets of the machine's profile. So another program's idea of the kernel
//! decides whether the structures fit together.

use std::io::{self, Write};

use panoptes_decoders::layout::Members as _;
use serde_json::{Map, Value, json};

use crate::machine::Machine;

/// Fields by structure: path in the kernel, and type ([`type_of`]).
const FIELDS: &[(&str, &[(&str, &str)])] = &[
    (
        "task_struct",
        &[
            ("tasks", "list_head"),
            ("pid", "int"),
            ("tgid", "int"),
            ("comm", "char[16]"),
            ("flags", "unsigned int"),
            ("__state", "unsigned int"),
            ("state", "long"),
            ("exit_state", "int"),
            ("mm", "*mm_struct"),
            ("files", "*files_struct"),
            ("fs", "*fs_struct"),
            ("signal", "*signal_struct"),
            ("nsproxy", "*nsproxy"),
            ("real_cred", "*cred"),
            ("real_parent", "*task_struct"),
            ("group_leader", "*task_struct"),
            ("thread_pid", "*pid"),
            ("children", "list_head"),
            ("sibling", "list_head"),
            ("thread_node", "list_head"),
            ("start_boottime", "unsigned long"),
        ],
    ),
    ("signal_struct", &[("thread_head", "list_head"), ("nr_threads", "int")]),
    ("cred", &[("uid", "kuid_t"), ("gid", "kgid_t"), ("euid", "kuid_t"), ("egid", "kgid_t")]),
    (
        "mm_struct",
        &[
            ("pgd", "*pgd_t"),
            ("exe_file", "*file"),
            ("map_count", "int"),
            ("arg_start", "unsigned long"),
            ("arg_end", "unsigned long"),
            ("env_start", "unsigned long"),
            ("env_end", "unsigned long"),
            ("start_brk", "unsigned long"),
            ("brk", "unsigned long"),
            ("start_stack", "unsigned long"),
        ],
    ),
    (
        "vm_area_struct",
        &[
            ("vm_start", "unsigned long"),
            ("vm_end", "unsigned long"),
            ("vm_flags", "unsigned long"),
            ("vm_mm", "*mm_struct"),
            ("vm_file", "*file"),
            ("vm_pgoff", "unsigned long"),
        ],
    ),
    ("files_struct", &[("fdt", "*fdtable")]),
    ("fdtable", &[("max_fds", "unsigned int"), ("fd", "**file")]),
    (
        "file",
        &[
            ("f_path", "path"),
            ("f_inode", "*inode"),
            ("f_mode", "unsigned int"),
            ("f_flags", "unsigned int"),
        ],
    ),
    (
        "dentry",
        &[
            ("d_parent", "*dentry"),
            ("d_name", "qstr"),
            ("d_inode", "*inode"),
            ("d_op", "*dentry_operations"),
        ],
    ),
    (
        "inode",
        &[
            ("i_mode", "unsigned short"),
            ("i_ino", "unsigned long"),
            ("i_size", "long"),
            ("i_nlink", "unsigned int"),
            ("i_sb", "*super_block"),
            ("i_mapping", "*address_space"),
        ],
    ),
    ("super_block", &[("s_dev", "unsigned int"), ("s_magic", "unsigned long")]),
    ("mount", &[("mnt", "vfsmount"), ("mnt_parent", "*mount"), ("mnt_mountpoint", "*dentry")]),
    ("fs_struct", &[("root", "path"), ("pwd", "path")]),
];

/// Structures that Volatility must find but does not look into.
const OPAQUE: &[&str] = &[
    "address_space",
    "dentry_operations",
    "idr",
    "inet_sock",
    "kobject",
    "module",
    "net",
    "nsproxy",
    "page",
    "pgd_t",
    "pid",
    "sock",
    "socket",
    "unix_sock",
];

impl Machine {
    /// Writes the memory from physical address 0 to the last byte in use.
    pub fn write_raw(&self, file: &mut dyn Write) -> io::Result<()> {
        file.write_all(&self.memory.bytes()[..self.memory.used() as usize])
    }

    /// The table of symbols for Volatility 3, in its intermediate symbol format.
    pub fn isf(&self) -> Value {
        let mut types = self.plain_types();
        for &(structure, fields) in FIELDS {
            types.insert(structure.to_owned(), self.structure(structure, fields));
        }
        self.add_inode_fields(&mut types);
        self.add_areas_of(&mut types);
        json!({
            "metadata": {
                "format": "6.2.0",
                "producer": { "name": "panoptes-synthetic", "version": "0.1.0" },
                "linux": { "symbols": [], "types": [] },
            },
            "base_types": {
                "char": base(1, true, "char"),
                "unsigned char": base(1, false, "char"),
                "unsigned short": base(2, false, "int"),
                "int": base(4, true, "int"),
                "unsigned int": base(4, false, "int"),
                "long": base(8, true, "int"),
                "long int": base(8, true, "int"),
                "unsigned long": base(8, false, "int"),
                "long unsigned int": base(8, false, "int"),
                "pointer": base(8, false, "int"),
                "void": base(0, false, "void"),
            },
            "enums": {},
            "user_types": types,
            "symbols": self.isf_symbols(),
        })
    }

    /// Structures whose fields follow from others.
    fn plain_types(&self) -> Map<String, Value> {
        let mut types = Map::new();
        for &opaque in OPAQUE {
            let bytes = self.kernel.profile.members().size_of(opaque).unwrap_or(8);
            types.insert(opaque.to_owned(), of(bytes, &[]));
        }
        for (structure, value) in [
            ("list_head", of(16, &[("next", 0, "*list_head"), ("prev", 8, "*list_head")])),
            ("hlist_node", of(16, &[("next", 0, "*hlist_node"), ("pprev", 8, "*hlist_node")])),
            ("hlist_head", of(8, &[("first", 0, "*hlist_node")])),
            ("kuid_t", of(4, &[("val", 0, "unsigned int")])),
            ("kgid_t", of(4, &[("val", 0, "unsigned int")])),
            ("path", of(16, &[("mnt", 0, "*vfsmount"), ("dentry", 8, "*dentry")])),
            ("vfsmount", of(32, &[("mnt_root", 0, "*dentry"), ("mnt_sb", 8, "*super_block")])),
            ("qstr", of(16, &[("len", 4, "unsigned int"), ("name", 8, "*char")])),
            ("atomic_t", of(4, &[("counter", 0, "int")])),
        ] {
            types.insert(structure.to_owned(), value);
        }
        types
    }

    /// The tree of areas since v6.1, and the list of them before.
    fn add_areas_of(&self, types: &mut Map<String, Value>) {
        let layouts = self.layouts();
        let mut add = |structure: &str, field: &str, offset: u32, kind: &str| {
            types[structure]["fields"][field] = json!({ "offset": offset, "type": type_of(kind) });
        };
        let Some(tree) = self.maple_tree() else {
            add("mm_struct", "mmap", 0, "*vm_area_struct");
            add(
                "vm_area_struct",
                "vm_next",
                layouts.vm_area_struct.vm_end.offset + 8,
                "*vm_area_struct",
            );
            return self.add_context(types);
        };
        add("mm_struct", "mm_mt", tree.offset, "maple_tree");
        let root = layouts.mm_struct.ma_root.map_or(0, |root| root.offset);
        let flags = ("ma_flags", tree.flags - tree.offset, "unsigned int");
        types.insert(
            "maple_tree".to_owned(),
            of(root - tree.offset + 8, &[flags, ("ma_root", root - tree.offset, "*void")]),
        );
        let Some(node) = layouts.maple_node else { return };
        for (structure, slots) in
            [("maple_range_64", node.range_slot), ("maple_arange_64", node.arange_slot)]
        {
            let kind = format!("*void[{}]", slots.size / 8);
            types.insert(structure.to_owned(), of(256, &[("slot", slots.offset, &kind)]));
        }
        let fields = [("mr64", 0, "maple_range_64"), ("ma64", 0, "maple_arange_64")];
        types.insert("maple_node".to_owned(), of(256, &fields));
        self.add_context(types);
    }

    /// The times of inodes, under the names that they have since v6.11. A reference count that is
    /// not negative makes an inode valid; the number of links stands in for it.
    fn add_inode_fields(&self, types: &mut Map<String, Value>) {
        let layout = self.layouts().inode;
        for (name, field, kind) in [
            ("i_atime_sec", layout.atime_sec, "long"),
            ("i_atime_nsec", layout.atime_nsec, "unsigned int"),
            ("i_mtime_sec", layout.mtime_sec, "long"),
            ("i_mtime_nsec", layout.mtime_nsec, "unsigned int"),
            ("i_ctime_sec", layout.ctime_sec, "long"),
            ("i_ctime_nsec", layout.ctime_nsec, "unsigned int"),
            ("i_count", layout.i_nlink, "atomic_t"),
        ] {
            types["inode"]["fields"][name] =
                json!({ "offset": field.offset, "type": type_of(kind) });
        }
    }

    /// `mm_context_t`: the address of the vDSO.
    fn add_context(&self, types: &mut Map<String, Value>) {
        if let Some(vdso) = self.layouts().mm_struct.vdso {
            types.insert("mm_context_t".to_owned(), of(8, &[("vdso", 0, "*void")]));
            types["mm_struct"]["fields"]["context"] =
                json!({ "offset": vdso.offset, "type": type_of("mm_context_t") });
        }
    }

    fn structure(&self, structure: &str, fields: &[(&str, &str)]) -> Value {
        let members = self.kernel.profile.members();
        // The first field of an embedded structure shows where that is.
        let first = |path: &str| match path {
            "f_path" | "root" | "pwd" => format!("{path}.mnt"),
            "d_name" => format!("{path}.len"),
            "uid" | "gid" | "euid" | "egid" => format!("{path}.val"),
            _ => path.to_owned(),
        };
        let mut found: Vec<(&str, u32, &str)> = Vec::new();
        for &(path, kind) in fields {
            let Some(member) = members.member(structure, &first(path)) else { continue };
            // The hash is before the length.
            let offset = if path == "d_name" { member.offset - 4 } else { member.offset };
            found.push((path, offset, kind));
            if let Some(twin) = Self::twins(structure, path) {
                found.push((twin, offset + 8, kind));
            }
        }
        of(members.size_of(structure).unwrap_or(8), &found)
    }

    /// The fields that follow others in each kernel (include/linux/sched.h, include/linux/mount.h).
    fn twins(structure: &str, path: &str) -> Option<&'static str> {
        match (structure, path) {
            ("task_struct", "mm") => Some("active_mm"),
            ("task_struct", "real_parent") => Some("parent"),
            ("task_struct", "real_cred") => Some("cred"),
            _ => None,
        }
    }

    fn isf_symbols(&self) -> Map<String, Value> {
        let unmoved = |address: u64| address - self.kernel.offset;
        let mut symbols = Map::new();
        let types = [("init_task", "task_struct"), ("init_mm", "mm_struct"), ("init_net", "net")];
        for (name, distance) in self.kernel.profile.symbols() {
            let Some(distance) = distance else { continue };
            let kind = types.iter().find(|(symbol, _)| *symbol == name);
            let kind = kind.map_or("void", |(_, kind)| kind);
            symbols.insert(
                name.to_owned(),
                json!({
                    "address": unmoved(self.kernel.image.start + distance),
                    "type": type_of(kind),
                }),
            );
        }
        let files = json!({
            "address": unmoved(self.init_files.0),
            "type": type_of("files_struct"),
        });
        symbols.insert("init_files".to_owned(), files);
        symbols["linux_banner"]["constant_data"] = json!(base64(self.banner().as_bytes()));
        symbols["linux_banner"]["type"] = type_of(&format!("char[{}]", self.banner().len()));
        symbols
    }
}

/// A structure of fields (name, offset, type).
fn of(bytes: u32, fields: &[(&str, u32, &str)]) -> Value {
    let fields: Map<_, _> = fields
        .iter()
        .map(|&(name, offset, kind)| {
            (name.to_owned(), json!({ "offset": offset, "type": type_of(kind) }))
        })
        .collect();
    json!({ "size": bytes, "kind": "struct", "fields": fields })
}

fn base(bytes: u32, signed: bool, kind: &str) -> Value {
    json!({ "size": bytes, "signed": signed, "kind": kind, "endian": "little" })
}

/// A type by its short name: `*` before a pointer's target, `[n]` after an array's elements.
fn type_of(kind: &str) -> Value {
    if let Some((element, count)) = kind.strip_suffix(']').and_then(|kind| kind.split_once('[')) {
        let count: u32 = count.parse().unwrap_or_default();
        return json!({ "kind": "array", "count": count, "subtype": type_of(element) });
    }
    if let Some(target) = kind.strip_prefix('*') {
        return json!({ "kind": "pointer", "subtype": type_of(target) });
    }
    let is_base =
        matches!(kind.rsplit(' ').next(), Some("char" | "short" | "int" | "long" | "void"));
    json!({ "kind": if is_base { "base" } else { "struct" }, "name": kind })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= group.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_encoded_with_its_padding() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    }

    #[test]
    fn types_have_short_names() {
        assert_eq!(type_of("unsigned long"), json!({ "kind": "base", "name": "unsigned long" }));
        let array = type_of("*void[16]");
        assert_eq!(array["count"], 16);
        assert_eq!(array["subtype"]["kind"], "pointer");
    }
}

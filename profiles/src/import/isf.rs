//! Volatility 3's intermediate symbol format (ISF): the JSON that dwarf2json generates from a
//! kernel with debug symbols, and that App Shield's tools take as a system's symbols.
//!
//! The JSON schema defines the format (volatility3/schemas, 4.0.0 to 6.2.0): `base_types`, `enums`,
//! `user_types` and `symbols` are objects by name. A field has an offset and a type. A type has a
//! `kind` and, depending on that, a name, a `count` or a `subtype`. Fields of anonymous structures
//! are marked `anonymous`. There is no build id: the profile applies to any kernel with the release
//! in `linux_banner`, whose text the file contains.
//!
//! Files have tens of megabytes, so they are parsed to a tape (simd-json), on which look-ups work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{Member, Members};
use simd_json::prelude::*;
use simd_json::tape;

use super::{Architecture, ImportError, KernelFacts};
use crate::btf::{TYPE_DEPTH_MAX, VISITS_MAX};
use crate::profile_file::ProfileFile;
use crate::symbols::Symbols;
use crate::vmcoreinfo::release_of_banner;

/// Maximum size of an unpacked file in bytes: those of generic kernels have 20 to 60 MB. The tape
/// takes eight times as much if every second byte is a value.
pub(super) const FILE_BYTES_MAX: u64 = 128 << 20;

type IsfValue<'t, 'i> = tape::Value<'t, 'i>;

/// Generates a profile from the unpacked bytes of a file.
pub(super) fn profile(bytes: &mut [u8]) -> Result<ProfileFile, ImportError> {
    let tape = simd_json::to_tape(bytes).map_err(|error| ImportError::Isf(error.to_string()))?;
    let root = tape.as_value();
    let part = |name: &'static str| {
        root.get(name)
            .filter(tape::Value::is_object)
            .ok_or_else(|| ImportError::Isf(format!("it has no {name}")))
    };
    let isf = Isf {
        base_types: part("base_types")?,
        user_types: part("user_types")?,
        enums: part("enums")?,
    };
    let symbols_part = part("symbols")?;
    let banner = symbols_part
        .get("linux_banner")
        .and_then(|banner| BASE64.decode(banner.get("constant_data")?.as_str()?).ok())
        .ok_or(ImportError::NoRelease)?;
    let release = release_of_banner(&banner).ok_or(ImportError::NoRelease)?.to_owned();
    let address = |name: &&str| {
        let at = symbols_part.get(*name)?.get("address")?.as_u64().filter(|&at| at != 0)?;
        // Some versions of the schema lack the upper 16 bits.
        Some(KernelVa(if at >> 47 == 1 { at | 0xffff << 48 } else { at }))
    };
    let symbols: Symbols = Symbols::NAMES.iter().map(address).collect();
    // Only x86-64 has `__START_KERNEL_map`.
    let stext = symbols.stext.ok_or(ImportError::NoSymbols)?.0;
    let architecture =
        if stext >= 0xffff_ffff_8000_0000 { Architecture::X86_64 } else { Architecture::Aarch64 };
    // Without a build id the release must suffice.
    let build_id = String::new();
    KernelFacts { build_id, release, symbols, members: &isf, architecture }.into_file()
}

/// The types in the file.
struct Isf<'t, 'i> {
    base_types: IsfValue<'t, 'i>,
    user_types: IsfValue<'t, 'i>,
    enums: IsfValue<'t, 'i>,
}

impl Members for Isf<'_, '_> {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let Some(mut inside) = self.user_types.get(structure) else {
            let value = self.enums.get(structure)?.get("constants")?.get(path)?.as_u64()?;
            return Some(Member { offset: u32::try_from(value).ok()?, size: 0 });
        };
        let mut offset = 0_u64;
        let mut visits = VISITS_MAX;
        let mut names = path.split('.').peekable();
        loop {
            let (at, r#type) = self.find(inside, names.next()?, 0, TYPE_DEPTH_MAX, &mut visits)?;
            offset = offset.checked_add(at)?;
            if names.peek().is_none() {
                let size = u32::try_from(self.type_bytes(r#type, TYPE_DEPTH_MAX)?).ok()?;
                return Some(Member { offset: u32::try_from(offset).ok()?, size });
            }
            inside = self.structure(r#type)?;
        }
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let r#type = self.user_types.get(structure).or_else(|| self.enums.get(structure))?;
        u32::try_from(r#type.get("size")?.as_u64()?).ok()
    }
}

impl<'t, 'i> Isf<'t, 'i> {
    /// The structure or union that a type refers to.
    fn structure(&self, r#type: IsfValue<'t, 'i>) -> Option<IsfValue<'t, 'i>> {
        let kind = r#type.get("kind")?.into_string()?;
        let name = r#type.get("name")?.into_string()?;
        ["struct", "union", "class"].contains(&kind).then(|| self.user_types.get(name))?
    }

    fn find(
        &self,
        inside: IsfValue<'t, 'i>,
        name: &str,
        base: u64,
        depth: u32,
        visits: &mut u32,
    ) -> Option<(u64, IsfValue<'t, 'i>)> {
        let depth = depth.checked_sub(1)?;
        let fields = inside.get("fields")?;
        if let Some(field) = fields.get(name) {
            let r#type = field.get("type")?;
            // Bit-fields are not found: a decoder reads whole bytes.
            if r#type.get("kind")?.as_str()? == "bitfield" {
                return None;
            }
            return Some((base.checked_add(field.get("offset")?.as_u64()?)?, r#type));
        }
        for (_, field) in &fields.as_object()? {
            *visits = visits.checked_sub(1)?;
            if field.get("anonymous").and_then(|mark| mark.as_bool()) != Some(true) {
                continue;
            }
            let Some(at) = field.get("offset").and_then(|at| base.checked_add(at.as_u64()?)) else {
                continue;
            };
            let found = field
                .get("type")
                .and_then(|r#type| self.structure(r#type))
                .and_then(|inner| self.find(inner, name, at, depth, visits));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn type_bytes(&self, r#type: IsfValue<'t, 'i>, depth: u32) -> Option<u64> {
        let depth = depth.checked_sub(1)?;
        let named = |table: &IsfValue<'t, 'i>| {
            let name = r#type.get("name")?.into_string()?;
            table.get(name)?.get("size")?.as_u64()
        };
        match r#type.get("kind")?.into_string()? {
            "base" => named(&self.base_types),
            "struct" | "union" | "class" => named(&self.user_types),
            "enum" => named(&self.enums),
            "pointer" | "function" => Some(8),
            "array" => {
                let element = self.type_bytes(r#type.get("subtype")?, depth)?;
                element.checked_mul(r#type.get("count")?.as_u64()?)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shortened example of dwarf2json's output.
    const SAMPLE: &str = r#"{
        "metadata": {"linux": {"symbols": [], "types": []},
            "producer": {"name": "dwarf2json", "version": "0.9.0"}, "format": "6.2.0"},
        "base_types": {
            "int": {"size": 4, "signed": true, "kind": "int", "endian": "little"},
            "pointer": {"size": 8, "signed": false, "kind": "int", "endian": "little"}
        },
        "enums": {"state": {"size": 4, "base": "int", "constants": {"ON": 1}}},
        "user_types": {
            "list_head": {"size": 16, "kind": "struct", "fields": {
                "next": {"type": {"kind": "pointer",
                    "subtype": {"kind": "struct", "name": "list_head"}}, "offset": 0},
                "prev": {"type": {"kind": "pointer",
                    "subtype": {"kind": "struct", "name": "list_head"}}, "offset": 8}}},
            "unnamed_1": {"size": 8, "kind": "union", "fields": {
                "a": {"type": {"kind": "base", "name": "int"}, "offset": 0},
                "loop": {"type": {"kind": "union", "name": "unnamed_1"}, "offset": 0,
                    "anonymous": true}}},
            "task": {"size": 100, "kind": "struct", "fields": {
                "tasks": {"type": {"kind": "struct", "name": "list_head"}, "offset": 16},
                "grid": {"type": {"kind": "array", "count": 3, "subtype": {"kind": "array",
                    "count": 4, "subtype": {"kind": "base", "name": "int"}}}, "offset": 32},
                "unnamed_field_8": {"type": {"kind": "union", "name": "unnamed_1"}, "offset": 8,
                    "anonymous": true},
                "narrow": {"type": {"kind": "bitfield", "bit_position": 3, "bit_length": 5,
                    "type": {"kind": "base", "name": "int"}}, "offset": 4},
                "state": {"type": {"kind": "enum", "name": "state"}, "offset": 80}}}
        },
        "symbols": {"linux_banner": {"address": 18446744071587536896,
            "constant_data": "TGludXggdmVyc2lvbiA2LjEuMC01MC1hbWQ2NCAo"}}
    }"#;

    #[test]
    fn fields_are_found_as_in_btf() {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        let tape = simd_json::to_tape(&mut bytes).unwrap();
        let root = tape.as_value();
        let isf = Isf {
            base_types: root.get("base_types").unwrap(),
            user_types: root.get("user_types").unwrap(),
            enums: root.get("enums").unwrap(),
        };
        let at = |path: &str| isf.member("task", path).map(|found| (found.offset, found.size));
        assert_eq!(isf.size_of("task"), Some(100));
        assert_eq!(at("tasks"), Some((16, 16)));
        assert_eq!(at("tasks.prev"), Some((24, 8)));
        assert_eq!(at("grid"), Some((32, 48)));
        assert_eq!(at("a"), Some((8, 4)));
        assert_eq!(at("state"), Some((80, 4)));
        for path in ["narrow", "nobody", "tasks.prev.next", "grid.a", ""] {
            assert_eq!(at(path), None, "{path}");
        }
        assert_eq!(isf.member("nobody", "a"), None);
        assert_eq!(isf.member("state", "ON"), Some(Member { offset: 1, size: 0 }));
        assert_eq!(isf.member("state", "OFF"), None);
        assert_eq!(isf.size_of("state"), Some(4));
    }

    #[test]
    fn missing_parts_are_reported() {
        // The complete sample lacks only the kernel's structures.
        let error = profile(&mut SAMPLE.as_bytes().to_vec()).unwrap_err();
        assert!(matches!(error, ImportError::NoSymbols | ImportError::Missing(_)), "{error}");
        for text in ["{", "[]", "{\"user_types\":{}}", "{\"user_types\":[],\"symbols\":1}"] {
            assert!(
                matches!(profile(&mut text.as_bytes().to_vec()), Err(ImportError::Isf(_))),
                "{text}"
            );
        }
        let without = SAMPLE.replace("linux_banner", "other");
        assert!(matches!(profile(&mut without.into_bytes()), Err(ImportError::NoRelease)));
    }
}

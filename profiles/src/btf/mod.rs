//! BTF (include/uapi/linux/btf.h, v6.12): the type information that a kernel carries.
//!
//! For: offsets of fields ([`Members`](panoptes_decoders::layout::Members)), sizes of structures,
//! values of enumerators. Not for: functions, addresses of variables (kallsyms has them) and
//! modules' split BTF, which refers to a base.
//!
//! Start reading at [`Btf::parse`]. It accepts only data that parses completely: a header with
//! plausible lengths also occurs in the kernel's own `struct btf`, followed by something else.
//!
//! Contract: after `parse`, every type's own bytes are inside the input, so look-ups stay in
//! bounds. Type ids and name offsets are untrusted and are checked where they are followed.

mod members;
mod split;

pub use split::merged;

use core::fmt;
use std::collections::HashMap;

use panoptes_decoders::layout::u32_at;

/// First bytes of every BTF: magic, version 1, no flags.
pub const MAGIC: [u8; 4] = [0x9f, 0xeb, 1, 0];

/// Size of the header of every version.
pub const HEADER_BYTES: usize = 24;

/// Maximum size of BTF that is read: generic kernels have 4 to 6 MB, and the format allows 16 MiB
/// of names (`BTF_MAX_NAME_OFFSET`).
pub const BTF_BYTES_MAX: usize = 64 << 20;

/// Smallest size of a kernel's own BTF: that of modules has some KB, that of kernels megabytes.
pub(crate) const KERNEL_BTF_BYTES_MIN: u64 = 256 << 10;
const _: () = assert!(KERNEL_BTF_BYTES_MIN < BTF_BYTES_MAX as u64);

/// Maximum number of headers of such BTF in an image that are tried: an image has one.
pub(crate) const BTF_TRIES_MAX: u32 = 8;

/// Maximum number of types (`BTF_MAX_TYPE`, 1 Mi ids).
const TYPES_MAX: usize = 1 << 20;

/// Maximum depth of modifiers, typedefs and nested anonymous structures that is followed.
pub(crate) const TYPE_DEPTH_MAX: u32 = 32;

/// Maximum number of members that one look-up visits: structures that contain each other
/// anonymously would otherwise never end it. The kernel's largest structures have some hundreds.
pub(crate) const VISITS_MAX: u32 = 1 << 20;

/// The sizes and offsets in a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BtfHeader {
    own_bytes: u32,
    type_offset: u32,
    type_bytes: u32,
    string_offset: u32,
    string_bytes: u32,
}

impl BtfHeader {
    /// Parses and checks the header at the beginning of `bytes`, like `btf_parse_hdr`
    /// (kernel/bpf/btf.c).
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BtfError::Truncated { at: 0 });
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(BtfError::Magic);
        }
        let header = Self {
            own_bytes: u32_at(bytes, 4),
            type_offset: u32_at(bytes, 8),
            type_bytes: u32_at(bytes, 12),
            string_offset: u32_at(bytes, 16),
            string_bytes: u32_at(bytes, 20),
        };
        let plausible = (HEADER_BYTES as u32..=256).contains(&header.own_bytes)
            && header.type_offset.is_multiple_of(4)
            && header.type_bytes >= 12
            && header.string_bytes > 0
            && u64::from(header.type_offset) + u64::from(header.type_bytes)
                <= u64::from(header.string_offset)
            && header.total_bytes() <= BTF_BYTES_MAX as u64;
        if plausible { Ok(header) } else { Err(BtfError::Header) }
    }

    /// Total size: header, types and names.
    pub const fn total_bytes(&self) -> u64 {
        self.own_bytes as u64 + self.string_offset as u64 + self.string_bytes as u64
    }
}

/// Why bytes are not BTF.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BtfError {
    #[error("BTF: no magic number")]
    Magic,
    #[error("BTF: the header has lengths that contradict each other")]
    Header,
    /// The bytes end before the data that the header or a type claims.
    #[error("BTF: the data ends at byte {at}, within a type or the names")]
    Truncated {
        /// Offset of the missing data.
        at: usize,
    },
    #[error("BTF: type {id} has the unknown kind {kind}")]
    Kind { id: u32, kind: u32 },
    #[error("BTF: type {id} of kind {kind} has a name outside of the names")]
    Name { id: u32, kind: u32 },
    #[error("BTF: more than {} types", TYPES_MAX)]
    TooManyTypes,
    #[error("BTF: the names do not begin and end with a NUL")]
    Names,
}

/// `BTF_KIND_*`
pub(crate) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const PTR: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const FWD: u32 = 7;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const RESTRICT: u32 = 11;
    pub(crate) const FUNC: u32 = 12;
    pub(crate) const FUNC_PROTO: u32 = 13;
    pub(crate) const VAR: u32 = 14;
    pub(crate) const DATASEC: u32 = 15;
    pub(crate) const FLOAT: u32 = 16;
    pub(crate) const DECL_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// `struct btf_type`
#[derive(Clone, Copy, Debug)]
struct BtfType {
    name: u32,
    info: u32,
    /// The size, or another type's id.
    value: u32,
    /// Offset of the data after it.
    body: usize,
}

impl BtfType {
    const fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    const fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }

    const fn has_kind_flag(self) -> bool {
        self.info >> 31 == 1
    }

    /// Number of bytes after the type; `None` for an unknown kind.
    const fn body_bytes(self) -> Option<usize> {
        Some(match self.kind() {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => self.count() * 12,
            kind::ENUM | kind::FUNC_PROTO => self.count() * 8,
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            _ => return None,
        })
    }
}

/// The types of a kernel, over borrowed bytes.
pub struct Btf<'a> {
    bytes: &'a [u8],
    /// Offset of type `index + 1`; type 0 is `void`.
    types: Vec<u32>,
    names: &'a [u8],
    /// First structure or union of each tag.
    tags: HashMap<&'a [u8], u32>,
    /// First typedef of each name.
    typedefs: HashMap<&'a [u8], u32>,
    /// First enumeration of each tag.
    enums: HashMap<&'a [u8], u32>,
}

impl fmt::Debug for Btf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("bytes", &self.bytes.len())
            .field("types", &self.types.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Btf<'a> {
    /// Parses everything from the header to the last type. Bytes after the end are ignored.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = BtfHeader::parse(bytes)?;
        let start = header.own_bytes as usize + header.type_offset as usize;
        let end = start + header.type_bytes as usize;
        let names_start = header.own_bytes as usize + header.string_offset as usize;
        let names_end = names_start + header.string_bytes as usize;
        let names =
            bytes.get(names_start..names_end).ok_or(BtfError::Truncated { at: bytes.len() })?;
        if names.first() != Some(&0) || names.last() != Some(&0) {
            return Err(BtfError::Names);
        }
        let mut btf = Self {
            bytes,
            types: Vec::with_capacity((header.type_bytes / 32) as usize),
            names,
            tags: HashMap::new(),
            typedefs: HashMap::new(),
            enums: HashMap::new(),
        };
        let mut at = start;
        while at < end {
            if btf.types.len() + 1 >= TYPES_MAX {
                return Err(BtfError::TooManyTypes);
            }
            if end - at < 12 {
                return Err(BtfError::Truncated { at });
            }
            let id = btf.types.len() as u32 + 1;
            let r#type = btf.type_at(at);
            let body = r#type.body_bytes().ok_or(BtfError::Kind { id, kind: r#type.kind() })?;
            if end - at - 12 < body {
                return Err(BtfError::Truncated { at });
            }
            if r#type.name as usize >= names.len() {
                return Err(BtfError::Name { id, kind: r#type.kind() });
            }
            btf.types.push(at as u32);
            match r#type.kind() {
                kind::STRUCT | kind::UNION if r#type.name != 0 => {
                    btf.tags.entry(btf.name(r#type.name)).or_insert(id);
                }
                kind::TYPEDEF => {
                    btf.typedefs.entry(btf.name(r#type.name)).or_insert(id);
                }
                // An enumeration without enumerators is a forward declaration.
                kind::ENUM | kind::ENUM64 if r#type.name != 0 && r#type.count() > 0 => {
                    btf.enums.entry(btf.name(r#type.name)).or_insert(id);
                }
                _ => {}
            }
            at += 12 + body;
        }
        Ok(btf)
    }

    /// Number of types, without `void`.
    pub fn type_count(&self) -> usize {
        self.types.len()
    }

    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<i64> {
        let r#type = self.get(*self.enums.get(enumeration.as_bytes())?)?;
        let step = if r#type.kind() == kind::ENUM { 8 } else { 12 };
        (0..r#type.count()).map(|index| r#type.body + index * step).find_map(|at| {
            let found = self.name(u32_at(self.bytes, at)) == name.as_bytes();
            let low = u32_at(self.bytes, at + 4);
            found.then(|| match (step, r#type.has_kind_flag()) {
                (8, true) => i64::from(low as i32),
                (8, false) => i64::from(low),
                _ => (u64::from(u32_at(self.bytes, at + 8)) << 32 | u64::from(low)) as i64,
            })
        })
    }

    /// The type with an id; `None` for `void` and for missing ids.
    fn get(&self, id: u32) -> Option<BtfType> {
        let at = *self.types.get((id as usize).checked_sub(1)?)?;
        Some(self.type_at(at as usize))
    }

    fn type_at(&self, at: usize) -> BtfType {
        BtfType {
            name: u32_at(self.bytes, at),
            info: u32_at(self.bytes, at + 4),
            value: u32_at(self.bytes, at + 8),
            body: at + 12,
        }
    }

    /// The name at an offset; empty if there is none.
    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.names.get(offset as usize..).unwrap_or(&[]);
        let length = memchr::memchr(0, rest).unwrap_or(0);
        rest.get(..length).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;

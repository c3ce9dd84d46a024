//! Layouts: the fields of kernel structures that the decoders use, and their offsets in a given
//! kernel.
//!
//! A decoder declares its fields once, with [`layout!`](crate::layout!); a profile binds the
//! declaration to a kernel. Names are the kernel's, dotted through embedded structures
//! (`se.sum_exec_runtime`; anonymous structs and unions are transparent). The newest name of a
//! renamed field comes first.
//!
//! A bound layout also determines which bytes to fetch. Its fields are gathered into at most
//! `SPANS_MAX` *spans*, and an object is read *packed*, span after span, so that 30 fields of a
//! 9.7 KB `task_struct` cost a few hundred bytes. [`PackedField::packed`] is the offset in the
//! packed copy, [`PackedField::offset`] the offset in the kernel's structure (for `container_of`).

use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

/// Maximum number of spans of a packed object.
const SPANS_MAX: usize = 12;

/// Fields closer to each other than this many bytes are fetched in one span: about two cache lines
/// cost less than another request (measured: 5 ns a line, 10 ns and more a request).
const SPAN_GAP_BYTES: u32 = 128;

/// Largest structure that a layout is bound to, in bytes. `task_struct` has about 10 KiB, so a
/// larger size is corrupt.
pub const STRUCTURE_BYTES_MAX: u32 = 64 << 10;

/// Maximum size of a packed object in bytes.
pub const PACKED_BYTES_MAX: u32 = 8 << 10;

/// Maximum size of a field in bytes: larger ones are not fetched with their object.
const FIELD_BYTES_MAX: u32 = 4096;

const _: () = {
    assert!(FIELD_BYTES_MAX <= PACKED_BYTES_MAX, "the largest field fits in an object");
    assert!(PACKED_BYTES_MAX <= STRUCTURE_BYTES_MAX, "an object has less than its structure");
};

/// The position of one field.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PackedField {
    /// Byte offset in the kernel's structure.
    pub offset: u32,
    pub size: u32,
    /// Byte offset in the packed copy.
    pub packed: u32,
}

/// The position of a field in the kernel's structure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// Byte offset in the structure.
    pub offset: u32,
    pub size: u32,
}

/// A description of a kernel's structures: BTF, an ISF file, a built-in table.
pub trait Members {
    /// The offset and size of `path` (dotted) in `structure`, or `None` if either is missing.
    ///
    /// `structure` is a tag (`task_struct`) or, without such a tag, the name of a typedef. The
    /// members of an enumeration are its enumerators: the offset is the value, if not negative, and
    /// the size is 0.
    fn member(&self, structure: &str, path: &str) -> Option<Member>;

    /// The size of `structure`, or of the enumeration with that tag, in bytes.
    fn size_of(&self, structure: &str) -> Option<u32>;
}

/// A structure or field that a decoder needs and the profile lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MissingMember {
    pub structure: &'static str,
    /// The field's newest name; empty if the structure itself is missing.
    pub field: &'static str,
}

impl core::fmt::Display for MissingMember {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.field.is_empty() {
            write!(f, "the profile has no struct {}, or one that is too large", self.structure)
        } else {
            write!(f, "the profile has no {}.{}", self.structure, self.field)
        }
    }
}

impl core::error::Error for MissingMember {}

/// A run of bytes of the kernel's structure that one request fetches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PackedSpan {
    /// Offset in the kernel's structure.
    pub offset: u32,
    pub length: u32,
    /// Offset in the packed copy.
    pub packed: u32,
}

/// The spans of a layout.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PackedLayout {
    spans: [PackedSpan; SPANS_MAX],
    count: u8,
    bytes: u32,
    /// Offset in the kernel's structure of the first byte after the last span.
    end: u32,
}

impl PackedLayout {
    /// The spans, ascending.
    pub fn spans(&self) -> &[PackedSpan] {
        self.spans.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// Size of the packed copy in bytes, a multiple of eight.
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Offset in the kernel's structure of the first byte after the last span.
    pub const fn end(&self) -> u32 {
        self.end
    }

    /// Gathers fields into spans; `bind` of the layouts calls it.
    pub fn of(fields: &[PackedField]) -> Self {
        let mut packing = Self::default();
        let mut covered = 0;
        loop {
            // The start of the lowest bytes not covered yet: no allocation, no sorting.
            let next = fields
                .iter()
                .filter(|field| field.size > 0 && field.offset + field.size > covered)
                .map(|field| field.offset.max(covered) & !7)
                .min();
            let Some(start) = next else {
                packing.end = covered;
                return packing;
            };
            let end = fields
                .iter()
                .filter(|field| field.size > 0 && (field.offset & !7) <= start.max(covered))
                .map(|field| (field.offset + field.size).next_multiple_of(8))
                .max()
                .unwrap_or(start)
                .max(start + 8);
            let count = usize::from(packing.count);
            let last = count.checked_sub(1).and_then(|last| packing.spans.get_mut(last));
            match last {
                Some(last)
                    if start.saturating_sub(last.offset + last.length) <= SPAN_GAP_BYTES
                        || count == SPANS_MAX =>
                {
                    last.length = end - last.offset;
                    packing.bytes = last.packed + last.length;
                }
                _ => {
                    packing.spans[count] =
                        PackedSpan { offset: start, length: end - start, packed: packing.bytes };
                    packing.bytes += end - start;
                    packing.count += 1;
                }
            }
            covered = end;
        }
    }

    /// Sets `field.packed` by the span that covers the field.
    pub fn place(&self, field: &mut PackedField) {
        for span in self.spans() {
            if field.offset >= span.offset && field.offset < span.offset + span.length {
                field.packed = span.packed + (field.offset - span.offset);
            }
        }
    }
}

/// A declared layout that a profile can bind.
pub trait Layout: Sized {
    /// The structure's name in the kernel.
    const STRUCTURE: &'static str;

    /// Looks up every field in `members`.
    ///
    /// # Errors
    ///
    /// A required field is missing, or the structure is missing or too large.
    fn bind(members: &dyn Members) -> Result<Self, MissingMember>;

    /// The spans to fetch.
    fn packing(&self) -> &PackedLayout;

    /// Calls `each` with every field that the kernel has.
    fn each_field(&self, each: &mut dyn FnMut(PackedField));
}

/// Looks up one field by its names, newest first; for [`layout!`](crate::layout!).
pub fn look_up(members: &dyn Members, structure: &str, names: &[&str]) -> Option<PackedField> {
    let member = names.iter().find_map(|name| members.member(structure, name))?;
    let end = member.offset.checked_add(member.size)?;
    (member.size <= FIELD_BYTES_MAX && end <= STRUCTURE_BYTES_MAX).then_some(PackedField {
        offset: member.offset,
        size: member.size,
        packed: 0,
    })
}

/// Declares a layout: `name: ["newest", "older"]` is a required field, `name?: [...]` is a field
/// that some kernels lack.
///
/// ```
/// panoptes_decoders::layout! {
///     /// `struct list_head` (include/linux/types.h).
///     pub struct ListHead("list_head") {
///         /// Next entry's `list_head`.
///         next: ["next"],
///         /// Not in any kernel.
///         absent?: ["no_such_member"],
///     }
/// }
/// ```
#[macro_export]
macro_rules! layout {
    (
        $(#[$doc:meta])*
        pub struct $layout:ident($structure:literal) { $($body:tt)* }
    ) => {
        $crate::layout!(@munch [$(#[$doc])*] $layout $structure [] [] $($body)*);
    };
    (@munch $docs:tt $layout:ident $structure:literal [$($required:tt)*] [$($optional:tt)*]
        $(#[$field_doc:meta])* $field:ident ? : [$($name:literal),+ $(,)?], $($rest:tt)*) => {
        $crate::layout!(@munch $docs $layout $structure [$($required)*]
            [$($optional)* { $(#[$field_doc])* $field [$($name),+] }] $($rest)*);
    };
    (@munch $docs:tt $layout:ident $structure:literal [$($required:tt)*] [$($optional:tt)*]
        $(#[$field_doc:meta])* $field:ident : [$($name:literal),+ $(,)?], $($rest:tt)*) => {
        $crate::layout!(@munch $docs $layout $structure
            [$($required)* { $(#[$field_doc])* $field [$($name),+] }] [$($optional)*] $($rest)*);
    };
    (@munch [$(#[$doc:meta])*] $layout:ident $structure:literal
        [$( { $(#[$field_doc:meta])* $field:ident [$($name:literal),+] } )*]
        [$( { $(#[$opt_doc:meta])* $opt:ident [$($opt_name:literal),+] } )*]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct $layout {
            /// Size of the kernel's structure in bytes.
            pub size: u32,
            /// The spans to fetch.
            pub packing: $crate::layout::PackedLayout,
            $( $(#[$field_doc])* pub $field: $crate::layout::PackedField, )*
            $( $(#[$opt_doc])* pub $opt: Option<$crate::layout::PackedField>, )*
        }

        impl $crate::layout::Layout for $layout {
            const STRUCTURE: &'static str = $structure;

            fn bind(
                members: &dyn $crate::layout::Members,
            ) -> Result<Self, $crate::layout::MissingMember> {
                use $crate::layout::{MissingMember, PackedLayout, look_up};
                let unknown = MissingMember { structure: $structure, field: "" };
                let size = members
                    .size_of($structure)
                    .filter(|&size| size <= $crate::layout::STRUCTURE_BYTES_MAX)
                    .ok_or(unknown)?;
                #[allow(unused_mut, reason = "a layout may have no field of one kind")]
                let mut bound = Self {
                    size,
                    packing: PackedLayout::default(),
                    $( $field: look_up(members, $structure, &[$($name),+]).ok_or(MissingMember {
                        structure: $structure,
                        field: [$($name),+][0],
                    })?, )*
                    $( $opt: look_up(members, $structure, &[$($opt_name),+]), )*
                };
                let packing = PackedLayout::of(&[
                    $( bound.$field, )*
                    $( bound.$opt.unwrap_or_default(), )*
                ]);
                $( packing.place(&mut bound.$field); )*
                $( if let Some(field) = &mut bound.$opt { packing.place(field); } )*
                if packing.bytes() > $crate::layout::PACKED_BYTES_MAX {
                    return Err(unknown);
                }
                bound.packing = packing;
                Ok(bound)
            }

            fn packing(&self) -> &$crate::layout::PackedLayout {
                &self.packing
            }

            fn each_field(&self, each: &mut dyn FnMut($crate::layout::PackedField)) {
                $( each(self.$field); )*
                $( self.$opt.into_iter().for_each(&mut *each); )*
            }
        }
    };
}

/// Reads fields from the bytes of a packed object.
///
/// A field outside the bytes reads as zero. A bound layout and a complete copy exclude that.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// A view over a packed copy.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The field's raw bytes.
    #[inline]
    pub fn bytes(self, field: PackedField) -> &'a [u8] {
        let start = field.packed as usize;
        self.bytes.get(start..start + field.size as usize).unwrap_or(&[])
    }

    /// A little-endian unsigned number of the field's size, 1, 2, 4 or 8 bytes.
    #[inline]
    pub fn unsigned(self, field: PackedField) -> u64 {
        match field.size {
            8.. => u64::from_le_bytes(self.first_bytes(field)),
            4 => u32::from_le_bytes(self.first_bytes(field)).into(),
            2 => u16::from_le_bytes(self.first_bytes(field)).into(),
            1 => u8::from_le_bytes(self.first_bytes(field)).into(),
            _ => 0,
        }
    }

    /// The first bytes of a field that has as many; zeros outside of the copy.
    #[inline]
    fn first_bytes<const N: usize>(self, field: PackedField) -> [u8; N] {
        let start = field.packed as usize;
        let bytes = self.bytes.get(start..start + N);
        bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    #[inline]
    pub fn optional(self, field: Option<PackedField>) -> Option<u64> {
        field.map(|field| self.unsigned(field))
    }

    /// A little-endian signed number of the field's size, 4 or 8 bytes.
    #[inline]
    pub fn signed(self, field: PackedField) -> i64 {
        let number = self.unsigned(field);
        if field.size == 4 { i64::from(number as u32 as i32) } else { number as i64 }
    }

    /// A kernel pointer.
    #[inline]
    pub fn pointer(self, field: PackedField) -> crate::address::KernelVa {
        crate::address::KernelVa(if field.size < 8 { 0 } else { self.unsigned(field) })
    }

    /// The 64-bit number at `index` of an array field; zero past its end.
    #[inline]
    pub fn u64_at(self, field: PackedField, index: usize) -> u64 {
        u64_at(self.bytes(field), index.saturating_mul(8))
    }
}

/// The little-endian 64-bit number at `offset` of `bytes`; zero outside of them.
#[inline]
pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(|bytes| U64::ref_from_prefix(bytes).ok())
        .map_or(0, |(n, _)| n.get())
}

/// The little-endian 32-bit number at `offset` of `bytes`; zero outside of them.
#[inline]
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(|bytes| U32::ref_from_prefix(bytes).ok())
        .map_or(0, |(n, _)| n.get())
}

/// `text` up to its first NUL.
pub fn c_string(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    #![allow(unreachable_pub, reason = "layouts declared in tests")]

    use super::*;

    struct Fixed;

    impl Members for Fixed {
        fn member(&self, structure: &str, path: &str) -> Option<Member> {
            match (structure, path) {
                ("s", "a") => Some(Member { offset: 4, size: 4 }),
                ("s", "b.c") => Some(Member { offset: 1000, size: 8 }),
                ("s", "old") => Some(Member { offset: 1020, size: 2 }),
                ("s", "far") => Some(Member { offset: 9000, size: 16 }),
                _ => None,
            }
        }

        fn size_of(&self, structure: &str) -> Option<u32> {
            (structure == "s").then_some(10_000)
        }
    }

    crate::layout! {
        /// A test structure.
        pub struct S("s") {
            a: ["a"],
            c: ["b.c"],
            gone?: ["nope"],
            renamed?: ["new", "old"],
            far: ["far"],
        }
    }

    #[test]
    fn fields_are_packed_into_spans_and_read_back() {
        let s = S::bind(&Fixed).unwrap();
        assert_eq!(s.size, 10_000);
        assert_eq!(s.gone, None);
        let spans = s.packing.spans();
        assert_eq!(spans.len(), 3);
        assert_eq!(spans[0], PackedSpan { offset: 0, length: 8, packed: 0 });
        assert_eq!(spans[1], PackedSpan { offset: 1000, length: 24, packed: 8 });
        assert_eq!(spans[2], PackedSpan { offset: 9000, length: 16, packed: 32 });
        assert_eq!(s.packing.bytes(), 48);
        let mut offsets = std::vec::Vec::new();
        s.each_field(&mut |field| offsets.push(field.offset));
        assert_eq!(offsets, [4, 1000, 9000, 1020]);
        let mut kernel = [0u8; 10_000];
        kernel[4..8].copy_from_slice(&7u32.to_le_bytes());
        kernel[1000..1008].copy_from_slice(&0xffff_8880_0000_1000_u64.to_le_bytes());
        kernel[1020..1022].copy_from_slice(&9u16.to_le_bytes());
        kernel[9008..9016].copy_from_slice(&11u64.to_le_bytes());
        let mut packed = [0u8; 48];
        for span in spans {
            packed[span.packed as usize..][..span.length as usize]
                .copy_from_slice(&kernel[span.offset as usize..][..span.length as usize]);
        }
        let view = View::new(&packed);
        assert_eq!(view.unsigned(s.a), 7);
        assert_eq!(view.pointer(s.c).0, 0xffff_8880_0000_1000);
        assert_eq!(view.optional(s.renamed), Some(9));
        assert_eq!(view.u64_at(s.far, 1), 11);
        assert_eq!(view.u64_at(s.far, 2), 0);
    }

    #[test]
    fn a_missing_field_is_named() {
        crate::layout! {
            pub struct T("s") {
                x: ["newest", "older"],
            }
        }
        assert_eq!(T::bind(&Fixed), Err(MissingMember { structure: "s", field: "newest" }));
    }
}

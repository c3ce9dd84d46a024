//! Resolves the name of a structure and a dotted path to an offset and a size.

use panoptes_decoders::layout::{Member, Members, u32_at};

use super::{Btf, BtfType, TYPE_DEPTH_MAX, VISITS_MAX, kind};

impl Members for Btf<'_> {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let Some(mut inside) = self.structure(structure) else {
            let value = u32::try_from(self.enumerator(structure, path)?).ok()?;
            return Some(Member { offset: value, size: 0 });
        };
        let mut offset = 0_u32;
        let mut visits = VISITS_MAX;
        let mut names = path.split('.').peekable();
        loop {
            let name = names.next()?;
            let (bits, id) = self.find(inside, name.as_bytes(), 0, TYPE_DEPTH_MAX, &mut visits)?;
            offset = offset.checked_add(bits / 8)?;
            if !bits.is_multiple_of(8) {
                return None;
            }
            if names.peek().is_none() {
                return Some(Member { offset, size: self.type_bytes(id, TYPE_DEPTH_MAX)? });
            }
            // A dot continues into an embedded structure only, never through a pointer.
            inside = self.resolve(id)?;
        }
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let enumeration = || self.get(*self.enums.get(structure.as_bytes())?);
        Some(self.structure(structure).or_else(enumeration)?.value)
    }
}

impl Btf<'_> {
    /// The structure or union with a tag, or the target of a typedef of that name.
    fn structure(&self, name: &str) -> Option<BtfType> {
        let id = self.tags.get(name.as_bytes()).or_else(|| self.typedefs.get(name.as_bytes()))?;
        self.resolve(*id).filter(|found| matches!(found.kind(), kind::STRUCT | kind::UNION))
    }

    /// Follows modifiers and typedefs to the type behind them.
    fn resolve(&self, mut id: u32) -> Option<BtfType> {
        for _ in 0..TYPE_DEPTH_MAX {
            let r#type = self.get(id)?;
            match r#type.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = r#type.value;
                }
                _ => return Some(r#type),
            }
        }
        None
    }

    /// Finds `name` in a structure and in the anonymous ones inside it: its offset in bits, and its
    /// type. Bit-fields are not found: a decoder reads whole bytes.
    fn find(
        &self,
        inside: BtfType,
        name: &[u8],
        base: u32,
        depth: u32,
        visits: &mut u32,
    ) -> Option<(u32, u32)> {
        if !matches!(inside.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        let depth = depth.checked_sub(1)?;
        for index in 0..inside.count() {
            *visits = visits.checked_sub(1)?;
            let at = inside.body + index * 12;
            let member_name = u32_at(self.bytes, at);
            let id = u32_at(self.bytes, at + 4);
            let position = u32_at(self.bytes, at + 8);
            let (bits, width) = if inside.has_kind_flag() {
                (position & 0xff_ffff, position >> 24)
            } else {
                (position, 0)
            };
            let Some(bits) = base.checked_add(bits) else { continue };
            if member_name == 0 {
                // Anonymous: C allows only a structure or union itself here. `resolve` also follows
                // a typedef, which needs an extension that the kernel does not enable.
                let found =
                    self.resolve(id).and_then(|inner| self.find(inner, name, bits, depth, visits));
                if found.is_some() {
                    return found;
                }
            } else if width == 0 && self.name(member_name) == name && !self.is_bit_field(id) {
                return Some((bits, id));
            }
        }
        None
    }

    /// Whether an integer type is narrower than its bytes: that marks a bit-field in structures
    /// without the kind flag, which older pahole wrote (`BTF_INT_BITS`).
    fn is_bit_field(&self, id: u32) -> bool {
        self.resolve(id).is_some_and(|found| {
            found.kind() == kind::INT
                && u32_at(self.bytes, found.body) & 0xff != found.value.saturating_mul(8)
        })
    }

    fn type_bytes(&self, id: u32, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let r#type = self.resolve(id)?;
        match r#type.kind() {
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Some(r#type.value)
            }
            kind::PTR => Some(8),
            kind::ARRAY => {
                let element = self.type_bytes(u32_at(self.bytes, r#type.body), depth)?;
                element.checked_mul(u32_at(self.bytes, r#type.body + 8))
            }
            _ => None,
        }
    }
}

//! DWARF (versions 2 to 5): the compiler's type information, for kernels without BTF.
//!
//! Returns the same answers as [`Btf`](crate::btf::Btf) for the same kernel: the first definition
//! of a name counts, anonymous structures are transparent, bit-fields are not found. All numbers
//! are untrusted: chains are followed to a limit only, and invalid references count as absent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use gimli::{
    Attribute, AttributeValue, DebugInfoOffset, DwTag, EndianSlice, LittleEndian, UnitHeader,
    constants as dw,
};
use panoptes_decoders::layout::{Member, Members};

use super::ImportError;
use crate::btf::{TYPE_DEPTH_MAX, VISITS_MAX};

/// Maximum number of units: a kernel has about one for each of its source files, some thousands.
const UNITS_MAX: usize = 1 << 16;

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// The sections that are read; others have no types.
pub(super) const SECTIONS: [&str; 6] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_str",
    ".debug_line",
    ".debug_line_str",
    ".debug_str_offsets",
];

pub(super) struct Dwarf<'d> {
    sections: gimli::Dwarf<Slice<'d>>,
    /// All units, in the order of the file.
    units: Vec<UnitHeader<Slice<'d>>>,
    /// The first defined structure or union of each tag, and the first typedef of each name.
    tags: HashMap<&'d [u8], DebugInfoOffset>,
    typedefs: HashMap<&'d [u8], DebugInfoOffset>,
    /// The first defined enumeration of each tag.
    enums: HashMap<&'d [u8], DebugInfoOffset>,
}

/// The required attributes of an entry.
#[derive(Clone, Copy, Debug, Default)]
struct DwarfAttributes<'d> {
    tag: Option<DwTag>,
    name: Option<&'d [u8]>,
    r#type: Option<DebugInfoOffset>,
    bytes: Option<u64>,
    location: Option<u64>,
    count: Option<u64>,
    /// The value of an enumerator, if not negative.
    value: Option<u64>,
    is_bit_field: bool,
    is_declaration: bool,
}

fn refused(error: gimli::Error) -> ImportError {
    ImportError::Dwarf(error.to_string())
}

impl<'d> Dwarf<'d> {
    /// Visits all entries once and records the first definition of each name.
    pub(super) fn parse(sections: &HashMap<&str, &'d [u8]>) -> Result<Self, ImportError> {
        let load = |id: gimli::SectionId| -> Result<Slice<'d>, gimli::Error> {
            let bytes = sections.get(id.name()).copied().unwrap_or(&[]);
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        let dwarf = gimli::Dwarf::load(load).map_err(refused)?;
        let mut parsed = Self {
            sections: dwarf,
            units: Vec::new(),
            tags: HashMap::new(),
            typedefs: HashMap::new(),
            enums: HashMap::new(),
        };
        let mut headers = parsed.sections.units();
        while let Some(header) = headers.next().map_err(refused)? {
            if parsed.units.len() == UNITS_MAX {
                return Err(ImportError::Dwarf(format!("more than {UNITS_MAX} units")));
            }
            let unit = parsed.sections.unit(header).map_err(refused)?;
            parsed.note(&unit).map_err(refused)?;
            parsed.units.push(header);
        }
        if parsed.tags.is_empty() {
            return Err(ImportError::NoTypes);
        }
        Ok(parsed)
    }

    /// Records the top-level definitions of a unit.
    fn note(&mut self, unit: &gimli::Unit<Slice<'d>>) -> Result<(), gimli::Error> {
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let offset = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let tag = abbreviation.tag();
            let is_named = matches!(
                tag,
                dw::DW_TAG_typedef
                    | dw::DW_TAG_structure_type
                    | dw::DW_TAG_union_type
                    | dw::DW_TAG_enumeration_type
            );
            if depth != 1 || !is_named {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let mut facts = DwarfAttributes::default();
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification)?;
                self.take(unit, &attribute, &mut facts);
            }
            let (Some(name), false) = (facts.name, facts.is_declaration) else { continue };
            let Some(offset) = offset.to_debug_info_offset(&unit.header) else { continue };
            let names = match tag {
                dw::DW_TAG_typedef => &mut self.typedefs,
                dw::DW_TAG_enumeration_type => &mut self.enums,
                _ => &mut self.tags,
            };
            if let Entry::Vacant(place) = names.entry(name) {
                place.insert(offset);
            }
        }
        Ok(())
    }

    /// Stores an attribute in `facts` if it is required.
    fn take(
        &self,
        unit: &gimli::Unit<Slice<'d>>,
        attribute: &Attribute<Slice<'d>>,
        facts: &mut DwarfAttributes<'d>,
    ) {
        match attribute.name() {
            dw::DW_AT_name => {
                let name = self.sections.attr_string(unit, attribute.value()).ok();
                facts.name = name.map(|name| name.slice());
            }
            dw::DW_AT_type => {
                facts.r#type = match attribute.value() {
                    AttributeValue::UnitRef(offset) => offset.to_debug_info_offset(&unit.header),
                    AttributeValue::DebugInfoRef(offset) => Some(offset),
                    _ => None,
                };
            }
            dw::DW_AT_byte_size => facts.bytes = attribute.udata_value(),
            dw::DW_AT_data_member_location => {
                // In DWARF 2 this was a program that adds a constant.
                let program = attribute.exprloc_value();
                facts.location = attribute.udata_value().or_else(|| {
                    match program?.operations(unit.encoding()).next() {
                        Ok(Some(gimli::Operation::PlusConstant { value })) => Some(value),
                        _ => None,
                    }
                });
            }
            dw::DW_AT_const_value => facts.value = attribute.udata_value(),
            dw::DW_AT_count => facts.count = attribute.udata_value(),
            // The last index. A length that is unknown at compile time has none.
            dw::DW_AT_upper_bound => {
                facts.count = attribute.udata_value().and_then(|last| last.checked_add(1));
            }
            dw::DW_AT_bit_size => facts.is_bit_field = true,
            dw::DW_AT_declaration => {
                facts.is_declaration = attribute.value() == AttributeValue::Flag(true);
            }
            _ => {}
        }
    }
}

impl Members for Dwarf<'_> {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut offset = 0_u64;
        let mut visits = VISITS_MAX;
        let Some((mut inside, _)) = self.structure(structure) else {
            let at = *self.enums.get(structure.as_bytes())?;
            let (_, below) = self.entries(at, true, &mut visits)?;
            let is = |facts: &&DwarfAttributes<'_>| {
                facts.tag == Some(dw::DW_TAG_enumerator) && facts.name == Some(path.as_bytes())
            };
            let value = u32::try_from(below.iter().find(is)?.value?).ok()?;
            return Some(Member { offset: value, size: 0 });
        };
        let mut names = path.split('.').peekable();
        loop {
            let name = names.next()?.as_bytes();
            let (at, r#type) = self.find(inside, name, 0, TYPE_DEPTH_MAX, &mut visits)?;
            offset = offset.checked_add(at)?;
            if names.peek().is_none() {
                let size = u32::try_from(self.type_bytes(r#type, TYPE_DEPTH_MAX)?).ok()?;
                return Some(Member { offset: u32::try_from(offset).ok()?, size });
            }
            // A dot continues into an embedded structure only, never through a pointer.
            inside = self.resolve(r#type)?.0;
        }
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        let enumeration = || Some(self.resolve(*self.enums.get(structure.as_bytes())?)?.1);
        let facts = self.structure(structure).map(|(_, facts)| facts).or_else(enumeration)?;
        u32::try_from(facts.bytes?).ok()
    }
}

const fn is_structure(facts: &DwarfAttributes<'_>) -> bool {
    matches!(facts.tag, Some(dw::DW_TAG_structure_type | dw::DW_TAG_union_type))
}

impl<'d> Dwarf<'d> {
    /// The structure or union with a tag, or the target of a typedef of that name.
    fn structure(&self, name: &str) -> Option<(DebugInfoOffset, DwarfAttributes<'d>)> {
        let at = self.tags.get(name.as_bytes()).or_else(|| self.typedefs.get(name.as_bytes()))?;
        self.resolve(*at).filter(|(_, facts)| is_structure(facts))
    }

    /// The unit of an entry.
    fn unit(&self, at: DebugInfoOffset) -> Option<gimli::Unit<Slice<'d>>> {
        let after = self
            .units
            .partition_point(|unit| unit.debug_info_offset().is_some_and(|start| start.0 <= at.0));
        self.sections.unit(*self.units.get(after.checked_sub(1)?)?).ok()
    }

    /// An entry and, if `children` is set, the entries directly below it.
    fn entries(
        &self,
        at: DebugInfoOffset,
        children: bool,
        visits: &mut u32,
    ) -> Option<(DwarfAttributes<'d>, Vec<DwarfAttributes<'d>>)> {
        let unit = self.unit(at)?;
        let mut entries = unit.entries_raw(Some(at.to_unit_offset(&unit.header)?)).ok()?;
        let mut own: Option<DwarfAttributes<'d>> = None;
        let mut below = Vec::new();
        while !entries.is_empty() {
            *visits = visits.checked_sub(1)?;
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                // The end of a list of children: of the first entry's own at depth 1 or less.
                if depth <= 1 {
                    break;
                }
                continue;
            };
            if own.is_some() && depth == 0 {
                break;
            }
            if depth > 1 {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
            let mut facts =
                DwarfAttributes { tag: Some(abbreviation.tag()), ..DwarfAttributes::default() };
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification).ok()?;
                self.take(&unit, &attribute, &mut facts);
            }
            if own.is_some() {
                below.push(facts);
                continue;
            }
            own = Some(facts);
            if !children || !abbreviation.has_children() {
                break;
            }
        }
        Some((own?, below))
    }

    /// Follows modifiers and typedefs to the type behind them.
    fn resolve(&self, mut at: DebugInfoOffset) -> Option<(DebugInfoOffset, DwarfAttributes<'d>)> {
        for _ in 0..TYPE_DEPTH_MAX {
            let facts = self.entries(at, false, &mut VISITS_MAX.clone())?.0;
            match facts.tag? {
                dw::DW_TAG_typedef
                | dw::DW_TAG_const_type
                | dw::DW_TAG_volatile_type
                | dw::DW_TAG_restrict_type
                | dw::DW_TAG_atomic_type => at = facts.r#type?,
                _ => return Some((at, facts)),
            }
        }
        None
    }

    /// Finds `name` in a structure and in the anonymous ones inside it: its offset in bytes, and
    /// its type.
    fn find(
        &self,
        inside: DebugInfoOffset,
        name: &[u8],
        base: u64,
        depth: u32,
        visits: &mut u32,
    ) -> Option<(u64, DebugInfoOffset)> {
        let depth = depth.checked_sub(1)?;
        let (own, members) = self.entries(inside, true, visits)?;
        if !is_structure(&own) {
            return None;
        }
        for member in members.iter().filter(|facts| facts.tag == Some(dw::DW_TAG_member)) {
            let Some(r#type) = member.r#type else { continue };
            // A union may omit it.
            let Some(at) = base.checked_add(member.location.unwrap_or(0)) else { continue };
            match member.name {
                None => {
                    let found = self
                        .resolve(r#type)
                        .and_then(|(inner, _)| self.find(inner, name, at, depth, visits));
                    if found.is_some() {
                        return found;
                    }
                }
                Some(found) if found == name && !member.is_bit_field => return Some((at, r#type)),
                Some(_) => {}
            }
        }
        None
    }

    fn type_bytes(&self, at: DebugInfoOffset, depth: u32) -> Option<u64> {
        let depth = depth.checked_sub(1)?;
        let (at, facts) = self.resolve(at)?;
        match facts.tag? {
            dw::DW_TAG_pointer_type => Some(facts.bytes.unwrap_or(8)),
            dw::DW_TAG_array_type => {
                let mut visits = VISITS_MAX;
                let (_, below) = self.entries(at, true, &mut visits)?;
                let mut bytes = self.type_bytes(facts.r#type?, depth)?;
                for range in below.iter().filter(|f| f.tag == Some(dw::DW_TAG_subrange_type)) {
                    bytes = bytes.checked_mul(range.count.unwrap_or(0))?;
                }
                Some(bytes)
            }
            _ => facts.bytes,
        }
    }
}

#[cfg(test)]
mod tests;

//! What modules lead to: their versions, build ids, users and sections.
//!
//! None of it takes part in finding hidden modules, so what cannot be read is left out of the row,
//! and is no loss.

use core::mem;

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::module::{BUILD_ID_NOTE_BYTES, build_id_of_note};
use panoptes_decoders::layout::{View, c_string, u64_at};

use super::losses::WalkedStructure;
use super::module_rows::{
    MODULES_MAX, ModuleBuildId, ModuleRow, ModuleScan, ModuleSection, SECTION_NAME_BYTES, USES_MAX,
};
use super::snapshot::Index;
use super::{ScannedMemory, WalkScratch, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// Bytes of a version that are read.
const VERSION_BYTES: u32 = 64;
/// Number of notes of a module that are read. It has one or two.
const NOTES_MAX: usize = 4;
/// Maximum number of sections of a module.
const SECTIONS_MAX: usize = 512;
/// Bytes of the pointers to sections that are read at once.
const POINTERS_BYTES: u32 = 512;
const _: () = assert!((8 * SECTIONS_MAX).is_multiple_of(POINTERS_BYTES as usize));

impl Walker {
    /// Reads the versions of all modules.
    pub(super) fn read_module_texts(&mut self, memory: &mut ScannedMemory<'_>) {
        let rows = &mut self.snapshot.modules.rows;
        let texts = &mut self.scratch.addresses;
        texts.clear();
        texts.extend(rows.iter().flat_map(|row| [row.module.srcversion, row.module.version]));
        let push = |reader: &mut MemoryReader, space: &_, text: &KernelVa| {
            reader.push_bytes(space, *text, VERSION_BYTES)
        };
        let rows = rows.as_mut_slice();
        fetch_each(&mut self.reader, memory, texts, push, |index, bytes| {
            let (row, bytes) = (&mut rows[index / 2], bytes.unwrap_or(&[]));
            if index % 2 == 0 {
                row.source_version = text_of(bytes);
            } else {
                row.version = text_of(bytes);
            }
        });
    }

    /// Reads the build ids of modules, from their notes unless the kernel has noted them.
    pub(super) fn read_build_ids(&mut self, memory: &mut ScannedMemory<'_>) {
        for row in self.snapshot.modules.rows.as_mut_slice() {
            let id = row.module.build_id.map(|id| ModuleBuildId::new(&id));
            row.build_id = id.unwrap_or_default();
        }
        self.list_notes(memory);
        let rows = self.snapshot.modules.rows.as_mut_slice();
        let WalkScratch { addresses: notes, .. } = &self.scratch;
        let push = |reader: &mut MemoryReader, space: &_, note: &KernelVa| {
            reader.push_bytes(space, *note, BUILD_ID_NOTE_BYTES)
        };
        fetch_each(&mut self.reader, memory, notes, push, |index, bytes| {
            let id = bytes.and_then(build_id_of_note).map(ModuleBuildId::new);
            if let Some((row, id)) = rows.get_mut(index / NOTES_MAX).zip(id) {
                row.build_id = id;
            }
        });
    }

    /// Lists the addresses of the notes of all modules, so many of each module; null where there is
    /// none.
    fn list_notes(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let WalkScratch { addresses, more: attributes, .. } = &mut self.scratch;
        let rows = &self.snapshot.modules.rows;
        addresses.clear();
        attributes.clear();
        let layout = layouts.module_notes_attrs.as_ref().zip(layouts.bin_attribute.as_ref());
        let Some((layout, attribute)) = layout else { return };
        addresses.extend(rows.iter().map(|row| row.module.notes));
        let all = &*addresses;
        fetch(&mut self.reader, memory, &layout.packing, all, |index, bytes| {
            let view = bytes.map(View::new);
            // The attributes follow in an array, since v6.14 without their number.
            let count = view.and_then(|view| view.optional(layout.notes));
            let count = count.unwrap_or(NOTES_MAX as u64);
            let first = layout.attrs.filter(|_| view.is_some());
            for number in 0..NOTES_MAX as u64 {
                let place = first.filter(|_| number < count).map_or(KernelVa::NULL, |first| {
                    let offset = u64::from(first.offset) + number * u64::from(attribute.size);
                    all[index].plus(offset)
                });
                attributes.push(place);
            }
        });
        addresses.clear();
        fetch(&mut self.reader, memory, &attribute.packing, attributes, |index, bytes| {
            let note = bytes.map(|bytes| View::new(bytes).pointer(attribute.private));
            // What follows the array, another module's note included, is no part of the module.
            let module = rows.as_slice().get(index / NOTES_MAX).map(|row| &row.module);
            let own = note.filter(|&note| module.is_some_and(|module| module.contains(note)));
            addresses.push(own.unwrap_or_default());
        });
    }

    /// Reads which modules use which, one use of every module in each round.
    pub(super) fn read_module_uses(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let head = layouts.module.as_ref().and_then(|layout| layout.source_list);
        let Some((layout, head)) = layouts.module_use.as_ref().zip(head) else { return };
        let Self { reader, snapshot, modules: walk, .. } = self;
        let (scan, losses) = (&mut snapshot.modules, &mut snapshot.losses);
        let [mut links, mut below] = [mem::take(&mut walk.links), mem::take(&mut walk.more_links)];
        let mut uses = mem::take(&mut walk.uses);
        uses.clear();
        links.clear();
        let end = |row: &ModuleRow| row.address.plus(head.offset.into());
        let used = scan.rows.indexed().filter(|&(_, row)| row.module.users[0] != end(row));
        links.extend(used.map(|(index, row)| (index, row.module.users[0])));
        let mut left = USES_MAX;
        // Each module uses another one once.
        let mut rounds = 0..MODULES_MAX;
        while !links.is_empty() {
            if rounds.next().is_none() {
                let stop = EarlyStop::TooLong { limit: MODULES_MAX as u32 };
                losses.stop(WalkedStructure::ModuleUses, stop);
                break;
            }
            below.clear();
            let push = |reader: &mut MemoryReader, space: &_, (_, link): &(_, KernelVa)| {
                reader.push(space, link.minus(layout.source_list.offset.into()), &layout.packing)
            };
            fetch_each(reader, memory, &links, push, |index, bytes| {
                let (used, link) = links[index];
                let Some(view) = bytes.map(View::new) else {
                    let stop = EarlyStop::Unreadable { address: link };
                    losses.stop(WalkedStructure::ModuleUses, stop);
                    return;
                };
                if left == 0 {
                    losses.cut(WalkedStructure::ModuleUses, USES_MAX);
                    return;
                }
                left -= 1;
                uses.extend(walk.row_of(view.pointer(layout.source)).map(|user| (used, user)));
                let next = KernelVa(view.u64_at(layout.source_list, 0));
                if next != end(&scan.rows[used]) {
                    below.push((used, next));
                }
            });
            mem::swap(&mut links, &mut below);
        }
        scan.note_uses(&mut uses);
        (walk.links, walk.more_links, walk.uses) = (links, below, uses);
    }

    /// Reads the sections of all modules, for which [`Self::with_sections`] has made room.
    pub(super) fn read_module_sections(&mut self, memory: &mut ScannedMemory<'_>) {
        let Some(layout) = &memory.kernel.layouts.module_sect_attrs else { return };
        let Some(pointers) = layout.bin_attrs else { return };
        for index in self.snapshot.modules.rows.indexes() {
            let address = self.snapshot.modules.rows[index].module.sections;
            if address.is_null() {
                continue;
            }
            let view = memory.read_one(&mut self.reader, address, &layout.packing);
            let pointers = view.map(|view| view.pointer(pointers));
            let end = pointers.ok_or(EarlyStop::Unreadable { address });
            let end = end.and_then(|pointers| self.list_sections(memory, pointers));
            let end = end.and_then(|()| self.add_sections(memory, index));
            if let Err(stop) = end {
                self.snapshot.losses.stop(WalkedStructure::ModuleSections, stop);
            }
        }
    }

    /// Lists the attributes of the sections that these pointers lead to.
    fn list_sections(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        pointers: KernelVa,
    ) -> Result<(), EarlyStop> {
        let attributes = &mut self.scratch.addresses;
        attributes.clear();
        while attributes.len() < SECTIONS_MAX {
            let address = pointers.plus(8 * attributes.len() as u64);
            let bytes = memory.read_bytes(&mut self.reader, address, POINTERS_BYTES);
            let bytes = bytes.ok_or(EarlyStop::Unreadable { address })?;
            for word in bytes.chunks_exact(8) {
                let attribute = KernelVa(u64_at(word, 0));
                if attribute.is_null() {
                    return Ok(());
                }
                attributes.push(attribute);
            }
        }
        Err(EarlyStop::TooLong { limit: SECTIONS_MAX as u32 })
    }

    /// Adds the sections with the listed attributes to a module.
    fn add_sections(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        module: Index<ModuleRow>,
    ) -> Result<(), EarlyStop> {
        let layouts = &memory.kernel.layouts;
        let Some(layout) = &layouts.bin_attribute else { return Ok(()) };
        let WalkScratch { addresses: attributes, more: names, .. } = &mut self.scratch;
        let addresses = &mut self.modules.wanted;
        let attributes = &*attributes;
        addresses.clear();
        names.clear();
        fetch(&mut self.reader, memory, &layout.packing, attributes, |_, bytes| {
            let view = bytes.map(View::new);
            let pointer = |field| view.map_or(KernelVa::NULL, |view| view.pointer(field));
            names.push(pointer(layout.name));
            addresses.push(pointer(layout.private));
        });
        let section = layouts.module_sect_attr.as_ref();
        if let Some((layout, field)) = section.and_then(|it| Some((it, it.address?))) {
            fetch(&mut self.reader, memory, &layout.packing, attributes, |index, bytes| {
                let view = bytes.map(View::new);
                addresses[index] = view.map_or(KernelVa::NULL, |view| view.pointer(field));
            });
        }
        let sections = &mut self.snapshot.modules.sections;
        let mut end = Ok(());
        let push = |reader: &mut MemoryReader, space: &_, name: &KernelVa| {
            reader.push_bytes(space, *name, SECTION_NAME_BYTES as u32)
        };
        let names = &*names;
        fetch_each(&mut self.reader, memory, names, push, |index, bytes| {
            let Some(text) = bytes.map(c_string) else {
                end = Err(EarlyStop::Unreadable { address: names[index] });
                return;
            };
            let mut name = [0; SECTION_NAME_BYTES];
            name.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
            let address = addresses[index].0;
            if sections.push(ModuleSection { module, name, address }).is_none() {
                end = Err(EarlyStop::NoRoom { rows: sections.capacity() as u32 });
            }
        });
        addresses.clear();
        end
    }
}

impl ModuleScan {
    /// Groups modules with their users by the module that is used.
    fn note_uses(&mut self, uses: &mut [(Index<ModuleRow>, Index<ModuleRow>)]) {
        uses.sort_unstable_by_key(|(used, user)| (used.position(), user.position()));
        for group in uses.chunk_by(|one, next| one.0 == next.0) {
            let start = self.holders.len();
            for &(_, user) in group {
                self.holders.push(user);
            }
            let span = self.holders.span_from(start);
            let used = group.first().map(|(used, _)| *used);
            if let Some(row) = self.rows.at_mut(used) {
                row.holders = span;
            }
        }
    }
}

/// The visible beginning of a C string.
pub(super) fn text_of<const BYTES: usize>(bytes: &[u8]) -> ArrayString<BYTES> {
    let is_visible = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
    let mut text = ArrayString::new();
    for &byte in c_string(bytes).iter().take_while(is_visible).take(BYTES) {
        text.push(char::from(byte));
    }
    text
}

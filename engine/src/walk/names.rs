//! Short names other than file names: of special mappings (`[vdso]`), of anonymous areas named by a
//! process, of kinds of namespaces, of buffers shared between devices.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, c_string};

use super::snapshot::{NameKind, NameRow};
use super::{Reads, ScannedMemory, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// Bytes read of a name.
const TEXT_BYTES: u32 = 80;

impl NameRow {
    pub(super) fn new(address: KernelVa, kind: NameKind) -> Self {
        let text = [0; TEXT_BYTES as usize];
        Self { address, process: None, kind, length: 0, text, was_read: false }
    }

    /// Sets the text if it can be the name of such an object.
    fn set_text(&mut self, text: &[u8]) {
        let is_plausible = match self.kind {
            NameKind::SpecialMapping => text.first() == Some(&b'['),
            NameKind::AnonVma | NameKind::DmaBuf => true,
            NameKind::Namespace => !text.is_empty() && text.iter().all(u8::is_ascii_graphic),
        };
        if is_plausible && text.len() <= self.text.len() {
            self.text[..text.len()].copy_from_slice(text);
            self.length = text.len() as u8;
            self.was_read = true;
        }
    }
}

impl Walker {
    /// Reads all names that have no text yet.
    pub(super) fn read_names(&mut self, memory: &mut ScannedMemory<'_>) {
        let anon_vma_name = memory.kernel.layouts.anon_vma_name;
        let texts = &mut self.scratch.texts;
        texts.clear();
        for (index, name) in self.snapshot.names.indexed().filter(|(_, name)| name.length == 0) {
            let text = match (name.kind, anon_vma_name) {
                (NameKind::AnonVma, Some(layout)) => name.address.plus(layout.size.into()),
                (NameKind::AnonVma, None) => KernelVa::NULL,
                _ => name.address,
            };
            texts.push(index, text);
        }
        if !texts.rows.is_empty() {
            self.find_texts(memory);
            self.read_texts(memory);
        }
    }

    /// Finds the address of each name's text: behind one pointer for a mapping or a buffer, two for
    /// a namespace, none for an area.
    fn find_texts(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let names = &mut self.snapshot.names;
        let Reads { rows, addresses: texts } = &mut self.scratch.texts;
        let addresses = &mut self.scratch.addresses;
        let buffer = layouts.dma_buf.unwrap_or_default();
        let (mapping, common) = (&layouts.vm_special_mapping, &layouts.ns_common);
        let operations = &layouts.proc_ns_operations;
        for (kind, packing, field) in [
            (NameKind::SpecialMapping, &mapping.packing, mapping.name),
            (NameKind::DmaBuf, &buffer.packing, buffer.name),
            (NameKind::Namespace, &common.packing, common.ops),
            (NameKind::Namespace, &operations.packing, operations.name),
        ] {
            if !rows.iter().any(|&index| names[index].kind == kind) {
                continue;
            }
            addresses.clear();
            addresses.extend(rows.iter().zip(texts.iter()).map(|(&index, &text)| {
                if names[index].kind == kind { text } else { KernelVa::NULL }
            }));
            fetch(&mut self.reader, memory, packing, addresses, |index, bytes| {
                let name = &mut names[rows[index]];
                if name.kind == kind {
                    let text = bytes.map(|bytes| View::new(bytes).pointer(field));
                    texts[index] = text.unwrap_or_default();
                    // A buffer needs no name.
                    name.was_read = kind == NameKind::DmaBuf && text == Some(KernelVa::NULL);
                }
            });
        }
    }

    fn read_texts(&mut self, memory: &mut ScannedMemory<'_>) {
        let Reads { rows, addresses: texts } = &self.scratch.texts;
        let push = |reader: &mut MemoryReader, space: &_, &text: &_| {
            reader.push_bytes(space, text, TEXT_BYTES)
        };
        // What could not be copied is zeros, as an empty text.
        let is_copy = self.snapshot.copied.is_copy();
        fetch_each(&mut self.reader, memory, texts, push, |index, bytes| {
            if let Some(text) = bytes.map(c_string).filter(|text| !(is_copy && text.is_empty())) {
                self.snapshot.names[rows[index]].set_text(text);
            }
        });
    }
}

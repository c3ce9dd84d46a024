//! Short names other than file names: of special mappings (`[vdso]`), of anonymous areas named by a
//! process, of kinds of namespaces, of buffers shared between devices.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, c_string};
use panoptes_decoders::source::MemorySource;

use super::snapshot::{NameKind, NameRow};
use super::{Kernel, Walker, fetch};

/// Bytes read of a name.
const TEXT_BYTES: u32 = 80;

impl NameRow {
    pub(super) fn new(address: KernelVa, kind: NameKind) -> Self {
        Self { address, kind, length: 0, text: [0; TEXT_BYTES as usize] }
    }

    /// Sets the text if it can be the name of such an object.
    fn set_text(&mut self, text: &[u8]) {
        let is_plausible = match self.kind {
            NameKind::SpecialMapping => text.first() == Some(&b'['),
            NameKind::AnonVma | NameKind::DmaBuf => true,
            NameKind::Namespace => text.iter().all(u8::is_ascii_graphic),
        };
        if is_plausible && text.len() <= self.text.len() {
            self.text[..text.len()].copy_from_slice(text);
            self.length = text.len() as u8;
        }
    }
}

impl Walker {
    /// Reads all names that have no text yet.
    pub(super) fn read_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let names = &self.snapshot.names;
        let todo = &mut self.scratch.names;
        todo.clear();
        todo.extend(names.indexed().filter(|(_, name)| name.length == 0).map(|(index, _)| index));
        if !todo.is_empty() {
            self.find_texts(source, kernel);
            self.read_texts(source, kernel);
        }
    }

    /// Lists the address of each name's text: behind one pointer for a mapping or a buffer, two for
    /// a namespace, none for an area.
    fn find_texts<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let (names, todo) = (&self.snapshot.names, &self.scratch.names);
        let (texts, addresses) = (&mut self.scratch.texts, &mut self.scratch.addresses);
        texts.clear();
        texts.extend(todo.iter().map(|&index| match (names[index].kind, layouts.anon_vma_name) {
            (NameKind::AnonVma, Some(layout)) => names[index].address.plus(layout.size.into()),
            _ => KernelVa::NULL,
        }));
        let buffer = layouts.dma_buf.unwrap_or_default();
        let (mapping, common) = (&layouts.vm_special_mapping, &layouts.ns_common);
        let operations = &layouts.proc_ns_operations;
        for (kind, steps) in [
            (NameKind::SpecialMapping, &[(&mapping.packing, mapping.name)][..]),
            (NameKind::DmaBuf, &[(&buffer.packing, buffer.name)]),
            (
                NameKind::Namespace,
                &[(&common.packing, common.ops), (&operations.packing, operations.name)],
            ),
        ] {
            if !todo.iter().any(|&index| names[index].kind == kind) {
                continue;
            }
            for (step, (packing, field)) in steps.iter().enumerate() {
                addresses.clear();
                addresses.extend(todo.iter().zip(texts.iter()).map(|(&index, &text)| {
                    match (names[index].kind == kind, step) {
                        (false, _) => KernelVa::NULL,
                        (true, 0) => names[index].address,
                        (true, _) => text,
                    }
                }));
                fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
                    if names[todo[index]].kind == kind {
                        let text = bytes.map(|bytes| View::new(bytes).pointer(*field));
                        texts[index] = text.unwrap_or_default();
                    }
                });
            }
        }
    }

    fn read_texts<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let (todo, texts) = (&self.scratch.names, &self.scratch.texts);
        let mut done = 0;
        while done < texts.len() {
            self.reader.clear();
            for &text in &texts[done..] {
                if self.reader.push_bytes(&kernel.space, text, TEXT_BYTES).is_none() {
                    break;
                }
            }
            self.reader.run(source, kernel.space.levels);
            let count = self.reader.len();
            if count == 0 {
                return;
            }
            for index in 0..count {
                if let Some(bytes) = self.reader.object(index) {
                    self.snapshot.names[todo[done + index]].set_text(c_string(bytes));
                }
            }
            done += count;
        }
    }
}

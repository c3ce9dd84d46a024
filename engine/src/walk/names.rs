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
}

impl Walker {
    /// Reads all names that have no text yet.
    pub(super) fn read_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let names = &mut self.snapshot.names;
        let todo = &mut self.scratch.owners;
        let texts = &mut self.scratch.addresses;
        let addresses = &mut self.scratch.more;
        todo.clear();
        todo.extend((0..names.len() as u32).filter(|&index| names[index as usize].length == 0));
        if todo.is_empty() {
            return;
        }
        // The address of each text: behind one pointer for a mapping or a buffer, two for a
        // namespace, none for an area.
        texts.clear();
        texts.extend(todo.iter().map(|&index| {
            let name = &names[index as usize];
            match name.kind {
                NameKind::AnonVma => layouts
                    .anon_vma_name
                    .map_or(KernelVa::NULL, |layout| name.address.plus(u64::from(layout.size))),
                NameKind::SpecialMapping | NameKind::Namespace | NameKind::DmaBuf => KernelVa::NULL,
            }
        }));
        let buffer = layouts.dma_buf.unwrap_or_default();
        for (kind, steps) in [
            (
                NameKind::SpecialMapping,
                &[(&layouts.vm_special_mapping.packing, layouts.vm_special_mapping.name)][..],
            ),
            (NameKind::DmaBuf, &[(&buffer.packing, buffer.name)][..]),
            (
                NameKind::Namespace,
                &[
                    (&layouts.ns_common.packing, layouts.ns_common.ops),
                    (&layouts.proc_ns_operations.packing, layouts.proc_ns_operations.name),
                ][..],
            ),
        ] {
            if !todo.iter().any(|&index| names[index as usize].kind == kind) {
                continue;
            }
            for (step, (packing, field)) in steps.iter().enumerate() {
                addresses.clear();
                addresses.extend(todo.iter().zip(texts.iter()).map(|(&index, &text)| {
                    let name = &names[index as usize];
                    match (name.kind == kind, step) {
                        (false, _) => KernelVa::NULL,
                        (true, 0) => name.address,
                        (true, _) => text,
                    }
                }));
                fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
                    if names[todo[index] as usize].kind == kind {
                        texts[index] =
                            bytes.map_or(KernelVa::NULL, |bytes| View::new(bytes).pointer(*field));
                    }
                });
            }
        }
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
                let Some(bytes) = self.reader.object(index) else { continue };
                let text = c_string(bytes);
                let name = &mut names[todo[done + index] as usize];
                let plausible = match name.kind {
                    NameKind::SpecialMapping => text.first() == Some(&b'['),
                    NameKind::AnonVma | NameKind::DmaBuf => true,
                    NameKind::Namespace => text.iter().all(u8::is_ascii_graphic),
                };
                if plausible && text.len() <= name.text.len() {
                    name.text[..text.len()].copy_from_slice(text);
                    name.length = text.len() as u8;
                }
            }
            done += count;
        }
    }
}

//! Reads one packed kernel object according to its layout, on cold paths.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Layout;

use crate::memory::{KernelMemory, MemoryFault};

/// Reads the spans of `layout` from the object at `address`.
pub(crate) fn read_object(
    memory: &mut KernelMemory<'_>,
    layout: &impl Layout,
    address: KernelVa,
) -> Result<Vec<u8>, MemoryFault> {
    let packing = layout.packing();
    let mut bytes = vec![0; packing.bytes() as usize];
    for span in packing.spans() {
        let start = span.packed as usize;
        if let Some(target) = bytes.get_mut(start..start + span.length as usize) {
            memory.read(address.plus(u64::from(span.offset)), target)?;
        }
    }
    Ok(bytes)
}

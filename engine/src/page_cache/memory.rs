//! Access to a machine's memory, and to the objects of its kernel.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::PackedLayout;
use panoptes_decoders::source::MemorySource;

use crate::address::MemoryReader;
use crate::walk::Kernel;

/// The memory of a machine.
#[expect(missing_debug_implementations, reason = "a source need not have one")]
pub struct MachineMemory<'a> {
    pub source: &'a mut dyn MemorySource,
    pub kernel: &'a Kernel,
}

impl MachineMemory<'_> {
    /// The same, with a batch for reads.
    pub(super) fn with<'a>(&'a mut self, reader: &'a mut MemoryReader) -> KernelMemory<'a> {
        KernelMemory { reader, source: self.source, kernel: self.kernel }
    }
}

/// The memory of a machine, and a batch for reads.
pub(super) struct KernelMemory<'a> {
    pub(super) reader: &'a mut MemoryReader,
    pub(super) source: &'a mut dyn MemorySource,
    pub(super) kernel: &'a Kernel,
}

impl KernelMemory<'_> {
    /// Reads a packed structure of the kernel.
    pub(super) fn object(&mut self, address: KernelVa, packing: &PackedLayout) -> Option<&[u8]> {
        self.reader.clear();
        self.reader.push(&self.kernel.space, address, packing)?;
        self.run();
        self.reader.object(0)
    }

    /// Reads the batch.
    pub(super) fn run(&mut self) {
        self.reader.run(&mut self.source, self.kernel.space.levels);
    }
}

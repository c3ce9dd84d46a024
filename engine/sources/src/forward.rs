//! [`to_inner`]: sources that have another source, which answers for them.

/// Implements the traits of a source for a type with the methods `source` and `source_mut`, by
/// calling the source that these return. A call costs one indirection a batch.
macro_rules! to_inner {
    ($type:ty) => {
        impl $crate::MemorySource for $type {
            fn read_batch(&mut self, requests: &mut [$crate::ReadRequest], arena: &mut [u8]) {
                self.source_mut().read_batch(requests, arena);
            }

            fn regions(&self) -> &[std::ops::Range<u64>] {
                self.source().regions()
            }

            fn next_data(
                &mut self,
                from: panoptes_decoders::address::PhysicalAddress,
            ) -> Option<std::ops::Range<u64>> {
                self.source_mut().next_data(from)
            }

            fn move_by(&mut self, bytes: u64) -> bool {
                self.source_mut().move_by(bytes)
            }
        }

        impl $crate::MachineSource for $type {
            fn refresh(&mut self) {
                self.source_mut().refresh();
            }

            fn layouts(&self) -> usize {
                self.source().layouts()
            }

            fn choose_layout(&mut self, index: usize) {
                self.source_mut().choose_layout(index);
            }

            fn has_ended(&self) -> bool {
                self.source().has_ended()
            }

            fn is_unlinked(&self) -> bool {
                self.source().is_unlinked()
            }

            fn losses(&self, report: &mut dyn FnMut(&dyn std::fmt::Display)) {
                self.source().losses(report);
            }
        }
    };
}

pub(crate) use to_inner;

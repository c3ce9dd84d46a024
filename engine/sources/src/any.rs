//! [`AnySource`]: the memory of any machine that can be watched, whatever kind of source has it.

use std::io;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, Request};

use super::{FileSource, GuestMemory, Refreshed};

/// A source of any kind.
#[derive(Debug)]
pub enum AnySource {
    /// A file: shared memory of a guest, or a dump.
    File(Box<FileSource>),
    /// A QEMU process on the host.
    Guest(Box<GuestMemory>),
    /// A machine behind a BlueField's DMA engine.
    #[cfg(feature = "doca")]
    Doca(Box<super::doca::DocaMemory>),
}

impl AnySource {
    /// Checks whether the backing file or process has changed. Call it between scans.
    pub fn refresh(&mut self) -> io::Result<Refreshed> {
        match self {
            Self::File(source) => source.refresh(),
            Self::Guest(source) => source.refresh(),
            #[cfg(feature = "doca")]
            Self::Doca(_) => Ok(Refreshed::Unchanged),
        }
    }

    /// Whether the machine is known to be gone, as of the last [`Self::refresh`].
    pub fn has_ended(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Guest(source) => source.has_ended(),
            #[cfg(feature = "doca")]
            Self::Doca(_) => false,
        }
    }

    /// Whether the memory file has been removed since it was opened.
    pub fn is_unlinked(&self) -> bool {
        match self {
            Self::File(source) => source.is_unlinked(),
            Self::Guest(_) => false,
            #[cfg(feature = "doca")]
            Self::Doca(_) => false,
        }
    }

    /// Number of candidate layouts of physical memory; the likeliest has index 0. The right one is
    /// the one in which a kernel is found.
    pub fn layouts(&self) -> usize {
        match self {
            Self::File(source) => source.layouts(),
            Self::Guest(source) => source.layouts(),
            #[cfg(feature = "doca")]
            Self::Doca(_) => 1,
        }
    }

    /// Switches to a layout; the first one is in force initially. A layout that cannot be opened is
    /// ignored.
    pub fn choose_layout(&mut self, index: usize) {
        match self {
            Self::File(source) => source.choose_layout(index),
            // The files were opened for the first layout already, so this fails only if the guest
            // is gone.
            Self::Guest(source) => _ = source.choose(index),
            #[cfg(feature = "doca")]
            Self::Doca(_) => {}
        }
    }

    /// Describes what the transport has lost so far; `None` if nothing.
    pub fn losses(&self) -> Option<String> {
        match self {
            #[cfg(feature = "doca")]
            Self::Doca(source) => source.counts().losses(),
            Self::File(_) | Self::Guest(_) => None,
        }
    }
}

impl MemorySource for AnySource {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        match self {
            Self::File(source) => source.read_batch(requests, arena),
            Self::Guest(source) => source.read_batch(requests, arena),
            #[cfg(feature = "doca")]
            Self::Doca(source) => source.read_batch(requests, arena),
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        match self {
            Self::File(source) => source.regions(),
            Self::Guest(source) => source.regions(),
            #[cfg(feature = "doca")]
            Self::Doca(source) => source.regions(),
        }
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        match self {
            Self::File(source) => source.next_data(from),
            Self::Guest(source) => source.next_data(from),
            #[cfg(feature = "doca")]
            Self::Doca(source) => source.next_data(from),
        }
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        // All other sources know the addresses of their memory.
        if let Self::File(source) = self { source.move_by(bytes) } else { false }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_of_nothing_but_memory_can_be_moved_behind_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 8192]).unwrap();
        let mut source = AnySource::File(Box::new(FileSource::open(file.path()).unwrap()));
        assert!(source.move_by(0x4000_0000));
        assert_eq!(source.regions(), std::slice::from_ref(&(0x4000_0000..0x4000_2000)));
    }
}

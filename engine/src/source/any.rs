//! [`AnySource`]: the memory of any system that can be named, whatever keeps it.

use std::io;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, Request};

use super::{FileSource, GuestMemory, Refreshed};

/// Memory, wherever it is.
#[derive(Debug)]
pub enum AnySource {
    /// A file: shared memory of a guest, or a dump.
    File(Box<FileSource>),
    /// A QEMU process of this machine.
    Guest(Box<GuestMemory>),
    /// A machine behind a BlueField's DMA engine.
    #[cfg(feature = "doca")]
    Doca(Box<super::doca::DocaMemory>),
}

impl AnySource {
    /// Looks whether what keeps the memory has changed under us; to be called between scans.
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

    /// Whether the file that is the memory was removed while it was open.
    pub fn is_unlinked(&self) -> bool {
        match self {
            Self::File(source) => source.is_unlinked(),
            Self::Guest(_) => false,
            #[cfg(feature = "doca")]
            Self::Doca(_) => false,
        }
    }

    /// How many layouts of physical memory may be right, the likeliest first. Which one is shows by a kernel that
    /// is found.
    pub fn layouts(&self) -> usize {
        match self {
            Self::File(source) => source.layouts(),
            Self::Guest(source) => source.layouts(),
            #[cfg(feature = "doca")]
            Self::Doca(_) => 1,
        }
    }

    /// Takes one of the layouts; the first is taken at the beginning. One that cannot be opened is left alone.
    pub fn choose_layout(&mut self, index: usize) {
        match self {
            Self::File(source) => source.choose_layout(index),
            // The files are those that were opened for the first layout, unless the guest is gone by now.
            Self::Guest(source) => _ = source.choose(index),
            #[cfg(feature = "doca")]
            Self::Doca(_) => {}
        }
    }

    /// What the transport has lost so far, in words; `None` if nothing.
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
        // All others know where their memory is.
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

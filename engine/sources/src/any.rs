//! [`AnySource`]: the memory of any machine that can be watched, whatever kind of source has it.

use panoptes_decoders::source::MachineSource;

use super::{FileSource, GuestMemory, Kcore};

/// A source of any kind.
#[derive(Debug)]
pub enum AnySource {
    /// A file: shared memory of a guest, or a dump.
    File(Box<FileSource>),
    /// A QEMU process on the host.
    Guest(Box<GuestMemory>),
    /// The host itself.
    Host(Box<Kcore>),
    /// A machine behind a BlueField's DMA engine.
    #[cfg(feature = "doca")]
    Doca(Box<super::doca::DocaMemory>),
}

impl AnySource {
    /// Whether a read of a few bytes is cheap: it takes some microseconds, and no engine's time.
    pub const fn is_quick(&self) -> bool {
        match self {
            Self::File(_) | Self::Guest(_) | Self::Host(_) => true,
            #[cfg(feature = "doca")]
            Self::Doca(_) => false,
        }
    }

    /// Whether the memory never changes: it is in a dump.
    pub fn is_still(&self) -> bool {
        matches!(self, Self::File(file) if file.is_still())
    }

    fn source(&self) -> &dyn MachineSource {
        match self {
            Self::File(source) => &**source,
            Self::Guest(source) => &**source,
            Self::Host(source) => &**source,
            #[cfg(feature = "doca")]
            Self::Doca(source) => &**source,
        }
    }

    fn source_mut(&mut self) -> &mut dyn MachineSource {
        match self {
            Self::File(source) => &mut **source,
            Self::Guest(source) => &mut **source,
            Self::Host(source) => &mut **source,
            #[cfg(feature = "doca")]
            Self::Doca(source) => &mut **source,
        }
    }
}

super::forward::to_inner!(AnySource);

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::MemorySource as _;

    #[test]
    fn a_file_of_nothing_but_memory_can_be_moved_behind_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 8192]).unwrap();
        let mut source = AnySource::File(Box::new(FileSource::open(file.path()).unwrap()));
        assert!(source.move_by(0x4000_0000));
        assert_eq!(source.regions(), std::slice::from_ref(&(0x4000_0000..0x4000_2000)));
    }
}

//! [`Format`]: the format of a file, detected from its first bytes.
//!
//! Raw memory has no header, so a file of no other format is raw. A guest may write any header to
//! its first page. So the detected format is used only for a file that cannot be a live guest's
//! memory ([`super::FileSource::open`]), or if the user asks for it ([`FileFormat`]).

use super::image;

/// Format of a file, as its first bytes suggest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Physical memory byte by byte: a live guest's, or a raw dump.
    Raw,
    /// A sparse image written by [`super::Recorder`].
    Recorded,
    /// An ELF core (`/proc/vmcore`, QEMU's `dump-guest-memory`).
    ElfCore,
    /// An ELF file that is not a core.
    Elf,
    /// A LiME dump, or AVML's in the same form.
    Lime,
    /// AVML's compressed dump.
    Avml,
    /// A kdump-compressed dump (makedumpfile, QEMU).
    Kdump,
    /// A disk image of a virtual machine, with the name of its format.
    Disk(&'static str),
    /// A saved state of a virtual machine, with the name of the program that saved it.
    SavedMachine(&'static str),
    /// Something compressed, with the name of the compressor.
    Compressed(&'static str),
    Text,
}

/// The format of a file, as the user configures it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FileFormat {
    /// Detected from the first bytes, unless a guest may have written them.
    #[default]
    Auto,
    /// Raw memory, whatever the first bytes are.
    Raw,
    /// Detected from the first bytes, even if a guest may have written them.
    Dump,
}

/// Number of bytes at the start of a file that are enough for [`Format::of`].
pub const FORMAT_HEAD_BYTES: usize = 4096;

/// Type field of an ELF header that marks a core (elf(5)).
const ET_CORE: u8 = 4;

/// Formats that their magic number identifies.
const MAGICS: [(&[u8], Format); 19] = [
    (&image::MAGIC, Format::Recorded),
    (b"EMiL", Format::Lime), // lime.h: LIME_MAGIC 0x4c694d45, little endian
    (b"AVML", Format::Avml), // AVML's image.rs: 0x4c4d5641, little endian
    (b"KDUMP   ", Format::Kdump), // makedumpfile's diskdump_mod.h
    (b"DISKDUMP", Format::Kdump),
    (b"makedumpfile\0", Format::Kdump), // the flattened form, for pipes
    (b"QFI\xfb", Format::Disk("qcow2")),
    (b"KDMV", Format::Disk("VMDK")),
    (b"vhdxfile", Format::Disk("VHDX")),
    (b"<<< Oracle VM VirtualBox", Format::Disk("VDI")),
    (b"QEVM", Format::SavedMachine("QEMU")), // migration/qemu-file: QEMU_VM_FILE_MAGIC
    (b"LibvirtQemudSave", Format::SavedMachine("libvirt")),
    (b"\xd2\xbe\xd2\xbe", Format::SavedMachine("VMware")), // .vmss and .vmsn beside a raw .vmem
    (b"\x1f\x8b\x08", Format::Compressed("gzip")),
    (b"\xfd7zXZ\0", Format::Compressed("xz")),
    (b"\x28\xb5\x2f\xfd", Format::Compressed("zstd")),
    (b"\x04\x22\x4d\x18", Format::Compressed("lz4")),
    (b"BZh", Format::Compressed("bzip2")),
    (b"PK\x03\x04", Format::Compressed("zip")),
];

impl Format {
    /// The format of a file with these first bytes: [`FORMAT_HEAD_BYTES`] of them or the whole
    /// file.
    pub fn of(head: &[u8]) -> Self {
        if let Some((_, format)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
            return *format;
        }
        if head.starts_with(b"\x7fELF") {
            // e_type is at offset 16 in both classes; EI_DATA at offset 5 is the byte order.
            let low = if head.get(5) == Some(&2) { 17 } else { 16 };
            return if head.get(low) == Some(&ET_CORE) { Self::ElfCore } else { Self::Elf };
        }
        if is_text(head) { Self::Text } else { Self::Raw }
    }

    /// The format as a noun phrase for messages ("`file` is …").
    pub fn name(self) -> String {
        match self {
            Self::Raw => "raw memory".into(),
            Self::Recorded => "a recorded image".into(),
            Self::ElfCore => "an ELF core".into(),
            Self::Elf => "an ELF file but not a core".into(),
            Self::Lime => "a LiME dump".into(),
            Self::Avml => "a compressed AVML dump".into(),
            Self::Kdump => "a kdump-compressed dump".into(),
            Self::Disk(name) => format!("a disk image ({name})"),
            Self::SavedMachine(name) => format!("a virtual machine's state saved by {name}"),
            Self::Compressed(name) => format!("compressed with {name}"),
            Self::Text => "text".into(),
        }
    }

    /// Whether the memory never changes because a file of this format is a snapshot. Raw memory may
    /// be a snapshot or live.
    pub const fn is_still(self) -> bool {
        !matches!(self, Self::Raw)
    }

    /// What the user should give instead of a file of this format.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::SavedMachine("VMware") => "give the .vmem file beside it",
            Self::Compressed(_) => "unpack it first",
            _ => "give the machine's raw memory",
        }
    }
}

/// Whether all bytes are printable, blank or above ASCII, with at least one line break.
fn is_text(head: &[u8]) -> bool {
    let head = &head[..head.len().min(FORMAT_HEAD_BYTES)];
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x80..);
    // Test memory repeats one byte; text has lines.
    head.contains(&b'\n') && head.iter().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_from_their_first_bytes() {
        let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0>\0".to_vec();
        assert_eq!(Format::of(&core), Format::ElfCore);
        core[16] = 3;
        assert_eq!(Format::of(&core), Format::Elf);
        assert_eq!(Format::of(b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0\0\x04"), Format::ElfCore);
        assert_eq!(Format::of(b"\x7fELF"), Format::Elf);
        assert_eq!(Format::of(b"EMiL\x01\0\0\0"), Format::Lime);
        assert_eq!(Format::of(b"KDUMP   \x06\0\0\0"), Format::Kdump);
        assert_eq!(Format::of(b"makedumpfile\0\0\0\0"), Format::Kdump);
        assert_eq!(Format::of(b"QFI\xfb\0\0\0\x03"), Format::Disk("qcow2"));
        assert_eq!(Format::of(b"\x1f\x8b\x08\0"), Format::Compressed("gzip"));
        assert_eq!(Format::of("service:\n  log_level: 50 # ä\n".as_bytes()), Format::Text);
        assert_eq!(Format::of(&image::MAGIC), Format::Recorded);
    }

    #[test]
    fn anything_else_is_raw() {
        assert_eq!(Format::of(&[]), Format::Raw);
        assert_eq!(Format::of(&[0; 4096]), Format::Raw);
        // A BIOS's vectors.
        assert_eq!(Format::of(b"\x53\xff\x00\xf0\x53\xff\x00\xf0"), Format::Raw);
        assert_eq!(Format::of(&[b'A'; 4096]), Format::Raw);
    }
}

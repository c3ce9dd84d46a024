//! [`DetectedFormat`]: the format of a file, detected from its first bytes.
//!
//! Raw memory has no header, so a file of no other format is raw. A guest may write any header to
//! its first page. So the detected format is used only for a file that cannot be a live guest's
//! memory ([`super::FileSource::open`]), or if the user asks for it ([`FileFormat`]).

use std::path::Path;

use panoptes_decoders::user::elf::ET_CORE;

use super::foreign::{self, Foreign};
use super::image;

/// Format of a file, as its bytes suggest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DetectedFormat {
    /// Physical memory byte by byte: a live guest's, or a raw dump.
    Raw,
    /// A sparse image written by [`super::Recorder`].
    Recorded,
    /// An ELF core (`/proc/vmcore`, QEMU's `dump-guest-memory`, `xl dump-core`).
    ElfCore,
    /// An ELF file that is not a core.
    Elf,
    /// A LiME dump, or AVML's in the same form.
    Lime,
    /// AVML's compressed dump.
    Avml,
    /// A kdump-compressed dump (makedumpfile, QEMU).
    Kdump,
    /// A QEMU migration stream, also a `vmstate` of Proxmox.
    Qemu,
    /// A save image of libvirt: a QEMU migration stream behind libvirt's header.
    Libvirt,
    /// The state of a VMware machine, with its memory or beside it.
    Vmware,
    /// A save of Xen's `xl save`.
    XenSave,
    /// A format without memory that can be read here.
    Foreign(Foreign),
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

/// Number of bytes at the start of a file that are enough for [`DetectedFormat::of`]. With more, it
/// also finds file systems whose marks are further behind.
pub const FORMAT_HEAD_BYTES: usize = 4096;

/// Formats that their magic number identifies.
const MAGICS: [(&[u8], DetectedFormat); 15] = [
    (&image::MAGIC, DetectedFormat::Recorded),
    (b"EMiL", DetectedFormat::Lime), // lime.h: LIME_MAGIC 0x4c694d45, little endian
    (b"AVML", DetectedFormat::Avml), // AVML's image.rs: 0x4c4d5641, little endian
    (b"KDUMP   ", DetectedFormat::Kdump), // makedumpfile's diskdump_mod.h
    (b"DISKDUMP", DetectedFormat::Kdump),
    (b"makedumpfile\0", DetectedFormat::Kdump), // the flattened form, for pipes
    (b"QEVM\0\0\0\x03", DetectedFormat::Qemu),  // migration/qemu-file.h, QEMU_VM_FILE_VERSION
    (b"LibvirtQemudSave", DetectedFormat::Libvirt), // src/qemu/qemu_saveimage.h
    // crash's vmware_vmss.h; each is written in another state of the machine.
    (b"\xd2\xbe\xd2\xbe", DetectedFormat::Vmware),
    (b"\xd3\xbe\xd3\xbe", DetectedFormat::Vmware),
    (b"\xd1\xba\xd1\xba", DetectedFormat::Vmware),
    (b"\xd2\xba\xd2\xba", DetectedFormat::Vmware),
    (b"\xd0\xbe\xd0\xbe", DetectedFormat::Vmware),
    (b"\xd0\xbe\xd2\xbe", DetectedFormat::Vmware), // Volatility's vmware.py
    (b"Xen saved domain, xl format\n", DetectedFormat::XenSave), // tools/xl/xl.h
];

impl DetectedFormat {
    /// The format of a file with these first bytes: [`FORMAT_HEAD_BYTES`] of them or the whole
    /// file.
    pub fn of(head: &[u8]) -> Self {
        Self::of_file(head, None)
    }

    /// The format of a file with these first bytes, and with this length if it is known.
    pub(super) fn of_file(head: &[u8], bytes: Option<u64>) -> Self {
        if let Some((_, format)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
            return *format;
        }
        if head.starts_with(b"\x7fELF") {
            // e_type is at offset 16 in both classes; EI_DATA at offset 5 is the byte order.
            let low = if head.get(5) == Some(&2) { 17 } else { 16 };
            let kind = head.get(low).map(|kind| u16::from(*kind));
            return if kind == Some(ET_CORE) { Self::ElfCore } else { Self::Elf };
        }
        if let Some(foreign) = foreign::of(head, bytes) {
            return Self::Foreign(foreign);
        }
        if is_text(&head[..head.len().min(FORMAT_HEAD_BYTES)]) { Self::Text } else { Self::Raw }
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
            Self::Qemu => "a QEMU migration stream".into(),
            Self::Libvirt => "a save image of libvirt".into(),
            Self::Vmware => "the state of a VMware machine".into(),
            Self::XenSave => "a save of Xen".into(),
            Self::Foreign(foreign) => foreign.name.into(),
            Self::Text => "text".into(),
        }
    }

    /// Whether the memory never changes because a file of this format is a snapshot. Raw memory may
    /// be a snapshot or live.
    pub const fn is_still(self) -> bool {
        !matches!(self, Self::Raw)
    }

    /// Whether all of the memory is of one moment: the machine stood still while its state was
    /// saved. Other formats are also those of copies of a machine that ran.
    pub const fn is_of_one_moment(self) -> bool {
        use DetectedFormat::{Libvirt, Qemu, Recorded, Vmware, XenSave};
        matches!(self, Recorded | Qemu | Libvirt | Vmware | XenSave)
    }

    /// What the user should do instead of giving this file.
    pub(super) fn advice(self, path: &Path) -> String {
        match self {
            Self::Foreign(foreign) => foreign.advice_for(path),
            Self::Elf => "it is a kernel or a program; give the memory of the machine".into(),
            _ => "give the memory of the machine".into(),
        }
    }
}

/// Whether all bytes are printable, blank or above ASCII, with at least one line break; also in
/// UTF-16 behind its mark.
fn is_text(head: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x80..);
    let units = |of: fn([u8; 2]) -> u16| -> Vec<u8> {
        // Letters outside of ASCII count as printable.
        let units = head.as_chunks::<2>().0.iter().skip(1);
        units.map(|unit| u8::try_from(of(*unit)).unwrap_or(0xff)).collect()
    };
    let bytes = match head {
        [0xff, 0xfe, ..] => &*units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => &*units(u16::from_be_bytes),
        _ => head,
    };
    // Test memory repeats one byte; text has lines.
    bytes.contains(&b'\n') && bytes.iter().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_from_their_first_bytes() {
        let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0>\0".to_vec();
        assert_eq!(DetectedFormat::of(&core), DetectedFormat::ElfCore);
        core[16] = 3;
        assert_eq!(DetectedFormat::of(&core), DetectedFormat::Elf);
        assert_eq!(
            DetectedFormat::of(b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0\0\x04"),
            DetectedFormat::ElfCore
        );
        assert_eq!(DetectedFormat::of(b"\x7fELF"), DetectedFormat::Elf);
        assert_eq!(DetectedFormat::of(b"EMiL\x01\0\0\0"), DetectedFormat::Lime);
        assert_eq!(DetectedFormat::of(b"KDUMP   \x06\0\0\0"), DetectedFormat::Kdump);
        assert_eq!(DetectedFormat::of(b"makedumpfile\0\0\0\0"), DetectedFormat::Kdump);
        assert_eq!(DetectedFormat::of(b"QEVM\0\0\0\x03"), DetectedFormat::Qemu);
        assert_eq!(DetectedFormat::of(b"LibvirtQemudSave\x02"), DetectedFormat::Libvirt);
        assert_eq!(DetectedFormat::of(b"QFI\xfb\0\0\0\x03").name(), "a disk image (qcow2)");
        assert_eq!(DetectedFormat::of(b"\x1f\x8b\x08\0").name(), "compressed with gzip");
        assert_eq!(
            DetectedFormat::of(b"QEVM\0\0\0\x02").name(),
            "a QEMU stream of the obsolete version 2"
        );
        assert_eq!(
            DetectedFormat::of("service:\n  log_level: 50 # ä\n".as_bytes()),
            DetectedFormat::Text
        );
        let wide = "\u{feff}a: ä\r\n".encode_utf16().flat_map(u16::to_le_bytes);
        assert_eq!(DetectedFormat::of(&wide.collect::<Vec<_>>()), DetectedFormat::Text);
        assert_eq!(DetectedFormat::of(b"\xff\xfe\x0a\0\x01\0"), DetectedFormat::Raw);
        assert_eq!(DetectedFormat::of(b"\xd0\xbe\xd0\xbe\x08\0\0\0"), DetectedFormat::Vmware);
        assert_eq!(DetectedFormat::of(b"QFI\xfb\0\0\0\x01").name(), "a disk image (qcow)");
        assert_eq!(DetectedFormat::of(&image::MAGIC), DetectedFormat::Recorded);
    }

    // A guest's memory follows the header: marks in it must not win over the header.
    #[test]
    fn the_header_of_a_dump_wins_over_marks_behind_it() {
        let mut head = vec![0; 4096];
        head[..8].copy_from_slice(b"EMiL\x01\0\0\0");
        head[0x38..0x3c].copy_from_slice(b"ARM\x64");
        head[257..262].copy_from_slice(b"ustar");
        assert_eq!(DetectedFormat::of(&head), DetectedFormat::Lime);
        head[0] = 0;
        assert_eq!(DetectedFormat::of(&head).name(), "a kernel of arm64 (Image)");
    }

    #[test]
    fn anything_else_is_raw() {
        assert_eq!(DetectedFormat::of(&[]), DetectedFormat::Raw);
        assert_eq!(DetectedFormat::of(&[0; 4096]), DetectedFormat::Raw);
        // A BIOS's vectors.
        assert_eq!(DetectedFormat::of(b"\x53\xff\x00\xf0\x53\xff\x00\xf0"), DetectedFormat::Raw);
        assert_eq!(DetectedFormat::of(&[b'A'; 4096]), DetectedFormat::Raw);
    }
}

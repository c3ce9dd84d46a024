//! Bootable kernels: unpacks the kernel in a `vmlinuz`.
//!
//! For: x86's bzImage (Documentation/arch/x86/boot.rst), arm64's Image
//! (Documentation/arch/arm64/booting.rst) and the self-extracting EFI image
//! (drivers/firmware/efi/libstub/zboot-header.S). The result is an ELF file on x86, the plain image
//! on arm64.

use std::io::Read as _;

use panoptes_decoders::layout::u32_at;
use panoptes_unpack::Compression;

use super::ImportError;

/// Maximum size of an unpacked kernel in bytes: generic ones have 50 to 80 MB.
pub(crate) const IMAGE_BYTES_MAX: u64 = 512 << 20;

/// Maximum number of nested formats that are opened: an Image in gzip has two.
const LAYERS_MAX: u32 = 3;

/// The content of a bootable file.
#[derive(Debug)]
pub(crate) enum Kernel {
    Elf(Vec<u8>),
    /// arm64's Image, as in memory from `_text` on, without the parts that are zero at the start.
    Image(Vec<u8>),
    /// JSON that was compressed like a kernel.
    Json(Vec<u8>),
}

/// Whether [`open`] accepts a file with this beginning.
pub(crate) fn is_bootable(beginning: &[u8]) -> bool {
    beginning.starts_with(b"MZ") || is_arm64_image(beginning)
}

/// Unpacks the kernel in the bytes of a bootable file.
pub(crate) fn open(file: Vec<u8>) -> Result<Kernel, ImportError> {
    let mut bytes = file;
    for _ in 0..LAYERS_MAX {
        if bytes.starts_with(b"\x7fELF") {
            return Ok(Kernel::Elf(bytes));
        }
        if is_arm64_image(&bytes) {
            return Ok(Kernel::Image(bytes));
        }
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Ok(Kernel::Json(bytes));
        }
        let payload = if bytes.get(0x202..0x206) == Some(b"HdrS") {
            bz_image_payload(&bytes)
        } else if bytes.get(4..8) == Some(b"zimg") {
            // Offset and size of the payload.
            slice(&bytes, u32_at(&bytes, 8) as usize, u32_at(&bytes, 12) as usize)
        } else {
            Some(bytes.as_slice())
        };
        let payload = payload.ok_or(ImportError::Image("its payload does not lie in the file"))?;
        bytes = unpack(payload, IMAGE_BYTES_MAX)?
            .ok_or(ImportError::Image("its kernel has an unknown compression"))?;
    }
    Err(ImportError::Image("it is packed too many times over"))
}

/// Unpacks all of `bytes` to at most `bytes_max`; `None` if their format is unknown. Data after the
/// compressed data is ignored.
fn unpack(bytes: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, ImportError> {
    let Some(way) = Compression::of(bytes) else { return Ok(None) };
    let mut unpacked = Vec::new();
    let read = way
        .reader(bytes)
        .and_then(|reader| reader.take(bytes_max + 1).read_to_end(&mut unpacked))
        .map_err(|error| ImportError::Compressed(error.to_string()))?;
    if read as u64 > bytes_max {
        return Err(ImportError::TooLarge { what: "the compressed image", bytes_max });
    }
    Ok(Some(unpacked))
}

/// Always "ARM\x64" at 0x38; begins with `MZ` if it is an EFI program, too.
fn is_arm64_image(bytes: &[u8]) -> bool {
    bytes.get(0x38..0x3c) == Some(b"ARM\x64")
}

/// The compressed kernel, by `setup_sects`, `payload_offset` and `payload_length` of the boot
/// protocol 2.08 and later.
fn bz_image_payload(bytes: &[u8]) -> Option<&[u8]> {
    let version = u16::from_le_bytes([*bytes.get(0x206)?, *bytes.get(0x207)?]);
    if version < 0x208 {
        return None;
    }
    // Zero means four (boot.rst).
    let sectors = match *bytes.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let offset = (u32_at(bytes, 0x248) as usize).checked_add((sectors + 1) * 512)?;
    slice(bytes, offset, u32_at(bytes, 0x24c) as usize)
}

fn slice(bytes: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        put(&mut bytes, 0, b"MZ");
        bytes[0x1f1] = 1;
        put(&mut bytes, 0x202, b"HdrS\x0f\x02");
        put(&mut bytes, 0x248, &3072_u32.to_le_bytes());
        put(&mut bytes, 0x24c, &(payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn each_kind_is_opened() {
        let elf = b"\x7fELF and so on";
        assert!(matches!(open(bz_image(&gzip(elf))), Ok(Kernel::Elf(found)) if found == elf));

        let mut image = vec![0; 100];
        put(&mut image, 0x38, b"ARM\x64");
        assert!(is_bootable(&image));
        let packed = gzip(&image);
        assert!(matches!(open(packed.clone()), Ok(Kernel::Image(found)) if found == image));
        let mut zboot = vec![0; 512];
        put(&mut zboot, 0, b"MZ\0\0zimg");
        put(&mut zboot, 8, &512_u32.to_le_bytes());
        put(&mut zboot, 12, &(packed.len() as u32).to_le_bytes());
        zboot.extend(packed);
        assert!(matches!(open(zboot), Ok(Kernel::Image(found)) if found == image));
    }

    #[test]
    fn claims_beyond_the_file_are_errors() {
        let mut bytes = bz_image(&gzip(b"\x7fELF"));
        put(&mut bytes, 0x248, &u32::MAX.to_le_bytes());
        assert!(matches!(open(bytes), Err(ImportError::Image(_))));
        assert!(matches!(open(bz_image(b"no such way")), Err(ImportError::Image(_))));
        assert!(matches!(open(b"MZ".to_vec()), Err(ImportError::Image(_))));
    }

    #[test]
    fn too_much_and_damage_are_errors() {
        let packed = gzip(&[0; 5000]);
        assert!(matches!(unpack(&packed, 4999), Err(ImportError::TooLarge { .. })));
        assert!(unpack(&packed, 5000).is_ok());
        assert!(matches!(unpack(&packed[..20], 5000), Err(ImportError::Compressed(_))));
        assert!(unpack(b"plain text", 100).unwrap().is_none());
    }
}

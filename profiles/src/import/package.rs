//! Extracts the kernel from packages of distributions: `.deb` of Debian and Ubuntu, and `.rpm`.
//!
//! Packages are read once from front to back and never held in memory: a package with debug symbols
//! unpacks to gigabytes. Formats: deb(5); the header structure of RPM v3 and v4 packages; cpio
//! "newc".

use std::io::{self, BufReader, Read, Write};

use panoptes_unpack::{AR, Compression};

use super::ImportError;

/// First bytes of an RPM package.
const RPM: &[u8] = &[0xed, 0xab, 0xee, 0xdb];

/// Size of RPM's lead, which only identifies the format.
const RPM_LEAD_BYTES: u64 = 96;

/// Maximum number of members of an archive that are read.
const PACKAGE_MEMBERS_MAX: u32 = 1 << 20;

/// Maximum sizes of an RPM header and of a name in cpio, in bytes.
const HEADER_BYTES_MAX: u64 = 256 << 20;
const PACKAGE_NAME_BYTES_MAX: u64 = 4096;

/// Maximum size of the extracted kernel in bytes.
const KERNEL_BYTES_MAX: u64 = 8 << 30;

pub(super) fn is_package(beginning: &[u8]) -> bool {
    beginning.starts_with(AR) || beginning.starts_with(RPM)
}

/// Extracts the kernel from a package (`vmlinux` or `vmlinuz`, the first one) and returns its path
/// in the package.
pub fn unpack(package: impl Read, out: &mut dyn Write) -> Result<String, ImportError> {
    let mut package = BufReader::with_capacity(1 << 20, package);
    let mut magic = [0; 4];
    package.read_exact(&mut magic)?;
    if magic == RPM { from_rpm(&mut package, out) } else { from_deb(&mut package, out) }
}

/// Whether a path is that of a kernel.
fn is_kernel(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["vmlinux", "vmlinuz"].iter().any(|kernel| {
        name.strip_prefix(kernel).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

fn copy(mut file: impl Read, size: u64, out: &mut dyn Write) -> Result<(), ImportError> {
    if size > KERNEL_BYTES_MAX {
        return Err(ImportError::TooLarge {
            what: "the kernel in it",
            bytes_max: KERNEL_BYTES_MAX,
        });
    }
    if io::copy(&mut (&mut file).take(size), out)? != size {
        return Err(ImportError::Package("it ends within the kernel"));
    }
    Ok(())
}

const NONE: ImportError = ImportError::Package("it holds no vmlinux and no vmlinuz");

/// Reads a `.deb` after its first four bytes.
fn from_deb(package: &mut impl Read, out: &mut dyn Write) -> Result<String, ImportError> {
    const BAD: ImportError = ImportError::Package("it is no ar archive as deb(5) has it");
    let mut rest = [0; 4];
    package.read_exact(&mut rest)?;
    for _ in 0..PACKAGE_MEMBERS_MAX {
        let mut header = [0; 60];
        if package.read_exact(&mut header).is_err() {
            break;
        }
        // Name, times, owner, mode, size in decimal, and an end of two bytes.
        let text = str::from_utf8(&header).map_err(|_| BAD)?;
        let (name, size) = (text.get(..16).ok_or(BAD)?, text.get(48..58).ok_or(BAD)?);
        let size: u64 = size.trim_end().parse().map_err(|_| BAD)?;
        let mut member = package.take(size);
        if name.starts_with("data.tar") {
            return from_tar(&mut member, out);
        }
        io::copy(&mut member, &mut io::sink())?;
        if size % 2 == 1 {
            package.read_exact(&mut [0])?;
        }
    }
    Err(NONE)
}

/// The rest of `input`, unpacked by the compression that its beginning shows.
fn unpacked<'r>(mut input: impl Read + 'r) -> Result<Box<dyn Read + 'r>, ImportError> {
    let mut beginning = [0; 8];
    input.read_exact(&mut beginning)?;
    let whole = io::Cursor::new(beginning).chain(input);
    match Compression::of(&beginning) {
        Some(way) => way
            .reader(BufReader::with_capacity(1 << 17, whole))
            .map_err(|error| ImportError::Compressed(error.to_string())),
        None => Ok(Box::new(whole)),
    }
}

fn from_tar(member: &mut dyn Read, out: &mut dyn Write) -> Result<String, ImportError> {
    let mut archive = tar::Archive::new(unpacked(member)?);
    let damaged = |error: io::Error| ImportError::Compressed(error.to_string());
    // Raw: otherwise names in a member of their own are read completely, however long; no kernel
    // has one.
    for entry in archive.entries().map_err(damaged)?.raw(true).take(PACKAGE_MEMBERS_MAX as usize) {
        let entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_file() && is_kernel(&path) {
            let size = entry.size();
            copy(entry, size, out)?;
            return Ok(path);
        }
    }
    Err(NONE)
}

fn from_rpm(package: &mut impl Read, out: &mut dyn Write) -> Result<String, ImportError> {
    io::copy(&mut package.take(RPM_LEAD_BYTES - 4), &mut io::sink())?;
    // The signatures, padded to eight bytes, then the header.
    let signatures = skip_rpm_header(package)?;
    io::copy(&mut package.take(signatures.next_multiple_of(8) - signatures), &mut io::sink())?;
    skip_rpm_header(package)?;
    from_cpio(&mut *unpacked(package)?, out)
}

/// Skips a header (16 bytes, an index of 16 bytes an entry, and data) and returns its size.
fn skip_rpm_header(package: &mut impl Read) -> Result<u64, ImportError> {
    const BAD: ImportError = ImportError::Package("it has no header as RPM writes it");
    let mut beginning = [0; 16];
    package.read_exact(&mut beginning)?;
    if !beginning.starts_with(&[0x8e, 0xad, 0xe8]) {
        return Err(BAD);
    }
    let number = |at: usize| {
        let bytes = beginning.get(at..).and_then(<[u8]>::first_chunk);
        u64::from(bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes)))
    };
    let rest = number(8) * 16 + number(12);
    if rest > HEADER_BYTES_MAX || io::copy(&mut package.take(rest), &mut io::sink())? != rest {
        return Err(BAD);
    }
    Ok(16 + rest)
}

fn from_cpio(archive: &mut dyn Read, out: &mut dyn Write) -> Result<String, ImportError> {
    const BAD: ImportError = ImportError::Package("its files are no cpio archive of the new form");
    let skip = |archive: &mut dyn Read, bytes: u64| -> Result<(), ImportError> {
        io::copy(&mut archive.take(bytes), &mut io::sink())?;
        Ok(())
    };
    for _ in 0..PACKAGE_MEMBERS_MAX {
        let mut header = [0; 110];
        archive.read_exact(&mut header)?;
        let text = str::from_utf8(&header).map_err(|_| BAD)?;
        if !text.starts_with("070701") && !text.starts_with("070702") {
            return Err(BAD);
        }
        // Thirteen numbers of eight hexadecimal digits; mode, size and length of the name are among
        // them.
        let number = |index: usize| {
            let digits = text.get(6 + index * 8..14 + index * 8).ok_or(BAD)?;
            u64::from_str_radix(digits, 16).map_err(|_| BAD)
        };
        let (mode, size, name_bytes) = (number(1)?, number(6)?, number(11)?);
        if name_bytes > PACKAGE_NAME_BYTES_MAX {
            return Err(BAD);
        }
        let mut name = vec![0; name_bytes as usize];
        archive.read_exact(&mut name)?;
        skip(archive, (110 + name_bytes).next_multiple_of(4) - (110 + name_bytes))?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(&name)).into_owned();
        if name == "TRAILER!!!" {
            return Err(NONE);
        }
        // A regular file (`S_IFREG`).
        if mode & 0o170_000 == 0o100_000 && size > 0 && is_kernel(&name) {
            copy(&mut *archive, size, out)?;
            return Ok(name);
        }
        skip(archive, size.next_multiple_of(4))?;
    }
    Err(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        let data = tar.into_inner().unwrap();
        let mut bytes = AR.to_vec();
        for (name, content) in [("debian-binary", &b"2.0"[..]), ("data.tar", &data)] {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 0, content.len())
                    .bytes(),
            );
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    fn rpm(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = RPM.to_vec();
        bytes.resize(96, 0);
        for data in [5_u32, 8] {
            bytes.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
            bytes.extend(data.to_be_bytes());
            bytes.resize((bytes.len() + 16 + data as usize).next_multiple_of(8), 0);
        }
        for (name, content) in files.iter().chain(&[("TRAILER!!!", &b""[..])]) {
            let at = bytes.len();
            bytes.extend(b"070701");
            for (index, number) in
                [1, 0o100_644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0]
                    .into_iter()
                    .enumerate()
            {
                assert!(index < 13);
                bytes.extend(format!("{number:08x}").bytes());
            }
            bytes.extend(name.bytes());
            bytes.push(0);
            bytes.resize(at + (bytes.len() - at).next_multiple_of(4), 0);
            bytes.extend(*content);
            bytes.resize(at + (bytes.len() - at).next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_kernel_is_extracted_from_either_package() {
        let files: [(&str, &[u8]); 3] = [
            ("usr/lib/vmlinuxes", b"no"),
            ("boot/vmlinux-6.1", b"the kernel"),
            ("vmlinuz", b"late"),
        ];
        for package in [deb(&files), rpm(&files)] {
            let mut out = Vec::new();
            assert!(is_package(&package));
            assert_eq!(unpack(package.as_slice(), &mut out).unwrap(), "boot/vmlinux-6.1");
            assert_eq!(out, b"the kernel");
            // A truncated package yields an error, or the complete kernel.
            for length in 0..package.len() {
                let mut out = Vec::new();
                let cut = unpack(&package[..length], &mut out);
                assert!(cut.is_err() || out == b"the kernel", "{length}");
            }
        }
        for package in [deb(&files[..1]), rpm(&files[..1])] {
            assert!(matches!(
                unpack(package.as_slice(), &mut io::sink()),
                Err(ImportError::Package(_))
            ));
        }
    }
}

//! The dump of the node as an ELF core, the one format that Panoptes' peers read.
//!
//! A raw dump does not tell where its memory was, nor where the kernel is. The core has the same
//! bytes behind headers that do: segments with physical addresses, and the kernel's VMCOREINFO.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// The memory below 4 GiB of QEMU's q35, when a machine has more (`LOW_MEMORY` of
/// engine/sources/src/mapped.rs).
const LOW: u64 = 2 << 30;
const HIGH_START: u64 = 4 << 30;
const PAGE: usize = 4096;
/// Where the memory begins in the core.
const DATA_START: u64 = 1 << 16;
/// The unit of reading, and of holes in the core.
const CHUNK: usize = 1 << 16;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;

/// What VMCOREINFO says about the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Vmcoreinfo(String);

impl Vmcoreinfo {
    /// The text at the start of a page, if it is complete.
    fn in_page(page: &[u8]) -> Option<Self> {
        if !page.starts_with(b"OSRELEASE=") {
            return None;
        }
        let end = page.iter().position(|&byte| byte == 0)?;
        let text = std::str::from_utf8(&page[..end]).ok()?;
        text.contains("\nKERNELOFFSET=").then(|| Self(text.to_owned()))
    }

    /// The release of the kernel.
    pub(super) fn release(&self) -> &str {
        let line = self.0.lines().next().unwrap_or_default();
        line.strip_prefix("OSRELEASE=").unwrap_or(line)
    }
}

/// Finds the VMCOREINFO of a raw dump.
pub(super) fn vmcoreinfo(dump: &Path) -> Result<Vmcoreinfo, String> {
    let mut found = None;
    each_chunk(dump, |_, chunk| {
        found = chunk.chunks(PAGE).find_map(Vmcoreinfo::in_page);
        Ok(found.is_none())
    })?;
    found.ok_or_else(|| format!("{} has no VMCOREINFO", dump.display()))
}

/// Writes the core of a raw dump, unless there is one that is not older.
pub(super) fn make(dump: &Path, vmcoreinfo: &Vmcoreinfo, core: &Path) -> Result<(), String> {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if changed(core).is_some_and(|time| changed(dump).is_some_and(|dumped| time >= dumped)) {
        return Ok(());
    }
    println!("== writing the dump as an ELF core to {}", core.display());
    let part = core.with_extension("part");
    let failed = |e| format!("cannot write {}: {e}", part.display());
    let mut file = File::create(&part).map_err(failed)?;
    let bytes = dump.metadata().map_err(|e| format!("{}: {e}", dump.display()))?.len();
    file.write_all(&headers(&vmcoreinfo.0, bytes)).map_err(failed)?;
    file.set_len(DATA_START + bytes).map_err(failed)?;
    each_chunk(dump, |at, chunk| {
        if chunk.iter().any(|&byte| byte != 0) {
            file.seek(SeekFrom::Start(DATA_START + at)).map_err(failed)?;
            file.write_all(chunk).map_err(failed)?;
        }
        Ok(true)
    })?;
    std::fs::rename(&part, core).map_err(failed)
}

/// Passes a file on, in order and with offsets, until `on_chunk` returns `false`.
fn each_chunk(
    path: &Path,
    mut on_chunk: impl FnMut(u64, &[u8]) -> Result<bool, String>,
) -> Result<(), String> {
    let failed = |e| format!("cannot read {}: {e}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut chunk = vec![0; CHUNK];
    for at in (0..bytes).step_by(CHUNK) {
        let length = (bytes - at).min(CHUNK as u64) as usize;
        file.read_exact(&mut chunk[..length]).map_err(failed)?;
        if !on_chunk(at, &chunk[..length])? {
            break;
        }
    }
    Ok(())
}

/// The headers of a core of this many bytes of memory: the ELF header, those of a note and two
/// segments, and the note.
fn headers(vmcoreinfo: &str, bytes: u64) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend([4_u16, 62].iter().flat_map(|half| half.to_le_bytes())); // ET_CORE, EM_X86_64
    header.extend(1_u32.to_le_bytes());
    header.extend([0, HEADER_BYTES as u64, 0].iter().flat_map(|long| long.to_le_bytes()));
    header.extend(0_u32.to_le_bytes());
    let sizes = [HEADER_BYTES as u16, SEGMENT_BYTES as u16, 3, 0, 0, 0];
    header.extend(sizes.iter().flat_map(|half| half.to_le_bytes()));
    let note = note(vmcoreinfo);
    let note_start = (HEADER_BYTES + 3 * SEGMENT_BYTES) as u64;
    header.extend(segment(PT_NOTE, note_start, 0, note.len() as u64));
    let low = bytes.min(LOW);
    header.extend(segment(PT_LOAD, DATA_START, 0, low));
    header.extend(segment(PT_LOAD, DATA_START + low, HIGH_START, bytes - low));
    header.extend(note);
    header
}

fn segment(kind: u32, offset: u64, physical: u64, bytes: u64) -> Vec<u8> {
    let mut segment = kind.to_le_bytes().to_vec();
    segment.extend(7_u32.to_le_bytes());
    let fields = [offset, 0, physical, bytes, bytes, 0];
    segment.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    segment
}

fn note(text: &str) -> Vec<u8> {
    const NAME: &[u8] = b"VMCOREINFO\0";
    let lengths = [NAME.len() as u32, text.len() as u32, 0];
    let mut note: Vec<u8> = lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
    for part in [NAME, text.as_bytes()] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "OSRELEASE=6.12.1\nPAGESIZE=4096\nKERNELOFFSET=1000\n";

    #[test]
    fn vmcoreinfo_is_a_complete_text_at_the_start_of_a_page() {
        let mut page = TEXT.as_bytes().to_vec();
        assert_eq!(Vmcoreinfo::in_page(&page), None);
        page.push(0);
        let found = Vmcoreinfo::in_page(&page).expect("the page has a text");
        assert_eq!(found.release(), "6.12.1");
        assert_eq!(Vmcoreinfo::in_page(b"OSRELEASE=6.12.1\n\0"), None);
        assert_eq!(Vmcoreinfo::in_page(b"PAGESIZE=4096\nKERNELOFFSET=1\n\0"), None);
    }

    #[test]
    fn headers_fit_before_the_data_and_cover_the_memory() {
        let header = headers(TEXT, 4 << 30);
        assert!((header.len() as u64) < DATA_START);
        let long = |at: usize| {
            let bytes = header[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let [low, high] = [1, 2].map(|index| HEADER_BYTES + index * SEGMENT_BYTES);
        assert_eq!([long(low + 8), long(low + 24), long(low + 32)], [DATA_START, 0, LOW]);
        let expected = [DATA_START + LOW, HIGH_START, 2 << 30];
        assert_eq!([long(high + 8), long(high + 24), long(high + 32)], expected);
        assert_eq!(long(HEADER_BYTES + 8) as usize, HEADER_BYTES + 3 * SEGMENT_BYTES);
    }
}

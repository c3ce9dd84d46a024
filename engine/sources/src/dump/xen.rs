//! Xen: cores of `xl dump-core` ([`read_core`]) and saves of `xl save` ([`read_save`]).
//!
//! A core is an ELF file without program headers (Xen's docs/misc/dump-core-format.txt). Section
//! `.xen_pages` has the pages, `.xen_pfn` the physical page number of each. A paravirtual guest has
//! `.xen_p2m` instead: its page tables hold numbers of the host's pages, so it is refused.
//!
//! A save is a header of xl, records of libxl, and in them records of libxc (docs/specs/
//! libxc-migration-stream.pandoc). Pages stand in groups behind their physical page numbers; the
//! last record of a page counts. The page tables of paravirtual guests hold physical page numbers
//! there.

use panoptes_decoders::layout::{u32_at, u64_at};
use panoptes_decoders::source::PAGE_BYTES;

use super::bytes::DumpBytes;
use super::{DumpProblem, DumpedRange, SEGMENTS_MAX, Segments};

/// Number of page numbers that are read at once.
const BATCH: usize = 1 << 12;
/// Maximum number of sections of a core; it has about eight.
const SECTIONS_MAX: u64 = 1024;
const SECTION_BYTES: usize = 64;
/// Maximum number of pages of a save: 256 GiB of memory, with a gibibyte of numbers.
const PAGES_MAX: usize = 1 << 26;
/// Maximum number of records of each kind.
const RECORDS_MAX: u32 = 1 << 24;
/// Largest record in bytes (tools/libs/guest/xg_sr_stream_format.h: REC_LENGTH_MAX).
const RECORD_BYTES_MAX: u64 = 128 << 20;

/// Physical page numbers have at most 40 bits.
const PAGE_NUMBER_END: u64 = 1 << 40;

const CUT: DumpProblem = DumpProblem::Unsupported(
    "it was cut short, and the list of its pages is at its end: copy it \
                              again",
);

/// Whether an ELF core without program headers is one of Xen's; if so, which memory is where.
pub(super) fn read_core(file: &DumpBytes) -> Result<Segments, DumpProblem> {
    let mut header = [0; 64];
    if !file.read(0, &mut header) {
        return Err(DumpProblem::Headers);
    }
    let half = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (at, size, count, names) = (u64_at(&header, 40), half(58), half(60), half(62));
    if count == 0 || at == 0 {
        return Err(DumpProblem::NoMemory);
    }
    if size != SECTION_BYTES as u64 || count > SECTIONS_MAX || names >= count {
        return Err(DumpProblem::Header("its section headers are impossible"));
    }
    let section = |index: u64| {
        let mut bytes = [0; SECTION_BYTES];
        let at = at.checked_add(index * SECTION_BYTES as u64)?;
        file.read(at, &mut bytes).then_some(bytes)
    };
    let names_at = u64_at(&section(names).ok_or(DumpProblem::Headers)?, 24);
    let (mut pages, mut numbers) = (None, None);
    for index in 0..count {
        let bytes = section(index).ok_or(DumpProblem::Headers)?;
        let mut name = [0; 16];
        let name_at = names_at.checked_add(u32_at(&bytes, 0).into()).ok_or(CUT)?;
        let length = (name.len() as u64).min(file.len().saturating_sub(name_at)) as usize;
        if length == 0 || !file.read(name_at, &mut name[..length]) {
            return Err(CUT);
        }
        let range = (u64_at(&bytes, 24), u64_at(&bytes, 32));
        let is = |wanted: &[u8]| name.starts_with(wanted);
        if is(b".xen_pages\0") {
            pages = Some(range);
        } else if is(b".xen_pfn\0") {
            numbers = Some(range);
        } else if is(b".xen_p2m\0") {
            return Err(DumpProblem::Unsupported(
                "it is of a paravirtual guest, whose page tables have the host's page numbers; \
                 save the guest instead: xl save -c DOMAIN memory.save",
            ));
        }
    }
    let (Some((pages_at, _)), Some((numbers_at, bytes))) = (pages, numbers) else {
        return Err(DumpProblem::NoMemory);
    };
    let runs = page_runs(file, numbers_at, bytes / 8, pages_at)?;
    segments_of(runs, file)
}

/// Pages in the order of their numbers, which are in a table of `count`.
fn page_runs(
    file: &DumpBytes,
    table_at: u64,
    count: u64,
    pages_at: u64,
) -> Result<Runs, DumpProblem> {
    if table_at.checked_add(count * 8).is_none_or(|end| end > file.len()) {
        return Err(CUT);
    }
    let mut runs = Runs::default();
    let mut table = vec![0; BATCH * 8];
    let mut done = 0;
    while done < count {
        let part = (count - done).min(BATCH as u64);
        let table = &mut table[..part as usize * 8];
        if !file.read(table_at + done * 8, table) {
            return Err(CUT);
        }
        for (index, number) in table.as_chunks::<8>().0.iter().enumerate() {
            let offset = (done + index as u64).checked_mul(PAGE_BYTES);
            let offset = offset.and_then(|offset| offset.checked_add(pages_at)).ok_or(CUT)?;
            // No page has the number −1.
            runs.add(u64::from_le_bytes(*number), offset)?;
        }
        done += part;
    }
    Ok(runs)
}

/// Reads which memory is where in a save.
pub(crate) fn read_save(file: &DumpBytes) -> Result<Segments, DumpProblem> {
    let mut header = [0; 48];
    if !file.read(0, &mut header) {
        return Err(DumpProblem::Headers);
    }
    if u32_at(&header, 32) != 0x0102_0304 {
        return Err(DumpProblem::Unsupported("big-endian machines are not supported"));
    }
    // The second mandatory flag: records as of Xen 4.6.
    if u32_at(&header, 36) & 2 == 0 {
        return Err(DumpProblem::Unsupported(
            "it is of Xen 4.5 or before; restore it, then: xl dump-core DOMAIN memory.core",
        ));
    }
    let mut records = Records { file, at: 48 + u64::from(u32_at(&header, 44)) };
    let mut start = [0; 16];
    records.fill(&mut start)?;
    if !start.starts_with(b"LibxlFmt") || start[15] & 1 != 0 {
        return Err(DumpProblem::Header("it has no stream of libxl"));
    }
    for _ in 0..RECORDS_MAX {
        let record = records.next()?.ok_or(DumpProblem::Headers)?;
        match record.kind {
            libxl::CONTEXT => return read_context(&mut records),
            libxl::END => break,
            _ => {}
        }
    }
    Err(DumpProblem::NoMemory)
}

/// Records of libxl (tools/libs/light/libxl_sr_stream_format.h).
mod libxl {
    pub(super) const END: u32 = 0;
    /// Records of libxc follow.
    pub(super) const CONTEXT: u32 = 1;
}

/// Records of libxc (tools/libs/guest/xg_sr_stream_format.h).
mod libxc {
    pub(super) const END: u32 = 0;
    pub(super) const PAGE_DATA: u32 = 1;
}

/// Reads the stream of libxc.
fn read_context(records: &mut Records<'_>) -> Result<Segments, DumpProblem> {
    let mut header = [0; 24 + 16];
    records.fill(&mut header)?;
    if !header.starts_with(b"\xff\xff\xff\xff\xff\xff\xff\xffXENF") || header[17] & 1 != 0 {
        return Err(DumpProblem::Header("it has no stream of libxc"));
    }
    if u32_at(&header, 28) & 0xffff != 12 {
        return Err(DumpProblem::Unsupported("its pages have no 4 KiB"));
    }
    let mut latest: Vec<(u64, u64)> = Vec::new();
    let mut is_whole = false;
    for _ in 0..RECORDS_MAX {
        let Some(record) = records.next()? else { break };
        match record.kind {
            libxc::END => {
                is_whole = true;
                break;
            }
            libxc::PAGE_DATA => read_pages(records.file, record, &mut latest)?,
            _ => {}
        }
    }
    // The last record of a page counts; the sort keeps the order of those of one page.
    latest.sort_by_key(|page| page.0);
    let mut runs = Runs::default();
    for (index, &(number, offset)) in latest.iter().enumerate() {
        if latest.get(index + 1).is_none_or(|next| next.0 != number) && offset != GONE {
            runs.add(number, offset)?;
        }
    }
    let (segments, regions, mut lacks) = segments_of(runs, records.file)?;
    lacks.unfinished = !is_whole;
    Ok((segments, regions, lacks))
}

/// Offset of a page that is not in the file.
const GONE: u64 = u64::MAX;

fn read_pages(
    file: &DumpBytes,
    record: XenRecord,
    latest: &mut Vec<(u64, u64)>,
) -> Result<(), DumpProblem> {
    const WRONG: DumpProblem = DumpProblem::Header("a record of pages is impossible");
    let mut count = [0; 8];
    if record.bytes < 8 || !file.read(record.at, &mut count) {
        return Ok(()); // cut short
    }
    let count = u64::from(u32_at(&count, 0));
    let table_bytes = count * 8;
    if count == 0 || 8 + table_bytes > record.bytes {
        return Err(WRONG);
    }
    let mut table = vec![0; table_bytes as usize];
    if !file.read(record.at + 8, &mut table) {
        return Ok(());
    }
    let end = record.at + record.bytes;
    let mut offset = record.at + 8 + table_bytes;
    for entry in table.as_chunks::<8>().0 {
        let entry = u64::from_le_bytes(*entry);
        let number = entry & ((1 << 52) - 1);
        if latest.len() >= PAGES_MAX {
            return Err(DumpProblem::TooLarge("pages"));
        }
        // XEN_DOMCTL_PFINFO_BROKEN, XALLOC and XTAB have no page.
        if entry >> 60 >= 0xd {
            latest.push((number, GONE));
            continue;
        }
        if offset + PAGE_BYTES > end {
            return Err(WRONG);
        }
        latest.push((number, offset));
        offset += PAGE_BYTES;
    }
    Ok(())
}

/// A record of libxl or libxc.
#[derive(Clone, Copy, Debug)]
struct XenRecord {
    kind: u32,
    at: u64,
    bytes: u64,
}

struct Records<'f> {
    file: &'f DumpBytes,
    at: u64,
}

impl Records<'_> {
    fn fill(&mut self, target: &mut [u8]) -> Result<(), DumpProblem> {
        if !self.file.read(self.at, target) {
            return Err(DumpProblem::Headers);
        }
        self.at += target.len() as u64;
        Ok(())
    }

    /// The next record; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<XenRecord>, DumpProblem> {
        let mut header = [0; 8];
        if !self.file.read(self.at, &mut header) {
            return Ok(None);
        }
        let bytes = u64::from(u32_at(&header, 4));
        if bytes > RECORD_BYTES_MAX {
            return Err(DumpProblem::Header("a record is too long"));
        }
        let record = XenRecord { kind: u32_at(&header, 0), at: self.at + 8, bytes };
        self.at += 8 + bytes.next_multiple_of(8);
        Ok(Some(record))
    }
}

/// Pages with consecutive numbers at consecutive offsets.
#[derive(Debug, Default)]
struct Runs(Vec<DumpedRange>);

impl Runs {
    fn add(&mut self, number: u64, offset: u64) -> Result<(), DumpProblem> {
        if number >= PAGE_NUMBER_END {
            return Ok(());
        }
        let start = number * PAGE_BYTES;
        if let Some(last) = self.0.last_mut()
            && last.start + last.bytes == start
            && last.offset + last.bytes == offset
        {
            last.bytes += PAGE_BYTES;
            last.filed = last.bytes;
            return Ok(());
        }
        if self.0.len() >= SEGMENTS_MAX {
            return Err(DumpProblem::TooLarge("pieces of memory"));
        }
        self.0.push(DumpedRange { start, bytes: PAGE_BYTES, offset, filed: PAGE_BYTES });
        Ok(())
    }
}

fn segments_of(runs: Runs, file: &DumpBytes) -> Result<Segments, DumpProblem> {
    let (segments, regions, lacks) = super::segments(runs.0, file.len());
    if segments.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    Ok((segments, regions, lacks))
}

#[cfg(test)]
pub(super) mod testing {
    //! Encoders, as Xen's documents describe the formats.

    use super::super::testing::page;

    /// Page numbers of the core: a hole, and one that is none.
    pub(in super::super) const NUMBERS: [u64; 5] = [0, 1, 2, u64::MAX, 0x10_0000];

    /// A core of five pages.
    pub(in super::super) fn core(paravirtual: bool) -> Vec<u8> {
        let table = if paravirtual { ".xen_p2m" } else { ".xen_pfn" };
        let names = format!("\0.shstrtab\0.note.Xen\0.xen_pages\0{table}\0");
        let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        core.extend([0; 16]);
        core.extend(64_u64.to_le_bytes());
        core.extend([0; 4]);
        for half in [64_u16, 0, 0, 64, 5, 1] {
            core.extend(half.to_le_bytes());
        }
        let pages_at = 8192_u64;
        let table_at = pages_at + 5 * 4096;
        let names_at = table_at + 5 * 8;
        let sections = [
            ("", 0, 0),
            (".shstrtab", names_at, names.len() as u64),
            (".note.Xen", 64 + 5 * 64, 16),
            (".xen_pages", pages_at, 5 * 4096),
            (table, table_at, 5 * 8),
        ];
        for (name, at, bytes) in sections {
            let name_at = names.find(&format!("{name}\0")).unwrap() as u32;
            core.extend(name_at.to_le_bytes());
            core.extend([0; 20]);
            core.extend(u64::to_le_bytes(at));
            core.extend(u64::to_le_bytes(bytes));
            core.extend([0; 24]);
        }
        core.resize(8192, 0);
        (0..5).for_each(|number| core.extend(page(number)));
        core.extend(NUMBERS.iter().flat_map(|number| number.to_le_bytes()));
        core.extend(names.as_bytes());
        core
    }

    fn record(save: &mut Vec<u8>, kind: u32, body: &[u8]) {
        save.extend(kind.to_le_bytes());
        save.extend((body.len() as u32).to_le_bytes());
        save.extend(body);
        save.resize(save.len().next_multiple_of(8), 0);
    }

    fn page_data(numbers: &[u64], pages: &[Vec<u8>]) -> Vec<u8> {
        let mut body = (numbers.len() as u32).to_le_bytes().to_vec();
        body.extend([0; 4]);
        body.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        body.extend(pages.iter().flatten());
        body
    }

    /// A save: pages 3 and 4, then page 4 again, and page 9, which is taken back.
    pub(in super::super) fn save(flags: u32) -> Vec<u8> {
        let mut save = b"Xen saved domain, xl format\n \0 \r".to_vec();
        save.resize(32, 0);
        let config = b"\0\0\0\0{}  ";
        for word in [0x0102_0304, flags, 0, config.len() as u32] {
            save.extend(word.to_le_bytes());
        }
        save.extend(config);
        save.extend(b"LibxlFmt\0\0\0\x02\0\0\0\0");
        record(&mut save, 1, b"");
        save.extend(b"\xff\xff\xff\xff\xff\xff\xff\xffXENF\0\0\0\x03\0\0\0\0\0\0\0\0");
        save.extend(b"\x02\0\0\0\x0c\0\0\0\x04\0\0\0\x11\0\0\0");
        record(&mut save, 0xc, b"params");
        record(&mut save, 1, &page_data(&[3, 4, 9], &[page(3), page(44), page(9)]));
        record(&mut save, 1, &page_data(&[0xf << 60 | 9, 4], &[page(4)]));
        record(&mut save, 0, b"");
        save
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use panoptes_decoders::address::PhysicalAddress;
    use panoptes_decoders::source::MemorySource as _;

    use super::super::testing::page;
    use super::testing::{core, save};
    use crate::{DetectedFormat, FileSource, Lacks, SourceError};

    fn open(bytes: &[u8]) -> Result<FileSource, SourceError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        FileSource::open(&file.into_temp_path())
    }

    #[track_caller]
    fn check(source: &mut FileSource, address: u64, number: Option<u64>) {
        let mut bytes = [0; 4096];
        let is_there = source.read_exact(PhysicalAddress(address), &mut bytes);
        assert_eq!(is_there, number.is_some(), "{address:#x}");
        if let Some(number) = number {
            assert!(bytes == *page(number), "{address:#x}");
        }
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], words: &str) {
        let error = open(bytes).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn cores_of_guests_with_their_own_page_tables_are_read() {
        let mut source = open(&core(false)).unwrap();
        assert_eq!((source.format(), source.lacks()), (DetectedFormat::ElfCore, Lacks::default()));
        assert_eq!(source.regions(), [0..0x3000, 0x1_0000_0000..0x1_0000_1000]);
        check(&mut source, 0x2000, Some(2));
        check(&mut source, 0x3000, None);
        check(&mut source, 0x1_0000_0000, Some(4));
    }

    #[test]
    fn other_cores_are_refused_by_their_reason() {
        check_refused(&core(true), "paravirtual guest");
        let core = core(false);
        check_refused(&core[..20_000], "it was cut short, and the list of its pages");
        check_refused(&core[..60], "ends before its headers");
    }

    #[test]
    fn saves_are_read_and_the_last_record_of_a_page_counts() {
        let save = save(2);
        let mut source = open(&save).unwrap();
        assert_eq!((source.format(), source.lacks()), (DetectedFormat::XenSave, Lacks::default()));
        check(&mut source, 0x3000, Some(3));
        check(&mut source, 0x4000, Some(4));
        check(&mut source, 0x9000, None);
        let mut cut = open(&save[..save.len() - 5000]).unwrap();
        assert!(cut.lacks().unfinished);
        check(&mut cut, 0x3000, Some(3));
    }

    #[test]
    fn saves_of_old_versions_are_refused() {
        check_refused(&save(1), "Xen 4.5 or before");
        check_refused(&save(2)[..60], "ends before its headers");
        let mut big = save(2);
        big[32..36].reverse();
        check_refused(&big, "big-endian");
    }
}

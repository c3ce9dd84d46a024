//! Says what a raw file without a kernel may be: a copy that was cut short, or no memory.

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource as _, PAGE_BYTES};
use panoptes_engine::system::AttachError;
use panoptes_profiles::DiscoveryError;
use panoptes_sources::{AnySource, DetectedFormat};

use crate::config::{System, SystemAddress};
use crate::exit::Failure;

/// Bytes that are read at a time: a page.
const SAMPLE_BYTES: usize = PAGE_BYTES as usize;

/// Maximum number of pages that are read, spread over the whole file.
const PAGES_MAX: u64 = 4096;

/// The lowest beginning of the hole in the memory of x86-64 machines, and its largest size: QEMU's
/// `pc` puts at most 3.5 GiB below 4 GiB, and at least 2 GiB.
const HOLE_BEGIN_MIN: u64 = 2 << 30;
const HOLE_BYTES_MAX: u64 = 2 << 30;

/// A page of random bytes has nearly all values, and none of them often: of 4096 bytes, each value
/// occurs 16 times on average.
const RANDOM_VALUES_MIN: usize = 250;
const RANDOM_COUNT_MAX: u32 = 64;

/// Adds to a failure what a raw file may be instead of memory. `end` is where the file ended before
/// its ranges were moved.
pub(super) fn add(
    failure: Failure,
    error: &AttachError,
    source: &mut AnySource,
    end: u64,
    system: &System,
) -> Failure {
    if let AttachError::NoKernel(error) = error
        && let Some(reason) = reason(error, source, end)
    {
        return failure.with(&reason);
    }
    let (AnySource::File(source), SystemAddress::File(path)) = (source, &system.address) else {
        return failure;
    };
    match source.doubt() {
        Some(foreign) => {
            let (name, advice) = (foreign.name, foreign.advice_for(path));
            failure.with(&format!("the file may be {name}; if so, {advice}"))
        }
        None if source.lacks_gaps() => failure.with(
            "if the file is LiME's format=raw, give a copy of the machine's /proc/iomem as \
             default.memory_regions_path, or dump with format=lime",
        ),
        None => failure,
    }
}

/// A fault of a copy that its content shows.
fn reason(error: &DiscoveryError, source: &mut AnySource, end: u64) -> Option<String> {
    let AnySource::File(file) = &*source else { return None };
    if file.format() != DetectedFormat::Raw || !source.is_still() {
        return None;
    }
    // Memory above a hole is earlier in the file than its addresses say.
    let hole = if end > HOLE_BEGIN_MIN { HOLE_BYTES_MAX } else { 0 };
    let is_behind = |tables: &PhysicalAddress| tables.0 >= end.saturating_add(hole);
    if let Some(tables) = error.unread_tables().filter(is_behind) {
        return Some(format!(
            "the kernel's page tables are at {tables}, and the file ends at {end:#x}: the copy was \
             cut short; copy it again"
        ));
    }
    if error.attempts().count != 0 {
        return None;
    }
    match content(source, end) {
        RawFileContent::Zeros => {
            Some("it holds only zeros: nothing was copied; dump again".to_owned())
        }
        RawFileContent::Random => Some("it looks compressed or encrypted".to_owned()),
        RawFileContent::Other => None,
    }
}

/// What a file's pages hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RawFileContent {
    Zeros,
    Random,
    Other,
}

/// Reads some of the pages up to an address.
fn content(source: &mut AnySource, end: u64) -> RawFileContent {
    let pages = end / SAMPLE_BYTES as u64;
    let step = pages.div_ceil(PAGES_MAX).max(1);
    let (mut read, mut zeros, mut random) = (0_u64, 0_u64, 0_u64);
    let mut page = [0; SAMPLE_BYTES];
    for index in (0..pages).step_by(step as usize) {
        if !source.read_exact(PhysicalAddress(index * SAMPLE_BYTES as u64), &mut page) {
            continue;
        }
        read += 1;
        zeros += u64::from(page.iter().all(|&byte| byte == 0));
        random += u64::from(is_random(&page));
    }
    if read > 0 && zeros == read {
        RawFileContent::Zeros
    } else if random > 0 && random * 10 >= read * 9 {
        RawFileContent::Random
    } else {
        RawFileContent::Other
    }
}

/// Whether each value is about as frequent as the others.
fn is_random(page: &[u8; SAMPLE_BYTES]) -> bool {
    let mut counts = [0_u32; 256];
    for &byte in page {
        counts[usize::from(byte)] += 1;
    }
    let values = counts.iter().filter(|&&count| count > 0).count();
    values >= RANDOM_VALUES_MIN && counts.iter().all(|&count| count <= RANDOM_COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 (Steele, Lea and Flood), from a fixed seed.
    fn random_page() -> [u8; SAMPLE_BYTES] {
        let mut page = [0; SAMPLE_BYTES];
        let mut state = 7_u64;
        for word in page.as_chunks_mut::<8>().0 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word = (mixed ^ (mixed >> 31)).to_le_bytes();
        }
        page
    }

    #[test]
    fn random_bytes_are_no_memory() {
        assert!(is_random(&random_page()));
        assert!(!is_random(&[0; SAMPLE_BYTES]));
        // Every value as often as the others, but each byte of a page table has few.
        let mut half = random_page();
        half[..SAMPLE_BYTES / 2].fill(0x63);
        assert!(!is_random(&half));
    }

    fn content_of(pages: &[[u8; SAMPLE_BYTES]]) -> RawFileContent {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pages.as_flattened()).unwrap();
        let source = panoptes_sources::FileSource::open(file.path()).unwrap();
        content(&mut AnySource::File(Box::new(source)), (pages.len() * SAMPLE_BYTES) as u64)
    }

    #[test]
    fn the_content_of_a_file_tells_what_it_is() {
        let zeros = [0; SAMPLE_BYTES];
        assert_eq!(content_of(&[zeros, zeros]), RawFileContent::Zeros);
        assert_eq!(content_of(&[random_page(), random_page()]), RawFileContent::Random);
        assert_eq!(content_of(&[random_page(), zeros]), RawFileContent::Other);
    }
}

//! Pages of zeros in a copy of memory: what the tool that made it could not read.
//!
//! A page with a structure of the kernel, or with a program's arguments, is never all zeros while a
//! machine runs: other objects, the environment and the file name of the program are in it, too.

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest};
use panoptes_tables::room;

/// Number of pages that are remembered as not blank.
const KNOWN_MAX: usize = 512;

/// Finds out whether pages are blank.
#[derive(Debug, Default)]
pub(super) struct Blanks {
    /// Whether blank pages are of interest.
    pub is_on: bool,
    /// Bytes of one page.
    page: Box<[u8]>,
    /// Page frames that are not blank, plus one, each at the place of its lowest bits.
    known: Box<[u64]>,
}

impl Blanks {
    pub(super) fn new() -> Self {
        let page = room::copies(0, PAGE_BYTES as usize);
        Self { is_on: false, page, known: room::copies(0, KNOWN_MAX) }
    }

    pub(super) fn forget(&mut self) {
        self.known.fill(0);
    }

    /// Whether some of the bytes that a request was answered with are in a blank page.
    pub(super) fn touch<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        request: &ReadRequest,
        bytes: &[u8],
    ) -> bool {
        let (mut at, mut rest) = (request.address.0, bytes);
        while !rest.is_empty() {
            let left = (PAGE_BYTES - at % PAGE_BYTES) as usize;
            let (piece, behind) = rest.split_at(left.min(rest.len()));
            if piece.iter().all(|&byte| byte == 0) && self.is_blank(source, at / PAGE_BYTES) {
                return true;
            }
            (at, rest) = (at.saturating_add(left as u64), behind);
        }
        false
    }

    fn is_blank<S: MemorySource + ?Sized>(&mut self, source: &mut S, frame: u64) -> bool {
        let place = frame as usize % KNOWN_MAX;
        if self.page.is_empty() {
            return false;
        }
        if self.known.get(place) == Some(&(frame + 1)) {
            return false;
        }
        let address = PhysicalAddress(frame.saturating_mul(PAGE_BYTES));
        let mut request = [ReadRequest::new(address, PAGE_BYTES as u32, 0)];
        source.read_batch(&mut request, &mut self.page);
        let is_blank =
            request[0].outcome == ReadOutcome::Read && self.page.iter().all(|&it| it == 0);
        if !is_blank && let Some(known) = self.known.get_mut(place) {
            *known = frame + 1;
        }
        is_blank
    }
}

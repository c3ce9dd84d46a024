//! Command lines, and the room that each process has for its own.

use core::array::from_fn;
use core::mem;

use panoptes_decoders::address::UserVa;
use panoptes_decoders::paging::KernelSpace;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_records::redact::TEXT_BYTES_MAX;

use super::copied::MemoryCopyMode;
use super::fair_share::divide;
use super::snapshot::MmRow;
use super::tables::Snapshot;
use super::texts;
use super::{ScannedMemory, Walker};
use crate::address::MemoryReader;
use panoptes_tables::Rows;

/// Maximum number of bytes read of a command line.
const LINE_BYTES_MAX: u64 = 16_384;
/// Number of bytes that each command line may have, however many there are.
const LINE_BYTES_MIN: u64 = 128;
/// Bytes that `/proc/PID/cmdline` returns of a title that a process wrote over its arguments
/// (`get_mm_proctitle`, fs/proc/base.c): one page.
const TITLE_BYTES_MAX: u64 = 4096;
const _: () = {
    assert!(LINE_BYTES_MIN <= TITLE_BYTES_MAX && TITLE_BYTES_MAX <= LINE_BYTES_MAX);
    assert!(LINE_BYTES_MAX <= TEXT_BYTES_MAX as u64, "all that is read is searched for secrets");
};
/// Bytes of a pointer, with which the stack ends.
const POINTER_BYTES: usize = 8;
/// Pieces in which a command line is read.
const PIECES: usize = 4;
/// The same of a copy of memory: what follows the environment, too.
const PIECES_OF_COPY: usize = PIECES + 1;

impl Walker {
    /// Sets how long each command line may be. If all are longer than there is room, the room is
    /// divided. Returns what is left for titles that are longer than the arguments.
    fn share_lines(&mut self) -> u64 {
        let Self { snapshot, scratch, .. } = self;
        let room = texts::room_for_lines(&snapshot.bytes);
        let mut all = 0;
        for mm in snapshot.mms.iter_mut().filter(|mm| !mm.arguments.is_empty()) {
            let length = mm.arguments.end - mm.arguments.start;
            mm.line_bytes = length.clamp(LINE_BYTES_MIN, LINE_BYTES_MAX) as u32;
            all += u64::from(mm.line_bytes);
        }
        if all <= room {
            return room - all;
        }
        let mut owned = mem::take(&mut scratch.owned_spaces);
        snapshot.list_spaces(&mut owned);
        owned.retain_mut(|it| {
            it.wanted = u64::from(snapshot.mms[it.row].line_bytes).saturating_sub(LINE_BYTES_MIN);
            snapshot.mms[it.row].line_bytes > 0
        });
        let reserved = LINE_BYTES_MIN * owned.len() as u64;
        divide(room.saturating_sub(reserved), &owned, |row, most| {
            let most = most.saturating_add(LINE_BYTES_MIN);
            let bytes = &mut snapshot.mms[row].line_bytes;
            *bytes = most.min(u64::from(*bytes)) as u32;
        });
        scratch.owned_spaces = owned;
        0
    }

    /// Reads command lines as `/proc/PID/cmdline` does (`get_mm_cmdline`, fs/proc/base.c): the
    /// arguments or, if the process wrote a title over their last NUL, that title up to its NUL.
    pub(super) fn read_command_lines(&mut self, memory: &mut ScannedMemory<'_>) {
        let mut spare = self.share_lines();
        let is_torn = self.snapshot.copied == MemoryCopyMode::PageByPage;
        let count = if is_torn { PIECES_OF_COPY } else { PIECES };
        let mut next = 0;
        while next < self.snapshot.mms.len() {
            let first = next;
            self.reader.clear();
            while let Some(mm) = self.snapshot.mms.get(next) {
                if !push_arguments(&mut self.reader, &memory.kernel.space, mm, is_torn) {
                    break;
                }
                next += 1;
            }
            if self.reader.is_empty() {
                return;
            }
            memory.run(&mut self.reader);
            let Snapshot { mms, bytes, losses, .. } = &mut self.snapshot;
            for (at, mm) in mms.as_mut_slice()[first..next].iter_mut().enumerate() {
                let pieces = from_fn(|piece| self.reader.object(at * count + piece));
                let has_changed = is_torn && has_changed_hands(self.reader.object(at * count + 4));
                let dropped = bytes.dropped;
                let is_resident = !has_changed && take_line(mm, pieces, bytes, &mut spare);
                losses.not_resident += u32::from(!is_resident);
                if bytes.dropped > dropped {
                    self.scratch.shares.refused = mm.process;
                }
            }
        }
    }
}

/// Keeps the command line of an address space, or as much of it as has room; `false` if it is not
/// resident. `spare` is room that nobody needs.
fn take_line(
    mm: &mut MmRow,
    [all, last, title, first_page]: [Option<&[u8]>; PIECES],
    bytes: &mut Rows<u8>,
    spare: &mut u64,
) -> bool {
    if mm.arguments.is_empty() {
        mm.has_command_line = mm.arguments.start == mm.arguments.end;
        return true;
    }
    let is_title = matches!(last, Some(&[byte]) if byte != 0);
    let up_to_nul = |text: &'_ [u8]| {
        let end = text.iter().position(|&byte| byte == 0);
        end.map_or(text.len(), |end| end + 1)
    };
    let whole = if is_title { title.or(all).map(|title| &title[..up_to_nul(title)]) } else { all };
    // Arguments that continue into unmapped memory are read up to there.
    let Some(text) = whole.or(first_page) else { return false };
    let room = u64::from(mm.line_bytes);
    let length = text.len() as u64;
    let kept = length.min(room.saturating_add(*spare));
    *spare = spare.saturating_add(room) - kept;
    let Some(range) = bytes.extend(&text[..kept as usize]) else { return false };
    (mm.command_line, mm.has_command_line) = (range, true);
    // No more of the arguments was read than has room.
    let arguments = mm.arguments.end - mm.arguments.start;
    let wanted = if is_title || whole.is_none() { length } else { arguments };
    // A title may be longer than what is read of it.
    let has_end = !is_title || text.last() == Some(&0) || length == title_limit(mm);
    mm.command_line_cut = whole.is_none() || kept < wanted || !has_end;
    bytes.dropped += u32::from(kept < wanted.min(LINE_BYTES_MAX));
    true
}

/// Whether a page of arguments is another one's by now. A process that forks gets a copy of the
/// page at its next write, and the kernel uses the old one again.
///
/// The program's file name follows the environment, and ends with its NUL and a null pointer at the
/// end of the stack (`bprm_mm_init` and `bprm_execve`, fs/exec.c). `end` is from the environment to
/// the end of its page.
fn has_changed_hands(end: Option<&[u8]>) -> bool {
    let Some(end) = end else { return false };
    let Some((name, nuls)) = end.split_at_checked(end.len().saturating_sub(1 + POINTER_BYTES))
    else {
        return false;
    };
    name.is_empty() || name.contains(&0) || nuls.iter().any(|&byte| byte != 0)
}

/// Number of bytes that a title may take: the arguments, and the environment if it follows them.
fn title_limit(mm: &MmRow) -> u64 {
    let is_adjacent = mm.environment.start == mm.arguments.end;
    let environment = if is_adjacent { mm.environment.end } else { 0 };
    mm.arguments.end.max(environment).saturating_sub(mm.arguments.start)
}

/// Adds the pieces of an address space's command line to the batch; `false` when the batch is full.
fn push_arguments(
    reader: &mut MemoryReader,
    space: &KernelSpace,
    mm: &MmRow,
    is_torn: bool,
) -> bool {
    // The kernel reaches page tables through the direct map.
    let root = space.linear(mm.pgd).unwrap_or_default();
    let valid = !mm.arguments.is_empty() && !root.is_null();
    let length = mm.arguments.end.saturating_sub(mm.arguments.start);
    let title = title_limit(mm).min(TITLE_BYTES_MAX);
    let start = UserVa(mm.arguments.start);
    let pieces = if valid {
        [
            (start, length.min(mm.line_bytes.into())),
            (UserVa(mm.arguments.end - 1), 1),
            (start, title),
            (start, length.min(PAGE_BYTES - start.0 % PAGE_BYTES)),
        ]
    } else {
        [(UserVa(u64::MAX), 1); PIECES]
    };
    // On another page, the end would show nothing of the arguments.
    let end = mm.environment.end;
    let is_near = valid && end / PAGE_BYTES == start.0 / PAGE_BYTES;
    let end = (UserVa(if is_near { end } else { u64::MAX }), PAGE_BYTES - end % PAGE_BYTES);
    let before = reader.len();
    for (address, length) in pieces.into_iter().chain(is_torn.then_some(end)) {
        if reader.push_user(space.levels, root, address, length as u32).is_none() {
            reader.truncate(before);
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_arguments_ends_with_the_name_of_the_program() {
        let end = |name: &str, nuls: usize| [name.as_bytes(), &vec![0; nuls]].concat();
        assert!(!has_changed_hands(None), "it is on another page");
        assert!(!has_changed_hands(Some(&end("/init", 9))));
        for other in [
            end("", 14),
            end("", 9),
            end("/ini\0t", 9),
            end("/init", 10),
            end("/init", 8),
            end("B", 100),
            end("0123456789", 0),
        ] {
            assert!(has_changed_hands(Some(&other)), "{other:?}");
        }
    }

    #[test]
    fn a_title_whose_end_was_not_read_is_cut() {
        let read = TITLE_BYTES_MAX as usize;
        for (environment_end, title, is_cut) in [
            (20_000, [&[b'x'; 100][..], b"\0"].concat(), false),
            (20_000, vec![b'x'; read], true),
            (0x1000 + read as u64, vec![b'x'; read], false),
        ] {
            let arguments = 0x1000..0x1100;
            let environment = 0x1100..environment_end;
            let mut mm = MmRow { arguments, environment, line_bytes: 256, ..MmRow::default() };
            let mut bytes = Rows::with_capacity(2 * read);
            let pieces = [Some(&title[..title.len().min(256)]), Some(b"x"), Some(&title), None];
            assert!(take_line(&mut mm, pieces, &mut bytes, &mut 8192));
            assert_eq!((mm.command_line_cut, bytes.len()), (is_cut, title.len()));
        }
    }
}

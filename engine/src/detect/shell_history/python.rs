//! Python's prompt: which lines of readline's list were typed, and whether the list was cleared.
//!
//! Python adds each line that is not empty and not the same as the one before (`call_readline`,
//! Modules/readline.c of Python 3.5 to 3.14). Its list is readline's, as bash's is. Four things
//! differ:
//!
//! * No counter has the number of typed lines. `history_lines_read_from_file` (histfile.c) has the
//!   number of lines of the last file that was read; all other new entries were typed.
//! * Many entries at once may be the part of a file that was read so far. A second scan must show
//!   that the number of lines that were read is still the same.
//! * Python reads its prompt with readline only from a terminal (`PyOS_Readline`,
//!   Parser/myreadline.c). Without one, a program has filled the list itself.
//! * Programs keep lists for several prompts and change them. So an empty list counts as cleared
//!   only if the prompt is the same as before, and removed entries never count.

use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::inode::mode::S_IFCHR;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::user::bash::is_plausible;
use panoptes_tables::HashKey;

use super::TYPED_MAX;
use super::changes::{HistoryClearing, KEPT_MAX};
use super::memory::ProcessMemory;
use super::words::{ShellGlobal, ShellGlobals};
use crate::path::own_name;
use crate::walk::{FileRow, Index, MmRow, ProcessRow, Snapshot, is_terminal};

/// Beginning of the name of Python's module; the version and the machine follow.
const MODULE: &[u8] = b"readline.cpython-";
/// Beginning of the name of the library that the module uses.
const LIBRARY: &[u8] = b"libreadline.so.";
/// Maximum number of a process's areas that are searched. Libraries that are loaded first are at
/// the highest addresses, so the search begins there.
const AREAS_MAX: usize = 1024;
/// Number of bytes of a prompt that are compared.
const PROMPT_BYTES: u64 = 64;

/// The file of the library readline that a Python uses, and the number of areas that were searched.
/// Any process that has mapped both files counts as a Python.
pub(super) fn library(snapshot: &Snapshot, mm: &MmRow) -> (Option<Index<FileRow>>, u32) {
    let areas = snapshot.vmas.range(mm.vmas);
    let (mut module, mut library) = (false, None);
    for (area, searched) in areas.iter().rev().take(AREAS_MAX).zip(1..) {
        if area.vma.flags & VM_EXEC == 0 || area.vma.file.is_null() {
            continue;
        }
        let file = snapshot.files.at(area.file);
        let Some(name) = file.and_then(|file| own_name(snapshot, file.path)) else { continue };
        module |= name.starts_with(MODULE);
        library = if name.starts_with(LIBRARY) { area.file } else { library };
        if module && library.is_some() {
            return (library, searched);
        }
    }
    (None, areas.len().min(AREAS_MAX) as u32)
}

/// Whether a process has a terminal as its standard input.
pub(super) fn reads_from_terminal(snapshot: &Snapshot, process: &ProcessRow) -> bool {
    let mut rows = process.files.into_iter().flat_map(|table| snapshot.descriptors_of(table));
    let input = rows.next().filter(|row| row.index == 0);
    let file = input.and_then(|row| snapshot.files.at(row.file));
    let inode = file.and_then(|file| snapshot.inodes.at(file.inode));
    let is_its = |it: &Attributes| it.kind() == S_IFCHR && is_terminal(it.rdev);
    inode.is_some_and(|inode| is_its(&inode.attributes))
}

/// A number for the text of the prompt; `None` if there is none yet. Python's own two prompts have
/// the same number, because a statement may take several lines.
pub(super) fn prompt(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    key: HashKey,
) -> Option<u32> {
    let place = words.pointer(ShellGlobal::PROMPT).filter(|&place| is_plausible(place))?;
    memory.clear();
    memory.push_text(place, PROMPT_BYTES);
    memory.run();
    let mut text = [0; PROMPT_BYTES as usize];
    let mut length = 0;
    for piece in [0, 1] {
        let bytes = memory.object(piece).unwrap_or(&[]);
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len())];
        text.get_mut(length..length + bytes.len())?.copy_from_slice(bytes);
        length += bytes.len();
        if end.is_some() {
            break;
        }
    }
    let text = text.get(..length)?;
    Some(if is_own_prompt(text) { 1 } else { key.hash(text) as u32 })
}

/// Whether a prompt is one of Python's own (`sys.ps1`, `sys.ps2`).
fn is_own_prompt(text: &[u8]) -> bool {
    matches!(text, b">>> " | b"... ")
}

/// Number of typed lines in a list that is read first.
pub(super) fn typed_first(length: u32, lines_read: u32) -> usize {
    length.saturating_sub(lines_read) as usize
}

/// How many of `added` new entries were typed, and how many more may have been, by the number of
/// lines read from a file before and now.
pub(super) fn typed(added: usize, before: u32, now: u32) -> (Option<usize>, usize) {
    if before == now {
        return (None, KEPT_MAX);
    }
    (Some(added.saturating_sub(now as usize)), 0)
}

/// Whether new entries may be part of a file that is being read.
pub(super) const fn may_be_read(added: usize) -> bool {
    added > TYPED_MAX
}

/// The clearing of a list that counts, by the prompt (0 if there is none) and by the number of
/// lines read from a file, each before and now.
pub(super) fn cleared(
    how: Option<HistoryClearing>,
    prompt: (u32, u32),
    read: (u32, u32),
) -> Option<HistoryClearing> {
    let is_same = prompt.0 != 0 && prompt.0 == prompt.1 && read.0 == read.1;
    how.filter(|how| matches!(how, HistoryClearing::All { .. }) && is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_were_not_typed() {
        assert_eq!(typed_first(7, 5), 2);
        // A list that is shorter than the file: the file has empty lines.
        assert_eq!(typed_first(3, 5), 0);
        assert_eq!(typed(2, 5, 5), (None, KEPT_MAX));
        // Five lines were read behind the command that reads them, and before it was seen.
        assert_eq!(typed(6, 0, 5), (Some(1), 0));
        assert_eq!(typed(5, 0, 5), (Some(0), 0));
        assert!(may_be_read(TYPED_MAX + 1) && !may_be_read(TYPED_MAX));
    }

    #[test]
    fn only_an_empty_list_at_the_same_prompt_was_cleared() {
        let all = Some(HistoryClearing::All { count: 4 });
        let own = (1, 1);
        assert_eq!(cleared(all, own, (2, 2)), all);
        assert_eq!(cleared(None, own, (2, 2)), None);
        // Another prompt has a list of its own, or reads another file.
        assert_eq!(cleared(all, (7, 1), (2, 2)), None);
        assert_eq!(cleared(all, own, (2, 9)), None);
        assert_eq!(cleared(all, (0, 0), (2, 2)), None);
        // A program takes an answer out of the list.
        let some = Some(HistoryClearing::Some { removed: 2, count: 4 });
        assert_eq!(cleared(some, own, (2, 2)), None);
    }

    #[test]
    fn the_two_prompts_of_python_are_one() {
        assert!(is_own_prompt(b">>> ") && is_own_prompt(b"... "));
        assert!(!is_own_prompt(b"(Cmd) ") && !is_own_prompt(b""));
    }
}

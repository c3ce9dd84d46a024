//! The description of a process, with its names in an arena of strings.
//!
//! Every tracked process has one. A detector that decides later keeps a copy, because the process
//! may have ended by then.
//!
//! Not here: reading a description from a scan ([`ProcessFacts::read`]). [`Described::facts`] is
//! the only way from here to facts.

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::c_string;
use panoptes_tables::{StringId, Strings};

use super::cut_text::CutText;
use super::facts::{ProcessFacts, ProcessNumbers};
use super::keys::ContainerKey;
use crate::page_cache::Hashes;

/// Bytes of the names of a process for which there is always room.
pub(super) const CONTAINER_ID_BYTES: usize = 80;
pub(super) const EXECUTABLE_BYTES: usize = 128;
pub(super) const DIRECTORY_BYTES: usize = 96;
pub(super) const LINE_BYTES: usize = 160;
/// Room for these and for a previous program, each with a header.
pub(super) const PROCESS_BYTES: usize =
    CONTAINER_ID_BYTES + DIRECTORY_BYTES + 2 * (EXECUTABLE_BYTES + LINE_BYTES) + 6 * 8;
/// Bytes of each name of a container for which there is always room.
pub(super) const CONTAINER_NAME_BYTES: usize = 96;
/// Room for its five names, each with a header.
pub(super) const CONTAINER_BYTES: usize = 5 * (CONTAINER_NAME_BYTES + 8);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Described {
    pub(super) process_id: u32,
    pub(super) program: Program,
    pub(super) directory: Option<StringId>,
    pub(super) container: Option<StringId>,
    pub(super) container_key: Option<ContainerKey>,
    pub(super) numbers: ProcessNumbers,
}

/// The program of a process; exec replaces all of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Program {
    pub(super) name: [u8; 16],
    pub(super) self_exec_id: u32,
    pub(super) executable: Option<StringId>,
    pub(super) executable_size: Option<u64>,
    pub(super) executable_hashes: Option<Hashes>,
    pub(super) command_line: Option<StringId>,
    pub(super) command_line_cut: bool,
}

impl Program {
    pub(super) fn new(task: &Task) -> Self {
        Self { name: task.comm, self_exec_id: task.self_exec_id, ..Self::default() }
    }

    /// Releases its names.
    pub(super) fn release(&self, strings: &mut Strings) {
        for id in [self.executable, self.command_line].into_iter().flatten() {
            strings.release(id);
        }
    }
}

impl Described {
    /// A process as the scan shows it first.
    pub(super) fn new(task: &Task) -> Self {
        Self { process_id: task.tgid, program: Program::new(task), ..Self::default() }
    }

    pub(crate) const fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The same of another process.
    #[cfg(test)]
    pub(crate) const fn of_process(self, process_id: u32) -> Self {
        Self { process_id, ..self }
    }

    pub(crate) fn facts<'a>(&'a self, strings: &'a Strings) -> ProcessFacts<'a> {
        let text = |id: Option<StringId>| id.map(|id| strings.get(id));
        let program = &self.program;
        ProcessFacts {
            name: c_string(&program.name),
            process_id: self.process_id,
            self_exec_id: Some(program.self_exec_id),
            executable: text(program.executable),
            executable_size: program.executable_size,
            executable_hashes: program.executable_hashes,
            directory: text(self.directory),
            command_line: text(program.command_line),
            command_line_cut: program.command_line_cut,
            container: text(self.container),
            container_key: self.container_key,
            numbers: self.numbers,
        }
    }

    /// The same description with its names in another arena, to which `intern` adds them. Names
    /// that find no room there are left out.
    pub(crate) fn copy(
        &self,
        from: &Strings,
        mut intern: impl FnMut(&[u8]) -> Option<StringId>,
    ) -> Self {
        let mut copy = |id: Option<StringId>| id.and_then(|id| intern(from.get(id)));
        let program = &self.program;
        let [executable, directory, command_line, container] =
            [program.executable, self.directory, program.command_line, self.container]
                .map(&mut copy);
        Self {
            program: Program { executable, command_line, ..self.program },
            directory,
            container,
            ..*self
        }
    }

    /// Releases its names.
    pub(crate) fn release(&self, strings: &mut Strings) {
        self.program.release(strings);
        for id in [self.directory, self.container].into_iter().flatten() {
            strings.release(id);
        }
    }

    /// Releases and forgets its names, and the rest of its program but the name of that.
    pub(super) fn clear_names(&mut self, strings: &mut Strings) {
        self.release(strings);
        let Program { name, self_exec_id, .. } = self.program;
        self.program = Program { name, self_exec_id, ..Program::default() };
        (self.directory, self.container) = (None, None);
    }
}

/// Sets a name that a process or a container always has: a long one uses the room that all share,
/// and is cut to `cut_bytes` if that is full.
pub(super) fn set_reserved(
    strings: &mut Strings,
    place: &mut Option<StringId>,
    text: &[u8],
    cut_bytes: usize,
) {
    if place.is_some_and(|id| strings.get(id) == text) {
        return;
    }
    let new = if text.len() <= cut_bytes {
        strings.intern_reserved(text)
    } else {
        let whole = strings.intern(text);
        whole.or_else(|| strings.intern_reserved(CutText::new(text, cut_bytes).bytes()))
    };
    if let Some(new) = new
        && let Some(old) = place.replace(new)
    {
        strings.release(old);
    }
}

/// Sets a row's text, unless it is the same.
pub(super) fn set_text(strings: &mut Strings, place: &mut Option<StringId>, text: &[u8]) {
    if place.is_some_and(|id| strings.get(id) == text) {
        return;
    }
    // Intern the new text first: if both share an entry, it must not be freed in between.
    let new = strings.intern(text);
    if let Some(old) = core::mem::replace(place, new) {
        strings.release(old);
    }
}

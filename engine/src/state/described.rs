//! The description of a process, with its names in an arena of strings.
//!
//! Every tracked process has one. A detector that decides later keeps a copy, because the process
//! may have ended by then.
//!
//! Not here: reading a description from a scan ([`ProcessFacts::read`]).
//! [`ProcessDescription::facts`] is the only way from here to facts.

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::c_string;
use panoptes_tables::{CutText, HEADER_BYTES, StringId, StringRoom, Strings};

use super::facts::{ProcessFacts, ProcessNumbers};
use super::keys::{ContainerKey, ProcessKey};
use crate::page_cache::Hashes;
use crate::walk::user;

/// Bytes of the names of a process for which there is always room.
pub(crate) const CONTAINER_ID_BYTES: usize = 80;
pub(super) const EXECUTABLE_BYTES: usize = 128;
pub(super) const DIRECTORY_BYTES: usize = 96;
pub(super) const LINE_BYTES: usize = 160;
/// Room for these and for a previous program, each with a header.
pub(super) const PROCESS_ROOM: StringRoom = StringRoom {
    bytes: CONTAINER_ID_BYTES
        + DIRECTORY_BYTES
        + 2 * (EXECUTABLE_BYTES + LINE_BYTES)
        + 6 * HEADER_BYTES,
    strings: 6,
};
/// Bytes of each name of a container for which there is always room.
pub(super) const CONTAINER_NAME_BYTES: usize = 96;
/// Room for its five names, each with a header.
pub(super) const CONTAINER_ROOM: StringRoom =
    StringRoom { bytes: 5 * (CONTAINER_NAME_BYTES + HEADER_BYTES), strings: 5 };

/// There are several of each process, so nothing leaves a gap.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct ProcessDescription {
    pub(super) key: ProcessKey,
    pub(super) numbers: ProcessNumbers,
    /// Key of its container, if it is in one.
    container_key: ContainerKey,
    pub(super) program: ProgramDescription,
    pub(super) directory: Option<StringId>,
    pub(super) container: Option<StringId>,
    is_contained: bool,
    /// Whether a runtime with root's rights made that container.
    container_is_roots: bool,
    /// Whether it began while contact was lost.
    pub(super) began_unwatched: bool,
    /// Whether it was found only after its end.
    pub(super) was_recovered: bool,
}

// Beside the numbers, which grow with each field of the kernel that is added.
const _: () = assert!(size_of::<ProcessDescription>() == size_of::<ProcessNumbers>() + 144);

/// The program of a process; exec replaces all of it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(4))]
pub(super) struct ProgramDescription {
    pub(super) name: [u8; 16],
    pub(super) self_exec_id: u32,
    pub(super) executable: Option<StringId>,
    /// The size in bytes plus one; 0 if it is not known. No file has 2^63 bytes.
    size_and_one: u64,
    pub(super) executable_hashes: Option<Hashes>,
    pub(super) command_line: Option<StringId>,
    pub(super) command_line_cut: bool,
    /// Whether root alone could have put it where `executable` says.
    pub(super) is_roots: bool,
    /// The same as the process's own mounts and namespaces show it.
    pub(super) is_put_by_root: bool,
}

impl ProgramDescription {
    pub(super) fn new(task: &Task) -> Self {
        Self { name: task.comm, self_exec_id: task.self_exec_id, ..Self::default() }
    }

    pub(super) const fn set_executable_size(&mut self, bytes: u64) {
        self.size_and_one = bytes.saturating_add(1);
    }

    /// Releases its names.
    pub(super) fn release(&self, strings: &mut Strings) {
        for id in [self.executable, self.command_line].into_iter().flatten() {
            strings.release(id);
        }
    }
}

impl ProcessDescription {
    /// A process as the scan shows it first.
    pub(super) fn new(task: &Task) -> Self {
        Self {
            key: ProcessKey::of(task),
            program: ProgramDescription::new(task),
            ..Self::default()
        }
    }

    /// Its container, if it is in one.
    pub(super) fn container_key(&self) -> Option<ContainerKey> {
        self.is_contained.then_some(self.container_key)
    }

    pub(crate) const fn is_contained(&self) -> bool {
        self.is_contained
    }

    /// Sets its container, and whether a runtime with root's rights made that.
    pub(super) fn set_container_key(&mut self, key: Option<ContainerKey>, is_roots: bool) {
        (self.is_contained, self.container_key) = (key.is_some(), key.unwrap_or_default());
        self.container_is_roots = is_roots;
    }

    pub(crate) const fn process_id(&self) -> u32 {
        self.key.process_id
    }

    /// Start of the process, in nanoseconds since boot.
    pub(crate) const fn start_boottime(&self) -> u64 {
        self.key.start_boottime
    }

    /// Returns the owner of the process for the division of room. It is that of
    /// [`crate::walk::Snapshot::group_of`], but needs no scan.
    pub(crate) fn group(&self) -> u64 {
        if self.is_contained && !self.container_key.is_by_user() {
            return 1 << 63 | self.container_key.0;
        }
        let uid = self.numbers.ids.map_or(u32::MAX, |ids| ids.uid);
        user(uid, self.numbers.login_user_id.get()).into()
    }

    /// The same of another process.
    #[cfg(test)]
    pub(crate) const fn of_process(self, process_id: u32) -> Self {
        Self { key: ProcessKey { process_id, ..self.key }, ..self }
    }

    /// The same of a process in a container.
    #[cfg(test)]
    pub(crate) const fn contained(self) -> Self {
        Self { is_contained: true, ..self }
    }

    /// The same of a process that began at this time.
    #[cfg(test)]
    pub(crate) const fn began(self, start_boottime: u64) -> Self {
        Self { key: ProcessKey { start_boottime, ..self.key }, ..self }
    }

    /// The same of a process of another user.
    #[cfg(test)]
    pub(crate) fn of_user(self, uid: u32) -> Self {
        let ids = Some(crate::walk::UserGroupIds { uid, ..Default::default() });
        Self { numbers: ProcessNumbers { ids, ..self.numbers }, ..self }
    }

    pub(crate) fn facts<'a>(&'a self, strings: &'a Strings) -> ProcessFacts<'a> {
        let text = |id: Option<StringId>| id.map(|id| strings.get(id));
        let program = &self.program;
        ProcessFacts {
            name: c_string(&program.name),
            process_id: self.key.process_id,
            start_boottime: self.key.start_boottime,
            self_exec_id: Some(program.self_exec_id),
            executable: text(program.executable),
            executable_stop: None,
            executable_is_roots: program.is_roots,
            executable_size: program.size_and_one.checked_sub(1),
            executable_hashes: program.executable_hashes,
            directory: text(self.directory),
            command_line: text(program.command_line),
            command_line_cut: program.command_line_cut,
            container: text(self.container),
            container_key: self.container_key(),
            container_is_roots: self.container_is_roots,
            began_unwatched: self.began_unwatched,
            was_recovered: self.was_recovered,
            numbers: self.numbers,
        }
    }

    /// The same description with its names in another arena, cut where their room is for `others`.
    /// Names that find no room there are left out.
    pub(crate) fn copy(&self, from: &Strings, into: &mut Strings, others: usize) -> Self {
        let program = &self.program;
        let [executable, directory, container] =
            [program.executable, self.directory, self.container].map(|id| {
                let text = from.get(id?);
                into.intern_leaving(text, others).or_else(|| into.intern_cut(text))
            });
        let line = program.command_line.map(|id| from.get(id)).unwrap_or_default();
        let kept = program.command_line.and_then(|_| {
            into.intern_leaving(line, others).or_else(|| into.intern_beginning(line))
        });
        let is_cut = kept.is_some_and(|id| into.get(id).len() < line.len());
        Self {
            program: ProgramDescription {
                executable,
                command_line: kept,
                command_line_cut: program.command_line_cut || is_cut,
                ..self.program
            },
            directory,
            container,
            ..*self
        }
    }

    /// The same description with each of its names replaced by what `keep` returns for it, and for
    /// the bytes that it may have at most and how it is cut.
    pub(super) fn kept(
        &self,
        mut keep: impl FnMut(StringId, usize, fn(&[u8], usize) -> CutText) -> Option<StringId>,
    ) -> Self {
        let Self {
            program: ProgramDescription { executable, command_line, .. },
            directory,
            container,
            ..
        } = *self;
        let kept_line = command_line.and_then(|id| keep(id, LINE_BYTES, CutText::beginning));
        let is_cut = self.program.command_line_cut || kept_line != command_line;
        Self {
            program: ProgramDescription {
                executable: executable.and_then(|id| keep(id, EXECUTABLE_BYTES, CutText::new)),
                command_line: kept_line,
                command_line_cut: is_cut,
                ..self.program
            },
            directory: directory.and_then(|id| keep(id, DIRECTORY_BYTES, CutText::new)),
            container: container.and_then(|id| keep(id, CONTAINER_ID_BYTES, CutText::new)),
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
        let ProgramDescription { name, self_exec_id, .. } = self.program;
        self.program = ProgramDescription { name, self_exec_id, ..ProgramDescription::default() };
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
    cut: fn(&[u8], usize) -> CutText,
) {
    if place.is_some_and(|id| strings.get(id) == text) {
        return;
    }
    let new = if text.len() <= cut_bytes {
        strings.intern_reserved(text)
    } else {
        let whole = strings.intern(text);
        whole.or_else(|| strings.intern_reserved(cut(text, cut_bytes).bytes()))
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

//! The names of files whose descriptors have closed, as they are now.
//!
//! Many programs write a file beside another one, and rename it when it is complete (`sed -i`,
//! `useradd`, `crontab`, editors). The name that counts is the one after the rename. The inode has
//! a list of its names in memory (`i_dentry`), and a rename moves a name within that list.
//!
//! The names of files that matter are read when their content has changed, and again before the
//! change is reported: a name counts when two consecutive reads gave it, 150 ms apart by the
//! machine's clock. A change waits no longer for that than for its hashes. A file that does not
//! matter by the name that it was opened by, and does by its last one, is found by its path.
//!
//! Where a file has several names, the one that it was opened by stays. A path in memory ends at
//! the root of its filesystem. In the folder of the old name, the path of that folder goes before
//! it. Elsewhere the mounts that process 1 sees lead on, unless the process is in a container.
//!
//! Bounds: the guest may link anything with anything. A scan reads the names of
//! [`FILES_PER_SCAN`] files, of each file [`NAMES_OF_ONE`], and follows each as [`super::paths`]
//! does.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::layout::View;

use super::FileContent;
use super::closing::ClosingStage;
use super::naming::Moment;
use super::paths::{CLIMBS_AT_ONCE, Climb};
use crate::page_cache::MachineMemory;
use crate::time::Now;
use crate::walk::Machine;

/// Maximum number of files whose names are read in one scan. Further ones wait for the next.
const FILES_PER_SCAN: usize = 64;
/// Number of them that are read together, and the names of each.
const FILES_AT_ONCE: usize = 4;
const NAMES_OF_ONE: usize = 4;

const _: () = assert!(FILES_AT_ONCE * NAMES_OF_ONE <= CLIMBS_AT_ONCE);

/// A file whose names are read.
struct LocatedFile {
    /// Its place among the closings.
    closing: usize,
    attributes: Option<Attributes>,
    /// `struct dentry *` of the name that is read next; null at the end of the list.
    next: KernelVa,
    is_changing: bool,
    /// Whether it has further names.
    is_cut: bool,
    names: ArrayVec<KernelVa, NAMES_OF_ONE>,
}

/// Where a file is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a scan allocates nothing, and has four at a time")]
enum FileLocation {
    /// A name just changes: the next scan tells.
    Changes,
    /// Its memory is another file's, or cannot be read.
    Gone,
    /// It has no name any more.
    Deleted,
    /// No name in memory tells.
    Unknown,
    /// It has the path that it was opened by.
    Same,
    Renamed(NewPath),
    /// It has no path that is known.
    Elsewhere,
}

impl FileContent {
    /// Reads the names of files that have changed and matter.
    pub(super) fn read_names(
        &mut self,
        memory: &mut MachineMemory<'_>,
        (now, machine): (Now, &Machine),
    ) {
        let moment = Moment::new(now, machine);
        let mut left = FILES_PER_SCAN;
        let mut at = 0;
        while at < self.closings.len() && left > 0 {
            let mut files: ArrayVec<LocatedFile, FILES_AT_ONCE> = ArrayVec::new();
            while at < self.closings.len() && !files.is_full() {
                let closing = &self.closings[at];
                if closing.needs_name(moment, now) {
                    files.push(LocatedFile::new(at));
                }
                at += 1;
            }
            left = left.saturating_sub(files.len());
            if files.is_empty() {
                break;
            }
            self.read_lists(&mut files, memory);
            let answers = self.resolve(&files, memory);
            for (file, answer) in files.iter().zip(answers) {
                self.apply(file, answer, (now, moment));
            }
        }
    }

    /// Reads the inodes of files, and their lists of names.
    fn read_lists(&mut self, files: &mut [LocatedFile], memory: &mut MachineMemory<'_>) {
        let MachineMemory { source, kernel } = memory;
        let (layouts, space) = (&kernel.layouts, &kernel.space);
        let reader = &mut self.reader;
        reader.clear();
        for file in &*files {
            let inode = self.closings[file.closing].inode;
            reader.push(space, inode, &layouts.inode.packing);
            reader.push(space, inode, &layouts.inode_names.packing);
        }
        reader.run(source, space.levels);
        let link = u64::from(layouts.dentry_alias.next.offset);
        let listed = |first: KernelVa| {
            if first.is_plausible() { first.minus(link) } else { KernelVa::NULL }
        };
        for (at, file) in files.iter_mut().enumerate() {
            let [inode, names] = [2 * at, 2 * at + 1].map(|object| reader.object(object));
            file.attributes = inode.map(|bytes| Attributes::decode(&layouts.inode, bytes));
            let first = names.map(|bytes| View::new(bytes).pointer(layouts.inode_names.first));
            file.next = first.map_or(KernelVa::NULL, listed);
        }
        for _ in 0..NAMES_OF_ONE {
            let has_next = |file: &&mut LocatedFile| !file.next.is_null();
            reader.clear();
            for file in files.iter_mut().filter(has_next) {
                reader.push(space, file.next, &layouts.dentry.packing);
                reader.push(space, file.next, &layouts.dentry_alias.packing);
            }
            if reader.is_empty() {
                return;
            }
            reader.run(source, space.levels);
            for (at, file) in files.iter_mut().filter(has_next).enumerate() {
                let dentry = file.next;
                file.next = KernelVa::NULL;
                let Some(bytes) = reader.object(2 * at) else { continue };
                let (name, _) = DirectoryEntry::decode(&layouts.dentry, dentry, bytes);
                if name.inode != self.closings[file.closing].inode {
                    continue;
                }
                file.is_changing |= name.changing;
                if !name.unlinked {
                    file.names.push(dentry);
                }
                let next = reader.object(2 * at + 1).map(View::new);
                let next = next.map(|view| view.pointer(layouts.dentry_alias.next));
                file.next = next.map_or(KernelVa::NULL, listed);
            }
        }
        for file in files {
            file.is_cut = !file.next.is_null();
        }
    }

    /// Where the files are.
    fn resolve(
        &mut self,
        files: &[LocatedFile],
        memory: &mut MachineMemory<'_>,
    ) -> ArrayVec<FileLocation, FILES_AT_ONCE> {
        let names = files.iter().flat_map(|file| file.names.iter());
        let mut climbs: ArrayVec<Climb, CLIMBS_AT_ONCE> =
            names.map(|&it| Climb::within(it)).collect();
        self.paths.climb(&mut climbs, (&mut self.reader, memory));
        let mut rest = climbs.as_slice();
        let mut answers = ArrayVec::new();
        for file in files {
            let (own, others) = rest.split_at(file.names.len());
            rest = others;
            answers.push(self.answer(file, own, memory));
        }
        answers
    }

    /// Where a file is, by the paths of its names in its filesystem.
    fn answer(
        &mut self,
        file: &LocatedFile,
        within: &[Climb],
        memory: &mut MachineMemory<'_>,
    ) -> FileLocation {
        let closing = &self.closings[file.closing];
        let number = closing.attributes.number;
        let is_it = |is: &Attributes| is.ino == number && is.kind() == mode::S_IFREG;
        let Some(attributes) = file.attributes.filter(is_it) else { return FileLocation::Gone };
        if attributes.nlink == 0 {
            return FileLocation::Deleted;
        }
        if file.is_changing {
            return FileLocation::Changes;
        }
        let opened = OpenedPath::new(closing.name.map_or(&b""[..], |id| self.strings.get(id)));
        if let Some(answer) = opened.in_folder(file, within) {
            return answer;
        }
        if !closing.process.is_contained() {
            if self.paths.reads_mounts() {
                return FileLocation::Changes;
            }
            let mut best: Option<(usize, NewPath)> = None;
            for (&name, climb) in
                file.names.iter().zip(within).filter(|(_, it)| it.path().is_some())
            {
                let reader = &mut self.reader;
                for climb in self.paths.climb_from(name, climb.end(), (reader, memory)) {
                    let Some(path) = climb.path() else { continue };
                    if path == opened.path {
                        return FileLocation::Same;
                    }
                    let common = common_folders(path, opened.path);
                    let is_better = best.as_ref().is_none_or(|(most, _)| common > *most);
                    best = new_path(path).filter(|_| is_better).map(|it| (common, it)).or(best);
                }
            }
            if let Some((_, path)) = best {
                return FileLocation::Renamed(path);
            }
        }
        opened.below(within)
    }

    /// Notes where a file is.
    fn apply(&mut self, file: &LocatedFile, answer: FileLocation, (now, moment): (Now, Moment)) {
        let closing = &mut self.closings[file.closing];
        let was_read = closing.naming.read.is_some();
        if let Some(attributes) = file.attributes.filter(|_| answer != FileLocation::Gone) {
            closing.attributes = closing.attributes.with(&attributes);
        }
        let is_certain = matches!(answer, FileLocation::Same | FileLocation::Renamed(_));
        match answer {
            FileLocation::Changes => return,
            FileLocation::Deleted => closing.stage = ClosingStage::Over,
            FileLocation::Gone if closing.naming.was_there => closing.stage = ClosingStage::Over,
            FileLocation::Gone => closing.naming.is_settled = true,
            FileLocation::Renamed(path) => {
                let Some(path) = self.strings.intern(&path) else { return };
                let old = closing.name.replace(path);
                let first = closing.previous.or(old);
                if let Some(old) = old.filter(|_| closing.previous.is_some()) {
                    self.strings.release(old);
                }
                closing.previous = first;
                closing.naming.is_settled = false;
                if matches!(closing.stage, ClosingStage::TemporaryName { .. }) {
                    // The change of its new path begins now, and so does the wait for hashes.
                    closing.since = now;
                }
                // Whether it matters depends on the path.
                closing.stage = ClosingStage::Changed;
            }
            FileLocation::Same | FileLocation::Unknown | FileLocation::Elsewhere => {
                closing.naming.is_settled = was_read;
            }
        }
        closing.naming.is_certain = is_certain;
        closing.naming.read = Some(moment);
    }
}

/// The path that a file was opened by, and its parts.
struct OpenedPath<'a> {
    path: &'a [u8],
    folder: &'a [u8],
    name: &'a [u8],
}

impl<'a> OpenedPath<'a> {
    fn new(path: &'a [u8]) -> Self {
        let (folder, name) = split(path);
        Self { path, folder, name }
    }

    /// Whether a path in a filesystem is of the old folder, whatever that is mounted below.
    fn is_in_folder(&self, path: &[u8]) -> bool {
        let (in_filesystem, _) = split(path);
        !self.path.is_empty()
            && (in_filesystem == self.folder
                || !self.folder.is_empty() && in_filesystem.ends_with(self.folder))
    }

    /// The answer, if the file has a name in the old folder, or memory has none of it.
    fn in_folder(&self, file: &LocatedFile, within: &[Climb]) -> Option<FileLocation> {
        let mut paths = within.iter().filter_map(Climb::path).peekable();
        if paths.peek().is_none() {
            return Some(FileLocation::Unknown);
        }
        let is_named = |path: &[u8]| split(path).1 == self.name;
        let mut answer = None;
        for path in paths.filter(|path| self.is_in_folder(path)) {
            if is_named(path) {
                return Some(FileLocation::Same);
            }
            answer = answer.or_else(|| Some(self.renamed(path)));
        }
        if file.is_cut { Some(FileLocation::Unknown) } else { answer }
    }

    /// The answer if process 1 does not see where the filesystem is mounted.
    fn below(&self, within: &[Climb]) -> FileLocation {
        let is_below = |path: &&[u8]| !self.path.is_empty() && self.folder.ends_with(split(path).0);
        let paths = || within.iter().filter_map(Climb::path).filter(is_below);
        if paths().any(|path| split(path).1 == self.name) {
            return FileLocation::Same;
        }
        paths().next().map_or(FileLocation::Elsewhere, |path| self.renamed(path))
    }

    /// The answer for a file in the old folder.
    fn renamed(&self, path: &[u8]) -> FileLocation {
        let mut new = NewPath::new();
        let parts = [self.folder, b"/", split(path).1];
        let fits = parts.iter().all(|part| new.try_extend_from_slice(part).is_ok());
        if fits { FileLocation::Renamed(new) } else { FileLocation::Elsewhere }
    }
}

/// Maximum length of a path in bytes.
const PATH_BYTES_MAX: usize = 512;

type NewPath = ArrayVec<u8, PATH_BYTES_MAX>;

fn new_path(path: &[u8]) -> Option<NewPath> {
    NewPath::try_from(path).ok()
}

/// A path's folder, without a slash at its end, and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Number of folders that two paths have in common, from the root on.
fn common_folders(one: &[u8], other: &[u8]) -> usize {
    let folders = |path| split(path).0.split(|&byte| byte == b'/');
    folders(one).zip(folders(other)).take_while(|(one, other)| one == other).count()
}

impl LocatedFile {
    fn new(closing: usize) -> Self {
        Self {
            closing,
            attributes: None,
            next: KernelVa::NULL,
            is_changing: false,
            is_cut: false,
            names: ArrayVec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

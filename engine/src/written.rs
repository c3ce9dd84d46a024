//! Files that were written: detects changed content when a descriptor that could write a regular
//! file closes.
//!
//! The state reports which descriptors closed, and what their files were when they were first seen
//! ([`Change::WriterClosed`]). This module decides whether the content may have changed:
//!
//! * A file is not closed while its `struct file` still exists: under another descriptor, in
//!   another process, or mapped. A child's end thus does not count for descriptors inherited from
//!   its parent. The file's first known attributes are kept until the last descriptor closes, since
//!   a shell moves its descriptors.
//! * The inode is read again after the close. The content may have changed if size or modification
//!   time differ from when the descriptor was first seen, or if the file was modified between that
//!   and the scan before.
//! * A change of only the change time (permissions, names) is not reported.
//! * Writes to files of proc, sysfs, control groups and similar filesystems are commands to the
//!   kernel and change no content.
//! * A file without a name disappears with its last descriptor and is not reported.
//! * The record has the hashes of the file's current content. They are waited for, up to two
//!   seconds.
//!
//! Descriptors that exist when watching starts count from then on. A descriptor that no scan sees
//! is missed.
//!
//! Not here: hashing ([`crate::page_cache`]) and the wording of the record (`policy`).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::source::MemorySource;

use crate::address::{Reader, ReaderSizes};
use crate::limits::Limits;
use crate::page_cache::{FileIdentity, Hashes, Knower, Known, Outcome, Partial};
use crate::state::facts::{DescriptorFacts, FileName, InodeFacts, OpenFlags, ProcessFacts};
use crate::state::kept::KeptProcess;
use crate::state::strings::{StringId, Strings};
use crate::state::{Change, Opened, Scene};
use crate::walk::{Kernel, Snapshot};

/// How long to wait for hashes.
const HASHES_NS: i64 = 2_000_000_000;
/// Maximum number of closed descriptors that wait at a time; further ones are counted and ignored.
const WAITING_MAX: usize = 2048;
/// Inodes read in one batch.
const INODES: usize = 64;

/// The content of a file may have changed while it was open.
#[derive(Clone, Copy, Debug)]
pub struct ContentChange<'a> {
    /// The process that had it open, as it was at the close.
    pub process: ProcessFacts<'a>,
    /// The descriptor, with the file as it is now.
    pub descriptor: DescriptorFacts<'a>,
    /// The file as it was when the descriptor was first seen.
    pub opened: Opened,
    /// The hashes of the file as it is now, if all of it is known.
    pub hashes: Option<Hashes>,
    /// How much of the file is in memory, if not all.
    pub partial: Option<Partial>,
    /// When a scan found the descriptor closed, in nanoseconds since 1970.
    pub since_ns: i64,
}

/// Receives changes of content.
pub trait ContentChanges {
    /// Called once for each file whose content may have changed.
    fn content_changed(&mut self, scene: &Scene<'_>, change: &ContentChange<'_>);
}

impl<F: FnMut(&Scene<'_>, &ContentChange<'_>)> ContentChanges for F {
    fn content_changed(&mut self, scene: &Scene<'_>, change: &ContentChange<'_>) {
        self(scene, change);
    }
}

/// The progress of a closed descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Closed in this scan.
    New,
    /// Nothing to report, or already reported.
    Over,
    /// The content may have changed; its hashes are pending.
    Waiting,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    stage: Stage,
    process: KeptProcess,
    index: u32,
    name: Option<StringId>,
    open: Option<OpenFlags>,
    close_on_exec: bool,
    attributes: InodeFacts,
    opened: Opened,
    file: KernelVa,
    inode: KernelVa,
    since_ns: i64,
}

/// An open file with a closed descriptor and at least one that is still open.
#[derive(Clone, Copy, Debug)]
struct Held {
    file: KernelVa,
    inode: KernelVa,
    opened: Opened,
    is_there: bool,
}

/// Closed descriptors, until each is reported or ignored.
#[derive(Debug)]
pub struct Written {
    wanted: bool,
    closings: Vec<Closing>,
    /// Sorted by address; each file once.
    held: Vec<Held>,
    strings: Strings,
    reader: Reader,
    refused: u64,
}

impl Written {
    /// Allocates for `limits`. Unless `wanted`, nothing is noted.
    pub fn new(limits: &Limits, wanted: bool, key: u64) -> Self {
        let bytes = (WAITING_MAX * 256).min(limits.processes as usize * 512);
        Self {
            wanted,
            closings: Vec::with_capacity(WAITING_MAX),
            held: Vec::with_capacity(WAITING_MAX),
            strings: Strings::new(bytes.max(64 * 1024), key),
            reader: Reader::new(ReaderSizes {
                objects: INODES,
                arena_bytes: INODES * 1024,
                walks: INODES * 8,
            }),
            refused: 0,
        }
    }

    /// Number of closed descriptors that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Notes a change if it is the closing of a descriptor.
    pub fn note(&mut self, scene: &Scene<'_>, change: &Change<'_>) {
        let Change::WriterClosed { process, descriptor, file, inode, opened } = *change else {
            return;
        };
        let Some(attributes) = descriptor.inode.filter(|_| self.wanted) else { return };
        if self.closings.len() == self.closings.capacity() {
            self.refused += 1;
            return;
        }
        let facts = process.facts_at_close(descriptor.close_on_exec, scene.strings);
        let name = match descriptor.name {
            Some(FileName::Text(text)) => self.strings.intern(text),
            _ => None,
        };
        self.closings.push(Closing {
            stage: Stage::New,
            process: KeptProcess::new(&facts, &mut self.strings),
            index: descriptor.index,
            name,
            open: descriptor.open,
            close_on_exec: descriptor.close_on_exec,
            attributes,
            opened,
            file,
            inode,
            since_ns: scene.now_ns,
        });
    }

    /// Decides which of the scan's closed descriptors to report, and reports those whose hashes are
    /// known or overdue.
    pub fn update<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scene: &Scene<'_>,
        files: &mut dyn Knower,
        out: &mut dyn ContentChanges,
    ) {
        if self.closings.iter().any(|closing| closing.stage == Stage::New) {
            self.drop_open(scene.snapshot);
            self.read_inodes(source, kernel);
        }
        self.settle(scene, files, out);
    }

    /// Reports the files whose hashes are known or overdue.
    pub fn settle(
        &mut self,
        scene: &Scene<'_>,
        files: &mut dyn Knower,
        out: &mut dyn ContentChanges,
    ) {
        for closing in &mut self.closings {
            if closing.stage != Stage::Waiting {
                continue;
            }
            let known = files.ask(&closing.identity());
            let waited = scene.now_ns.saturating_sub(closing.since_ns) >= HASHES_NS;
            if known.is_none() && !waited {
                continue;
            }
            closing.stage = Stage::Over;
            closing.report(&self.strings, scene, known.as_ref(), out);
        }
        let strings = &mut self.strings;
        self.closings.retain(|closing| {
            let stays = closing.stage != Stage::Over;
            if !stays {
                closing.process.release(strings);
                if let Some(id) = closing.name {
                    strings.release(id);
                }
            }
            stays
        });
    }

    /// Removes files that are still open or mapped. Sorts the list, so that one pass over the
    /// scan's files suffices.
    fn drop_open(&mut self, snapshot: &Snapshot) {
        self.closings.sort_unstable_by_key(|closing| {
            (closing.file.0, !closing.opened.written, closing.opened.modify_time_ns)
        });
        self.held.iter_mut().for_each(|held| held.is_there = false);
        for file in snapshot.files.iter() {
            if let Ok(at) = self.held.binary_search_by_key(&file.address, |held| held.file) {
                self.held[at].is_there |= self.held[at].inode == file.open.inode;
            }
            let first = self.closings.partition_point(|closing| closing.file.0 < file.address.0);
            for closing in &mut self.closings[first..] {
                if closing.file != file.address {
                    break;
                }
                if closing.stage == Stage::New && closing.inode == file.open.inode {
                    closing.stage = Stage::Over;
                    hold(&mut self.held, closing);
                }
            }
        }
        for closing in self.closings.iter_mut().filter(|closing| closing.stage == Stage::New) {
            let held = self.held.binary_search_by_key(&closing.file, |held| held.file);
            let held = held.ok().map(|at| self.held[at]);
            if let Some(held) = held.filter(|held| held.inode == closing.inode) {
                closing.opened = held.opened;
            }
        }
        self.held.retain(|held| held.is_there);
        // If several descriptors of one file close at once, one reports it: the first in the sort
        // order, with the earliest known attributes.
        let mut at = 0;
        while at < self.closings.len() {
            let file = self.closings[at].file;
            let end =
                at + self.closings[at..].iter().take_while(|closing| closing.file == file).count();
            let mut changed = false;
            for closing in &mut self.closings[at..end] {
                if closing.stage == Stage::New {
                    let is_first = !core::mem::replace(&mut changed, true);
                    closing.stage = if is_first { Stage::New } else { Stage::Over };
                }
            }
            at = end;
        }
    }

    /// Reads the inodes of newly closed files and decides on each.
    fn read_inodes<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layout = &kernel.layouts.inode;
        self.reader.forget_translations();
        let mut done = 0;
        while done < self.closings.len() {
            self.reader.clear();
            let mut at = done;
            while let Some(closing) = self.closings.get(at) {
                if closing.stage == Stage::New
                    && self.reader.push(&kernel.space, closing.inode, &layout.packing).is_none()
                {
                    break;
                }
                at += 1;
            }
            if !self.reader.is_empty() {
                self.reader.run(source, kernel.space.levels);
            }
            let mut object = 0;
            for closing in &mut self.closings[done..at] {
                if closing.stage == Stage::New {
                    let bytes = self.reader.object(object);
                    closing.decide(bytes.map(|bytes| Attributes::decode(layout, bytes)));
                    object += 1;
                }
            }
            // A packed inode always fits an empty reader.
            done = at.max(done + 1);
        }
    }
}

/// Remembers the first known attributes of a file that is still open under another descriptor. The
/// first descriptor to close sets them. If there is no room, each descriptor uses its own.
fn hold(all: &mut Vec<Held>, closing: &Closing) {
    let Closing { file, inode, opened, .. } = *closing;
    let held = Held { file, inode, opened, is_there: true };
    match all.binary_search_by_key(&file, |held| held.file) {
        Ok(at) if all[at].inode != inode => all[at] = held,
        Err(at) if all.len() < all.capacity() => all.insert(at, held),
        Ok(_) | Err(_) => {}
    }
}

impl Closing {
    /// Decides whether the content may have changed. `now` is read from the inode's old address.
    fn decide(&mut self, now: Option<Attributes>) {
        let now = now.filter(|now| {
            now.ino == self.attributes.number && now.mode & mode::S_IFMT == mode::S_IFREG
        });
        if let Some(now) = now {
            if now.nlink == 0 {
                self.stage = Stage::Over;
                return;
            }
            self.attributes = self.attributes.with(&now);
        }
        let (is, was) = (&self.attributes, &self.opened);
        // A newly made file has equal access and modification times; nothing was written to it.
        let is_new = is.size == 0 && was.size == 0 && is.access_time_ns == is.modify_time_ns;
        let has_changed = was.written && !is_new
            || is.size != was.size
            || is.modify_time_ns != was.modify_time_ns;
        self.stage = if has_changed { Stage::Waiting } else { Stage::Over };
    }

    fn identity(&self) -> FileIdentity {
        FileIdentity {
            inode: self.inode,
            device: self.attributes.device,
            number: self.attributes.number,
            change_time_ns: self.attributes.change_time_ns,
            modify_time_ns: self.attributes.modify_time_ns,
            size: self.attributes.size,
        }
    }

    fn report(
        &self,
        strings: &Strings,
        scene: &Scene<'_>,
        known: Option<&Known>,
        out: &mut dyn ContentChanges,
    ) {
        let partial = known.and_then(|known| match known.outcome {
            Outcome::Partial(partial) => Some(partial),
            Outcome::Whole { .. } | Outcome::Nothing => None,
        });
        let change = ContentChange {
            process: self.process.facts(strings),
            descriptor: DescriptorFacts {
                index: self.index,
                name: self.name.map(|id| FileName::Text(strings.get(id))),
                close_on_exec: self.close_on_exec,
                open: self.open,
                inode: Some(self.attributes),
                ..DescriptorFacts::default()
            },
            opened: self.opened,
            hashes: known.and_then(Known::hashes),
            partial,
            since_ns: self.since_ns,
        };
        out.content_changed(scene, &change);
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::file::OpenFile;

    use super::*;
    use crate::walk::FileRow;

    fn closing(file: u64, size: u64, written: bool) -> Closing {
        Closing {
            stage: Stage::New,
            process: KeptProcess::default(),
            index: 7,
            name: None,
            open: None,
            close_on_exec: false,
            attributes: InodeFacts::default(),
            opened: Opened { size, modify_time_ns: 5, written },
            file: KernelVa(file),
            inode: KernelVa(0x9000),
            since_ns: 0,
        }
    }

    /// A scan that shows these open files.
    fn scan(files: &[u64]) -> Snapshot {
        let mut snapshot = Snapshot::empty(&Limits::default());
        for &file in files {
            let open = OpenFile { inode: KernelVa(0x9000), ..OpenFile::default() };
            let row = FileRow { address: KernelVa(file), open, ..FileRow::default() };
            snapshot.files.push(row).unwrap();
        }
        snapshot
    }

    #[test]
    fn the_last_descriptor_to_close_keeps_the_first_known_attributes() {
        let mut written = Written::new(&Limits::default(), true, 1);
        // A shell moves its descriptor: the file is still open.
        written.closings.push(closing(0x1000, 4, true));
        written.drop_open(&scan(&[0x1000, 0x2000]));
        assert_eq!(written.closings[0].stage, Stage::Over);
        written.closings.clear();
        // Another file closes meanwhile.
        written.closings.push(closing(0x3000, 1, false));
        written.drop_open(&scan(&[0x1000, 0x2000]));
        assert_eq!(written.closings[0].opened.size, 1);
        written.closings.clear();
        // The last descriptor closes, which has seen only the current attributes.
        written.closings.push(closing(0x1000, 9, false));
        written.drop_open(&scan(&[0x2000]));
        assert_eq!(written.closings[0].stage, Stage::New);
        assert_eq!(
            written.closings[0].opened,
            Opened { size: 4, modify_time_ns: 5, written: true }
        );
        assert_eq!(written.held.len(), 0);
    }
}

//! Files whose content may have changed: checked when a descriptor that can write to a regular file
//! closes.
//!
//! The state reports which descriptors have closed, and what their files were when they were first
//! seen ([`Change::WriterClosed`]). This module decides whether the content may have changed:
//!
//! * A file counts as open while its `struct file` exists, under another descriptor, in another
//!   process, or mapped: a child that inherits a descriptor does not cause a check when it ends.
//!   The file's first known state is kept until the last descriptor closes, because a shell moves
//!   its descriptors.
//! * The inode is read again after the closing. The content may have changed if the size or the
//!   modification time differs from when the descriptor was first seen, or if the file was modified
//!   between that scan and the one before. Changes of nothing but the change time (permissions,
//!   names) are not reported.
//! * Writes to files of proc, sysfs, control groups and similar filesystems are commands to the
//!   kernel and change no content.
//! * A file without a name is deleted with its last descriptor and is not reported.
//! * The record has the hashes of the file as it is now. The wait for them is limited.
//!
//! For files that are open when watching starts, changes count from then on. A descriptor that is
//! opened and closed between two scans is not seen.
//!
//! Not here: hashing ([`crate::page_cache`]) and the wording of the record (`policy`).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_sinks::activities::Activity;

use super::{Detector, DetectorSetup, Finding, Scene};
use crate::address::{Reader, ReaderSizes};
use crate::limits::Limits;
use crate::page_cache::{
    ContentSource, FileContent, FileIdentity, Hashes, MachineMemory, Outcome, Partial,
};
use crate::state::described::Described;
use crate::state::facts::{DescriptorFacts, FileName, InodeFacts, OpenFlags, ProcessFacts};
use crate::state::{Change, Opened, State};
use crate::walk::Snapshot;
use panoptes_tables::{HashKey, StringId, Strings};

/// How long a record waits for hashes.
const HASHES_NS: i64 = 2_000_000_000;
/// Maximum number of closings that wait at a time. Files of further ones are not checked.
const WAITING_MAX: usize = 2048;
/// Number of inodes that are read in one batch.
const INODES: usize = 64;

/// A file whose content may have changed while it was open.
#[derive(Clone, Copy, Debug)]
pub struct ContentChange<'a> {
    /// The process that closed it, as it was then.
    pub process: ProcessFacts<'a>,
    /// The descriptor, with the file as it is now.
    pub descriptor: DescriptorFacts<'a>,
    /// The file as it was when the descriptor was first seen.
    pub opened: Opened,
    /// Hashes of the file as it is now, if all of it is known.
    pub hashes: Option<Hashes>,
    /// How much of it is in memory, if not all of it.
    pub partial: Option<Partial>,
    /// When the closing was seen, in nanoseconds since 1970.
    pub since_ns: i64,
}

/// The progress of a closing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Not checked yet.
    New,
    /// Unchanged, or reported.
    Over,
    /// The content may have changed; its hashes are awaited.
    Waiting,
}

/// A descriptor that has closed.
#[derive(Clone, Copy, Debug)]
struct Closing {
    stage: Stage,
    process: Described,
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

/// An open file of which some descriptors have closed and others have not.
#[derive(Clone, Copy, Debug)]
struct Held {
    file: KernelVa,
    inode: KernelVa,
    opened: Opened,
    is_there: bool,
}

/// Tracks closed descriptors until their files are checked.
#[derive(Debug)]
pub struct ClosedFiles {
    wanted: bool,
    closings: Vec<Closing>,
    /// Sorted by address, each once.
    held: Vec<Held>,
    strings: Strings,
    reader: Reader,
    /// Number of closings that found no room.
    refused: u64,
}

impl ClosedFiles {
    /// Allocates for `limits`. Unless it is `wanted`, records nothing.
    pub fn new(limits: &Limits, wanted: bool, key: HashKey) -> Self {
        let bytes = (WAITING_MAX * 256).min(limits.processes as usize * 512);
        Self {
            wanted,
            closings: Vec::with_capacity(WAITING_MAX),
            held: Vec::with_capacity(WAITING_MAX),
            strings: Strings::new(bytes.max(64 * 1024), key.derive("written: strings")),
            reader: Reader::new(ReaderSizes {
                objects: INODES,
                arena_bytes: INODES * 1024,
                walks: INODES * 8,
            }),
            refused: 0,
        }
    }
}

impl Detector for ClosedFiles {
    fn build(setup: &DetectorSetup<'_>) -> Self {
        let wanted = (setup.is_enabled)(Activity::FileDescriptorFileContentChange);
        Self::new(setup.limits, wanted, setup.key)
    }

    /// Records a change if it is the closing of a descriptor.
    fn observe(&mut self, scene: &mut Scene<'_>, change: &Change<'_>) {
        let Change::WriterClosed { process, descriptor, file, inode, opened } = *change else {
            return;
        };
        let Some(attributes) = descriptor.inode.filter(|_| self.wanted) else { return };
        if self.closings.len() == self.closings.capacity() {
            self.refused += 1;
            return;
        }
        let described = process.described_at_close(descriptor.close_on_exec);
        let name = match descriptor.name {
            Some(FileName::Text(text)) => self.strings.intern(text),
            _ => None,
        };
        self.closings.push(Closing {
            stage: Stage::New,
            process: described.copy(scene.cx.strings, &mut self.strings),
            index: descriptor.index,
            name,
            open: descriptor.open,
            close_on_exec: descriptor.close_on_exec,
            attributes,
            opened,
            file,
            inode,
            since_ns: scene.cx.now_ns,
        });
    }

    /// Checks the scan's closings, and reports changed files whose hashes are known or whose wait
    /// is over.
    fn update(&mut self, scene: &mut Scene<'_>, _state: &State, files: &mut dyn ContentSource) {
        if self.closings.iter().any(|closing| closing.stage == Stage::New) {
            self.drop_open(scene.cx.snapshot);
            self.read_inodes(&mut scene.memory);
        }
        self.settle(scene, files);
    }

    /// Reports changed files whose hashes are known or whose wait is over.
    fn settle(&mut self, scene: &mut Scene<'_>, files: &mut dyn ContentSource) {
        for closing in &mut self.closings {
            if closing.stage != Stage::Waiting {
                continue;
            }
            let known = files.ask(&closing.identity());
            let waited = scene.cx.now_ns.saturating_sub(closing.since_ns) >= HASHES_NS;
            if known.is_none() && !waited {
                continue;
            }
            closing.stage = Stage::Over;
            closing.report(&self.strings, scene, known.as_ref());
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

    fn unchecked(&self) -> u64 {
        self.refused
    }
}

impl ClosedFiles {
    /// Drops closings of files that are still open or mapped. Sorts the closings, so that one pass
    /// over the scan's files suffices.
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
        // Of several descriptors of one file that closed at once, one is reported: the one that saw
        // the file modified, or else the one with the oldest modification time.
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

    /// Reads the inodes of new closings, and decides.
    fn read_inodes(&mut self, memory: &mut MachineMemory<'_>) {
        let MachineMemory { source, kernel } = memory;
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
            // An inode that has no room in an empty reader cannot be read.
            done = at.max(done + 1);
        }
    }
}

/// Keeps the first known state of a file of which a descriptor has closed and others have not. The
/// first descriptor to close determines that state. Without room, each descriptor's own state is
/// used.
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
    /// Decides whether the content may have changed. `now` is what was read at the inode's address.
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
        // A file that was just created is as old as its last access; nothing was written to it.
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

    fn report(&self, strings: &Strings, scene: &mut Scene<'_>, known: Option<&FileContent>) {
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
            hashes: known.and_then(FileContent::hashes),
            partial,
            since_ns: self.since_ns,
        };
        scene.found(&Finding::FileContent(&change));
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
            process: Described::default(),
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

    /// A scan with these open files.
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
    fn the_last_descriptor_to_close_is_compared_with_the_first_seen_state() {
        let mut written = ClosedFiles::new(&Limits::default(), true, HashKey::new(1));
        // A shell moves its descriptor: the file is still open.
        written.closings.push(closing(0x1000, 4, true));
        written.drop_open(&scan(&[0x1000, 0x2000]));
        assert_eq!(written.closings[0].stage, Stage::Over);
        written.closings.clear();
        // Another file's descriptor closes meanwhile.
        written.closings.push(closing(0x3000, 1, false));
        written.drop_open(&scan(&[0x1000, 0x2000]));
        assert_eq!(written.closings[0].opened.size, 1);
        written.closings.clear();
        // Then the last one closes, which has seen no change itself.
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

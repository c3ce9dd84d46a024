//! Files whose content may have changed: checked when a descriptor that can write to a regular file
//! closes.
//!
//! The state reports which descriptors have closed, and what their files were when they were first
//! seen ([`Change::WriterClosed`]). This module decides whether the content may have changed:
//!
//! * A file counts as open while its `struct file` exists, under another descriptor, in another
//!   process, or mapped: a child that inherits a descriptor does not cause a check when it ends.
//!   The closing waits until the file is closed, with the file's first known state, because a shell
//!   moves its descriptors. It waits for the file and not for another closing: what holds the file
//!   last may be a mapping, or a descriptor that no scan has tracked.
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

mod cut;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_sinks::activities::Activity;

use super::{Accepted, Detector, DetectorSetup, Finding, Scene};
use crate::address::{Reader, ReaderSizes};
use crate::limits::Limits;
use crate::loss::Loss;
use crate::page_cache::{
    Asker, ContentSource, FileContent, FileIdentity, Hashes, MachineMemory, Outcome, Partial,
};
use crate::state::described::Described;
use crate::state::facts::{DescriptorFacts, FileName, InodeFacts, OpenFlags, ProcessFacts};
use crate::state::{Change, Opened, State};
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;
use panoptes_tables::{HashKey, StringId, StringRoom, Strings, Tag, room};

/// How long a record waits for hashes.
const HASHES_NS: i64 = 2_000_000_000;
/// Maximum number of closings of one scan, beside [`OPEN_MAX`]. Of the users with most, and of
/// their processes with most, further ones are not checked.
const WAITING_MAX: usize = 2048;
/// Maximum number of closings that wait for their files to close. Of the users with most, and of
/// their processes with most, further ones are not checked.
const OPEN_MAX: usize = 2048;
/// Number of scans in a row without an open file after which it is closed: one scan may not read
/// the table of the process that has it open.
const ABSENT_SCANS: u8 = 3;
/// How long a file that scans do not show counts as open while they leave something for the next.
const LEFT_NS: i64 = 10_000_000_000;
/// Number of closings that a machine with few descriptors, and one with many, has room for.
const CLOSINGS_MIN: usize = 512;
const CLOSINGS_MAX: usize = WAITING_MAX + OPEN_MAX;
/// Number of names for which each closing has room: the file's, and four of its process.
const NAMES: usize = 5;
/// Number of reported changes that are remembered: a process that had the file open too may end
/// later.
const REPORTED_MAX: usize = 256;
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
    /// When the closing was seen.
    pub since_ns: RealTime,
}

/// The content of an open file that was reported: `struct file`, inode, modification time and size.
type Reported = (Tag<2>, KernelVa, i64, u64);

/// The progress of a closing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Not checked yet.
    New,
    /// The file is still open elsewhere, or was in one of the last scans.
    Open { absent_scans: u8 },
    /// The file is closed; its inode has to be read.
    Closed,
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
    file: Tag<2>,
    inode: KernelVa,
    since: Now,
    /// Whether this scan shows its file open.
    is_open: bool,
}

/// Tracks closed descriptors until their files are checked.
#[derive(Debug)]
pub struct ClosedFiles {
    wanted: bool,
    closings: Vec<Closing>,
    /// The last reported changes, and the place of the next one.
    reported: Vec<Reported>,
    next_reported: usize,
    strings: Strings,
    reader: Reader,
    /// The closings that found no room.
    lost: Loss,
}

impl ClosedFiles {
    /// Allocates for `limits`, including the reader. Unless it is `wanted`, records nothing.
    pub fn new(limits: &Limits, wanted: bool, key: HashKey) -> Self {
        Self { reader: reader(), ..Self::without_reader(limits, wanted, key) }
    }

    /// Allocates for `limits`; each scan needs a reader ([`Self::exchange`]).
    pub fn without_reader(limits: &Limits, wanted: bool, key: HashKey) -> Self {
        // Not all that is open closes at once.
        let closings = (limits.file_descriptors as usize / 4).clamp(CLOSINGS_MIN, CLOSINGS_MAX);
        let bytes = (CLOSINGS_MAX * 256).min(limits.processes as usize * 512);
        Self {
            wanted,
            closings: room::list(closings),
            reported: room::list(REPORTED_MAX),
            next_reported: 0,
            strings: Strings::new(
                StringRoom {
                    bytes: bytes.max(64 * 1024) + Strings::room_for_cut(closings / 2) * 5 / 4,
                    strings: closings * NAMES,
                },
                key.derive("written: strings"),
            ),
            reader: Reader::default(),
            lost: Loss::new(),
        }
    }

    /// Takes a reader before a scan, and returns it by a second call after the scan.
    pub fn exchange(&mut self, reader: &mut Reader) {
        core::mem::swap(&mut self.reader, reader);
    }
}

/// The reader of the inodes of closed files.
pub(super) fn reader() -> Reader {
    Reader::new(ReaderSizes { objects: INODES, arena_bytes: INODES * 1024, walks: INODES * 8 })
}

impl Detector for ClosedFiles {
    fn build(setup: &DetectorSetup<'_>) -> Self {
        let wanted = (setup.is_enabled)(Activity::FileDescriptorFileContentChange);
        Self::without_reader(setup.limits, wanted, setup.key)
    }

    /// Records a change if it is the closing of a descriptor.
    fn observe(&mut self, scene: &mut Scene<'_>, change: &Change<'_>) {
        let Change::WriterClosed { process, descriptor, file, inode, opened } = *change else {
            return;
        };
        let Some(attributes) = descriptor.inode.filter(|_| self.wanted) else { return };
        if self.closings.len() == self.closings.capacity() {
            // The users with most make room, for more than one.
            self.cut(self.closings.capacity() * 3 / 4, |_| true);
        }
        if self.closings.len() == self.closings.capacity() {
            self.lost.add(1, Some(process.process_id()));
            return;
        }
        // Long names leave room for as many others.
        let others = self.closings.capacity() / 2;
        let described = process.described_at_close(descriptor.close_on_exec);
        let name = match descriptor.name {
            Some(FileName::Text(text)) => {
                self.strings.intern_leaving(text, others).or_else(|| self.strings.intern_cut(text))
            }
            _ => None,
        };
        self.closings.push(Closing {
            stage: Stage::New,
            process: described.copy(scene.cx.strings, |text| {
                self.strings.intern_leaving(text, others).or_else(|| self.strings.intern_cut(text))
            }),
            index: descriptor.index,
            name,
            open: descriptor.open,
            close_on_exec: descriptor.close_on_exec,
            attributes,
            opened,
            file,
            inode,
            since: scene.cx.now,
            is_open: false,
        });
    }

    /// Checks the scan's closings, and reports changed files whose hashes are known or whose wait
    /// is over.
    fn update(&mut self, scene: &mut Scene<'_>, _state: &State, files: &mut dyn ContentSource) {
        if self.closings.iter().any(Closing::awaits_close) {
            self.follow_files(scene.cx.snapshot, scene.cx.now);
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
            let known = files.ask(&closing.identity(), closing.asker());
            let waited = scene.cx.now.monotonic.since(closing.since.monotonic) >= HASHES_NS;
            if known.is_none() && !waited {
                continue;
            }
            let content = closing.content();
            if self.reported.contains(&content) {
                closing.stage = Stage::Over;
                continue;
            }
            if closing.report(&self.strings, scene, known.as_ref()) == Accepted::No {
                continue;
            }
            closing.stage = Stage::Over;
            match self.reported.get_mut(self.next_reported) {
                Some(oldest) => *oldest = content,
                None => self.reported.push(content),
            }
            self.next_reported = (self.next_reported + 1) % REPORTED_MAX;
        }
        self.remove_over();
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }
}

impl ClosedFiles {
    fn remove_over(&mut self) {
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

    /// Finds out which of the files are still open or mapped. Of several closings of one file, one
    /// stays.
    fn follow_files(&mut self, snapshot: &Snapshot, now: Now) {
        self.closings.sort_unstable_by_key(Closing::order);
        self.find_open(snapshot);
        let mut open = 0;
        let mut rest = self.closings.as_mut_slice();
        while let Some(first) = rest.first() {
            let (file, is_open) = (first.open_file(), first.is_open);
            let count = rest.iter().take_while(|closing| closing.open_file() == file).count();
            let (same, others) = rest.split_at_mut(count);
            if let Some(closing) = merge(same) {
                let is_unknown = !snapshot.left.is_empty()
                    && now.monotonic.since(closing.since.monotonic) < LEFT_NS;
                closing.follow(is_open || is_unknown, now);
                open += usize::from(matches!(closing.stage, Stage::Open { .. }));
            }
            rest = others;
        }
        if open > OPEN_MAX {
            self.cut(OPEN_MAX, |closing| matches!(closing.stage, Stage::Open { .. }));
        }
    }

    /// Notes which of the sorted closings are of files that the scan shows: of each file the first
    /// one. The files are searched only if the inode of one of them is still in use.
    fn find_open(&mut self, snapshot: &Snapshot) {
        let inodes = &snapshot.inodes;
        let mut is_in_use = inodes.dropped > 0;
        for closing in &mut self.closings {
            closing.is_open = false;
            is_in_use |= closing.awaits_close() && inodes.find(closing.inode.0).is_some();
        }
        for row in snapshot.files.iter().filter(|row| is_in_use && !row.open.inode.is_null()) {
            let inode = row.open.inode;
            let mut at = self.closings.partition_point(|closing| closing.inode < inode);
            if self.closings.get(at).is_none_or(|closing| closing.inode != inode) {
                continue;
            }
            let file = (inode, Tag::of(row.address.0));
            at += self.closings[at..].partition_point(|closing| closing.open_file() < file);
            if let Some(closing) = self.closings.get_mut(at) {
                closing.is_open |= closing.open_file() == file;
            }
        }
    }

    /// Reads the inodes of closed files, and decides.
    fn read_inodes(&mut self, memory: &mut MachineMemory<'_>) {
        let MachineMemory { source, kernel } = memory;
        let layout = &kernel.layouts.inode;
        self.reader.forget_translations();
        let mut done = 0;
        while done < self.closings.len() {
            self.reader.clear();
            let mut at = done;
            while let Some(closing) = self.closings.get(at) {
                if closing.stage == Stage::Closed
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
                if closing.stage == Stage::Closed {
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

/// Of closings of one file in [`Closing::order`], keeps one that waits for the file to close: a new
/// one if there is one. It takes over the first known state of the file: the state of the
/// descriptor that saw it modified, or else the one with the oldest modification time.
fn merge(same: &mut [Closing]) -> Option<&mut Closing> {
    let waiting = same.iter().filter(|closing| closing.awaits_close());
    let opened = waiting.map(|closing| closing.opened).min_by_key(|opened| order(*opened))?;
    let (kept, others) = same.split_first_mut()?;
    for closing in others.iter_mut().filter(|closing| closing.awaits_close()) {
        closing.stage = Stage::Over;
    }
    kept.opened = opened;
    Some(kept)
}

/// The order in which states of a file were probably seen.
fn order(opened: Opened) -> (bool, i64) {
    (!opened.written, opened.modify_time_ns)
}

impl Closing {
    /// The inode and the `struct file`.
    fn open_file(&self) -> (KernelVa, Tag<2>) {
        (self.inode, self.file)
    }

    /// Whether it waits for its file to close.
    fn awaits_close(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Open { .. })
    }

    /// By file, those of this scan first, then older ones whose files are open.
    fn order(&self) -> ((KernelVa, Tag<2>), u8, (bool, i64)) {
        let stage = match self.stage {
            Stage::New => 0,
            Stage::Open { .. } => 1,
            Stage::Closed | Stage::Waiting | Stage::Over => 2,
        };
        (self.open_file(), stage, order(self.opened))
    }

    /// Updates its stage from a scan that has seen its file open, or not.
    fn follow(&mut self, is_open: bool, now: Now) {
        self.stage = match self.stage {
            Stage::New | Stage::Open { .. } if is_open => Stage::Open { absent_scans: 0 },
            Stage::Open { absent_scans } if absent_scans + 1 < ABSENT_SCANS => {
                Stage::Open { absent_scans: absent_scans + 1 }
            }
            Stage::Open { .. } => {
                self.since = now;
                Stage::Closed
            }
            Stage::New => Stage::Closed,
            Stage::Closed | Stage::Waiting | Stage::Over => return,
        };
    }

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

    /// On whose behalf the file's content is asked for.
    fn asker(&self) -> Asker {
        Asker { process_id: self.process.process_id(), group: self.process.group() }
    }

    fn content(&self) -> Reported {
        (self.file, self.inode, self.attributes.modify_time_ns, self.attributes.size)
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
        scene: &mut Scene<'_>,
        known: Option<&FileContent>,
    ) -> Accepted {
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
            since_ns: self.since.real,
        };
        scene.found(&Finding::FileContent(&change))
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::file::OpenFile;

    use super::*;
    use crate::walk::{FileRow, InodeRow};

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
            file: Tag::of(file),
            inode: KernelVa(0x9000),
            since: Now::default(),
            is_open: false,
        }
    }

    /// A scan with these open files.
    fn scan(files: &[u64]) -> Snapshot {
        let mut snapshot = Snapshot::empty(&Limits::default());
        for &file in files {
            let open = OpenFile { inode: KernelVa(0x9000), ..OpenFile::default() };
            let row = FileRow { address: KernelVa(file), open, ..FileRow::default() };
            snapshot.files.row_of(file, || row).unwrap();
            snapshot.inodes.row_of(0x9000, InodeRow::default);
        }
        snapshot
    }

    /// Scans with these open files; returns the stages of the closings, in their order.
    fn follow(written: &mut ClosedFiles, files: &[u64]) -> Vec<Stage> {
        written.follow_files(&scan(files), Now::default());
        written.closings.retain(|closing| closing.stage != Stage::Over);
        written.closings.iter().map(|closing| closing.stage).collect()
    }

    fn written() -> ClosedFiles {
        ClosedFiles::new(&Limits::default(), true, HashKey::new(1))
    }

    const OPEN: Stage = Stage::Open { absent_scans: 0 };

    #[test]
    fn the_last_descriptor_to_close_is_compared_with_the_first_seen_state() {
        let mut written = written();
        // A shell moves its descriptor: the file is still open.
        written.closings.push(closing(0x1000, 4, true));
        assert_eq!(follow(&mut written, &[0x1000, 0x2000]), [OPEN]);
        // Another file's descriptor closes meanwhile.
        let other = Closing { inode: KernelVa(0xa000), ..closing(0x3000, 1, false) };
        written.closings.push(other);
        assert_eq!(follow(&mut written, &[0x1000, 0x2000]), [OPEN, Stage::Closed]);
        assert_eq!(written.closings[1].opened.size, 1);
        written.closings.pop();
        // Then the last one closes, which has seen no change itself.
        written.closings.push(Closing { index: 8, ..closing(0x1000, 9, false) });
        assert_eq!(follow(&mut written, &[0x2000]), [Stage::Closed]);
        let opened = Opened { size: 4, modify_time_ns: 5, written: true };
        assert_eq!((written.closings[0].index, written.closings[0].opened), (8, opened));
    }

    #[test]
    fn a_file_that_is_first_seen_changed_does_not_hide_an_older_state() {
        let mut written = written();
        let mut late = closing(0x1000, 9, false);
        late.opened.modify_time_ns = 7;
        written.closings.push(late);
        assert_eq!(follow(&mut written, &[0x1000]), [OPEN]);
        written.closings.push(closing(0x1000, 4, false));
        assert_eq!(follow(&mut written, &[]), [Stage::Closed]);
        assert_eq!(written.closings[0].opened.size, 4);
    }

    /// `exec 7<&-` in bash keeps the file open under another descriptor for a moment. A scan may
    /// see the file there, but not track the descriptor. A file may also be mapped for longer than
    /// it is open.
    #[test]
    fn a_file_that_closes_without_another_tracked_closing_is_checked() {
        let mut written = written();
        written.closings.push(closing(0x1000, 4, true));
        assert_eq!(follow(&mut written, &[0x1000]), [OPEN]);
        // One scan does not see it.
        assert_eq!(follow(&mut written, &[]), [Stage::Open { absent_scans: 1 }]);
        assert_eq!(follow(&mut written, &[0x1000]), [OPEN]);
        let stages: Vec<_> = (0..ABSENT_SCANS).map(|_| follow(&mut written, &[])[0]).collect();
        assert_eq!(stages.last(), Some(&Stage::Closed));
        assert!(!stages[..stages.len() - 1].contains(&Stage::Closed));
    }

    #[test]
    fn files_that_stay_open_leave_room_for_closings() {
        let mut written = written();
        let files: Vec<u64> = (1..=OPEN_MAX as u64 + 3).map(|file| file * 0x1000).collect();
        written.closings.extend(files.iter().map(|&file| closing(file, 4, true)));
        assert_eq!(follow(&mut written, &files).len(), OPEN_MAX);
        assert_eq!(written.lost.missed(), 3);
        assert!(written.closings.capacity() >= OPEN_MAX + WAITING_MAX);
    }

    /// Adversary C11: noise that took the places of other processes' closings.
    #[test]
    fn a_process_that_closes_very_many_files_takes_no_room_of_others() {
        let mut written = written();
        let of = |process_id: u32, file: u64| Closing {
            process: Described::default().of_process(process_id),
            ..closing(file * 0x1000, 4, true)
        };
        let all = WAITING_MAX + OPEN_MAX;
        written.closings.extend((0..all as u64).map(|file| of(7, file)));
        written.cut(all * 3 / 4, |_| true);
        assert_eq!(written.closings.len(), all * 3 / 4);
        let lost = |written: &ClosedFiles| (written.lost.missed(), written.lost.process_id());
        assert_eq!(lost(&written), (all as u64 / 4, Some(7)));
        // Others fill the rest. Each has less than the share, so only the first is cut.
        let others = (0..all as u64 / 4).map(|at| of(100 + (at % 4) as u32, 0x10_0000 + at));
        written.closings.extend(others);
        written.cut(all * 3 / 4, |_| true);
        let of_noise = written.closings.iter().filter(|it| it.process.process_id() == 7).count();
        assert_eq!((of_noise, written.closings.len()), (all / 2, all * 3 / 4));
        assert_eq!(lost(&written), (all as u64 / 2, Some(7)), "each is counted with its process");
    }

    /// Many processes of one user, each with few closings, took the places of other users'.
    #[test]
    fn closings_of_the_processes_of_one_user_leave_room_for_those_of_others() {
        let mut written = written();
        let of = |uid: u32, process_id: u32, file: u64| Closing {
            process: Described::default().of_process(process_id).of_user(uid),
            ..closing(file * 0x1000, 4, true)
        };
        let all = (WAITING_MAX + OPEN_MAX) as u32;
        let others = 100;
        let crowd = (others..all).map(|at| of(1000, 1 + at, u64::from(at)));
        written.closings.extend(crowd);
        // Another user's one process has more than each of theirs.
        written.closings.extend((0..others).map(|at| of(1001, 9999, 0x10_0000 + u64::from(at))));
        for closing in &mut written.closings {
            closing.stage = OPEN;
        }
        let room = all as usize / 2;
        written.cut(room, |_| true);
        let of_other = written.closings.iter().filter(|it| it.process.process_id() == 9999);
        assert_eq!((of_other.count(), written.closings.len()), (others as usize, room));
        assert!(written.lost.process_id().is_some_and(|process_id| process_id <= all));
    }

    #[test]
    fn what_is_known_to_have_changed_is_kept_first() {
        let mut written = written();
        written.closings.extend((1..=9).map(|file| closing(file * 0x1000, 4, false)));
        written.closings.push(Closing { stage: Stage::Waiting, ..closing(0xa000, 4, true) });
        written.cut(2, |_| true);
        let files: Vec<_> = written.closings.iter().map(|closing| closing.file).collect();
        assert_eq!((files.len(), files[0]), (2, Tag::of(0xa000)));
    }
}

//! Closings of files: which are checked, and which stay when there is no room.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::file::OpenFile;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;

use super::*;
use crate::container_config::Glob;
use crate::state::described::ProcessDescription;
use crate::state::facts::InodeFacts;
use crate::walk::{FileRow, InodeRow, MmRow, VmaRow};

pub(super) fn closing(file: u64, size: u64, written: bool) -> ClosedDescriptor {
    ClosedDescriptor {
        stage: ClosingStage::New,
        process: ProcessDescription::default(),
        index: 7,
        name: None,
        previous: None,
        naming: NameReads::default(),
        open: None,
        close_on_exec: false,
        attributes: InodeFacts::default(),
        opened: FileAtOpen { size, modify_time_ns: 5, written },
        file: Tag::of(file),
        inode: KernelVa(0x9000),
        since: Now::default(),
        is_open: false,
        closed_scans: 0,
        is_running: false,
        is_nameless_by_chance: false,
        manager: None,
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
fn follow(written: &mut FileContent, files: &[u64]) -> Vec<ClosingStage> {
    written.follow_files(&scan(files), Now::default());
    written.closings.retain(|closing| closing.stage != ClosingStage::Over);
    written.closings.iter().map(|closing| closing.stage).collect()
}

fn written() -> FileContent {
    FileContent::new(&Limits::default(), true, HashKey::new(1))
}

const OPEN: ClosingStage = ClosingStage::Open { absent_scans: 0 };
const ALERT: ClosingStage = ClosingStage::Waiting { matters: true };
const EVENT: ClosingStage = ClosingStage::Waiting { matters: false };

#[test]
fn the_last_descriptor_to_close_is_compared_with_the_first_seen_state() {
    let mut written = written();
    // A shell moves its descriptor: the file is still open.
    written.closings.push(closing(0x1000, 4, true));
    assert_eq!(follow(&mut written, &[0x1000, 0x2000]), [OPEN]);
    // Another file's descriptor closes meanwhile.
    let other = ClosedDescriptor { inode: KernelVa(0xa000), ..closing(0x3000, 1, false) };
    written.closings.push(other);
    assert_eq!(follow(&mut written, &[0x1000, 0x2000]), [OPEN, ClosingStage::Closed]);
    assert_eq!(written.closings[1].opened.size, 1);
    written.closings.pop();
    // Then the last one closes, which has seen no change itself.
    written.closings.push(ClosedDescriptor { index: 8, ..closing(0x1000, 9, false) });
    assert_eq!(follow(&mut written, &[0x2000]), [ClosingStage::Closed]);
    let opened = FileAtOpen { size: 4, modify_time_ns: 5, written: true };
    assert_eq!((written.closings[0].index, written.closings[0].opened), (8, opened));
}

#[test]
fn the_times_of_an_empty_file_are_no_change_of_its_content() {
    let decide = |opened: (u64, bool), size, (atime_ns, mtime_ns)| {
        let mut closing = closing(0x1000, opened.0, opened.1);
        closing.attributes.number = 7;
        let mode = 0o100_644;
        let now = Attributes {
            ino: 7,
            mode,
            nlink: 1,
            size,
            atime_ns,
            mtime_ns,
            ..Attributes::default()
        };
        closing.decide(Some(now));
        closing.stage
    };
    // A scan came between the creation of a file by `touch` and the setting of its times.
    assert_eq!(decide((0, true), 0, (9, 9)), ClosingStage::Over);
    assert_eq!(decide((0, false), 0, (8, 9)), ClosingStage::Over);
    // It was cut to nothing right before it was first seen, or has got content.
    assert_eq!(decide((0, true), 0, (8, 9)), ClosingStage::Changed);
    assert_eq!(decide((0, false), 1, (9, 9)), ClosingStage::Changed);
    assert_eq!(decide((4, false), 4, (5, 9)), ClosingStage::Changed);
}

#[test]
fn a_file_that_is_first_seen_changed_does_not_hide_an_older_state() {
    let mut written = written();
    let mut late = closing(0x1000, 9, false);
    late.opened.modify_time_ns = 7;
    written.closings.push(late);
    assert_eq!(follow(&mut written, &[0x1000]), [OPEN]);
    written.closings.push(closing(0x1000, 4, false));
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Closed]);
    assert_eq!(written.closings[0].opened.size, 4);
}

/// A shell and the program that it runs share an open file, and may end within one or two scans.
/// The first of these may not show that the shell still has the file open.
#[test]
fn a_change_by_processes_that_end_one_after_the_other_is_one_record() {
    let mut written = written();
    written.closings.push(closing(0x1000, 4, true));
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Closed]);
    written.closings[0].stage = ALERT;
    let late =
        ClosedDescriptor { index: 8, since: Now::default().after(10), ..closing(0x1000, 9, false) };
    written.closings.push(late);
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Closed]);
    let kept = written.closings[0];
    assert_eq!((kept.index, kept.opened.size, kept.opened.written), (7, 4, true));
    assert_eq!(kept.since, Now::default(), "it waits no longer than before");
    // Another open file of the same inode is another change.
    written.closings[0].stage = ALERT;
    written.closings.push(closing(0x2000, 9, true));
    assert_eq!(follow(&mut written, &[]).len(), 2);
}

/// A child that shares its parent's table ends, in a scan that cannot show the parent's table.
#[test]
fn a_change_is_that_of_the_oldest_process_that_closes_the_file() {
    let mut written = written();
    let (parent, child) =
        (ProcessDescription::default().began(5), ProcessDescription::default().began(6));
    let of = |process, index| ClosedDescriptor { process, index, ..closing(0x1000, 4, true) };
    written.closings.push(ClosedDescriptor { stage: ALERT, ..of(child, 3) });
    written.closings.push(of(parent, 4));
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Closed]);
    let kept = written.closings[0];
    assert_eq!((kept.process.start_boottime(), kept.index), (5, 4));
    // A child that closes the file later does not replace it.
    written.closings[0].stage = ALERT;
    written.closings.push(of(child, 3));
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Closed]);
    let kept = written.closings[0];
    assert_eq!((kept.process.start_boottime(), kept.index), (5, 4));
}

/// A later open of the file might get the same `struct file`.
#[test]
fn a_change_is_not_withheld_by_a_file_that_is_open() {
    let mut written = written();
    written.closings.push(ClosedDescriptor { stage: ALERT, ..closing(0x1000, 4, true) });
    written.closings.push(ClosedDescriptor { index: 8, ..closing(0x1000, 9, true) });
    assert_eq!(follow(&mut written, &[0x1000]), [OPEN, ALERT]);
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Open { absent_scans: 1 }, ALERT]);
}

#[test]
fn a_change_waits_for_hashes_and_for_others_that_close_the_file() {
    let mut change = ClosedDescriptor { stage: ALERT, ..closing(0x1000, 4, true) };
    let soon = Now::default().after(20_000_000);
    assert!(!change.is_due(true, soon));
    change.closed_scans = SETTLED_SCANS;
    assert!(change.is_due(true, soon));
    assert!(!change.is_due(false, soon));
    change.closed_scans = 0;
    assert!(change.is_due(false, Now::default().after(HASHES_NS)));
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
    assert_eq!(follow(&mut written, &[]), [ClosingStage::Open { absent_scans: 1 }]);
    assert_eq!(follow(&mut written, &[0x1000]), [OPEN]);
    let stages: Vec<_> = (0..ABSENT_SCANS).map(|_| follow(&mut written, &[])[0]).collect();
    assert_eq!(stages.last(), Some(&ClosingStage::Closed));
    assert!(!stages[..stages.len() - 1].contains(&ClosingStage::Closed));
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

/// Noise must not take the places of other processes' closings.
#[test]
fn a_process_that_closes_very_many_files_takes_no_room_of_others() {
    let mut written = written();
    let of = |process_id: u32, file: u64| ClosedDescriptor {
        process: ProcessDescription::default().of_process(process_id),
        ..closing(file * 0x1000, 4, true)
    };
    let all = WAITING_MAX + OPEN_MAX;
    written.closings.extend((0..all as u64).map(|file| of(7, file)));
    written.cut(all * 3 / 4, |_| true);
    assert_eq!(written.closings.len(), all * 3 / 4);
    let lost = |written: &FileContent| (written.lost.missed(), written.lost.process_id());
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
    let of = |uid: u32, process_id: u32, file: u64| ClosedDescriptor {
        process: ProcessDescription::default().of_process(process_id).of_user(uid),
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
    written.closings.push(ClosedDescriptor {
        stage: ClosingStage::Waiting { matters: true },
        ..closing(0xa000, 4, true)
    });
    written.cut(2, |_| true);
    let files: Vec<_> = written.closings.iter().map(|closing| closing.file).collect();
    assert_eq!((files.len(), files[0]), (2, Tag::of(0xa000)));
}

/// A closing of a file of this name, whose content has changed.
fn changed(written: &mut FileContent, name: &str, inode: u64) {
    let name = written.strings.intern(name.as_bytes());
    let closing =
        ClosedDescriptor { name, inode: KernelVa(inode), ..closing(inode + 0x100, 4, true) };
    written.closings.push(ClosedDescriptor { stage: ClosingStage::Changed, ..closing });
}

fn judge(written: &mut FileContent, snapshot: &Snapshot) -> Vec<ClosingStage> {
    written.judge(snapshot);
    written.closings.drain(..).map(|closing| closing.stage).collect()
}

#[test]
fn files_that_do_not_matter_are_reported_only_if_they_are_wanted() {
    let mut written = written();
    let all = |written: &mut FileContent| {
        changed(written, "/etc/passwd", 0x9000);
        changed(written, "/tmp/note", 0xa000);
        changed(written, "/srv/app/config", 0xb000);
        judge(written, &scan(&[]))
    };
    assert_eq!(all(&mut written), [ALERT, ClosingStage::Over, ClosingStage::Over]);
    let set_rules = |written: &mut FileContent, rules: ContentRules| {
        written.set_rules(&DetectorRules {
            is_enabled: &|_| true,
            login_servers: &Arc::default(),
            content_rules: &Arc::new(rules),
        });
    };
    let include = vec![Glob::new("/srv/app/*")];
    set_rules(&mut written, ContentRules { include, ..ContentRules::default() });
    assert_eq!(all(&mut written), [ALERT, ClosingStage::Over, ALERT]);
    set_rules(&mut written, ContentRules { others: true, ..ContentRules::default() });
    assert_eq!(all(&mut written), [ALERT, EVENT, EVENT]);
}

/// dracut writes scripts into its own folders while they run.
#[test]
fn what_programs_of_an_initramfs_write_does_not_matter() {
    let mut written = written();
    let script = "/usr/lib/dracut/hooks/initqueue/finished/devexists-vda.sh";
    for (is_starting, expected) in [(true, ClosingStage::Over), (false, ALERT)] {
        written.paths.set_starting(is_starting);
        changed(&mut written, script, 0x9000);
        assert_eq!(judge(&mut written, &scan(&[])), [expected]);
    }
}

#[test]
fn a_file_that_a_process_runs_matters_wherever_it_is() {
    let mut written = written();
    for flags in [0, VM_EXEC] {
        let mut snapshot = scan(&[0x1000, 0x2000]);
        let other = OpenFile { inode: KernelVa(0xa000), ..OpenFile::default() };
        let other = FileRow { address: KernelVa(0x2000), open: other, ..FileRow::default() };
        snapshot.inodes.row_of(0xa000, InodeRow::default);
        // An executable, and a file that is mapped.
        let library = snapshot.files.find(0x1000);
        let program = snapshot.files.row_of(0x3000, || other);
        snapshot.mms.row_of(0x5000, || MmRow { exe_file: program, ..MmRow::default() });
        let mut area = VmaRow { file: library, ..VmaRow::default() };
        area.vma.flags = flags;
        snapshot.vmas.push(area);
        changed(&mut written, "/srv/app/plugin", 0x9000);
        changed(&mut written, "/srv/app/serve", 0xa000);
        changed(&mut written, "/srv/app/data", 0xb000);
        let plugin = if flags == 0 { ClosingStage::Over } else { ALERT };
        assert_eq!(judge(&mut written, &snapshot), [plugin, ALERT, ClosingStage::Over]);
    }
}

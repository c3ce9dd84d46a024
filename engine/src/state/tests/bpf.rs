//! Programs of eBPF and their links: loaded, attached, hidden and dangerous.

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf_attach::attachment_kind;
use panoptes_tables::Index;

use super::watch::{NOTHING, Watch, at_once, limits, next_scan};
use super::world::{BOOT_NS, two_processes};
use crate::state::bpf::{BPF_LINKS_TRACKED_MAX, BPF_PROGRAMS_TRACKED_MAX};
use crate::state::{Change, ScanContext, StateSettings};
use crate::time::SECOND_NS;
use crate::walk::bpf_view::{
    ATTACHMENT, LINK_IDR, MAP_IDR, PROGRAM_IDR as IDR, REFERENCE, SYMBOLS,
};
use crate::walk::{BpfHelpers, BpfLinkRow, BpfProgramRow, BpfTarget, MemoryCopyMode, ProcessRow};

const ALL: u16 = IDR | SYMBOLS | MAP_IDR | LINK_IDR | ATTACHMENT;

/// A program with a number, in the IDR and the list of symbols.
fn program(id: u32, name: &str) -> BpfProgramRow {
    BpfProgramRow {
        address: KernelVa(0xffff_c900_0000_0000 + u64::from(id) * 0x1000),
        id,
        kind: 2,
        name: ArrayString::from(name).expect("it is short"),
        loaded_ns: 1000 + u64::from(id),
        views: IDR | SYMBOLS,
        references: 1,
        helpers: Some(BpfHelpers::default()),
        ..BpfProgramRow::default()
    }
}

/// The same program, in these views.
fn shown_by(program: BpfProgramRow, views: u16) -> BpfProgramRow {
    BpfProgramRow { views, ..program }
}

/// A link that attaches a program to a control group.
fn link(id: u32, program: &BpfProgramRow) -> BpfLinkRow {
    BpfLinkRow {
        address: KernelVa(0xffff_8881_0000_0000 + u64::from(id) * 0x100),
        id,
        kind: 3,
        program_address: program.address,
        target: BpfTarget::Cgroup(4711),
        views: IDR,
        ..BpfLinkRow::default()
    }
}

/// What a scan reads of eBPF.
#[derive(Clone, Debug)]
struct FakeRead {
    programs: Vec<BpfProgramRow>,
    links: Vec<BpfLinkRow>,
    complete: u16,
    is_quiet: bool,
    is_early: bool,
    /// Whether it leaves descriptors of processes that rest.
    is_light: bool,
    copied: MemoryCopyMode,
    /// Time since boot.
    boot_ns: i64,
}

impl FakeRead {
    /// A whole read in which nothing changes.
    fn of(programs: &[BpfProgramRow], links: &[BpfLinkRow]) -> Self {
        Self {
            programs: programs.to_vec(),
            links: links.to_vec(),
            complete: ALL,
            is_quiet: true,
            is_early: false,
            is_light: false,
            copied: MemoryCopyMode::No,
            boot_ns: 0,
        }
    }

    fn show(&self, watch: &mut Watch) {
        two_processes().show(&mut watch.snapshot);
        let snapshot = &mut watch.snapshot;
        snapshot.machine.calendar_ns = Some(BOOT_NS + self.boot_ns);
        (snapshot.is_early, snapshot.copied) = (self.is_early, self.copied);
        snapshot.is_light = self.is_light;
        let bpf = &mut snapshot.bpf;
        bpf.programs.clear();
        bpf.links.clear();
        for program in &self.programs {
            bpf.programs.push(*program);
        }
        for link in &self.links {
            let mut indexed = bpf.programs.indexed();
            let program = indexed.find(|(_, row)| row.address == link.program_address);
            let program = program.map(|(index, _)| index);
            bpf.links.push(BpfLinkRow { program, ..*link });
        }
        (bpf.complete, bpf.stopped) = (self.complete, ALL & !self.complete);
        (bpf.is_fresh, bpf.quiet) = (true, self.is_quiet);
    }
}

/// The changes that a scan with a read shows.
fn scan(watch: &mut Watch, read: &FakeRead) -> Vec<String> {
    read.show(watch);
    watch.update_from()
}

/// The same of a whole, quiet read.
fn show(watch: &mut Watch, programs: &[BpfProgramRow], links: &[BpfLinkRow]) -> Vec<String> {
    scan(watch, &FakeRead::of(programs, links))
}

/// After a first read, which shows the baseline.
fn after(programs: &[BpfProgramRow], links: &[BpfLinkRow]) -> Watch {
    let mut watch = Watch::quiet();
    assert_eq!(show(&mut watch, programs, links), NOTHING);
    watch
}

/// How many objects or views are not compared at present.
fn missed(watch: &mut Watch) -> u64 {
    watch.state.losses(&watch.snapshot, watch.now).1[2].standing()
}

fn holder(position: usize) -> Option<Index<ProcessRow>> {
    Index::new(position)
}

#[test]
fn a_load_and_an_unload_are_reported_once_with_the_process_that_holds_it() {
    let old = program(1, "old");
    let mut watch = after(&[old], &[]);
    let held = BpfProgramRow { holder: holder(1), ..program(2, "new") };
    assert_eq!(show(&mut watch, &[old, held], &[]), ["+program new 2 by 100"]);
    for _ in 0..3 {
        assert_eq!(show(&mut watch, &[old, held], &[]), NOTHING);
    }
    assert_eq!(show(&mut watch, &[old], &[]), ["-program new 2"]);
    assert_eq!(show(&mut watch, &[], &[]), ["-program old 1"], "of the baseline");
    assert_eq!(watch.state.bpf_programs().count(), 0);
}

#[test]
fn programs_and_links_of_the_baseline_are_reported_if_that_is_wanted() {
    let settings = StateSettings { report_existing: true, ..at_once() };
    let mut watch = Watch::new(&limits(), settings);
    let one = program(1, "one");
    let lines = show(&mut watch, &[one], &[link(7, &one)]);
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("program")).collect();
    assert_eq!(lines, ["+program one 1", "+link 7 of program one 1"]);
}

#[test]
fn the_baseline_lasts_until_a_read_has_followed_both_idrs() {
    let one = program(1, "one");
    for missing in [IDR, LINK_IDR] {
        let mut watch = Watch::quiet();
        let part = FakeRead { complete: ALL & !missing, ..FakeRead::of(&[], &[]) };
        assert_eq!(scan(&mut watch, &part), NOTHING);
        assert_eq!(show(&mut watch, &[one], &[link(7, &one)]), NOTHING, "{missing}");
        let two = program(2, "two");
        let lines = show(&mut watch, &[one, two], &[link(7, &one)]);
        assert_eq!(lines, ["+program two 2"]);
    }
}

#[test]
fn an_absence_counts_only_where_the_idr_is_complete() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[link(7, &one)]);
    let without = FakeRead::of(&[], &[]);
    for complete in [0, ALL & !IDR & !LINK_IDR] {
        for _ in 0..8 {
            let part = FakeRead { complete, ..without.clone() };
            assert_eq!(scan(&mut watch, &part), NOTHING);
        }
    }
    let links = FakeRead { complete: ALL & !IDR, ..without.clone() };
    assert_eq!(scan(&mut watch, &links), ["-link 7 of program one 1"]);
    // Others come and go: a tree that is changed while it is followed may lack what it has.
    let busy = FakeRead { is_quiet: false, ..without };
    assert_eq!(scan(&mut watch, &busy), NOTHING);
    assert_eq!(show(&mut watch, &[one], &[]), NOTHING);
    assert_eq!(scan(&mut watch, &busy), NOTHING);
    assert_eq!(scan(&mut watch, &busy), ["-program one 1"]);
}

#[test]
fn another_program_or_link_in_the_same_place_is_an_end_and_a_beginning() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[link(7, &one)]);
    let again = BpfProgramRow { id: 2, loaded_ns: 5000, ..one };
    let lines = show(&mut watch, &[again], &[BpfLinkRow { id: 8, ..link(7, &one) }]);
    let expected = [
        "-link 7 of program one 1",
        "-program one 1",
        "+program one 2",
        "+link 8 of program one 2",
    ];
    assert_eq!(lines, expected);
    // The kernel has wrapped its numbers around.
    let later = BpfProgramRow { loaded_ns: 6000, ..again };
    let lines = show(&mut watch, &[later], &[BpfLinkRow { id: 8, ..link(7, &one) }]);
    assert_eq!(lines, ["-program one 2", "+program one 2"]);
}

#[test]
fn a_link_that_is_updated_detaches_one_program_and_attaches_the_other() {
    let (one, two) = (program(1, "one"), program(2, "two"));
    let mut watch = after(&[one, two], &[link(7, &one)]);
    let held = BpfLinkRow { holder: holder(1), ..link(7, &two) };
    let lines = show(&mut watch, &[one, two], &[held]);
    assert_eq!(lines, ["-link 7 of program one 1", "+link 7 of program two 2 by 100"]);
    assert_eq!(show(&mut watch, &[one, two], &[held]), NOTHING);
}

/// `bpf_link_prime` adds it to the IDR before it is whole.
#[test]
fn a_link_without_a_number_or_a_program_is_not_attached_yet() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[]);
    let begun = BpfLinkRow { id: 0, ..link(7, &one) };
    assert_eq!(show(&mut watch, &[one], &[begun]), NOTHING);
    let none = BpfLinkRow { program_address: KernelVa::NULL, ..link(7, &one) };
    assert_eq!(show(&mut watch, &[one], &[none]), NOTHING, "that of struct_ops has none");
    let unlisted = BpfLinkRow { views: REFERENCE, ..link(7, &one) };
    assert_eq!(show(&mut watch, &[one], &[unlisted]), NOTHING);
    assert_eq!(show(&mut watch, &[one], &[link(7, &one)]), ["+link 7 of program one 1"]);
}

/// The control group has ended, or `BPF_LINK_DETACH` was called.
#[test]
fn a_link_that_has_lost_its_place_in_two_reads_is_detached_once() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[link(7, &one)]);
    let lost = BpfLinkRow { target: BpfTarget::Unknown, ..link(7, &one) };
    assert_eq!(show(&mut watch, &[one], &[lost]), NOTHING, "it could not be read");
    assert_eq!(show(&mut watch, &[one], &[link(7, &one)]), NOTHING);
    assert_eq!(show(&mut watch, &[one], &[lost]), NOTHING);
    assert_eq!(show(&mut watch, &[one], &[lost]), ["-link 7 of program one 1"]);
    for _ in 0..3 {
        assert_eq!(show(&mut watch, &[one], &[lost]), NOTHING);
    }
    assert_eq!(show(&mut watch, &[], &[]), ["-program one 1"]);
    // A place that was never known is none that was lost.
    let mut watch = after(&[one], &[lost]);
    for _ in 0..3 {
        assert_eq!(show(&mut watch, &[one], &[lost]), NOTHING);
    }
}

/// A program that is attached to an interface by netlink.
fn attachment(program: &BpfProgramRow) -> BpfLinkRow {
    BpfLinkRow {
        address: KernelVa(0x1234_5678 ^ program.address.0),
        id: 0,
        kind: attachment_kind::XDP,
        target: BpfTarget::Device(2),
        views: ATTACHMENT,
        ..link(0, program)
    }
}

#[test]
fn a_program_in_a_place_without_a_link_is_attached_and_detached() {
    let (one, two) = (program(1, "one"), program(2, "two"));
    let mut watch = after(&[one, two], &[attachment(&one)]);
    let both = [attachment(&one), attachment(&two)];
    assert_eq!(show(&mut watch, &[one, two], &both), ["+link 0 of program two 2"]);
    assert_eq!(show(&mut watch, &[one, two], &both), NOTHING);
    // Attachments change while nothing is loaded, so one quiet read proves nothing.
    assert_eq!(show(&mut watch, &[one, two], &both[..1]), NOTHING);
    assert_eq!(show(&mut watch, &[one, two], &both[..1]), ["-link 0 of program two 2"]);
    let partial = FakeRead { complete: ALL & !ATTACHMENT, ..FakeRead::of(&[one, two], &[]) };
    for _ in 0..3 {
        assert_eq!(scan(&mut watch, &partial), NOTHING, "not all places were read");
    }
    assert_eq!(show(&mut watch, &[one, two], &both[..1]), NOTHING);
    let without_links = FakeRead { complete: ALL & !LINK_IDR, ..partial };
    assert_eq!(scan(&mut watch, &without_links), NOTHING);
    assert_eq!(scan(&mut watch, &without_links), ["-link 0 of program one 1"]);
}

/// A light scan leaves descriptors of processes that rest.
#[test]
fn a_performance_event_ends_where_all_descriptors_were_looked_at() {
    let one = program(1, "one");
    let event = BpfLinkRow { kind: attachment_kind::PERF_EVENT, ..attachment(&one) };
    let mut watch = after(&[one], &[event]);
    let light = FakeRead { is_light: true, ..FakeRead::of(&[one], &[]) };
    for _ in 0..3 {
        assert_eq!(scan(&mut watch, &light), NOTHING);
    }
    assert_eq!(show(&mut watch, &[one], &[]), NOTHING);
    assert_eq!(show(&mut watch, &[one], &[]), ["-link 0 of program one 1"]);
}

#[test]
fn an_attachment_ends_with_its_program() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[attachment(&one)]);
    let lines = show(&mut watch, &[], &[]);
    assert_eq!(lines, ["-link 0 of program one 1", "-program one 1"]);
}

#[test]
fn the_baseline_lasts_until_a_read_has_seen_all_places() {
    let one = program(1, "one");
    let mut watch = Watch::quiet();
    let part = FakeRead { complete: ALL & !ATTACHMENT, ..FakeRead::of(&[one], &[]) };
    assert_eq!(scan(&mut watch, &part), NOTHING);
    assert_eq!(show(&mut watch, &[one], &[attachment(&one)]), NOTHING);
}

#[test]
fn a_program_that_only_a_place_shows_is_hidden() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[attachment(&one)]);
    let hidden = shown_by(one, ATTACHMENT);
    assert_eq!(show(&mut watch, &[hidden], &[attachment(&one)]), NOTHING);
    let lines = show(&mut watch, &[hidden], &[attachment(&one)]);
    assert_eq!(lines, ["hidden program one 1 0x20 2"]);
}

#[test]
fn a_hidden_program_is_reported_in_the_second_quiet_read_once() {
    let one = program(1, "one");
    for views in [SYMBOLS, REFERENCE, SYMBOLS | REFERENCE] {
        let mut watch = after(&[one], &[]);
        let hidden = [shown_by(one, views)];
        assert_eq!(show(&mut watch, &hidden, &[]), NOTHING);
        assert!(watch.state.waits_for_next());
        let expected = format!("hidden program one 1 {views:#x} 2");
        assert_eq!(show(&mut watch, &hidden, &[]), [expected.as_str()]);
        assert!(!watch.state.waits_for_next());
        for _ in 0..3 {
            assert_eq!(show(&mut watch, &hidden, &[]), NOTHING);
        }
        for _ in 0..2 {
            assert_eq!(show(&mut watch, &[one], &[]), NOTHING, "it is shown again");
        }
        assert_eq!(show(&mut watch, &hidden, &[]), NOTHING);
        assert_eq!(show(&mut watch, &hidden, &[]), [expected.as_str()]);
        assert_eq!(show(&mut watch, &[], &[]), ["-program one 1"]);
    }
}

/// A rootkit takes it out of the IDR before watching starts, or as soon as it is loaded.
#[test]
fn a_program_that_no_scan_has_seen_in_the_idr_is_hidden_and_was_not_loaded() {
    let hidden = BpfProgramRow { id: 0, ..shown_by(program(1, "one"), REFERENCE) };
    let mut watch = after(&[hidden], &[]);
    assert_eq!(show(&mut watch, &[hidden], &[]), ["hidden program one 0 0x4 2"]);
    assert_eq!(show(&mut watch, &[], &[]), NOTHING, "no record has said that it was loaded");
    let mut watch = after(&[], &[]);
    assert_eq!(show(&mut watch, &[hidden], &[]), NOTHING);
    assert_eq!(show(&mut watch, &[hidden], &[]), ["hidden program one 0 0x4 2"]);
}

/// `__bpf_prog_put` takes its number away after the last reference, and RCU frees it later.
#[test]
fn a_program_without_references_ends_and_is_not_hidden() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[]);
    let ends = BpfProgramRow { id: 0, references: 0, ..shown_by(one, SYMBOLS) };
    for _ in 0..20 {
        assert_eq!(show(&mut watch, &[ends], &[]), NOTHING);
        assert!(!watch.state.waits_for_next());
    }
    assert_eq!(show(&mut watch, &[], &[]), ["-program one 1"]);
    // One that no scan has seen before is none.
    assert_eq!(show(&mut watch, &[ends], &[]), NOTHING);
    assert_eq!(watch.state.bpf_programs().count(), 0);
}

#[test]
fn one_read_alone_and_reads_of_other_programs_prove_nothing() {
    let (one, two) = (program(1, "one"), program(2, "two"));
    let mut watch = after(&[one, two], &[]);
    for _ in 0..8 {
        assert_eq!(show(&mut watch, &[shown_by(one, SYMBOLS), two], &[]), NOTHING);
        assert_eq!(show(&mut watch, &[one, shown_by(two, SYMBOLS)], &[]), NOTHING);
    }
}

#[test]
fn early_scans_and_an_idr_that_ends_early_prove_nothing() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[]);
    let hidden = FakeRead::of(&[shown_by(one, SYMBOLS)], &[]);
    for _ in 0..5 {
        assert_eq!(scan(&mut watch, &FakeRead { is_early: true, ..hidden.clone() }), NOTHING);
        let part = FakeRead { complete: ALL & !IDR, ..hidden.clone() };
        assert_eq!(scan(&mut watch, &part), NOTHING);
    }
    // What was suspected before an incomplete read still is.
    assert_eq!(scan(&mut watch, &hidden), NOTHING);
    let part = FakeRead { complete: ALL & !IDR, ..hidden.clone() };
    assert_eq!(scan(&mut watch, &part), NOTHING);
    assert_eq!(scan(&mut watch, &hidden), ["hidden program one 1 0x2 2"]);
}

/// Only a descriptor leads to it, of a process that rests.
#[test]
fn a_light_scan_says_nothing_of_what_the_idr_lacks() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[link(7, &one)]);
    let hidden = [shown_by(one, REFERENCE)];
    let unlisted = [BpfLinkRow { views: REFERENCE, ..link(7, &one) }];
    let light = FakeRead { is_light: true, ..FakeRead::of(&[], &[]) };
    assert_eq!(show(&mut watch, &hidden, &unlisted), NOTHING);
    for _ in 0..5 {
        assert_eq!(scan(&mut watch, &light), NOTHING);
        assert!(watch.state.waits_for_next());
    }
    let lines = show(&mut watch, &hidden, &unlisted);
    assert_eq!(lines, ["hidden program one 1 0x4 2"]);
    for _ in 0..5 {
        assert_eq!(scan(&mut watch, &light), NOTHING);
    }
    let lines = show(&mut watch, &[], &[]);
    assert_eq!(lines, ["-link 7 of program one 1", "-program one 1"]);
    // What the IDR had is gone without it.
    let mut watch = after(&[one], &[]);
    assert_eq!(scan(&mut watch, &light), ["-program one 1"]);
}

#[test]
fn reads_while_programs_change_need_a_second_of_the_machines_clock() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[]);
    let busy = FakeRead { is_quiet: false, ..FakeRead::of(&[shown_by(one, SYMBOLS)], &[]) };
    for number in 0..10 {
        let read = FakeRead { boot_ns: number * SECOND_NS / 10, ..busy.clone() };
        assert_eq!(scan(&mut watch, &read), NOTHING, "{number}");
    }
    let read = FakeRead { boot_ns: SECOND_NS, ..busy.clone() };
    assert_eq!(scan(&mut watch, &read), ["hidden program one 1 0x2 11"]);
    // A stopped machine proves nothing.
    let mut watch = after(&[one], &[]);
    for _ in 0..100 {
        watch.now = watch.now.after(SECOND_NS);
        assert_eq!(scan(&mut watch, &busy), NOTHING);
    }
}

#[test]
fn a_copy_shows_a_hidden_program_at_once() {
    let hidden = [shown_by(program(1, "one"), REFERENCE)];
    let mut watch = Watch::quiet();
    let copy = FakeRead { copied: MemoryCopyMode::AtOnce, ..FakeRead::of(&hidden, &[]) };
    assert_eq!(scan(&mut watch, &copy), ["hidden program one 1 0x4 1"]);
    assert!(!watch.state.waits_for_next());
    // Nothing is complete in a copy that may be torn.
    let mut watch = Watch::quiet();
    let copied = MemoryCopyMode::PageByPage;
    let torn = FakeRead { copied, complete: 0, ..FakeRead::of(&hidden, &[]) };
    assert_eq!(scan(&mut watch, &torn), NOTHING);
}

#[test]
fn a_dangerous_program_is_reported_once_whenever_its_helpers_are_known() {
    let signals = |program| BpfProgramRow { helpers: Some(BpfHelpers::SEND_SIGNAL), ..program };
    let (one, two) = (program(1, "one"), program(2, "two"));
    let mut watch = Watch::quiet();
    let lines = show(&mut watch, &[signals(one)], &[]);
    assert_eq!(lines, ["dangerous program one 1 0x4"], "of the baseline");
    let unknown = BpfProgramRow { helpers: None, ..two };
    let lines = show(&mut watch, &[signals(one), unknown], &[]);
    assert_eq!(lines, ["+program two 2"]);
    let held = BpfProgramRow { holder: holder(1), ..signals(two) };
    let lines = show(&mut watch, &[signals(one), held], &[]);
    assert_eq!(lines, ["dangerous program two 2 0x4 by 100"]);
    // They are not forgotten if a read does not know them.
    for programs in [[signals(one), unknown], [signals(one), signals(two)]] {
        assert_eq!(show(&mut watch, &programs, &[]), NOTHING);
    }
}

#[test]
fn a_program_that_denies_is_reported_when_all_descriptors_were_looked_at() {
    let denies = BpfProgramRow { helpers: Some(BpfHelpers::DENIES), ..program(1, "one") };
    let mut watch = after(&[], &[]);
    let light = FakeRead { is_light: true, ..FakeRead::of(&[denies], &[]) };
    assert_eq!(scan(&mut watch, &light), ["+program one 1"]);
    let held = BpfProgramRow { holder: holder(1), ..denies };
    assert_eq!(show(&mut watch, &[held], &[]), ["dangerous program one 1 0x8 by 100"]);
    assert_eq!(show(&mut watch, &[held], &[]), NOTHING);
}

/// The changes of alerts that are accepted in the third of four updates.
fn alerts(watch: &mut Watch, read: &FakeRead) -> Vec<String> {
    let mut reported = Vec::new();
    for number in 0..4 {
        read.show(watch);
        watch.now = next_scan(watch.now);
        watch.state.update(
            &watch.snapshot,
            watch.now,
            &mut |_: &ScanContext<'_>, change: &Change<'_>| match change {
                Change::BpfProgramHidden { is_accepted, scans, .. } => {
                    reported.push(format!("hidden {scans}"));
                    is_accepted.set(number == 2);
                }
                Change::BpfProgramDangerous { is_accepted, .. } => {
                    reported.push("dangerous".to_owned());
                    is_accepted.set(number == 2);
                }
                _ => {}
            },
        );
    }
    reported
}

#[test]
fn alerts_that_are_not_accepted_are_reported_again() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[]);
    let hidden = FakeRead::of(&[shown_by(one, SYMBOLS)], &[]);
    assert_eq!(scan(&mut watch, &hidden), NOTHING);
    assert_eq!(alerts(&mut watch, &hidden), ["hidden 2", "hidden 3", "hidden 4"]);
    let mut watch = after(&[one], &[]);
    let helpers = Some(BpfHelpers::PROBE_WRITE_USER);
    let dangerous = FakeRead::of(&[BpfProgramRow { helpers, ..one }], &[]);
    assert_eq!(alerts(&mut watch, &dangerous), ["dangerous"; 3]);
}

/// A scan that did not read eBPF says nothing about it.
#[test]
fn programs_are_compared_only_if_a_scan_has_read_them() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[]);
    FakeRead::of(&[], &[]).show(&mut watch);
    watch.snapshot.bpf.is_fresh = false;
    assert_eq!(watch.update_from(), NOTHING);
    assert_eq!(watch.state.bpf_programs().count(), 1);
}

#[test]
fn programs_and_links_beyond_the_tables_are_counted() {
    let programs: Vec<_> =
        (1..=BPF_PROGRAMS_TRACKED_MAX as u32 + 2).map(|id| program(id, "many")).collect();
    let links: Vec<_> =
        (1..=BPF_LINKS_TRACKED_MAX as u32 + 1).map(|id| link(id, &programs[0])).collect();
    let mut watch = after(&programs, &links);
    assert_eq!(missed(&mut watch), 3);
    assert_eq!(show(&mut watch, &programs[..4], &links[..4]).len(), 768 - 4 + 480 - 4);
    assert_eq!(missed(&mut watch), 0);
}

#[test]
fn an_idr_that_never_ends_is_a_gap() {
    let mut watch = after(&[], &[]);
    for view in [IDR, SYMBOLS, MAP_IDR, LINK_IDR] {
        let part = FakeRead { complete: ALL & !view, ..FakeRead::of(&[], &[]) };
        scan(&mut watch, &part);
        watch.now = watch.now.after(9 * SECOND_NS);
        scan(&mut watch, &part);
        assert_eq!(missed(&mut watch), 0);
        watch.now = watch.now.after(SECOND_NS);
        scan(&mut watch, &part);
        assert_eq!(missed(&mut watch), 1, "{view}");
        show(&mut watch, &[], &[]);
        assert_eq!(missed(&mut watch), 0);
    }
}

#[test]
fn forgetting_begins_with_a_baseline_again() {
    let one = program(1, "one");
    let mut watch = after(&[one], &[link(7, &one)]);
    watch.state.forget();
    assert_eq!(show(&mut watch, &[one], &[link(7, &one)]), NOTHING);
    assert_eq!(watch.state.bpf_programs().count(), 1);
}

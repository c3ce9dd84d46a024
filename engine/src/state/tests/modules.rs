//! Kernel modules: loaded, unloaded, changed and hidden.

use core::slice::from_ref;
use std::collections::{BTreeMap, BTreeSet};

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::{Module, ModulePart, ModuleStage};
use proptest::prelude::*;

use super::watch::{NOTHING, Watch, at_once, limits, next_scan};
use super::world::{BOOT_NS, World, two_processes};
use crate::state::modules::MODULES_TRACKED_MAX;
use crate::state::{Change, ScanContext, StateSettings};
use crate::time::SECOND_NS;
use crate::walk::module_view::{KSET, LIST, TREE};
use crate::walk::{Index, MemoryCopyMode, ModuleLoader, ModuleRow, ModuleViews};

const ALL: u16 = LIST | TREE | KSET;

/// A module as a read shows it.
#[derive(Clone, Debug)]
struct FakeModule {
    row: ModuleRow,
}

impl FakeModule {
    /// A module that lives, in all views.
    fn new(name: &str, place: u64) -> Self {
        let mut module = Module { kobject_sd: KernelVa(0x9000 + place), ..Module::default() };
        module.name[..name.len()].copy_from_slice(name.as_bytes());
        module.parts[0] = ModulePart { base: KernelVa(0xffff_ffff_c000_0000 + place), size: 4096 };
        let address = KernelVa(0xffff_ffff_c000_0000 + place * 0x1_0000);
        Self { row: ModuleRow { address, module, views: ModuleViews(ALL), ..ModuleRow::default() } }
    }

    fn at(mut self, stage: ModuleStage) -> Self {
        self.row.module.stage = stage;
        self
    }

    fn in_views(mut self, views: u16) -> Self {
        self.row.views = ModuleViews(views);
        self
    }

    fn in_directory(mut self, directory: u64) -> Self {
        self.row.module.kobject_sd = KernelVa(directory);
        self
    }

    fn of_version(mut self, version: &str) -> Self {
        self.row.source_version = ArrayString::from(version).expect("it is short");
        self
    }
}

/// What a scan reads of modules.
#[derive(Clone, Debug)]
struct FakeRead {
    modules: Vec<FakeModule>,
    complete: u16,
    stopped: u16,
    is_quiet: bool,
    is_locked: bool,
    is_early: bool,
    copied: MemoryCopyMode,
    /// Time since boot.
    boot_ns: i64,
    users: Vec<ModuleLoader>,
}

impl FakeRead {
    /// A whole read in which nothing changes.
    fn of(modules: &[FakeModule]) -> Self {
        Self {
            modules: modules.to_vec(),
            complete: ALL,
            stopped: 0,
            is_quiet: true,
            is_locked: false,
            is_early: false,
            copied: MemoryCopyMode::No,
            boot_ns: 0,
            users: Vec::new(),
        }
    }

    /// The same while others change the list.
    fn busy(modules: &[FakeModule], boot_ns: i64) -> Self {
        Self { is_quiet: false, boot_ns, ..Self::of(modules) }
    }

    fn show(&self, world: &World, watch: &mut Watch) {
        world.show(&mut watch.snapshot);
        let snapshot = &mut watch.snapshot;
        snapshot.machine.calendar_ns = Some(BOOT_NS + self.boot_ns);
        (snapshot.is_early, snapshot.copied) = (self.is_early, self.copied);
        let modules = &mut snapshot.modules;
        modules.rows.clear();
        modules.users.clear();
        for module in &self.modules {
            modules.rows.push(module.row);
        }
        modules.users.extend(self.users.iter().copied());
        modules.complete = ModuleViews(self.complete);
        modules.stopped = ModuleViews(self.stopped);
        modules.is_fresh = true;
        modules.quiet = self.is_quiet;
        modules.busy_scans = u32::from(self.is_locked);
    }
}

/// The changes that a scan with a read shows.
fn scan(watch: &mut Watch, read: &FakeRead) -> Vec<String> {
    read.show(&two_processes(), watch);
    watch.update_from()
}

/// The same of a whole, quiet read.
fn show(watch: &mut Watch, modules: &[FakeModule]) -> Vec<String> {
    scan(watch, &FakeRead::of(modules))
}

/// After a first read, which shows the baseline.
fn after(modules: &[FakeModule]) -> Watch {
    let mut watch = Watch::quiet();
    assert_eq!(show(&mut watch, modules), NOTHING);
    watch
}

/// How many modules or views are not compared at present.
fn missed(watch: &mut Watch) -> u64 {
    watch.state.losses(&watch.snapshot, watch.now).1[1].standing()
}

fn video() -> FakeModule {
    FakeModule::new("video", 1)
}

fn dummy() -> FakeModule {
    FakeModule::new("dummy", 2)
}

#[test]
fn a_load_and_an_unload_are_reported_once_with_the_only_process_that_may_cause_them() {
    let mut watch = after(&[video()]);
    let by = |position: usize, is_unload| {
        let process = Index::new(position).expect("it is low");
        ModuleLoader { process, thread_id: 1, is_unload }
    };
    let begins = [video(), dummy().at(ModuleStage::Unformed).in_views(LIST | TREE)];
    assert_eq!(show(&mut watch, &begins), NOTHING, "it is not set up");
    let coming = dummy().at(ModuleStage::Coming).in_views(LIST | TREE).in_directory(0);
    let users = vec![by(1, false), by(1, false), by(0, true)];
    let read = FakeRead { users, ..FakeRead::of(&[video(), coming]) };
    assert_eq!(scan(&mut watch, &read), ["+module dummy by 100"]);
    for _ in 0..3 {
        assert_eq!(show(&mut watch, &[video(), dummy()]), NOTHING);
    }
    let going = dummy().at(ModuleStage::Going).in_views(LIST | TREE).in_directory(0);
    assert_eq!(show(&mut watch, &[video(), going.clone()]), NOTHING);
    let unformed = going.at(ModuleStage::Unformed);
    assert_eq!(show(&mut watch, &[video(), unformed]), NOTHING);
    let users = vec![by(1, true), by(2, true)];
    let read = FakeRead { users, ..FakeRead::of(&[video()]) };
    assert_eq!(scan(&mut watch, &read), ["-module dummy"], "two processes may have done it");
    assert_eq!(watch.state.modules().count(), 1);
}

#[test]
fn modules_of_the_baseline_are_reported_if_that_is_wanted() {
    let settings = StateSettings { report_existing: true, ..at_once() };
    let mut watch = Watch::new(&limits(), settings);
    let lines = show(&mut watch, &[video(), dummy()]);
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("module")).collect();
    assert_eq!(lines, ["+module video", "+module dummy"]);
}

#[test]
fn the_baseline_lasts_until_a_read_has_followed_the_list() {
    let mut watch = Watch::quiet();
    let part = FakeRead { complete: TREE, stopped: LIST, ..FakeRead::of(&[video()]) };
    assert_eq!(scan(&mut watch, &part), NOTHING);
    assert_eq!(show(&mut watch, &[video(), dummy()]), NOTHING);
    let more = FakeModule::new("zram", 3);
    assert_eq!(show(&mut watch, &[video(), dummy(), more]), ["+module zram"]);
}

#[test]
fn a_module_without_which_only_incomplete_reads_are_is_unloaded_after_three() {
    let mut watch = after(&[video(), dummy()]);
    let without = FakeRead { complete: LIST, stopped: TREE, ..FakeRead::of(&[video()]) };
    assert_eq!(scan(&mut watch, &without), NOTHING);
    assert_eq!(scan(&mut watch, &without), NOTHING);
    assert_eq!(scan(&mut watch, &without), ["-module dummy"]);
    let nothing = FakeRead { complete: 0, stopped: ALL, ..FakeRead::of(&[]) };
    for _ in 0..8 {
        assert_eq!(scan(&mut watch, &nothing), NOTHING);
    }
}

#[test]
fn a_module_that_begins_or_ends_is_not_hidden() {
    let mut watch = after(&[video()]);
    let steps = [
        dummy().at(ModuleStage::Unformed).in_views(LIST | TREE).in_directory(0),
        dummy().at(ModuleStage::Coming).in_views(LIST | TREE).in_directory(0),
        dummy().at(ModuleStage::Coming),
        dummy(),
        dummy().at(ModuleStage::Going),
        dummy().at(ModuleStage::Going).in_views(LIST | TREE).in_directory(0),
        dummy().at(ModuleStage::Unformed).in_views(LIST | TREE).in_directory(0),
    ];
    for step in &steps {
        for _ in 0..4 {
            let lines = show(&mut watch, &[video(), step.clone()]);
            assert!(lines.iter().all(|line| !line.contains("hidden")), "{lines:?} {step:?}");
        }
    }
}

#[test]
fn a_hidden_module_is_reported_in_the_second_quiet_read_once() {
    for missing in [LIST, TREE, KSET, LIST | KSET] {
        let mut watch = after(&[video(), dummy()]);
        let hidden = [video(), dummy().in_views(ALL & !missing)];
        assert_eq!(show(&mut watch, &hidden), NOTHING);
        assert!(watch.state.waits_for_next());
        let expected = format!("hidden module dummy {missing:#x} 2");
        assert_eq!(show(&mut watch, &hidden), [expected.as_str()]);
        assert!(!watch.state.waits_for_next());
        for _ in 0..3 {
            assert_eq!(show(&mut watch, &hidden), NOTHING);
        }
        for _ in 0..2 {
            assert_eq!(show(&mut watch, &[video(), dummy()]), NOTHING, "it is shown again");
        }
        assert_eq!(show(&mut watch, &hidden), NOTHING);
        assert_eq!(show(&mut watch, &hidden), [expected.as_str()]);
        assert_eq!(show(&mut watch, &[video()]), ["-module dummy"]);
    }
}

/// A rootkit poisons the links of the list, drops the directory and clears the state.
#[test]
fn a_module_of_which_only_the_tree_is_left_is_hidden_whenever_that_was() {
    let mut watch = after(&[video()]);
    let left = dummy().at(ModuleStage::Unformed).in_views(TREE).in_directory(0);
    assert_eq!(show(&mut watch, &[video(), left.clone()]), NOTHING);
    assert_eq!(show(&mut watch, &[video(), left.clone()]), ["hidden module dummy 0x1 2"]);
    assert_eq!(show(&mut watch, &[video()]), NOTHING, "no record has said that it was loaded");
    let mut watch = after(&[video(), left.clone()]);
    assert_eq!(show(&mut watch, &[video(), left]), ["hidden module dummy 0x1 2"]);
}

#[test]
fn a_hidden_module_whose_report_is_not_accepted_is_reported_again() {
    let mut watch = after(&[dummy()]);
    let hidden = FakeRead::of(&[dummy().in_views(TREE | KSET)]);
    assert_eq!(scan(&mut watch, &hidden), NOTHING);
    let first = watch.now.real;
    let mut reported = Vec::new();
    for number in 0..4 {
        hidden.show(&two_processes(), &mut watch);
        watch.now = next_scan(watch.now);
        watch.state.update(
            &watch.snapshot,
            watch.now,
            &mut |_: &ScanContext<'_>, change: &Change<'_>| {
                if let Change::ModuleHidden { is_accepted, since_ns, .. } = change {
                    reported.push(*since_ns);
                    is_accepted.set(number == 2);
                }
            },
        );
    }
    assert_eq!(reported, [first; 3]);
}

#[test]
fn reads_while_modules_change_need_a_second_of_the_machines_clock() {
    let mut watch = after(&[dummy()]);
    let hidden = [dummy().in_views(LIST | KSET)];
    for number in 0..10 {
        let read = FakeRead::busy(&hidden, number * SECOND_NS / 10);
        assert_eq!(scan(&mut watch, &read), NOTHING, "{number}");
    }
    let read = FakeRead::busy(&hidden, SECOND_NS);
    assert_eq!(scan(&mut watch, &read), ["hidden module dummy 0x2 11"]);
    // A stopped machine proves nothing.
    let mut watch = after(&[dummy()]);
    for _ in 0..100 {
        watch.now = watch.now.after(SECOND_NS);
        assert_eq!(scan(&mut watch, &FakeRead::busy(&hidden, 5)), NOTHING);
    }
}

/// The processor that loads or unloads it may stand still between the two lists.
#[test]
fn a_module_that_does_not_live_is_not_hidden_while_the_lock_is_held() {
    for stage in [ModuleStage::Unformed, ModuleStage::Coming, ModuleStage::Going] {
        let mut watch = after(&[video()]);
        let modules = [video(), dummy().at(stage).in_views(TREE).in_directory(0)];
        for number in 0..40 {
            let read = FakeRead::busy(&modules, number * SECOND_NS);
            assert_eq!(scan(&mut watch, &FakeRead { is_locked: true, ..read }), NOTHING);
            assert!(!watch.state.waits_for_next());
        }
        assert_eq!(show(&mut watch, &modules), NOTHING);
        assert_eq!(show(&mut watch, &modules), ["hidden module dummy 0x1 2"], "{stage:?}");
    }
    // A live one is in both.
    let mut watch = after(&[dummy()]);
    let hidden = [dummy().in_views(TREE | KSET)];
    let mut lines = Vec::new();
    for number in 0..8 {
        let read = FakeRead::busy(&hidden, number * SECOND_NS);
        lines.extend(scan(&mut watch, &FakeRead { is_locked: true, ..read }));
    }
    assert_eq!(lines, ["hidden module dummy 0x1 8"]);
}

#[test]
fn early_scans_and_views_that_end_early_prove_nothing() {
    let mut watch = after(&[dummy()]);
    let hidden = FakeRead::of(&[dummy().in_views(TREE | KSET)]);
    for _ in 0..5 {
        assert_eq!(scan(&mut watch, &FakeRead { is_early: true, ..hidden.clone() }), NOTHING);
        let part = FakeRead { complete: TREE | KSET, stopped: LIST, ..hidden.clone() };
        assert_eq!(scan(&mut watch, &part), NOTHING);
    }
    assert_eq!(scan(&mut watch, &hidden), NOTHING);
    assert_eq!(scan(&mut watch, &hidden), ["hidden module dummy 0x1 2"]);
}

#[test]
fn one_quiet_read_of_a_copy_is_enough() {
    for (is_quiet, expected) in [(true, vec!["hidden module dummy 0x1 1"]), (false, vec![])] {
        let hidden = FakeRead::of(&[dummy().in_views(TREE | KSET)]);
        let read = FakeRead { copied: MemoryCopyMode::PageByPage, is_quiet, ..hidden };
        let mut watch = Watch::quiet();
        assert_eq!(scan(&mut watch, &read), expected);
        assert!(!watch.state.waits_for_next());
    }
}

#[test]
fn a_view_that_never_ends_and_a_lock_that_is_never_free_are_a_gap() {
    let mut watch = after(&[dummy()]);
    let torn = FakeRead { complete: LIST | KSET, stopped: TREE, ..FakeRead::of(&[dummy()]) };
    let hidden = [dummy().in_views(TREE | KSET)];
    let hidden = FakeRead { is_locked: true, ..FakeRead::busy(&hidden, 0) };
    for read in [torn, hidden] {
        scan(&mut watch, &read);
        assert_eq!(missed(&mut watch), 0);
        watch.now = watch.now.after(11 * SECOND_NS);
        scan(&mut watch, &read);
        assert_eq!(missed(&mut watch), 1);
        // A scan that reads no modules changes nothing.
        watch.snapshot.modules.is_fresh = false;
        watch.update_from();
        assert_eq!(missed(&mut watch), 1);
        show(&mut watch, &[dummy()]);
        assert_eq!(missed(&mut watch), 0);
    }
    // A lock alone is none: an init function may take long.
    let locked = FakeRead { is_locked: true, ..FakeRead::busy(&[dummy()], 0) };
    for _ in 0..3 {
        scan(&mut watch, &locked);
        watch.now = watch.now.after(11 * SECOND_NS);
    }
    assert_eq!(missed(&mut watch), 0);
}

#[test]
fn modules_beyond_the_table_are_counted() {
    let most = MODULES_TRACKED_MAX as u64;
    let modules: Vec<_> = (0..most + 3).map(|at| FakeModule::new("many", at)).collect();
    let mut watch = after(&modules);
    assert_eq!(missed(&mut watch), 3);
    assert_eq!(watch.state.modules().count(), MODULES_TRACKED_MAX);
    assert_eq!(show(&mut watch, &modules[..MODULES_TRACKED_MAX]), NOTHING);
    assert_eq!(missed(&mut watch), 0);
}

#[test]
fn another_load_in_the_same_place_is_an_unload_and_a_load() {
    let both = ["-module dummy", "+module dummy"];
    let coming = dummy().at(ModuleStage::Coming);
    let going = dummy().at(ModuleStage::Going);
    for (before, now) in [
        (dummy(), dummy().in_directory(0x77)),
        (dummy(), coming.clone()),
        (coming.clone(), coming.clone().in_views(LIST | TREE).in_directory(0)),
        (going.clone(), dummy()),
        (going, coming),
    ] {
        let mut watch = after(from_ref(&before));
        assert_eq!(show(&mut watch, from_ref(&now)), both, "{before:?} {now:?}");
        assert_eq!(show(&mut watch, from_ref(&now)), NOTHING);
    }
    let mut watch = after(&[dummy()]);
    let unformed = dummy().at(ModuleStage::Unformed).in_views(LIST | TREE).in_directory(0);
    assert_eq!(show(&mut watch, &[unformed]), NOTHING, "which of the two it is, is not known");
    assert_eq!(show(&mut watch, &[dummy()]), both);
    let other = FakeModule::new("other", 2).in_directory(0x99);
    assert_eq!(show(&mut watch, &[other]), ["-module dummy", "+module other"]);
}

#[test]
fn what_does_not_change_while_a_module_lives_is_compared() {
    let mut watch = after(&[dummy().of_version("A1")]);
    let mut now = dummy().of_version("A1");
    now.row.module.total_bytes += 4096;
    assert_eq!(show(&mut watch, from_ref(&now)), NOTHING, "its first part is freed");
    now.row.module.taints = 1 << 12;
    assert_eq!(show(&mut watch, from_ref(&now)), ["~module dummy dummy 0x8"]);
    now = now.of_version("");
    assert_eq!(show(&mut watch, from_ref(&now)), NOTHING, "it could not be read");
    now = now.of_version("B2");
    assert_eq!(show(&mut watch, from_ref(&now)), ["~module dummy dummy 0x10"]);
    now.row.module.parts[0].base.0 += 4096;
    assert_eq!(show(&mut watch, from_ref(&now)), ["~module dummy dummy 0x4"]);
    now.row.module.parts[0].size += 1;
    now.row.module.is_signed = Some(false);
    assert_eq!(show(&mut watch, from_ref(&now)), ["~module dummy dummy 0x2"]);
    now.row.module.is_signed = Some(true);
    assert_eq!(show(&mut watch, from_ref(&now)), ["~module dummy dummy 0x40"]);
    now.row.module.name[0] = b'x';
    assert_eq!(show(&mut watch, from_ref(&now)), ["~module dummy xummy 0x1"]);
    assert_eq!(show(&mut watch, &[now]), NOTHING);
}

#[test]
fn a_module_that_lives_and_seems_not_to_be_set_up_has_changed() {
    let mut watch = after(&[dummy()]);
    let read = |at: i64| FakeRead {
        boot_ns: at * SECOND_NS / 4,
        ..FakeRead::of(&[dummy().at(ModuleStage::Unformed)])
    };
    for at in 0..4 {
        assert_eq!(scan(&mut watch, &read(at)), NOTHING);
    }
    assert_eq!(scan(&mut watch, &read(4)), ["~module dummy dummy 0x80"]);
    assert_eq!(scan(&mut watch, &read(40)), NOTHING);
}

/// What happens to the modules of a small kernel, one store after another.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next step of a module's life: load, life, unload.
    Advance(usize),
    /// A module that lives leaves a view.
    Hide(usize, u16),
    /// A scan, and which steps happen in the middle of its read. The views that it cannot follow.
    Scan { meanwhile: [usize; 3], stopped: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..PLACES).prop_map(Step::Advance),
        1 => (0..PLACES, prop::sample::select(vec![LIST, TREE, KSET]))
            .prop_map(|(place, view)| Step::Hide(place, view)),
        6 => (prop::array::uniform3(0..PLACES * 3), prop::sample::select(vec![0, 0, 0, LIST, TREE]))
            .prop_map(|(meanwhile, stopped)| Step::Scan { meanwhile, stopped }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Number of places for modules.
const PLACES: usize = 3;

/// A kernel with a few modules, each always in the same place.
#[derive(Clone, Debug, Default)]
struct FakeKernel {
    modules: [Option<FakeModule>; PLACES],
    /// Number of loads so far: each has a directory of its own.
    loads: u64,
    /// Changes of the list and of the tree.
    changes: u64,
}

impl FakeKernel {
    /// The next step of the life of a module (kernel/module/main.c). The list and the tree change
    /// under a lock.
    fn advance(&mut self, place: usize) {
        use ModuleStage::{Coming, Going, Live, Unformed};
        let Some(module) = self.modules[place].take() else {
            self.loads += 1;
            self.changes += 1;
            let new = FakeModule::new(NAMES[place], place as u64).at(Unformed);
            let new = new.of_version(&self.loads.to_string());
            self.modules[place] = Some(new.in_views(LIST | TREE).in_directory(0));
            return;
        };
        let views = module.row.views.0;
        let is_named = !module.row.module.kobject_sd.is_null();
        self.modules[place] = match module.row.module.stage {
            // Only a module that begins has a version here.
            Unformed if module.row.source_version.is_empty() => {
                self.changes += 1;
                None
            }
            Unformed => Some(module.at(Coming)),
            Coming if is_named => Some(module.at(Live)),
            Coming => Some(module.in_views(views | KSET).in_directory(0x1000 + self.loads * 8)),
            Live => Some(module.at(Going)),
            Going if is_named => Some(module.in_views(views & !KSET).in_directory(0)),
            Going => Some(module.at(Unformed).of_version("")),
        };
    }

    /// A read: the list and the modules first, the other views after these steps.
    fn read(&mut self, meanwhile: [usize; 3], stopped: u16) -> FakeRead {
        let (before, changes) = (self.modules.clone(), self.changes);
        for place in meanwhile.into_iter().filter(|&place| place < PLACES) {
            self.advance(place);
        }
        let mut modules = Vec::new();
        for (before, now) in before.iter().zip(&self.modules) {
            let views = |module: &Option<FakeModule>| {
                module.as_ref().map_or(0, |module| module.row.views.0 & !stopped)
            };
            let seen = views(before) & LIST | views(now) & (TREE | KSET);
            let module = before.as_ref().or(now.as_ref());
            modules.extend(module.filter(|_| seen != 0).map(|it| it.clone().in_views(seen)));
        }
        let is_quiet = changes == self.changes;
        FakeRead { complete: ALL & !stopped, stopped, is_quiet, ..FakeRead::of(&modules) }
    }
}

const NAMES: [&str; PLACES] = ["first", "second", "third"];

proptest! {
    /// In any order of loads and unloads, also in the middle of reads, a module is loaded once and
    /// unloaded once, and only one that was hidden is hidden.
    #[test]
    fn loads_and_unloads_are_reported_once_and_nothing_is_hidden_that_was_not(steps in steps()) {
        let (mut watch, mut kernel) = (after(&[]), FakeKernel::default());
        let mut was_hidden = BTreeSet::new();
        let mut loaded: BTreeMap<String, bool> = BTreeMap::new();
        let mut boot_ns = 0;
        let last = [Step::Scan { meanwhile: [PLACES; 3], stopped: 0 }; 4];
        for step in steps.into_iter().chain(last) {
            let (meanwhile, stopped) = match step {
                Step::Advance(place) => {
                    kernel.advance(place);
                    continue;
                }
                Step::Hide(place, view) => {
                    let module = kernel.modules[place].as_mut();
                    let is_live = |it: &&mut FakeModule| it.row.module.stage == ModuleStage::Live;
                    if let Some(module) = module.filter(is_live) {
                        module.row.views.0 &= !view;
                        was_hidden.insert(NAMES[place].to_owned());
                    }
                    continue;
                }
                Step::Scan { meanwhile, stopped } => (meanwhile, stopped),
            };
            boot_ns += SECOND_NS;
            let read = FakeRead { boot_ns, ..kernel.read(meanwhile, stopped) };
            for line in scan(&mut watch, &read) {
                let words: Vec<_> = line.split(' ').collect();
                match words[..] {
                    ["+module", name, ..] => {
                        let before = loaded.insert(name.to_owned(), true);
                        prop_assert!(before != Some(true), "{line} twice");
                    }
                    ["-module", name] => {
                        let before = loaded.insert(name.to_owned(), false);
                        prop_assert!(before == Some(true), "{line} of none");
                    }
                    ["hidden", "module", name, ..] => {
                        prop_assert!(was_hidden.contains(name), "{line}: {read:?}");
                    }
                    _ => prop_assert!(line.starts_with("~module"), "{line}"),
                }
            }
        }
        for (module, name) in kernel.modules.iter().zip(NAMES) {
            let is_there = module.as_ref().is_some_and(|module| {
                module.row.module.stage != ModuleStage::Unformed
            });
            let is_unformed = module.is_some() && !is_there;
            if !was_hidden.contains(name) && !is_unformed {
                let is_loaded = loaded.get(name) == Some(&true);
                prop_assert_eq!(is_loaded, is_there, "{}", name);
            }
        }
    }
}

//! Torn copies: a machine's memory is copied page by page while the machine changes, as LiME and
//! AVML do.
//!
//! None is refused. Each process that lived through the whole copy is found with its own values,
//! and what begins or ends meanwhile is no hidden process or kernel module. `PANOPTES_TORN` is the
//! number of copies, and `PANOPTES_TORN_SEED` makes one again.

#[path = "races/actor.rs"]
mod actor;
#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use actor::Actor;
use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::xarray::{XaSlot, slot};
use panoptes_decoders::source::{
    MachineSource, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest,
};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{MemoryCopyMode, Scope, Snapshot, Walker};
use panoptes_profiles::{DiscoveryOptions, Profile, discover};
use panoptes_synthetic::{HideModule, Machine, Memory, Size, profile};

const RELEASES: [&str; 4] =
    ["5.10.0-32-amd64", "6.1.0-50-amd64", "6.12.117+deb13-amd64", "7.2.13+deb14-amd64"];
const MEMORY_BYTES: u64 = 256 << 20;
/// Room of the array of `struct page`, of 64 bytes for each page.
const TOP_BYTES: u64 = MEMORY_BYTES / 64 + (2 << 20);
/// Pages between two changes, on average, of a machine that is idle and of one that is busy.
const PAGES: [u64; 3] = [2000, 200, 20];
/// One of so many changes continues while pages are copied, with up to so many stores after each.
const LONG_ONES: u64 = 10;
const STORES_MAX: u64 = 100;

/// A copy of memory: what was used, and the array of `struct page` at the top.
struct Dump {
    bytes: Vec<u8>,
    regions: [Range<u64>; 2],
}

impl Dump {
    /// Copies a machine's memory in ascending order while it changes.
    fn of(machine: &mut Machine, actor: &mut Actor, pages: u64) -> Self {
        let mut bytes: Vec<u8> = Vec::new();
        let (size, mut used) = (machine.memory().size(), None);
        let mut from = 0;
        while from < size as usize {
            let page = from..from + PAGE_BYTES as usize;
            bytes.extend_from_slice(&machine.memory().bytes()[page]);
            from += PAGE_BYTES as usize;
            if used.is_none() && from as u64 >= machine.memory().used() {
                used = Some(from as u64);
                from = (size - TOP_BYTES) as usize;
            }
            if machine.step(0) > 0 {
                machine.step(actor.some(STORES_MAX));
            } else if actor.chance(pages) {
                change(machine, actor);
            }
        }
        while machine.step(1000) > 0 {}
        let regions = [0..used.unwrap_or(size), size - TOP_BYTES..size];
        Self { bytes, regions }
    }
}

/// Begins a change. Most changes take less time than the copy of a page; the rest continue while
/// some pages are copied.
fn change(machine: &mut Machine, actor: &mut Actor) {
    machine.tick(1_000_000);
    if actor.chance(LONG_ONES) {
        machine.slowly(|machine| actor.act(machine));
        machine.step(actor.some(STORES_MAX));
    } else {
        actor.act(machine);
    }
}

impl MemorySource for Dump {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        for request in requests {
            let target = request.target_range(arena.len()).expect("it has room");
            let [low, top] = &self.regions;
            let start = match request.address.0.checked_sub(top.start) {
                Some(above) => low.end.saturating_add(above),
                None => request.address.0,
            };
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let end = start.saturating_add(target.len());
            request.outcome = if let Some(bytes) = self.bytes.get(start..end) {
                arena[target].copy_from_slice(bytes);
                ReadOutcome::Read
            } else {
                arena[target].fill(0);
                ReadOutcome::NotBacked
            };
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        let region = self.regions.iter().find(|region| from.0 < region.end)?;
        Some(from.0.max(region.start)..region.end)
    }
}

impl MachineSource for Dump {}

/// Start, by number, of each process that runs.
fn processes(machine: &Machine) -> BTreeMap<u32, u64> {
    let living = machine.processes().filter(|process| process.pid != 0 && !process.is_zombie);
    living.map(|process| (process.pid, process.start_ns)).collect()
}

/// The machine of a seed, after some life.
fn machine(seed: u64, actor: &mut Actor) -> Machine {
    let size = Size {
        processes: 12,
        kernel_threads: 4,
        threads: 1,
        descriptors: 3,
        areas: 4,
        connections: 1,
        containers: 1,
        processors: 2,
        modules: 2,
    };
    let release = RELEASES[(seed % RELEASES.len() as u64) as usize];
    let builder = Machine::builder(&profile(release)).size(size).seed(seed);
    let mut machine = builder.memory(MEMORY_BYTES).heap_pages().build();
    for _ in 0..60 {
        machine.tick(5_000_000);
        actor.act(&mut machine);
    }
    machine
}

fn attach(dump: &mut Dump, release: &str) -> Result<Profile, String> {
    let files = [profile(release)];
    let options =
        DiscoveryOptions { files: &files, generate: false, ..DiscoveryOptions::default() };
    discover(dump, &options, &mut ()).map_err(|error| error.to_string())
}

/// Scans a copy of a machine of this release. `Err` is why it is refused.
fn scan_of(dump: &mut Dump, release: &str) -> Result<Walker, String> {
    let profile = attach(dump, release)?;
    let mut walker = walker();
    match walker.scan(dump, &kernel_of(&profile), Scope::ALL) {
        Ok(_) => Ok(walker),
        Err(why) => Err(format!("not scanned: {why}")),
    }
}

/// What scans copies.
fn walker() -> Walker {
    let mut walker = common::walker(&Limits::default());
    walker.set_copied(MemoryCopyMode::PageByPage);
    walker
}

/// A number of the environment: of copies, or of the seed.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Pages between two changes of the machine of a seed.
fn pages(seed: u64) -> u64 {
    PAGES[(seed / RELEASES.len() as u64 % PAGES.len() as u64) as usize]
}

/// Describes what is wrong in a scan of the copy of a seed.
fn wrong(seed: u64) -> Vec<String> {
    let mut actor = Actor::new(seed);
    let mut machine = machine(seed, &mut actor);
    let before = processes(&machine);
    let mut dump = Dump::of(&mut machine, &mut actor, pages(seed));
    let after = processes(&machine);
    let lived = before.into_iter().filter(|(pid, start)| after.get(pid) == Some(start));
    match scan_of(&mut dump, machine.release()) {
        Err(why) => vec![format!("refused: {why}")],
        Ok(walker) => {
            let snapshot = walker.snapshot();
            let lacking = lived.filter_map(|process| missing(snapshot, process));
            lacking.chain(hidden(snapshot)).chain(hidden_modules(snapshot)).collect()
        }
    }
}

/// Describes what is wrong with a process that lived through the copy.
fn missing(snapshot: &Snapshot, (pid, start_ns): (u32, u64)) -> Option<String> {
    let process = snapshot.process_by_pid(pid);
    let leader = process.and_then(|process| snapshot.leader(process));
    match leader {
        None => Some(format!("process {pid} is missing")),
        Some(leader) if leader.task.start_boottime != start_ns => {
            Some(format!("process {pid} began at {}", leader.task.start_boottime))
        }
        Some(_) => None,
    }
}

/// The processes that a view lacks: nothing has taken one out of a list.
fn hidden(snapshot: &Snapshot) -> Vec<String> {
    let rows = snapshot.processes.iter().filter(|row| !row.missing.is_empty());
    rows.map(|row| {
        let task = &snapshot.threads[row.leader].task;
        format!("process {} is hidden from {:#x}", task.pid, row.missing.0)
    })
    .collect()
}

/// The same of kernel modules.
fn hidden_modules(snapshot: &Snapshot) -> Vec<String> {
    let modules = &snapshot.modules;
    let rows = modules.rows.iter().map(|row| (row, row.missing(modules.complete)));
    rows.filter(|(_, missing)| !missing.is_empty())
        .map(|(row, missing)| {
            let name = row.module.name().escape_ascii();
            format!("module {name} is hidden from {:#x}", missing.0)
        })
        .collect()
}

/// What happens to a machine while it is copied.
type Act = fn(&mut Machine, &mut Cast);

/// The processes of a story: one that has run for a while, and its last child.
struct Cast {
    parent: u32,
    child: u32,
}

fn fork(machine: &mut Machine, cast: &mut Cast) {
    cast.child = machine.fork(cast.parent);
}

/// Forks a child whose number is alone in its node, and in the one above.
fn fork_apart(machine: &mut Machine, cast: &mut Cast) {
    machine.set_next_pid(cast.child + 5000);
    cast.child = machine.fork(cast.parent);
}

fn exec(machine: &mut Machine, cast: &mut Cast) {
    machine.exec(cast.child, "/usr/bin/sleep", &["sleep", "9"]);
}

fn end_child(machine: &mut Machine, cast: &mut Cast) {
    machine.kill(cast.child);
}

fn end_parent(machine: &mut Machine, cast: &mut Cast) {
    machine.kill(cast.parent);
}

fn another(machine: &mut Machine, _: &mut Cast) {
    machine.fork(1);
}

fn load(machine: &mut Machine, _: &mut Cast) {
    machine.load_module("torn", 20_000);
}

fn unload(machine: &mut Machine, _: &mut Cast) {
    machine.unload_module("torn");
}

const STORIES: [&[Act]; 8] = [
    &[fork, exec, end_child],
    &[fork, end_parent, another],
    &[end_parent, another, another],
    &[fork, fork, end_child],
    &[fork, end_child, fork],
    &[exec, end_child, another],
    &[fork_apart, end_child, fork, another],
    &[fork_apart, end_child, fork_apart, end_parent],
];

/// A machine before, between and after what happens to it: the pages that change, in each state.
struct States {
    dump: Dump,
    pages: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl States {
    /// Lets a story happen, with some seconds between two acts.
    fn of(machine: &mut Machine, story: &[Act]) -> Self {
        let parent = machine.fork(1);
        machine.exec(parent, "/usr/bin/bash", &["bash"]);
        machine.tick(60_000_000_000);
        let mut cast = Cast { parent, child: machine.fork(parent) };
        machine.tick(20_000_000_000);
        let size = machine.memory().size();
        let used = (machine.memory().used() + (8 << 20)).min(size - TOP_BYTES);
        let regions = [0..used, size - TOP_BYTES..size];
        let image = |machine: &mut Machine| -> Vec<u8> {
            let bytes = machine.memory().bytes();
            regions.each_ref().map(|it| &bytes[it.start as usize..it.end as usize]).concat()
        };
        let mut states = vec![image(machine)];
        for act in story {
            machine.tick(3_000_000_000);
            act(machine, &mut cast);
            states.push(image(machine));
        }
        let bytes = PAGE_BYTES as usize;
        let changed = (0..states[0].len() / bytes).filter_map(|at| {
            let versions: Vec<_> =
                states.iter().map(|state| &state[at * bytes..(at + 1) * bytes]).collect();
            let differ = versions.windows(2).any(|pair| pair[0] != pair[1]);
            differ.then(|| (at, versions.into_iter().map(<[u8]>::to_vec).collect()))
        });
        let pages = changed.collect();
        Self { dump: Dump { bytes: states.swap_remove(0), regions }, pages }
    }

    /// Copies the machine while the acts happen between these of the changed pages.
    fn copy(&mut self, between: &[usize]) -> &mut Dump {
        let bytes = PAGE_BYTES as usize;
        for (number, (at, versions)) in self.pages.iter().enumerate() {
            let state = between.iter().filter(|&&act| act <= number).count();
            self.dump.bytes[at * bytes..(at + 1) * bytes].copy_from_slice(&versions[state]);
        }
        &mut self.dump
    }
}

/// What copies of a machine hide although nobody hides anything. The acts of a story happen at any
/// places of each copy, in their order.
fn hidden_in_copies(walker: &mut Walker, release: &str, tale: usize, story: &[Act]) -> Vec<String> {
    let copies = number("PANOPTES_TORN").unwrap_or(30) * 10;
    let (mut actor, mut failed) = (Actor::new(tale as u64), Vec::new());
    let builder = Machine::builder(&profile(release)).seed(tale as u64);
    let mut machine = builder.memory(MEMORY_BYTES).heap_pages().build();
    let mut states = States::of(&mut machine, story);
    let profile = attach(states.copy(&[]), release).expect("it is whole");
    let kernel = kernel_of(&profile);
    let count = states.pages.len() as u64 + 1;
    for _ in 0..copies {
        let mut between: Vec<usize> =
            story.iter().map(|_| actor.some(count) as usize - 1).collect();
        between.sort_unstable();
        walker.forget();
        let copy = states.copy(&between);
        let snapshot = walker.scan(copy, &kernel, Scope::ALL).expect("it is scanned");
        let what = hidden(snapshot).into_iter().chain(hidden_modules(snapshot));
        failed.extend(what.map(|what| format!("{tale} {between:?}: {what}")));
    }
    failed
}

#[test]
fn nothing_that_happens_during_a_copy_hides_a_process() {
    let (mut walker, mut failed) = (walker(), Vec::new());
    for (release, (tale, story)) in RELEASES.iter().cycle().zip(STORIES.iter().enumerate()) {
        failed.extend(hidden_in_copies(&mut walker, release, tale, story));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn no_load_or_unload_during_a_copy_hides_a_module() {
    let story: [Act; 4] = [load, unload, load, unload];
    let (mut walker, mut failed) = (walker(), Vec::new());
    for (tale, release) in RELEASES.iter().enumerate() {
        failed.extend(hidden_in_copies(&mut walker, release, tale, &story));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_module_that_leaves_a_list_is_detected_in_a_copy() {
    let ways = [HideModule::List, HideModule::Kset];
    for (release, from) in RELEASES.iter().flat_map(|it| ways.map(|from| (it, from))) {
        let builder = Machine::builder(&profile(release)).memory(MEMORY_BYTES);
        let mut machine = builder.heap_pages().build();
        machine.hide_module("module_2", from);
        let walker = scan_of(&mut whole(&mut machine), release).expect("the copy is not refused");
        let found = hidden_modules(walker.snapshot());
        assert_eq!(found.len(), 1, "{release}, {from:?}: {found:#?}");
        assert!(found[0].starts_with("module module_2 "), "{release}, {from:?}: {found:#?}");
    }
}

/// What an attacker takes a process out of.
#[derive(Clone, Copy, Debug)]
enum Hiding {
    /// The task list. The process's own link leads to itself, or still to its neighbours.
    Tasks,
    TasksOnly,
    /// Its parent's children.
    Children,
    /// The IDR of process ids.
    Idr,
    /// The tasks of its `struct pid`.
    Pid,
}

const HIDINGS: [Hiding; 5] =
    [Hiding::Tasks, Hiding::TasksOnly, Hiding::Children, Hiding::Idr, Hiding::Pid];

impl Hiding {
    fn hide(self, machine: &mut Machine, pid: u32) {
        let layouts = machine.layouts();
        let task = machine.process(pid).task;
        let layout = &layouts.task_struct;
        match self {
            Self::Tasks => machine.hide(pid),
            Self::TasksOnly => skip(machine.memory(), task.plus(layout.tasks.offset.into())),
            Self::Children => {
                let sibling = layout.sibling.expect("it is known");
                skip(machine.memory(), task.plus(sibling.offset.into()));
            }
            Self::Idr => {
                let root = root_of_numbers(machine);
                let slot = slot_of(machine.memory(), &layouts, root, pid);
                machine.memory().put_word(slot, 0);
            }
            Self::Pid => {
                let pid = KernelVa(machine.memory().get(task, layout.thread_pid));
                machine.memory().put_word(pid.plus(layouts.pid.tasks.offset.into()), 0);
            }
        }
    }
}

/// Makes the neighbours of a link lead to each other.
fn skip(memory: &mut Memory, link: KernelVa) {
    let (next, before) = (memory.word(link), memory.word(link.plus(8)));
    memory.put_word(KernelVa(before), next);
    memory.put_word(KernelVa(next).plus(8), before);
}

/// The slot of a number in an IDR.
fn slot_of(memory: &mut Memory, layouts: &Layouts, head: KernelVa, number: u32) -> KernelVa {
    let mut place = head;
    while let XaSlot::Node(node) = slot(memory.word(place)) {
        let shift = memory.get(node, layouts.xa_node.shift);
        let index = u64::from(number) >> shift & 63;
        place = node.plus(u64::from(layouts.xa_node.slots.offset) + index * 8);
    }
    place
}

/// Whether a copy shows that a process is hidden; `None` if that process ended before or during the
/// copy.
fn shows(seed: u64, hiding: Hiding) -> Option<bool> {
    let mut actor = Actor::new(seed);
    let mut machine = machine(seed, &mut actor);
    let users = machine.processes().filter(|it| !it.is_kernel && !it.is_zombie && it.pid > 1);
    let victim = users.map(|it| it.pid).nth(seed as usize % 3)?;
    // It has run for a while, and so have others since.
    machine.tick(10_000_000_000);
    for _ in 0..20 {
        actor.act(&mut machine);
    }
    let is_alive =
        |machine: &Machine| machine.processes().any(|it| it.pid == victim && !it.is_zombie);
    if !is_alive(&machine) {
        return None;
    }
    hiding.hide(&mut machine, victim);
    let start_ns = machine.process(victim).start_ns;
    let mut dump = Dump::of(&mut machine, &mut actor, pages(seed));
    if !is_alive(&machine) {
        return None;
    }
    let walker = scan_of(&mut dump, machine.release()).expect("the copy is not refused");
    Some(shows_hidden(walker.snapshot(), (victim, start_ns)))
}

/// Whether a view lacks a process.
fn shows_hidden(snapshot: &Snapshot, (pid, start_ns): (u32, u64)) -> bool {
    let process = snapshot.process_by_pid(pid);
    let leader = process.and_then(|process| snapshot.leader(process));
    let is_it = leader.is_some_and(|row| row.task.start_boottime == start_ns);
    is_it && process.is_some_and(|process| !process.missing.is_empty())
}

/// The place of the pointer to the root of the tree of numbers.
fn root_of_numbers(machine: &Machine) -> KernelVa {
    let layouts = machine.layouts();
    let namespace = machine.symbol("init_pid_ns").expect("it is known");
    namespace.plus(layouts.pid_idr_root())
}

/// What a page had that has the root of the tree of numbers since.
#[derive(Clone, Copy, Debug)]
enum Former {
    FreeNode,
    /// Something that leads to no node.
    Task,
    /// The tree of a file's pages: nodes of the same kind.
    PageCache,
}

impl Former {
    /// Puts it into the root.
    fn put(self, machine: &mut Machine, root: KernelVa) {
        let layouts = machine.layouts();
        let (first, bytes) = (layouts.xa_node.slots.offset.into(), layouts.xa_node.size);
        let task = machine.process(1).task;
        let memory = machine.memory();
        for number in 0..64 {
            let entry = match self {
                Self::FreeNode => 0,
                Self::Task => task.0 + number * 64,
                Self::PageCache => {
                    let node = memory.allocate(bytes);
                    place_node(memory, &layouts, node, (task, root, number));
                    node.0 | 2
                }
            };
            memory.put_word(root.plus(first).plus(number * 8), entry);
        }
        if matches!(self, Self::PageCache) {
            place_node(memory, &layouts, root, (task, KernelVa::NULL, 0));
            memory.put(root, layouts.xa_node_tree.shift, 6);
        }
    }
}

/// Makes a node one of a tree, in this slot of the node above.
fn place_node(
    memory: &mut Memory,
    layouts: &Layouts,
    node: KernelVa,
    (tree, above, slot): (KernelVa, KernelVa, u64),
) {
    let layout = &layouts.xa_node_tree;
    let fields = [(layout.array, tree.0), (layout.parent, above.0), (layout.offset, slot)];
    for (field, value) in fields {
        memory.put(node, field.expect("it is known"), value);
    }
    memory.put(node, layout.count, 1);
}

/// The tree of numbers got a new root after the page of that was copied.
#[test]
fn a_copy_without_the_tree_of_numbers_has_all_processes() {
    let size = Size { processes: 150, kernel_threads: 20, threads: 0, ..Size::default() };
    let formers = [Former::FreeNode, Former::Task, Former::PageCache];
    for (release, former) in RELEASES.iter().flat_map(|it| formers.map(|former| (it, former))) {
        let builder = Machine::builder(&profile(release)).size(size).memory(MEMORY_BYTES);
        let mut machine = builder.heap_pages().build();
        machine.tick(90_000_000_000);
        let head = root_of_numbers(&machine);
        let XaSlot::Node(root) = slot(machine.memory().word(head)) else {
            panic!("the tree has one node only")
        };
        former.put(&mut machine, root);
        let living = processes(&machine);
        let walker = scan_of(&mut whole(&mut machine), release).expect("the copy is not refused");
        let snapshot = walker.snapshot();
        let mut wrong = hidden(snapshot);
        wrong.extend(living.into_iter().filter_map(|it| missing(snapshot, it)));
        assert!(wrong.is_empty(), "{release}, {former:?}: {wrong:#?}");
    }
}

/// No other process has a number in the node of the hidden process.
#[test]
fn a_process_alone_in_its_node_that_is_hidden_is_detected() {
    for (release, hiding) in RELEASES.iter().flat_map(|it| HIDINGS.map(|hiding| (it, hiding))) {
        let builder = Machine::builder(&profile(release)).memory(MEMORY_BYTES);
        let mut machine = builder.heap_pages().build();
        machine.set_next_pid(5333);
        let victim = machine.fork(1);
        machine.exec(victim, "/usr/bin/bash", &["bash"]);
        let start_ns = machine.process(victim).start_ns;
        assert_eq!(victim, 5333);
        machine.tick(90_000_000_000);
        machine.set_next_pid(9000);
        machine.fork(1);
        hiding.hide(&mut machine, victim);
        let walker = scan_of(&mut whole(&mut machine), release).expect("the copy is not refused");
        assert!(shows_hidden(walker.snapshot(), (victim, start_ns)), "{release}, {hiding:?}");
    }
}

/// Half of its task is from before it got a number of its own, and the list from after that.
#[test]
fn a_child_that_is_still_its_parent_is_no_process() {
    for release in RELEASES {
        let mut machine = Machine::builder(&profile(release)).memory(MEMORY_BYTES).build();
        let parent = machine.fork(1);
        machine.exec(parent, "/usr/bin/bash", &["bash"]);
        machine.tick(90_000_000_000);
        let child = machine.fork(parent);
        let [from, to] = [parent, child].map(|pid| machine.process(pid).task);
        let layouts = machine.layouts();
        let layout = &layouts.task_struct;
        let memory = machine.memory();
        for field in [layout.pid, layout.tgid, layout.group_leader, layout.start_boottime] {
            let value = memory.get(from, field);
            memory.put(to, field, value);
        }
        let walker = scan_of(&mut whole(&mut machine), release).expect("the copy is not refused");
        let snapshot = walker.snapshot();
        let leaders = snapshot.processes.iter().map(|row| snapshot.threads[row.leader].task);
        let of_parent: Vec<_> = leaders.filter(|task| task.pid == parent).collect();
        assert_eq!(of_parent.iter().map(|task| task.address).collect::<Vec<_>>(), [from]);
        assert!(hidden(snapshot).is_empty(), "{release}: {:#?}", hidden(snapshot));
    }
}

/// The node was copied last, so the order does not tell the process from one that has ended.
#[test]
fn a_hidden_process_whose_node_is_copied_last_is_detected() {
    for release in RELEASES {
        let mut machine = Machine::builder(&profile(release)).memory(MEMORY_BYTES).build();
        machine.set_next_pid(5333);
        let victim = machine.fork(1);
        machine.exec(victim, "/usr/bin/bash", &["bash"]);
        let start_ns = machine.process(victim).start_ns;
        machine.tick(90_000_000_000);
        move_leaf(&mut machine, victim);
        Hiding::Idr.hide(&mut machine, victim);
        let walker = scan_of(&mut whole(&mut machine), release).expect("the copy is not refused");
        assert!(shows_hidden(walker.snapshot(), (victim, start_ns)), "{release}");
    }
}

/// Gives the leaf with a number the newest memory, which is the highest.
fn move_leaf(machine: &mut Machine, number: u32) {
    let layouts = machine.layouts();
    let head = root_of_numbers(machine);
    let memory = machine.memory();
    let (slots, bytes) = (u64::from(layouts.xa_node.slots.offset), layouts.xa_node.size);
    let slot = slot_of(memory, &layouts, head, number);
    let old = slot.minus(u64::from(number & 63) * 8 + slots);
    // A slab has whole pages; this one fits into the next.
    let new = KernelVa(memory.allocate(2 * PAGE_BYTES as u32).0.next_multiple_of(PAGE_BYTES));
    for at in (0..u64::from(bytes)).step_by(8) {
        let word = memory.word(old.plus(at));
        memory.put_word(new.plus(at), word);
    }
    let above = KernelVa(memory.get(old, layouts.xa_node_tree.parent.expect("it is known")));
    let place = above.plus(slots + u64::from(number >> 6 & 63) * 8);
    assert_eq!(memory.word(place), old.0 | 2);
    memory.put_word(place, new.0 | 2);
}

/// A copy of a machine that does nothing meanwhile.
fn whole(machine: &mut Machine) -> Dump {
    let bytes = machine.memory().bytes().to_vec();
    Dump { bytes, regions: [0..MEMORY_BYTES, MEMORY_BYTES..MEMORY_BYTES] }
}

#[test]
fn processes_that_are_hidden_in_torn_copies_are_detected() {
    let seeds = number("PANOPTES_TORN").unwrap_or(40);
    let (mut all, mut detected) = (0, 0);
    for hiding in HIDINGS {
        let results = (0..seeds).filter_map(|seed| shows(seed, hiding));
        let (of, shown) =
            results.fold((0, 0_u64), |(of, shown), is| (of + 1, shown + u64::from(is)));
        println!("{hiding:?}: {shown} of {of}");
        (all, detected) = (all + of, detected + shown);
    }
    assert!(all > seeds && detected * 100 >= all * 95, "{detected} of {all}");
}

#[test]
fn torn_copies_have_all_that_lived_through_them() {
    let seeds = match number("PANOPTES_TORN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PANOPTES_TORN").unwrap_or(60),
    };
    let mut failed = Vec::new();
    for seed in seeds {
        failed.extend(wrong(seed).into_iter().map(|what| format!("seed {seed}: {what}")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

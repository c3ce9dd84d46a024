//! Views of modules that agree, and views that lie, end early or never end.

use super::*;
use crate::walk::ScanPart;
use crate::walk::snapshot::FileRow;
use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};

/// Offsets in `struct module`, of the first part of its memory and of its nodes in the tree.
const FIRST_PART: u64 = 200;
const TREE_NODE: u64 = FIRST_PART + 16;
const ALL: u16 = module_view::LIST | module_view::TREE | module_view::KSET;

/// Modules of one letter each, the symbols that lead to them, and an object of /sys/module that is
/// none.
struct ModuleScene {
    memory: Sparse,
    kernel: Kernel,
    walker: Walker,
    head: u64,
    tree: u64,
    kset: u64,
    mutex: u64,
    builtin: u64,
    modules: Vec<u64>,
    changes: u64,
}

impl ModuleScene {
    fn new(count: usize) -> Self {
        let (mut memory, mut kernel) = (Sparse::default(), kernel());
        let [head, tree, variable, kset, mutex, builtin] = [0; 6].map(|_| memory.structure());
        memory.put(variable, kset);
        let roots = &mut kernel.roots;
        (roots.modules, roots.mod_tree) = (va(head), va(tree));
        (roots.module_kset, roots.module_mutex) = (va(variable), va(mutex));
        let walker = walker(&small()).with_sections();
        let (modules, changes) = (Vec::new(), 0);
        let mut scene =
            Self { memory, kernel, walker, head, tree, kset, mutex, builtin, modules, changes };
        for number in 0..count {
            scene.add(number);
        }
        let all = scene.modules.clone();
        scene.link(&all, &all, &all);
        scene
    }

    fn add(&mut self, number: usize) {
        let memory = &mut self.memory;
        let (at, code) = (memory.structure(), memory.room(4096));
        memory.put(at + 24, u64::from(b'a') + number as u64 % 26);
        memory.put(at + FIRST_PART, code);
        memory.put(at + FIRST_PART + 8, 4096);
        memory.put(at + TREE_NODE, at);
        memory.set(at, "module", "mkobj.kobj.kset", self.kset);
        memory.put(at + 80 + 64, at);
        memory.put(at + 728, at + 728);
        memory.set(at, "module", "refcnt.counter", 1);
        self.modules.push(at);
    }

    /// Sets what the three views have.
    fn link(&mut self, list: &[u64], tree: &[u64], kset: &[u64]) {
        let links = list.iter().map(|at| at + 8).collect::<Vec<_>>();
        self.ring(self.head, &links);
        let objects = kset.iter().map(|at| at + 88).chain([self.builtin + 8]);
        let objects = objects.collect::<Vec<_>>();
        self.ring(self.kset, &objects);
        self.link_tree(tree);
    }

    fn ring(&mut self, head: u64, links: &[u64]) {
        let mut last = head;
        for &link in links {
            self.memory.put(last, link);
            self.memory.put(link + 8, last);
            last = link;
        }
        self.memory.put(last, head);
        self.memory.put(head + 8, last);
    }

    /// A tree in which every node has one child.
    fn link_tree(&mut self, modules: &[u64]) {
        for half in 0..2 {
            let (mut place, mut parent) = (self.tree + 8 + 8 * half, 0);
            for at in modules {
                let node = at + TREE_NODE + 8 + 24 * half;
                self.memory.put(place, node);
                self.memory.put(node, parent | 1);
                (place, parent) = (node + 8, node);
            }
            self.memory.put(place, 0);
        }
        self.changes += 2;
        self.memory.put(self.tree, self.changes);
    }

    /// A scan's part of it.
    fn read(&mut self) {
        self.memory.walk(&mut self.walker, &self.kernel, |walker, memory| {
            walker.snapshot.modules.clear();
            walker.read_machine(memory);
            let scope = Scope { module_details: true, ..Scope::ALL };
            walker.read_modules(memory, scope);
        });
    }

    /// Takes the symbols away. A file leads to the second module, and the head of the list alone is
    /// in the kernel's image.
    fn lose_symbols(&mut self) {
        self.kernel.roots = crate::walk::Roots::default();
        self.kernel.space.image = self.head..self.head + 16;
        self.add_file(self.modules[1]);
        self.walker.forget();
    }

    /// Adds an open file whose operations belong to a module.
    fn add_file(&mut self, module: u64) {
        let operations = self.memory.structure();
        self.memory.set(operations, "file_operations", "owner", module);
        let mut row = FileRow { address: va(operations), ..FileRow::default() };
        row.open.op = va(operations);
        self.walker.snapshot.files.row_of(operations, || row).unwrap();
    }

    fn scan(&self) -> &ModuleScan {
        &self.walker.snapshot.modules
    }

    /// The views that show each module, in the order in which they were made.
    fn views(&self) -> Vec<u16> {
        let row = |at: &u64| self.scan().rows.iter().find(|row| row.address.0 == *at);
        self.modules.iter().map(|at| row(at).map_or(0, |row| row.views.0)).collect()
    }

    fn stops(&self) -> Vec<String> {
        let stops = self.walker.snapshot.losses.frequent_stops();
        stops.iter().map(ToString::to_string).collect()
    }

    fn must_read(&self) -> bool {
        self.walker.must_read_modules(&self.kernel)
    }
}

#[test]
fn modules_are_shown_by_all_views() {
    for count in [0, 1, 5] {
        let mut scene = ModuleScene::new(count);
        for _ in 0..2 {
            scene.read();
            assert_eq!(scene.views(), vec![ALL; count]);
            let scan = scene.scan();
            assert!(scan.is_fresh && scan.quiet && scan.stopped.is_empty());
            assert_eq!((scan.rows.len(), scan.complete.0), (count, ALL));
            assert!(scene.walker.snapshot.losses.is_whole() && scene.stops().is_empty());
            assert!(!scene.must_read());
        }
        assert_eq!(scene.walker.modules.known.others, [va(scene.builtin + 8)]);
    }
}

#[test]
fn a_read_of_known_modules_takes_few_batches() {
    let mut scene = ModuleScene::new(20);
    // Its 20 levels would be as many batches.
    scene.kernel.layouts.mod_tree_node = None;
    scene.read();
    let first = scene.memory.batches;
    scene.read();
    let second = scene.memory.batches - first;
    assert!(first > 20 && second < 10, "{first} {second}");
}

#[test]
fn a_light_scan_reads_modules_after_a_change_alone() {
    let mut scene = ModuleScene::new(3);
    scene.read();
    scene.walker.snapshot.is_light = true;
    scene.read();
    assert!(!scene.scan().is_fresh && scene.scan().rows.is_empty());
    let all = scene.modules.clone();
    scene.link(&all[1..], &all[1..], &all[1..]);
    scene.read();
    assert!(scene.scan().is_fresh);
    assert_eq!(scene.views(), [0, ALL, ALL]);
}

#[test]
fn what_one_view_lacks_the_others_show() {
    let lists = [module_view::LIST, module_view::TREE, module_view::KSET];
    for (number, missing) in lists.into_iter().enumerate() {
        let mut scene = ModuleScene::new(3);
        scene.read();
        let all = scene.modules.clone();
        let mut views = [all.clone(), all.clone(), all];
        views[number].remove(1);
        scene.link(&views[0], &views[1], &views[2]);
        // With what the last read knew, and without.
        for _ in 0..2 {
            scene.read();
            assert_eq!(scene.views(), [ALL, ALL & !missing, ALL]);
            assert!(scene.scan().quiet && scene.scan().complete.0 == ALL);
            assert!(scene.must_read(), "it is unsettled");
            scene.walker.forget();
        }
    }
}

#[test]
fn a_module_that_is_none_any_more_is_in_no_view() {
    let mut scene = ModuleScene::new(3);
    let all = scene.modules.clone();
    scene.link(&all, &all, &all[1..]);
    scene.read();
    assert_eq!(scene.views(), [ALL & !module_view::KSET, ALL, ALL]);
    // It was unloaded, and its memory has something else.
    scene.memory.set(all[0], "module", "state", 9);
    let ModuleScene { memory, walker, kernel, .. } = &mut scene;
    memory.walk(walker, kernel, Walker::recheck_modules);
    assert_eq!(scene.views(), [0, ALL, ALL]);
}

/// The list and /sys/module may have been copied before it was loaded, or after it was unloaded.
#[test]
fn only_its_own_links_show_that_a_module_is_hidden_in_a_torn_copy() {
    let both = module_view::LIST | module_view::KSET;
    let cases = [
        (MemoryCopyMode::AtOnce, false, both),
        (MemoryCopyMode::PageByPage, false, 0),
        (MemoryCopyMode::PageByPage, true, both),
    ];
    for (copied, is_poisoned, expected) in cases {
        let mut scene = ModuleScene::new(3);
        scene.walker.set_copied(copied);
        let all = scene.modules.clone();
        scene.link(&all[1..], &all, &all[1..]);
        if is_poisoned {
            // As `list_del` and `kobject_del` leave them.
            scene.memory.put(all[0] + 8, 0xdead_0000_0000_0100);
            scene.memory.put(all[0] + 88, all[0] + 88);
        }
        scene.read();
        let scan = scene.scan();
        assert_eq!(scan.complete.0, ALL, "{copied:?}");
        let row = scan.rows.iter().find(|row| row.address.0 == all[0]).unwrap();
        assert_eq!((row.views.0, row.missing(scan.complete).0), (module_view::TREE, expected));
    }
    // The tree has no such link.
    let mut scene = ModuleScene::new(3);
    scene.walker.set_copied(MemoryCopyMode::PageByPage);
    let all = scene.modules.clone();
    scene.link(&all, &all[1..], &all);
    scene.read();
    assert!(scene.scan().rows.iter().all(|row| row.missing(ModuleViews(ALL)).is_empty()));
}

/// Its links are poisoned, and its state is that of a module which is being set up.
#[test]
fn a_module_that_only_the_tree_has_is_a_row() {
    let mut scene = ModuleScene::new(3);
    let all = scene.modules.clone();
    scene.link(&[all[0], all[2]], &all, &[all[0], all[2]]);
    scene.memory.put(all[1] + 8, 0x3737_3731);
    scene.memory.put(all[1] + 16, 0x3737_3731);
    scene.memory.set(all[1], "module", "state", 3);
    scene.read();
    assert_eq!(scene.views(), [ALL, module_view::TREE, ALL]);
    let row = scene.scan().rows.iter().find(|row| row.address.0 == all[1]).unwrap();
    assert_eq!(row.must_show().0, module_view::LIST | module_view::TREE);
    assert_eq!((row.module.name(), row.module.stage), (&b"b"[..], ModuleStage::Unformed));
}

#[test]
fn lists_that_end_early_are_named() {
    let stop = |structure: &str, reason: &str| vec![format!("{structure}: {reason}")];
    let mut scene = ModuleScene::new(4);
    let at = scene.modules.clone();
    scene.memory.put(at[3] + 8, at[1] + 8);
    scene.read();
    assert_eq!((scene.scan().complete.has(1), scene.scan().stopped.0), (false, 1));
    assert_eq!(scene.stops(), stop("list of kernel modules", &format!("loop at {:#x}", at[1])));
    assert_eq!(scene.walker.snapshot.losses.of(ScanPart::Modules), (0, 1));

    let mut scene = ModuleScene::new(4);
    let at = scene.modules.clone();
    scene.memory.put(at[2] + 8, 0x1000);
    scene.read();
    assert_eq!(scene.scan().stopped.0, module_view::LIST);
    let reason = format!("unreadable at {:#x}", 0x1000 - 8);
    assert_eq!(scene.stops(), stop("list of kernel modules", &reason));

    let mut scene = ModuleScene::new(4);
    let at = scene.modules.clone();
    let [second, last] = [at[1], at[3]].map(|at| at + TREE_NODE + 8);
    scene.memory.put(last + 8, second);
    scene.read();
    assert_eq!((scene.scan().stopped.0, scene.views()), (module_view::TREE, vec![ALL; 4]));
    assert_eq!(scene.stops(), stop("tree of kernel modules", &format!("loop at {second:#x}")));

    let mut scene = ModuleScene::new(4);
    let at = scene.modules.clone();
    scene.memory.put(at[3] + 88, at[0] + 88);
    scene.read();
    assert_eq!(scene.scan().stopped.0, module_view::KSET);
    let reason = format!("loop at {:#x}", at[0] + 88);
    assert_eq!(scene.stops(), stop("objects of kernel modules", &reason));
}

#[test]
fn more_modules_than_there_is_room_for_end_the_list() {
    let mut scene = ModuleScene::new(MODULES_MAX + 5);
    scene.kernel.roots.mod_tree = KernelVa::NULL;
    scene.kernel.layouts.mod_tree_node = None;
    scene.read();
    assert_eq!(scene.scan().rows.len(), MODULES_MAX);
    assert!(scene.scan().stopped.has(module_view::LIST));
    assert!(scene.stops().contains(&"list of kernel modules: no room among 1024".to_owned()));
}

/// Another module's node is no part of the module that it names.
#[test]
fn a_forged_node_of_the_tree_names_no_module() {
    let mut scene = ModuleScene::new(3);
    let at = scene.modules.clone();
    scene.memory.put(at[1] + TREE_NODE, at[0]);
    scene.read();
    assert_eq!(scene.scan().stopped.0, module_view::TREE);
    let node = at[1] + TREE_NODE + 8;
    assert_eq!(scene.stops(), [format!("tree of kernel modules: changed at {node:#x}")]);
}

#[test]
fn the_half_of_the_tree_that_is_not_being_changed_is_read() {
    let mut scene = ModuleScene::new(3);
    scene.memory.put(scene.tree + 8, 0x1000);
    scene.memory.put(scene.tree, scene.changes + 1);
    scene.read();
    assert_eq!((scene.scan().complete.0, scene.views()), (ALL, vec![ALL; 3]));
}

#[test]
fn a_held_lock_is_counted_until_it_is_free() {
    let mut scene = ModuleScene::new(2);
    let holder = scene.memory.structure();
    for scans in 1..3 {
        scene.memory.put(scene.mutex, holder | 1);
        scene.read();
        assert_eq!((scene.scan().quiet, scene.scan().busy_scans), (false, scans));
    }
    // Flags alone are no holder.
    scene.memory.put(scene.mutex, 1);
    scene.read();
    assert_eq!((scene.scan().quiet, scene.scan().busy_scans), (true, 0));
}

#[test]
fn a_kernel_without_symbols_leads_to_its_modules() {
    let mut scene = ModuleScene::new(3);
    scene.kernel.roots = crate::walk::Roots::default();
    scene.read();
    assert!(!scene.scan().is_fresh, "nothing leads to them");
    scene.lose_symbols();
    scene.read();
    assert_eq!(scene.views(), [ALL; 3]);
    assert!(scene.scan().is_fresh && !scene.scan().quiet, "nothing shows the lock");
    assert_eq!(scene.scan().complete.0, ALL);
}

/// Each of them leads to a long list of its own, which does not lead to the kernel's image.
#[test]
fn all_ways_to_the_list_together_take_so_many_rounds() {
    const LINKS: u64 = 1000;
    let mut scene = ModuleScene::new(16);
    scene.lose_symbols();
    for at in scene.modules.clone() {
        let list = scene.memory.room(8 * LINKS + 16);
        for link in 0..LINKS {
            scene.memory.put(list + 8 * link, list + 8 * (link + 1));
        }
        let last = list + 8 * LINKS + 8;
        scene.memory.put(last, at + 8);
        scene.memory.put(at + 8, list);
        scene.memory.put(at + 16, last);
        scene.add_file(at);
    }
    scene.read();
    assert!(!scene.scan().is_fresh);
    assert!(scene.memory.batches < 3000, "{}", scene.memory.batches);
}

/// It is the first one in the list, and has data alone.
#[test]
fn a_module_without_code_does_not_lead_to_the_tree() {
    const PART: u64 = 72;
    let mut scene = ModuleScene::new(3);
    let at = scene.modules.clone();
    scene.memory.put(at[0] + FIRST_PART + 8, 0);
    scene.memory.put(at[0] + PART + TREE_NODE, at[0]);
    scene.link(&at, &[at[0] + PART, at[1], at[2]], &at);
    // The kernel never changed the node of the code.
    for word in 0..6 {
        scene.memory.put(at[0] + TREE_NODE + 8 + 8 * word, 0);
    }
    scene.lose_symbols();
    scene.read();
    assert_eq!((scene.views(), scene.scan().complete.0), (vec![ALL; 3], ALL));
}

#[test]
fn modules_have_versions_build_ids_users_and_sections() {
    let mut scene = ModuleScene::new(3);
    let at = scene.modules.clone();
    let memory = &mut scene.memory;
    let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
    let [version, notes, uses, attributes] = [0; 4].map(|_| memory.structure());
    memory.put(version, word(b"6F2A1\n\0\0"));
    memory.set(at[0], "module", "srcversion", version);
    let note = memory.get(at[0] + FIRST_PART);
    memory.put(note, 4 | 20 << 32);
    memory.put(note + 8, 3 | u64::from(u32::from_le_bytes(*b"GNU\0")) << 32);
    memory.put(note + 16, 0xabcd);
    memory.set(at[0], "module", "notes_attrs", notes);
    memory.set(notes, "module_notes_attrs", "notes", 1);
    memory.put(notes + 16 + 24, note);
    // A note of another module.
    memory.set(at[1], "module", "notes_attrs", notes);
    // The second and the third one use the first one.
    memory.put(at[0] + 728, uses);
    memory.put(uses, uses + 64);
    memory.put(uses + 32, at[1]);
    memory.put(uses + 64, at[0] + 728);
    memory.put(uses + 64 + 32, at[2]);
    // Two sections, and the end of their list.
    memory.set(at[2], "module", "sect_attrs", attributes);
    memory.put(attributes + 32, attributes + 64);
    memory.put(attributes + 64, attributes + 128);
    memory.put(attributes + 72, attributes + 256);
    memory.put(attributes + 128, attributes + 512);
    memory.put(attributes + 128 + 64, 0x1234);
    memory.put(attributes + 256, attributes + 512);
    memory.put(attributes + 256 + 64, 0x5678);
    memory.put(attributes + 512, word(b".text\0\0\0"));
    scene.read();

    let scan = scene.scan();
    let row =
        |number: usize| scan.rows.indexed().find(|(_, row)| row.address.0 == at[number]).unwrap();
    assert_eq!(row(0).1.source_version.as_str(), "6F2A1");
    assert_eq!(row(1).1.source_version.as_str(), "");
    assert_eq!(row(0).1.build_id.bytes().get(..2), Some(&[0xcd, 0xab][..]));
    assert_eq!(row(0).1.build_id.bytes().len(), 20);
    assert!(row(1).1.build_id.bytes().is_empty());
    let holders: Vec<_> = scan.holders_of(row(0).1).map(|row| row.address.0).collect();
    assert_eq!(holders, at[1..]);
    assert_eq!(scan.holders_of(row(1).1).count(), 0);
    let sections: Vec<_> = scan.sections.iter().map(|it| (it.module, it.address)).collect();
    assert_eq!(sections, [(row(2).0, 0x1234), (row(2).0, 0x5678)]);
    assert!(scan.sections.iter().all(|section| section.name.starts_with(b".text\0")));
}

/// A list of users that leads back into itself is followed as far as there may be users.
#[test]
fn users_without_end_are_cut() {
    let mut scene = ModuleScene::new(2);
    let at = scene.modules.clone();
    let entry = scene.memory.structure();
    scene.memory.put(at[0] + 728, entry);
    scene.memory.put(entry, entry);
    scene.memory.put(entry + 32, at[1]);
    scene.read();
    let row = scene.scan().rows.iter().find(|row| row.address.0 == at[0]).unwrap();
    assert_eq!(scene.scan().holders_of(row).count(), MODULES_MAX);
    assert_eq!(scene.stops(), [format!("users of a kernel module: longer than {MODULES_MAX}")]);
    assert!(scene.walker.snapshot.losses.is_whole());
}

/// A thread's registers are at the end of a stack of 16 KiB, but for 16 bytes.
#[test]
fn the_thread_in_the_system_call_is_found() {
    const REGISTERS: u64 = (16 << 10) - 16 - 168;
    let mut scene = ModuleScene::new(2);
    let calls = [1_u64, 313, 176, 175];
    for (number, call) in calls.into_iter().enumerate() {
        let process = add_process(&mut scene.walker, &mut scene.memory, 0);
        let leader = scene.walker.snapshot.processes[process].leader;
        let thread = &mut scene.walker.snapshot.threads[leader];
        (thread.process, thread.task.mm, thread.task.pid) = (Some(process), va(1), number as u32);
        let (task, stack) = (thread.task.address.0, scene.memory.room(16 << 10));
        scene.memory.set(task, "task_struct", "stack", stack);
        scene.memory.put(stack + REGISTERS + 120, call);
        scene.memory.put(stack + REGISTERS + 136, 0x33);
    }
    // The last one is no program's.
    let last = scene.walker.snapshot.processes.last().unwrap().leader;
    scene.walker.snapshot.threads[last].task.mm = KernelVa::NULL;
    scene.read();
    assert!(scene.scan().users.is_empty(), "nothing is being loaded");
    scene.memory.set(scene.modules[1], "module", "state", 1);
    scene.walker.forget();
    scene.read();
    let users = scene.scan().users.iter().map(|it| (it.thread_id, it.is_unload));
    assert_eq!(users.collect::<Vec<_>>(), [(1, false), (2, true)]);
}

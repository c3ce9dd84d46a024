//! Marks: what shows that the owners of executable memory may have changed.
//!
//! A module that was loaded after the owners were searched has code that nobody seems to own. So
//! has one that is gone from the list while its memory is not freed yet. Marks tell such moments
//! from others.

use panoptes_decoders::layout::u64_at;

use super::context::CheckContext;
use crate::time::Monotonic;
use crate::walk::{
    BpfMarks, ModuleMarks, push_bpf_marks, push_module_marks, take_bpf_marks, take_module_marks,
};

/// How long memory stays executable after its owner has left its list, in nanoseconds: the kernel
/// waits until no task can run there (`synchronize_rcu_tasks`).
const LINGER_NS: i64 = 4_000_000_000;

/// What was read of the lists of owners.
#[derive(Clone, Copy, Debug, Default)]
struct CodeMarks {
    modules: ModuleMarks,
    bpf: BpfMarks,
    /// The first of the `ftrace_ops`.
    ftrace: Option<u64>,
    /// The links of the heads of the lists of pages with slots of kprobes.
    slots: [Option<[u64; 2]>; 2],
}

impl CodeMarks {
    fn read(cx: &mut CheckContext<'_>) -> Self {
        let kernel = cx.kernel();
        let (space, symbols) = (&kernel.space, &kernel.symbols);
        let pages = kernel.layouts.kprobe_insn_cache.as_ref().map(|layout| layout.pages.offset);
        cx.reader.clear();
        let modules = push_module_marks(cx.reader, kernel, kernel.roots.modules);
        let bpf = push_bpf_marks(cx.reader, kernel);
        let ops = symbols.ftrace_ops_list;
        let ops = ops.and_then(|at| cx.reader.push_bytes(space, at, 8));
        let slots = [symbols.kprobe_insn_slots, symbols.kprobe_optinsn_slots]
            .map(|at| cx.reader.push_bytes(space, at?.plus(pages?.into()), 16));
        cx.run();
        let object = |pushed: Option<u32>| cx.reader.object(pushed? as usize);
        Self {
            modules: take_module_marks(cx.reader, kernel, modules),
            bpf: take_bpf_marks(cx.reader, kernel, bpf),
            ftrace: object(ops).map(|bytes| u64_at(bytes, 0)),
            slots: slots.map(|slots| object(slots).map(|it| [u64_at(it, 0), u64_at(it, 8)])),
        }
    }

    /// Whether anything but modules has changed.
    fn differs_beside_modules(&self, other: &Self) -> bool {
        let idrs = self.bpf.idrs.iter().zip(other.bpf.idrs);
        let mut slots = self.slots.iter().zip(other.slots);
        idrs.into_iter().any(|(&one, other)| differs(one, other))
            || differs(self.bpf.symbols, other.bpf.symbols)
            || differs(self.ftrace, other.ftrace)
            || slots.any(|(&one, other)| differs(one, other))
    }
}

/// Whether two marks differ. What could not be read says nothing.
fn differs<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// Whether modules were loaded or unloaded between two marks.
fn differs_in_modules(one: &ModuleMarks, other: &ModuleMarks) -> bool {
    differs(one.list, other.list) || differs(one.seq, other.seq)
}

/// Whether the owners of executable memory are those that the machine has now.
#[derive(Debug, Default)]
pub(super) struct OwnerMarks {
    /// Those of the owners.
    marks: CodeMarks,
    /// When a change was seen last.
    changed: Option<Monotonic>,
    /// Whether the modules that own memory are those of the present list.
    has_modules: bool,
}

impl OwnerMarks {
    /// Notes that the modules of these marks own memory now.
    pub(super) fn set_modules(&mut self, marks: ModuleMarks, now: Monotonic) {
        if differs_in_modules(&self.marks.modules, &marks) {
            self.changed = Some(now);
        }
        (self.marks.modules, self.has_modules) = (marks, true);
    }

    /// Whether a scan with these marks shows other modules than those that own memory.
    pub(super) fn lacks(&self, marks: &ModuleMarks) -> bool {
        differs_in_modules(&self.marks.modules, marks)
    }

    /// Compares the marks with the machine's present ones, before a slice. Returns whether the
    /// owners beside modules are to be searched again.
    pub(super) fn update(&mut self, cx: &mut CheckContext<'_>) -> bool {
        let marks = CodeMarks::read(cx);
        self.has_modules = !differs_in_modules(&self.marks.modules, &marks.modules);
        let is_changed = self.marks.differs_beside_modules(&marks);
        if is_changed || !self.has_modules {
            self.changed = Some(cx.now);
        }
        self.marks = CodeMarks { modules: self.marks.modules, ..marks };
        is_changed
    }

    /// Whether memory without an owner had none during a slice that has just ended.
    pub(super) fn is_certain(&mut self, cx: &mut CheckContext<'_>) -> bool {
        let marks = CodeMarks::read(cx);
        let is_changed = self.marks.differs_beside_modules(&marks)
            || differs_in_modules(&self.marks.modules, &marks.modules);
        if is_changed {
            self.changed = Some(cx.now);
        }
        self.has_modules && self.changed.is_none_or(|changed| cx.now.since(changed) >= LINGER_NS)
    }
}

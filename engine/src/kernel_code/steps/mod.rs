//! The steps of a round, one file each.

mod code_window;
mod files;
mod ftrace;
mod ftrace_filter;
mod function_probes;
mod interrupts;
mod kprobes;
mod later;
mod lists;
mod lsm;
mod module_data;
mod module_space;
mod module_text;
mod netfilter;
mod network;
mod notifiers;
mod owners;
mod packets;
mod pages;
mod pointers;
mod proc_files;
mod protocols;
mod sites;
mod system_calls;
mod terminals;
mod text;
mod tracepoints;
mod uprobes;
mod words;
mod work;

#[cfg(test)]
#[path = "tests/scene.rs"]
mod testing;

#[cfg(test)]
#[path = "tests/hostile.rs"]
mod hostile;

#[cfg(test)]
#[path = "tests/rounds.rs"]
mod rounds;

use super::context::{CheckContext, Cursor, Progress};

/// A step of a round.
pub(super) type Step = fn(&mut CheckContext<'_>, &mut Cursor) -> Progress;

/// What finds the owners beside modules. It may run again at any time.
pub(super) const OWNERS: Step = owners::step;

/// The steps, in their order: those that find owners come first.
pub(super) const STEPS: &[Step] = &[
    OWNERS,
    system_calls::step,
    interrupts::step,
    ftrace::step,
    kprobes::step,
    tracepoints::step,
    uprobes::step,
    lsm::step,
    network::step,
    notifiers::step,
    files::step,
    proc_files::step,
    terminals::step,
    later::step,
    pointers::step,
    module_data::step,
    pages::step,
    text::step,
    module_text::step,
];

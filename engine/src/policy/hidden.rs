//! The reason in the record of a hidden process: which views of the kernel's processes show it.

use core::fmt::Write as _;

use arrayvec::ArrayString;

use super::subject_names;
use crate::state::process::Process;
use crate::walk::{Views, view};

/// Maximum length of the reason in bytes: every view is named once.
pub(super) const REASON_BYTES_MAX: usize = 640;

/// The name of each view, the most significant first.
const NAMES: [(u16, &str); 11] = [
    (view::TASK_LIST, "the task list"),
    (view::IDR, "the pid IDR"),
    (view::PID_LIST, "the list of its struct pid"),
    (view::THREAD_GROUP, "its thread group"),
    (view::CHILDREN, "its parent's children"),
    (view::CONTROL_GROUP, "its control group's tasks"),
    (view::PROCESS_GROUP, "its process group"),
    (view::SESSION, "its session"),
    (view::RUN_QUEUE, "the run queues"),
    (view::NAMED, "what other tasks name as parent or first thread"),
    (view::REMEMBERED, "memory, where it was before"),
];

/// Why a process is hidden: the views that do not show it, and those that do.
pub(super) fn reason(
    process: &Process,
    name: &[u8],
    missing: Views,
    shown: Views,
    scans: u32,
) -> ArrayString<REASON_BYTES_MAX> {
    let mut reason = ArrayString::new();
    // The whole sentence fits: see the test of all views.
    let _ = write!(
        reason,
        "{}, with its task_struct at {}, is not in ",
        subject_names::process(name, process.process_id()),
        process.address
    );
    write_views(&mut reason, missing, " or ");
    let _ = reason.write_str(", but in ");
    write_views(&mut reason, shown, " and ");
    // A copy of memory shows it once.
    if scans > 1 {
        let _ = write!(reason, ", in {scans} scans in a row");
    }
    reason
}

fn write_views(out: &mut ArrayString<REASON_BYTES_MAX>, views: Views, last: &str) {
    let names = NAMES.iter().filter(|(bit, _)| views.has(*bit)).map(|(_, name)| *name);
    let _ = write!(out, "{}", subject_names::list(names, last));
}

#[cfg(test)]
mod tests {
    use super::subject_names::PROCESS_BYTES_MAX;
    use super::*;

    #[test]
    fn there_is_room_for_every_view() {
        let mut out = ArrayString::new();
        write_views(&mut out, Views(u16::MAX), " and ");
        // A process, its address, the number of scans, and the text between.
        assert!(out.len() + PROCESS_BYTES_MAX + 100 < REASON_BYTES_MAX, "{out}");
        assert!(out.starts_with("the task list, the pid IDR, "), "{out}");
        assert!(out.ends_with(" and memory, where it was before"), "{out}");
        let mut one = ArrayString::new();
        write_views(&mut one, Views(view::SESSION), " and ");
        assert_eq!(one.as_str(), "its session");
    }
}

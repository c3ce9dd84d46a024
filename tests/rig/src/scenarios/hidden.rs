//! Processes that a rootkit hides, by changes to the kernel's memory that are made from outside.

use super::{Expected, Scenario, Stage, record};

/// A process that sleeps: `$pid`.
const SLEEPER: &str = "sleep 6000.8 < /dev/null > /dev/null 2>&1 & fact pid $!; disown
await '[ /proc/$pid/exe -ef /usr/bin/sleep ]'";
/// Its end, when nothing hides it any more.
const END: &str = "kill $pid; await '[ ! -e /proc/$pid ]'";

const fn scenario(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Behaviour).prepare(SLEEPER).undo(&["show $pid"]).clean(END)
}

/// The alert about `$pid`, with these additional fields.
const fn hidden(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record("process_hidden").with(fields)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("P08", "a process is removed from the task list")
        .host(&["hide $pid task-list"])
        .expect(&[hidden(&[
            ("process.process_id", "$pid"),
            ("process.process_command_line_arguments", "sleep 6000.8"),
            ("detection.reason", "~ is not in the task list, but in the pid IDR, "),
        ])]),
    scenario("P08b", "a process is removed from its parent's children")
        .host(&["hide $pid children"])
        .expect(&[hidden(&[
            ("process.process_id", "$pid"),
            ("detection.reason", "~ is not in its parent's children, but in the task list, "),
        ])]),
    scenario("P08c", "a process is removed from every list, and sleeps on")
        .host(&["hide $pid task-list idr pid tgid process-group session children control-group"])
        .expect(&[hidden(&[
            ("process.process_id", "$pid"),
            ("detection.reason", "~and memory, where it was before, in 2 scans"),
        ])]),
    scenario("P08d", "a process is removed from its control group's tasks")
        .host(&["hide $pid control-group"])
        .expect(&[hidden(&[
            ("process.process_id", "$pid"),
            ("detection.reason", "~ is not in its control group's tasks, but in the task list, "),
        ])]),
    scenario("P09", "a process is removed from the tree of pids").host(&["hide $pid idr"]).expect(
        &[hidden(&[
            ("process.process_id", "$pid"),
            ("detection.reason", "~ is not in the pid IDR, but in the task list, "),
        ])],
    ),
    scenario("P09b", "a process's number leads to no task").host(&["hide $pid pid"]).expect(&[
        hidden(&[
            ("process.process_id", "$pid"),
            ("detection.reason", "~ is not in the list of its struct pid, but in the task list, "),
        ]),
    ]),
    // Diamorphine marks a hidden process by a flag that the kernel does not use, and omits the
    // process when a directory is listed: no list of the kernel changes. Detecting the flag needs
    // no comparison of views.
    scenario("P10", "a flag marks a process for a module that hides it where /proc is listed")
        .host(&["flip $pid 10000000"])
        .undo(&["flip $pid 10000000"])
        .act("act; sleep 600 & fact after $!; scanned; over $after")
        .expect(&[record("process_terminated").with(&[("process.process_id", "$after")])]),
];

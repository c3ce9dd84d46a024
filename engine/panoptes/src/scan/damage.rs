//! What a scan could not read, in one sentence: each kind with its number, and only what there is.

use std::fmt::Write as _;

use panoptes_engine::policy::lines::LineCounts;
use panoptes_engine::walk::{ScanPart, Scope, Snapshot};

/// Numbers of what is missing or incomplete.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Damage {
    /// Each number with the words for what was not read.
    unread: Vec<(u64, [&'static str; 2])>,
    /// The same for what is there in part.
    incomplete: Vec<(u64, [&'static str; 2])>,
}

impl Damage {
    /// What a snapshot lacks of its scope.
    pub(super) fn of(snapshot: &Snapshot, scope: Scope) -> Self {
        let mut damage = Self::default();
        let losses = &snapshot.losses;
        for (part, words) in ScanPart::ALL {
            damage.unread(losses.of(part).0.into(), words);
        }
        let lists: u64 = ScanPart::ALL.iter().map(|&(part, _)| u64::from(losses.of(part).1)).sum();
        damage.incomplete(lists, ["list did not end", "lists did not end"]);
        let counts = [
            (usize::from(!snapshot.task_list_closed), ["the list of tasks is torn"; 2]),
            (usize::from(!snapshot.idr_complete), ["the tree of pids is torn"; 2]),
            (
                snapshot.processes.iter().filter(|process| !process.stable).count(),
                ["process changed meanwhile", "processes changed meanwhile"],
            ),
            (
                snapshot
                    .files_structs
                    .iter()
                    .filter(|table| scope.files && !table.complete)
                    .count(),
                ["descriptor table is incomplete", "descriptor tables are incomplete"],
            ),
            (
                snapshot.mms.iter().filter(|mm| scope.memory && !mm.complete).count(),
                ["address space is incomplete", "address spaces are incomplete"],
            ),
            (
                usize::from(scope.modules && !snapshot.modules.stopped.is_empty()),
                ["the list of kernel modules is torn"; 2],
            ),
            (
                usize::from(scope.bpf && snapshot.bpf.stopped != 0),
                ["a list of eBPF objects is torn"; 2],
            ),
        ];
        for (count, words) in counts {
            damage.incomplete(count as u64, words);
        }
        damage
    }

    /// Adds what the lines lack.
    pub(super) fn with_lines(mut self, lines: &LineCounts) -> Self {
        self.unread(lines.too_long, ["object that is too long", "objects that are too long"]);
        self.unread(lines.unnamed, ["name", "names"]);
        self
    }

    fn unread(&mut self, count: u64, words: [&'static str; 2]) {
        self.unread.extend((count > 0).then_some((count, words)));
    }

    fn incomplete(&mut self, count: u64, words: [&'static str; 2]) {
        self.incomplete.extend((count > 0).then_some((count, words)));
    }

    pub(super) const fn is_none(&self) -> bool {
        self.unread.is_empty() && self.incomplete.is_empty()
    }

    /// The sentence, without a full stop.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (at, &(count, words)) in self.unread.iter().enumerate() {
            let _ = write!(text, "{}", if at == 0 { "not read: " } else { ", " });
            let _ = write!(text, "{count} {}", word(count, words));
        }
        for &(count, words) in &self.incomplete {
            let _ = write!(text, "{}", if text.is_empty() { "" } else { "; " });
            let word = word(count, words);
            // What there is only once has no number.
            if words[0] != words[1] {
                let _ = write!(text, "{count} ");
            }
            text.push_str(word);
        }
        text
    }
}

const fn word(count: u64, words: [&'static str; 2]) -> &'static str {
    if count == 1 { words[0] } else { words[1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named_each_in_its_number() {
        let mut damage = Damage::default();
        assert!(damage.is_none());
        damage.unread(0, ["task", "tasks"]);
        assert!(damage.is_none());
        damage.incomplete(1, ["the list of tasks is torn"; 2]);
        assert_eq!(damage.text(), "the list of tasks is torn");
        damage.unread(1, ["task", "tasks"]);
        damage.unread(3, ["socket", "sockets"]);
        damage.incomplete(2, ["list did not end", "lists did not end"]);
        let expected =
            "not read: 1 task, 3 sockets; the list of tasks is torn; 2 lists did not end";
        assert_eq!(damage.text(), expected);
    }
}

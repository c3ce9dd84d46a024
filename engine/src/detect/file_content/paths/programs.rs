//! Programs that begin to run: set-uid ones in folders that no sweep reads, and those that give
//! capabilities, wherever they are.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_tables::Strings;

use super::super::rules::ContentRules;
use super::folders::matter;
use super::known::DentryPlace;
use super::permissions::{SweptNameOutcome, as_reported};
use super::sweep::SweptName;
use super::{Judge, PathContext, Paths};
use crate::shipped::ShippedFiles;
use crate::time::Now;
use crate::walk::Snapshot;

impl Judge<'_> {
    /// Decides about a set-uid or set-gid program, in a folder that no sweep comes to.
    fn take_program(&mut self, found: &SweptName<'_>) -> SweptNameOutcome {
        let named = self.known.named(found.path, found.attributes);
        let before = self.known.peek(self.known.hash(found.path));
        let outcome = self.judge_access(found, before, &named);
        if outcome == SweptNameOutcome::Waits {
            self.known.set(found.path, as_reported(named, before), None);
        }
        outcome
    }

    /// Decides about a program that has given capabilities to a process. Nothing shows when they
    /// were set. They are reported once for each change of its inode, and only if it has not given
    /// them before.
    fn take_capabilities(&mut self, found: &SweptName<'_>, capabilities: u64) -> SweptNameOutcome {
        if self.starting.is_some()
            || self.rules.is_excluded(found.path)
            || !self.is_recent(found)
            || self.reported.has_capabilities(found.attributes)
            || self.reported.has_given(found.attributes, capabilities)
        {
            return SweptNameOutcome::Nothing;
        }
        let inode = (found.inode, found.attributes.ino);
        let waits = self.pending.iter().any(|it| it.is_of(inode)) || self.wait(found, None, false);
        if let Some(pending) = self.pending.iter_mut().find(|it| it.is_of(inode)) {
            pending.capabilities |= capabilities;
        }
        SweptNameOutcome::of_wait(waits)
    }
}

impl Paths {
    /// Whether a program's inode was changed since watching started, and no capabilities of it were
    /// reported since.
    pub(in super::super) fn may_have_new_capabilities(&self, attributes: &Attributes) -> bool {
        self.is_wanted
            && self.start_ns.is_some_and(|start| attributes.ctime_ns > start)
            && !self.reported.has_capabilities(attributes)
    }

    /// Whether a program has given all of these capabilities before.
    pub(in super::super) fn has_given(&self, attributes: &Attributes, capabilities: u64) -> bool {
        self.reported.has_given(attributes, capabilities)
    }

    /// Notes that a program has given these capabilities, and that this is no change.
    pub(in super::super) fn note_given(&mut self, attributes: &Attributes, capabilities: u64) {
        self.reported.note_given(attributes, capabilities);
    }

    /// Looks at the program of a process: its path, mount and dentry; its inode, and the
    /// capabilities that it has given, or 0 for a set-uid or set-gid one. Returns whether it found
    /// no room to wait.
    pub(in super::super) fn take_program(
        &mut self,
        (path, mount, dentry): (&[u8], KernelVa, KernelVa),
        (inode, attributes, capabilities): (KernelVa, &Attributes, u64),
        (snapshot, now): (&Snapshot, Now),
        (rules, shipped): (&ContentRules, &ShippedFiles),
        strings: &mut Strings,
    ) -> bool {
        let (Some(start_ns), Some(now_ns)) = (self.start_ns, snapshot.machine.calendar_ns) else {
            return false;
        };
        let folder = &path[..memchr::memrchr(b'/', path).map_or(0, |at| at + 1)];
        let is_swept = matter(folder, &rules.include).is_some();
        if !self.is_wanted || is_swept && capabilities == 0 {
            return false;
        }
        let by = PathContext { rules, shipped, explained: &[], strings, searches: 1 };
        let (.., mut judge) = self.judge(by, (start_ns, now, now_ns));
        let (place, parent) = (DentryPlace { mount, dentry }, KernelVa::NULL);
        let found = SweptName { path, place, parent, inode, attributes, folder: None };
        let outcome = match capabilities {
            0 => judge.take_program(&found),
            _ => judge.take_capabilities(&found, capabilities),
        };
        outcome == SweptNameOutcome::Left
    }
}

//! Which of the files that have changed matter: by their names, or since a process runs them.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;

use super::closing::{ClosedDescriptor, ClosingStage};
use super::paths::{Matter, matter};
use super::rules::{ChangedFile, ContentRules};
use super::{ANY_EXECUTE, FileContent, TEMPORARY_MAX};
use crate::time::Monotonic;
use crate::walk::Snapshot;

impl FileContent {
    /// Decides which of the changed files matter. Of the others, most end here.
    pub(super) fn judge(&mut self, snapshot: &Snapshot) {
        // Some may have been cut meanwhile.
        self.closings.sort_unstable_by_key(ClosedDescriptor::order);
        let mut running_found = false;
        for at in 0..self.closings.len() {
            if self.closings[at].stage != ClosingStage::Changed {
                continue;
            }
            let mut matters = self.matters(&self.closings[at]);
            if !matters && snapshot.inodes.find(self.closings[at].inode.0).is_some() {
                if !running_found {
                    self.find_running(snapshot);
                    running_found = true;
                }
                matters = self.matters(&self.closings[at]);
            }
            let temporary = if matters { None } else { self.temporary_name(at) };
            let closing = &mut self.closings[at];
            closing.stage = match temporary {
                _ if matters => ClosingStage::Waiting { matters },
                Some(stage) => stage,
                None => ClosingStage::of_unimportant(self.rules.others),
            };
        }
        self.end_oldest_temporary();
    }

    /// The stage of a changed file that does not matter, if it may get a name by which it does. It
    /// stands for the file's earlier closings, too, which are beside it.
    fn temporary_name(&mut self, at: usize) -> Option<ClosingStage> {
        let closing = &self.closings[at];
        if self.paths.is_starting() || closing.manager.is_some() {
            return None;
        }
        let path = closing.name.map(|id| self.strings.get(id))?;
        let for_long = may_be_temporary(&self.rules, path)?;
        let (inode, number) = (closing.inode, closing.attributes.number);
        let first = self.closings.partition_point(|other| other.inode < inode);
        let same = self.closings[first..].iter_mut().take_while(|other| other.inode == inode);
        let same = same.filter(|other| other.attributes.number == number);
        same.filter(|other| is_temporary(other)).for_each(|other| other.stage = ClosingStage::Over);
        Some(ClosingStage::TemporaryName { for_long })
    }

    /// Ends the oldest closings of files with temporary names, where there are more than
    /// [`TEMPORARY_MAX`].
    fn end_oldest_temporary(&mut self) {
        // The newest ones so far, from the oldest of them on.
        let mut newest = ArrayVec::<(Monotonic, usize), TEMPORARY_MAX>::new();
        for at in 0..self.closings.len() {
            if !is_temporary(&self.closings[at]) {
                continue;
            }
            let since = self.closings[at].since.monotonic;
            if newest.is_full() {
                let ends = if newest[0].0 <= since { newest.remove(0).1 } else { at };
                self.closings[ends].stage = ClosingStage::of_unimportant(self.rules.others);
                if ends == at {
                    continue;
                }
            }
            let place = newest.partition_point(|(other, _)| *other <= since);
            newest.insert(place, (since, at));
        }
    }

    fn matters(&self, closing: &ClosedDescriptor) -> bool {
        if self.paths.is_starting() {
            // The programs of an initramfs write scripts and settings there. A file that was there
            // before the start is found by its path.
            return false;
        }
        let path = closing.name.map(|id| self.strings.get(id));
        let in_container = closing.process.is_contained();
        self.rules.matters(&ChangedFile {
            path,
            may_execute: closing.attributes.mode & ANY_EXECUTE != 0,
            is_shipped: path.is_some_and(|path| self.shipped.has_path(in_container, path)),
            is_running: closing.is_running,
            is_nameless_by_chance: closing.is_nameless_by_chance,
        })
    }

    /// Notes which of the changed files are executables, or are mapped executable. The closings
    /// are in the order of their inodes.
    fn find_running(&mut self, snapshot: &Snapshot) {
        let code = snapshot.vmas.iter().filter(|area| area.vma.flags & VM_EXEC != 0);
        let executables = snapshot.mms.iter().map(|mm| mm.exe_file);
        for file in executables.chain(code.map(|area| area.file)) {
            let Some(row) = snapshot.files.at(file) else { continue };
            let inode = row.open.inode;
            let start = self.closings.partition_point(|closing| closing.inode < inode);
            let same = self.closings[start..].iter_mut().take_while(|it| it.inode == inode);
            same.for_each(|closing| closing.is_running = true);
        }
    }
}

fn is_temporary(closing: &ClosedDescriptor) -> bool {
    matches!(closing.stage, ClosingStage::TemporaryName { .. })
}

/// Whether a file that does not matter may get a name by which it does: another one in a folder
/// where files matter. If so, whether it is one of few that programs or the system may keep for
/// long.
fn may_be_temporary(rules: &ContentRules, path: &[u8]) -> Option<bool> {
    let folder = &path[..=memchr::memrchr(b'/', path)?];
    let matter = matter(folder, &rules.include)?;
    Some(matter == Matter::All && !rules.is_excluded(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container_config::Glob;

    #[test]
    fn a_file_in_a_folder_where_files_matter_may_have_a_temporary_name() {
        let rules = ContentRules {
            include: vec![Glob::new("/srv/app/*.php")],
            exclude: vec![Glob::new("/etc/app/*")],
            ..ContentRules::default()
        };
        for (path, may_be) in [
            ("/etc/passwd.edit", Some(true)),
            ("/etc/systemd/system/.#ssh.service4f1c", Some(true)),
            ("/etc/app/state.new", Some(false)),
            ("/home/ann/sedAb12cd", Some(false)),
            ("/opt/app/data.tmp", Some(false)),
            ("/srv/app/sedAb12cd", Some(false)),
            ("/srv/data/sedAb12cd", None),
            ("/tmp/x", None),
            ("/usr/share/doc/x.new", None),
            ("/usr/lib/python3/__pycache__/x.pyc.1234", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(may_be_temporary(&rules, path.as_bytes()), may_be, "{path}");
        }
    }
}

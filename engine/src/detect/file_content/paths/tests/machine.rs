//! A machine with a tree of names, made by hand.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{HashKey, StringRoom, Strings};

use super::super::super::closing::ClosedDescriptor;
use super::super::super::tests::closing;
use super::super::super::{FileContent, reader};
use super::super::GrantedAccess;
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::page_cache::{
    Asker, ContentFacts, ContentFormat, ContentSource, FileIdentity, HashOutcome, Hashes,
    MachineMemory, Traits,
};
use crate::state::ScanContext;
use crate::state::container::Containers;
use crate::state::facts::{FileName, InodeFacts};
use crate::state::tests::watch::limits;
use crate::state::tests::world::World;
use crate::time::Now;
use crate::walk::tests::memory::{Sparse, kernel};
use crate::walk::{Index, Kernel, Snapshot};
use panoptes_decoders::kernel::inode::mode;

pub(in crate::detect::file_content) const SECOND_NS: i64 = 1_000_000_000;
/// The machine's clock when watching starts.
pub(in crate::detect::file_content) const START: i64 = 1_795_000_100;
pub(in crate::detect::file_content) const SCAN_NS: i64 = 10_000_000;
pub(in crate::detect::file_content) const SUPER_BLOCK: u64 = 0xffff_8880_2000_0000;

/// Contents that are known at once.
pub(in crate::detect::file_content) struct AllKnown;

impl ContentSource for AllKnown {
    fn ask(&mut self, file: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        let hashes = Hashes { sha256: [file.number as u8; 32], sha1: [0; 20], md5: [0; 16] };
        let outcome = HashOutcome::Whole { hashes };
        Some(ContentFacts { outcome, format: ContentFormat::Other, traits: Traits::default() })
    }
}

/// A machine with a tree of names.
pub(in crate::detect::file_content) struct Machine {
    pub memory: Sparse,
    pub kernel: Kernel,
    pub files: FileContent,
    pub snapshot: Snapshot,
    pub containers: Containers,
    pub strings: Strings,
    pub now: Now,
    /// Time from one scan to the next.
    pub scan_ns: i64,
    pub fs: u64,
    pub mount: u64,
    pub root: u64,
    pub inodes: u64,
    pub calendar_ns: i64,
    /// Whether the machine's clock stands still.
    pub is_still: bool,
    /// Whether closings are checked, too.
    pub checks_closings: bool,
    /// The closings that were reported: paths, and those before renames.
    pub closed: Vec<(String, Option<String>)>,
    /// The paths before renames, of changed paths that were reported.
    pub previous: Vec<Option<String>>,
    /// Number of tables that scans leave.
    pub left_tables: u32,
    /// Whether process 1 runs a program.
    pub has_program: bool,
    /// The numbers of further names of what was found.
    pub others: Vec<usize>,
    /// Number of files of each event of a package manager.
    pub packaged: Vec<u64>,
    /// The changes of permissions that were reported: paths, permissions before and now, and what
    /// they give.
    pub accesses: Vec<(String, Option<u16>, u16, GrantedAccess)>,
}

impl Machine {
    pub(in crate::detect::file_content) fn new() -> Self {
        let limits = limits();
        let key = HashKey::new(3);
        let without_reader = FileContent::without_reader(&limits, (true, true), key);
        let mut memory = Sparse::default();
        let [fs, mount] = [memory.structure(), memory.structure()];
        let mut machine = Self {
            files: FileContent { reader: reader(), ..without_reader },
            kernel: kernel(),
            snapshot: Snapshot::empty(&limits),
            containers: Containers::new(&limits, HashKey::new(1)),
            strings: Strings::new(StringRoom::default(), HashKey::new(1)),
            now: Now::at(0),
            scan_ns: SCAN_NS,
            fs,
            mount,
            root: 0,
            inodes: 10,
            calendar_ns: START * SECOND_NS,
            is_still: false,
            checks_closings: false,
            closed: Vec::new(),
            previous: Vec::new(),
            left_tables: 0,
            has_program: true,
            others: Vec::new(),
            packaged: Vec::new(),
            accesses: Vec::new(),
            memory,
        };
        machine.root = machine.dentry(0, "", mode::S_IFDIR, 0);
        let root = machine.root;
        machine.mount_at(mount, mount, 0, root);
        machine.memory.set(fs, "fs_struct", "root.mnt", mount);
        machine.memory.set(fs, "fs_struct", "root.dentry", root);
        machine
    }

    /// Makes a mount, which is in no list.
    pub(in crate::detect::file_content) fn mount_at(
        &mut self,
        mount: u64,
        parent: u64,
        mountpoint: u64,
        root: u64,
    ) {
        for (field, value) in [
            ("mnt.mnt_root", root),
            ("mnt_parent", parent),
            ("mnt_mountpoint", mountpoint),
            ("mnt_mounts.next", Sparse::field(mount, "mount", "mnt_mounts.next")),
        ] {
            self.memory.set(mount, "mount", field, value);
        }
    }

    /// Mounts a tree, or a file, over a name of the first mount.
    pub(in crate::detect::file_content) fn mount_over(&mut self, mountpoint: u64, root: u64) {
        let (below, above) = (self.mount, self.memory.structure());
        self.mount_at(above, below, mountpoint, root);
        let list = Sparse::field(below, "mount", "mnt_mounts.next");
        self.memory.set(above, "mount", "mnt_child.next", list);
        let link = Sparse::field(above, "mount", "mnt_child.next");
        self.memory.set(below, "mount", "mnt_mounts.next", link);
    }

    /// Unmounts what was mounted over a name of the first mount.
    pub(in crate::detect::file_content) fn unmount(&mut self) {
        let list = Sparse::field(self.mount, "mount", "mnt_mounts.next");
        self.memory.set(self.mount, "mount", "mnt_mounts.next", list);
    }

    /// A new inode.
    pub(in crate::detect::file_content) fn inode(
        &mut self,
        mode: u16,
        size: u64,
        seconds: i64,
    ) -> u64 {
        let inode = self.memory.structure();
        self.inodes += 1;
        self.memory.set(inode, "inode", "i_mode", u64::from(mode | 0o755));
        self.memory.set(inode, "inode", "i_nlink", 1);
        self.memory.set(inode, "inode", "i_ino", self.inodes);
        self.memory.set(inode, "inode", "i_sb", SUPER_BLOCK);
        self.set_content(inode, size, seconds);
        inode
    }

    pub(in crate::detect::file_content) fn set_content(
        &mut self,
        inode: u64,
        size: u64,
        seconds: i64,
    ) {
        self.memory.set(inode, "inode", "i_size", size);
        self.memory.set(inode, "inode", "i_mtime_sec", seconds as u64);
        self.memory.set(inode, "inode", "i_ctime_sec", seconds as u64);
    }

    /// Sets the permissions of a file now.
    pub(in crate::detect::file_content) fn chmod(&mut self, inode: u64, permissions: u16) {
        let kind = self.memory.get(Sparse::field(inode, "inode", "i_mode")) as u16 & mode::S_IFMT;
        self.memory.set(inode, "inode", "i_mode", u64::from(kind | permissions));
        self.set_change_time(inode, self.seconds());
    }

    pub(in crate::detect::file_content) fn set_change_time(&mut self, inode: u64, seconds: i64) {
        self.memory.set(inode, "inode", "i_ctime_sec", seconds as u64);
    }

    /// A new name in a folder, the first of its list.
    pub(in crate::detect::file_content) fn name(
        &mut self,
        folder: u64,
        name: &str,
        inode: u64,
    ) -> u64 {
        let dentry = self.memory.structure();
        self.memory.set(dentry, "dentry", "d_inode", inode);
        if inode != 0 {
            let first = self.memory.get(Sparse::field(inode, "inode", "i_dentry.first"));
            self.memory.set(dentry, "dentry", "d_u.d_alias.next", first);
            let link = Sparse::field(dentry, "dentry", "d_u.d_alias.next");
            self.memory.set(inode, "inode", "i_dentry.first", link);
        }
        self.put_in(dentry, folder, name);
        dentry
    }

    /// Sets a name and its folder, in whose list it is the first.
    pub(in crate::detect::file_content) fn put_in(&mut self, dentry: u64, folder: u64, name: &str) {
        let text = Sparse::field(dentry, "dentry", "d_iname");
        for (at, bytes) in (0..).step_by(8).zip(name.as_bytes().chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.memory.put(text + at, u64::from_le_bytes(word));
        }
        self.memory.set(dentry, "dentry", "d_name.name", text);
        self.memory.set(dentry, "dentry", "d_name.len", name.len() as u64);
        self.memory.set(dentry, "dentry", "d_hash.pprev", dentry);
        let parent = if folder == 0 { dentry } else { folder };
        self.memory.set(dentry, "dentry", "d_parent", parent);
        if folder != 0 {
            let first = self.first_link(folder);
            self.memory.set(dentry, "dentry", "d_sib.next", first);
            let link = Sparse::field(dentry, "dentry", "d_sib.next");
            self.memory.set(folder, "dentry", "d_children.first", link);
        }
    }

    /// Renames a file, as `rename` does: the name itself moves, and the one in its place is gone.
    pub(in crate::detect::file_content) fn rename(
        &mut self,
        dentry: u64,
        folder: u64,
        name: &str,
        old: u64,
    ) {
        self.take_out(dentry);
        if old != 0 {
            self.take_out(old);
            let inode = self.inode_of(old);
            self.memory.set(inode, "inode", "i_nlink", 0);
            self.memory.set(inode, "inode", "i_dentry.first", 0);
            self.memory.set(old, "dentry", "d_inode", 0);
        }
        self.put_in(dentry, folder, name);
        let (inode, ns) = (self.inode_of(dentry), self.calendar_ns);
        self.memory.set(inode, "inode", "i_ctime_sec", (ns / SECOND_NS) as u64);
    }

    /// Takes a name out of the list of its folder.
    pub(in crate::detect::file_content) fn take_out(&mut self, dentry: u64) {
        let field = |at, path| Sparse::field(at, "dentry", path);
        let folder = self.memory.get(field(dentry, "d_parent"));
        let mut link = field(folder, "d_children.first");
        let (own, next) =
            (field(dentry, "d_sib.next"), self.memory.get(field(dentry, "d_sib.next")));
        for _ in 0..1000 {
            match self.memory.get(link) {
                0 => return,
                at if at == own => return self.memory.put(link, next),
                at => link = at,
            }
        }
    }

    /// Closes a descriptor that wrote a file under this name.
    pub(in crate::detect::file_content) fn close(&mut self, path: &str, inode: u64) {
        self.close_as(path, inode, 0x100);
    }

    /// The same of the `struct file` that is so many bytes after the inode.
    pub(in crate::detect::file_content) fn close_as(&mut self, path: &str, inode: u64, file: u64) {
        let name = self.files.strings.intern(path.as_bytes());
        let number = self.memory.get(Sparse::field(inode, "inode", "i_ino"));
        let attributes = InodeFacts { number, ..InodeFacts::default() };
        let since = self.now;
        let of_file = closing(inode + file, 1, true);
        let inode = KernelVa(inode);
        self.files.closings.push(ClosedDescriptor { name, attributes, inode, since, ..of_file });
    }

    pub(in crate::detect::file_content) fn first_link(&mut self, folder: u64) -> u64 {
        self.memory.get(Sparse::field(folder, "dentry", "d_children.first"))
    }

    pub(in crate::detect::file_content) fn dentry(
        &mut self,
        folder: u64,
        name: &str,
        kind: u16,
        size: u64,
    ) -> u64 {
        let inode = self.inode(kind, size, START - 1000);
        self.name(folder, name, inode)
    }

    pub(in crate::detect::file_content) fn folder(&mut self, folder: u64, name: &str) -> u64 {
        self.dentry(folder, name, mode::S_IFDIR, 0)
    }

    pub(in crate::detect::file_content) fn inode_of(&mut self, dentry: u64) -> u64 {
        self.memory.get(Sparse::field(dentry, "dentry", "d_inode"))
    }

    /// The machine's time in seconds.
    pub(in crate::detect::file_content) fn seconds(&self) -> i64 {
        self.calendar_ns / SECOND_NS
    }

    /// Scans for some milliseconds; returns what was found, as path, size before and now.
    pub(in crate::detect::file_content) fn run(
        &mut self,
        milliseconds: i64,
    ) -> Vec<(String, Option<u64>, u64)> {
        let mut all = Vec::new();
        for _ in 0..milliseconds * 1_000_000 / self.scan_ns {
            self.now = self.now.after(self.scan_ns);
            self.calendar_ns += if self.is_still { 0 } else { self.scan_ns };
            World::default().show(&mut self.snapshot);
            self.snapshot.machine.calendar_ns = Some(self.calendar_ns);
            self.snapshot.left.tables = self.left_tables;
            let leader = self.snapshot.threads.iter().position(|row| row.task.tgid == 1).unwrap();
            let leader = &mut self.snapshot.threads[Index::new(leader).unwrap()];
            leader.task.fs = KernelVa(self.fs);
            if !self.has_program {
                self.snapshot.processes[leader.process.unwrap()].mm = None;
            }
            let cx = ScanContext {
                snapshot: &self.snapshot,
                containers: &self.containers,
                strings: &self.strings,
                now: self.now,
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| {
                if let Finding::FileContent(change) = finding {
                    let Some(FileName::Text(path)) = change.descriptor.name else { panic!() };
                    self.closed.push((text(path), change.previous.map(text)));
                    return Acceptance::Yes;
                }
                if let Finding::PackageFiles(found) = finding {
                    self.packaged.push(found.count);
                    return Acceptance::Yes;
                }
                if let Finding::PermissionChange(change) = finding {
                    let before = change.before.map(|before| before.permissions);
                    let now = change.attributes.mode & 0o7777;
                    self.accesses.push((text(change.path), before, now, change.what));
                    return Acceptance::Yes;
                }
                let Finding::PathChange(change) = finding else { panic!("{finding:?}") };
                let path = text(change.path);
                self.others.push(change.others.count);
                self.previous.push(change.previous.map(text));
                all.push((path, change.before.map(|it| it.size), change.attributes.size));
                Acceptance::Yes
            };
            let memory = MachineMemory { source: &mut self.memory, kernel: &self.kernel };
            let context = &mut DetectorContext { memory, cx: &cx, out };
            if self.checks_closings {
                self.files.check(context, &mut AllKnown);
            } else {
                self.files.follow_paths(context, &mut AllKnown);
            }
        }
        all
    }
}

impl Machine {
    /// Ends watching; returns the paths that were reported then.
    pub(in crate::detect::file_content) fn finish(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let cx = ScanContext {
            snapshot: &self.snapshot,
            containers: &self.containers,
            strings: &self.strings,
            now: self.now,
        };
        let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| {
            let Finding::FileContent(change) = finding else { panic!("{finding:?}") };
            let Some(FileName::Text(path)) = change.descriptor.name else { panic!() };
            all.push(String::from_utf8_lossy(path).into_owned());
            Acceptance::Yes
        };
        assert_eq!(self.files.report_rest(&cx, out, &AllKnown), 0);
        all
    }
}

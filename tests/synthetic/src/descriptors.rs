//! Descriptor tables and open files (fs/file.c, fs/file_table.c).

use std::collections::BTreeMap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};

use crate::machine::Machine;

/// Descriptors of a new table (`NR_OPEN_DEFAULT`).
const PLACES_MIN: u32 = 64;

/// An open file.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    pub(crate) node: usize,
    /// References of descriptors, areas and address spaces.
    uses: u32,
}

/// A descriptor table, which threads share.
#[derive(Clone, Debug)]
pub(crate) struct DescriptorTable {
    uses: u32,
    /// `struct fdtable *`
    table: KernelVa,
    places: u32,
    /// No lower descriptor is free (`next_fd`).
    next: u32,
    /// `struct file *` and whether it closes on exec, by descriptor.
    pub(crate) open: BTreeMap<u32, (KernelVa, bool)>,
}

/// One end of a pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pipe {
    pub read: u32,
    pub write: u32,
}

impl Machine {
    /// `init_files`, which threads of the kernel share.
    pub(crate) fn boot_files_struct(&mut self) -> KernelVa {
        let bytes = self.layouts().files_struct.size;
        let at = self.kernel.spare(bytes.into());
        self.fill_files_struct(at, PLACES_MIN);
        self.init_files = at;
        at
    }

    fn fill_files_struct(&mut self, at: KernelVa, places: u32) {
        let table = self.new_fdtable(places);
        let layout = self.layouts().files_struct;
        self.memory.point(at, layout.fdt, table);
        let open = BTreeMap::new();
        self.tables.insert(at, DescriptorTable { uses: 1, table, places, next: 0, open });
    }

    /// `alloc_fdtable`
    fn new_fdtable(&mut self, places: u32) -> KernelVa {
        let layout = self.layouts().fdtable;
        let table = self.memory.allocate(layout.size);
        let fd = self.memory.allocate(places * 8);
        let open_fds = self.memory.allocate(places / 8);
        let close_on_exec = self.memory.allocate(places / 8);
        self.memory.put(table, layout.max_fds, places.into());
        self.memory.point(table, layout.fd, fd);
        self.memory.point(table, layout.open_fds, open_fds);
        self.memory.point(table, layout.close_on_exec, close_on_exec);
        table
    }

    fn free_fdtable(&mut self, table: KernelVa, places: u32) {
        let layout = self.layouts().fdtable;
        for (field, bytes) in [
            (layout.fd, places * 8),
            (layout.open_fds, places / 8),
            (layout.close_on_exec, places / 8),
        ] {
            let at = KernelVa(self.memory.get(table, field));
            self.memory.release(at, bytes);
        }
        self.memory.release(table, layout.size);
    }

    pub(crate) fn share_files(&mut self, files: KernelVa) {
        self.tables.get_mut(&files).expect("the table exists").uses += 1;
    }

    /// `dup_fd`: a copy of a table, for a new process.
    pub(crate) fn dup_files(&mut self, files: KernelVa) -> KernelVa {
        let at = self.memory.allocate(self.kernel.layouts.files_struct.size);
        let old = self.tables[&files].clone();
        self.fill_files_struct(at, old.places);
        for (&descriptor, &(file, close_on_exec)) in &old.open {
            self.use_file(file);
            self.install(at, descriptor, file, close_on_exec);
        }
        at
    }

    /// Gives a thread a copy of its descriptor table (`unshare(CLONE_FILES)`).
    pub fn unshare_files(&mut self, tid: u32) {
        let old = self.files_of(tid);
        let files = self.dup_files(old);
        let layout = self.layouts().task_struct;
        let task = self.thread(tid).task;
        self.memory.point(task, layout.files, files);
        self.threads.get_mut(&tid).expect("the thread exists").files = Some(files);
        self.drop_files(old);
    }

    pub(crate) fn drop_files(&mut self, files: KernelVa) {
        let table = self.tables.get_mut(&files).expect("the table exists");
        table.uses -= 1;
        if table.uses > 0 {
            return;
        }
        let Some(table) = self.tables.remove(&files) else { return };
        for (file, _) in table.open.into_values() {
            self.drop_file(file);
        }
        self.free_fdtable(table.table, table.places);
        self.memory.release(files, self.kernel.layouts.files_struct.size);
    }

    /// A new `struct file` of a node.
    pub(crate) fn new_file(&mut self, node: usize, private_data: KernelVa) -> KernelVa {
        let layout = self.layouts().file;
        let file = self.memory.allocate(layout.size);
        let entry = &self.tree.nodes[node];
        let (inode, dentry) = (entry.inode, entry.dentry);
        let mount = self.tree.mounts[entry.mount].vfsmount;
        let operations = if private_data.is_null() {
            self.kernel.code(1)
        } else {
            self.kernel.find("socket_file_ops").unwrap_or_default()
        };
        for (field, value) in [
            (layout.f_inode, inode.0),
            (layout.f_path_mnt, mount.0),
            (layout.f_path_dentry, dentry.0),
            (layout.f_op, operations.0),
            (layout.f_mode, u64::from(FMODE_READ | FMODE_WRITE)),
            (layout.f_flags, 2),
            (layout.private_data, private_data.0),
        ] {
            self.memory.put(file, field, value);
        }
        self.files.insert(file, OpenFile { node, uses: 1 });
        file
    }

    pub(crate) fn use_file(&mut self, file: KernelVa) {
        self.files.get_mut(&file).expect("the file is open").uses += 1;
    }

    /// `fput`: frees the file with its last reference, and the socket behind it.
    pub(crate) fn drop_file(&mut self, file: KernelVa) {
        let row = self.files.get_mut(&file).expect("the file is open");
        row.uses -= 1;
        let is_last = row.uses == 0;
        self.memory.touch(file, self.kernel.layouts.file.size);
        if !is_last {
            return;
        }
        self.files.remove(&file);
        self.close_socket(file);
        self.memory.release(file, self.kernel.layouts.file.size);
    }

    /// Puts a file into a table: first the bits, then the pointer (`fd_install`).
    fn install(&mut self, files: KernelVa, descriptor: u32, file: KernelVa, close_on_exec: bool) {
        self.expand(files, descriptor);
        let layout = self.layouts().fdtable;
        let table = self.tables[&files].table;
        let bits = self.memory.get(table, layout.open_fds);
        self.set_bit(KernelVa(bits), descriptor, true);
        let bits = self.memory.get(table, layout.close_on_exec);
        self.set_bit(KernelVa(bits), descriptor, close_on_exec);
        let slot = KernelVa(self.memory.get(table, layout.fd)).plus(u64::from(descriptor) * 8);
        self.memory.put_word(slot, file.0);
        let table = self.tables.get_mut(&files).expect("the table exists");
        table.open.insert(descriptor, (file, close_on_exec));
    }

    fn set_bit(&mut self, bits: KernelVa, index: u32, is_set: bool) {
        let word = bits.plus(u64::from(index / 64) * 8);
        let bit = 1 << (index % 64);
        let old = self.memory.word(word);
        let new = if is_set { old | bit } else { old & !bit };
        if new != old {
            self.memory.put_word(word, new);
        }
    }

    /// `expand_fdtable`: the larger copy is complete before the table leads to it.
    fn expand(&mut self, files: KernelVa, descriptor: u32) {
        let DescriptorTable { table: old, places, .. } = self.tables[&files];
        if descriptor < places {
            return;
        }
        let more = (descriptor + 1).next_power_of_two();
        let table = self.new_fdtable(more);
        let layout = self.layouts().fdtable;
        for (field, bytes) in [
            (layout.fd, places * 8),
            (layout.open_fds, places / 8),
            (layout.close_on_exec, places / 8),
        ] {
            let from = KernelVa(self.memory.get(old, field));
            let to = KernelVa(self.memory.get(table, field));
            let copy = self.memory.read(from, bytes as usize).to_vec();
            self.memory.write(to, &copy);
        }
        let fdt = self.layouts().files_struct.fdt;
        self.memory.point(files, fdt, table);
        let row = self.tables.get_mut(&files).expect("the table exists");
        (row.table, row.places) = (table, more);
        self.free_fdtable(old, places);
    }

    pub(crate) fn files_of(&self, tid: u32) -> KernelVa {
        self.thread(tid).files.expect("the process has not ended")
    }

    /// `alloc_fd`: the lowest free descriptor.
    fn lowest_free(&mut self, files: KernelVa) -> u32 {
        let table = self.tables.get_mut(&files).expect("the table exists");
        while table.open.contains_key(&table.next) {
            table.next += 1;
        }
        table.next
    }

    /// Installs a new file at the lowest free descriptor.
    pub(crate) fn install_new(&mut self, pid: u32, file: KernelVa) -> u32 {
        let files = self.files_of(pid);
        let descriptor = self.lowest_free(files);
        self.install(files, descriptor, file, false);
        descriptor
    }

    /// Opens a file for reading and writing, and makes an empty one if there is none.
    pub fn open(&mut self, pid: u32, path: &str) -> u32 {
        let node = self.created_at(path);
        let file = self.new_file(node, KernelVa::NULL);
        self.install_new(pid, file)
    }

    /// Opens a pipe.
    pub fn pipe(&mut self, pid: u32) -> Pipe {
        let node = self.new_pipe_node();
        let [read, write] = [FMODE_READ, FMODE_WRITE].map(|mode| {
            let file = self.new_file(node, KernelVa::NULL);
            let layout = self.layouts().file;
            let operations = self.kernel.find("pipefifo_fops").unwrap_or_default();
            self.memory.put(file, layout.f_mode, mode.into());
            self.memory.point(file, layout.f_op, operations);
            self.install_new(pid, file)
        });
        Pipe { read, write }
    }

    /// Makes `to` a copy of a descriptor (`dup2`); closes what `to` was.
    pub fn dup2(&mut self, pid: u32, from: u32, to: u32) {
        let files = self.files_of(pid);
        let (file, _) = self.tables[&files].open[&from];
        let old = self.tables[&files].open.get(&to).copied();
        self.use_file(file);
        self.install(files, to, file, false);
        if let Some((old, _)) = old {
            self.drop_file(old);
        }
    }

    /// Sets whether a descriptor closes on exec.
    pub fn set_close_on_exec(&mut self, pid: u32, descriptor: u32, closes: bool) {
        let files = self.files_of(pid);
        let table = self.tables.get_mut(&files).expect("the table exists");
        let at = table.table;
        table.open.get_mut(&descriptor).expect("the descriptor is open").1 = closes;
        let bits = self.memory.get(at, self.kernel.layouts.fdtable.close_on_exec);
        self.set_bit(KernelVa(bits), descriptor, closes);
    }

    /// Closes a descriptor: the pointer goes before the bit (`file_close_fd_locked`).
    pub fn close(&mut self, pid: u32, descriptor: u32) {
        let files = self.files_of(pid);
        let layout = self.layouts().fdtable;
        let table = self.tables.get_mut(&files).expect("the table exists");
        let at = table.table;
        let (file, _) = table.open.remove(&descriptor).expect("the descriptor is open");
        table.next = table.next.min(descriptor);
        let slot = KernelVa(self.memory.get(at, layout.fd)).plus(u64::from(descriptor) * 8);
        self.memory.put_word(slot, 0);
        let bits = self.memory.get(at, layout.open_fds);
        self.set_bit(KernelVa(bits), descriptor, false);
        self.drop_file(file);
    }

    /// The descriptors of a process with the inode numbers of their files; none after its end.
    pub fn descriptor_inodes(&self, pid: u32) -> Vec<(u32, u64)> {
        let Some(files) = self.thread(pid).files else { return Vec::new() };
        let open = &self.tables[&files].open;
        let inode = |file: &KernelVa| self.ino_of(self.files[file].node);
        open.iter().map(|(&descriptor, (file, _))| (descriptor, inode(file))).collect()
    }

    /// The descriptors of a process, with the names that /proc shows; none after its end.
    pub fn descriptors(&self, pid: u32) -> Vec<(u32, String)> {
        let Some(files) = self.thread(pid).files else { return Vec::new() };
        let open = &self.tables[&files].open;
        let name = |file: &KernelVa| self.path_of(self.files[file].node);
        open.iter().map(|(&descriptor, (file, _))| (descriptor, name(file))).collect()
    }
}

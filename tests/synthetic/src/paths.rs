//! Filesystems, mounts, directory entries and inodes.

use std::collections::HashMap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::super_block::magic;
use panoptes_decoders::layout::PackedField;

use crate::machine::Machine;

/// `EXT4_SUPER_MAGIC`, `PROC_SUPER_MAGIC` (include/uapi/linux/magic.h).
const EXT4: u64 = 0xef53;
/// Bytes before the text of a name that does not fit its dentry (`struct external_name`,
/// fs/dcache.c).
const EXTERNAL_NAME_BYTES: u32 = 16;

/// `vfsmount.mnt_sb` (include/linux/mount.h).
const SUPER_BLOCK: PackedField = PackedField { offset: 8, size: 8, packed: 0 };
/// Size of a regular file in bytes: room for all areas of a program.
const FILE_BYTES: u64 = 2 << 20;

/// A directory entry and its inode.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) dentry: KernelVa,
    pub(crate) inode: KernelVa,
    parent: Option<usize>,
    name: String,
    pub(crate) mount: usize,
    unlinked: bool,
    ino: u64,
    /// Whether its content ever changed.
    pub(crate) is_written: bool,
    /// Its pages in memory, from the first on.
    pub(crate) pages: Vec<KernelVa>,
}

#[derive(Clone, Debug)]
pub(crate) struct Mount {
    /// `struct vfsmount *`
    pub(crate) vfsmount: KernelVa,
    /// The node of its root, and the node that it covers.
    root: usize,
    covers: Option<usize>,
    super_block: KernelVa,
}

/// Where the machine's own mounts are in [`FileTree::mounts`].
pub(crate) const ROOT: usize = 0;
pub(crate) const DEV: usize = 1;
pub(crate) const PIPES: usize = 2;
pub(crate) const SOCKETS: usize = 3;

/// All names of the machine.
#[derive(Debug, Default)]
pub(crate) struct FileTree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) mounts: Vec<Mount>,
    by_path: HashMap<String, usize>,
    next_ino: u64,
    /// The node whose name changed last.
    renamed: Option<usize>,
}

impl Machine {
    /// The root filesystem, /dev, and the kernel's own mounts of pipes and sockets.
    pub(crate) fn boot_files(&mut self) {
        self.tree.next_ino = 2;
        for (index, (kind, magic, dev)) in [
            ("ext4", EXT4, 8 << 20 | 1),
            ("devtmpfs", magic::TMPFS, 5),
            ("pipefs", magic::PIPEFS, 13),
            ("sockfs", magic::SOCKFS, 8),
        ]
        .into_iter()
        .enumerate()
        {
            self.add_mount(index, kind, magic, dev);
        }
        let dev = self.node_at("/dev", mode::S_IFDIR | 0o755);
        self.cover(DEV, dev);
        let root = self.tree.mounts[DEV].root;
        self.tree.by_path.insert("/dev".to_owned(), root);
        for (name, minor) in [("null", 3), ("zero", 5), ("urandom", 9)] {
            let node = self.node_at(&format!("/dev/{name}"), mode::S_IFCHR | 0o666);
            let layout = self.layouts().inode;
            let inode = self.tree.nodes[node].inode;
            self.memory.put(inode, layout.i_rdev, 1 << 20 | minor);
        }
    }

    fn add_mount(&mut self, index: usize, kind: &str, magic: u64, dev: u64) {
        let layouts = self.layouts();
        let kind_at = self.memory.allocate(layouts.file_system_type.size);
        let name = self.memory.text(kind);
        self.memory.point(kind_at, layouts.file_system_type.name, name);
        let super_block = self.memory.allocate(layouts.super_block.size);
        self.memory.put(super_block, layouts.super_block.s_dev, dev);
        self.memory.put(super_block, layouts.super_block.s_magic, magic);
        self.memory.point(super_block, layouts.super_block.s_type, kind_at);
        let mount = self.memory.allocate(layouts.mount.size);
        let vfsmount = mount.plus(layouts.mount.mnt.offset.into());
        let root = self.tree.nodes.len();
        self.tree.mounts.push(Mount { vfsmount, root, covers: None, super_block });
        let made = self.new_node(index, None, "/", mode::S_IFDIR | 0o755);
        assert_eq!(made, root);
        let dentry = self.tree.nodes[root].dentry;
        // `mnt_root` and `mnt_sb`
        self.memory.point(mount, layouts.mount.mnt_root, dentry);
        self.memory.point(vfsmount, SUPER_BLOCK, super_block);
        self.memory.point(mount, layouts.mount.mnt_parent, mount);
        self.memory.point(mount, layouts.mount.mnt_mountpoint, dentry);
        if index == ROOT {
            self.tree.by_path.insert("/".to_owned(), root);
        }
    }

    /// Puts a mount onto a directory of the root filesystem.
    fn cover(&mut self, mount: usize, node: usize) {
        let layout = self.layouts().mount;
        let object = |machine: &Self, mount: usize| {
            machine.tree.mounts[mount].vfsmount.minus(layout.mnt.offset.into())
        };
        let (at, parent) = (object(self, mount), object(self, ROOT));
        let dentry = self.tree.nodes[node].dentry;
        self.memory.point(at, layout.mnt_parent, parent);
        self.memory.point(at, layout.mnt_mountpoint, dentry);
        self.tree.mounts[mount].covers = Some(node);
    }

    /// A new inode and its dentry.
    fn new_node(&mut self, mount: usize, parent: Option<usize>, name: &str, mode: u16) -> usize {
        let layouts = self.layouts();
        let ino = self.new_ino();
        let inode = self.memory.allocate(layouts.inode.size);
        self.fill_inode(inode, mount, ino, mode);
        let dentry = self.new_dentry(mount, parent, name, inode);
        self.tree.nodes.push(Node {
            dentry,
            inode,
            parent,
            name: name.to_owned(),
            mount,
            unlinked: false,
            ino,
            is_written: false,
            pages: Vec::new(),
        });
        self.tree.nodes.len() - 1
    }

    pub(crate) fn new_ino(&mut self) -> u64 {
        self.tree.next_ino += 1;
        self.tree.next_ino
    }

    /// Fills a new inode.
    pub(crate) fn fill_inode(&mut self, inode: KernelVa, mount: usize, ino: u64, i_mode: u16) {
        let layouts = self.layouts();
        let layout = &layouts.inode;
        let now = self.calendar_ns();
        let mapping = self.memory.allocate(layouts.address_space.size);
        self.memory.point(mapping, layouts.address_space.host, inode);
        let super_block = self.tree.mounts[mount].super_block;
        for (field, value) in [
            (layout.i_mode, i_mode.into()),
            (layout.i_ino, ino),
            (layout.i_nlink, 1),
            (layout.i_size, if i_mode & mode::S_IFMT == mode::S_IFREG { FILE_BYTES } else { 4096 }),
            (layout.i_blkbits, 12),
            (layout.i_sb, super_block.0),
            (layout.i_mapping, mapping.0),
        ] {
            self.memory.put(inode, field, value);
        }
        for (seconds, nanoseconds) in [
            (layout.atime_sec, layout.atime_nsec),
            (layout.mtime_sec, layout.mtime_nsec),
            (layout.ctime_sec, layout.ctime_nsec),
        ] {
            self.memory.put(inode, seconds, now / 1_000_000_000);
            self.memory.put(inode, nanoseconds, now % 1_000_000_000);
        }
    }

    /// `__d_alloc` and `d_add` (fs/dcache.c). Without a parent, the dentry is a root.
    pub(crate) fn new_dentry(
        &mut self,
        mount: usize,
        parent: Option<usize>,
        name: &str,
        inode: KernelVa,
    ) -> KernelVa {
        let layout = self.layouts().dentry;
        let dentry = self.memory.allocate(layout.size);
        let above = parent.map_or(dentry, |parent| self.tree.nodes[parent].dentry);
        self.store_name(dentry, name);
        self.memory.point(dentry, layout.d_parent, above);
        self.memory.point(dentry, layout.d_sb, self.tree.mounts[mount].super_block);
        self.memory.point(dentry, layout.d_inode, inode);
        if parent.is_some() {
            self.hash_dentry(dentry, true);
        }
        dentry
    }

    fn hash_dentry(&mut self, dentry: KernelVa, is_hashed: bool) {
        let field: PackedField = self.layouts().dentry.d_hash_pprev;
        let bucket = self.kernel.code(0).0;
        self.memory.put(dentry, field, if is_hashed { bucket } else { 0 });
    }

    /// Stores a name inside the dentry, or outside of it if it is long.
    fn store_name(&mut self, dentry: KernelVa, name: &str) {
        let layout = self.layouts().dentry;
        let inside = dentry.plus(layout.d_iname.offset.into());
        let at = if name.len() < layout.d_iname.size as usize {
            self.put_text(dentry, layout.d_iname, name);
            inside
        } else {
            let outside = self.memory.allocate(EXTERNAL_NAME_BYTES + name.len() as u32 + 1);
            let text = outside.plus(EXTERNAL_NAME_BYTES.into());
            self.memory.write(text, name.as_bytes());
            text
        };
        self.memory.put(dentry, layout.d_name_len, name.len() as u64);
        self.memory.point(dentry, layout.d_name_name, at);
    }

    /// A pipe's inode and dentry, without a directory.
    pub(crate) fn new_pipe_node(&mut self) -> usize {
        self.new_node(PIPES, None, "", mode::S_IFIFO | 0o600)
    }

    /// The node at a path of the machine; makes a regular file, and the directories above it, if
    /// there is none.
    pub(crate) fn file_at(&mut self, path: &str) -> usize {
        self.node_at(path, mode::S_IFREG | 0o644)
    }

    /// Makes a virtual console (major 4) at a path.
    pub fn make_terminal(&mut self, path: &str) {
        let node = self.node_at(path, mode::S_IFCHR | 0o620);
        let layout = self.layouts().inode;
        self.memory.put(self.tree.nodes[node].inode, layout.i_rdev, 4 << 20 | 1);
    }

    fn node_at(&mut self, path: &str, mode: u16) -> usize {
        if let Some(&node) = self.tree.by_path.get(path) {
            return node;
        }
        let (above, name) = path.rsplit_once('/').expect("a path begins with /");
        let above = if above.is_empty() { "/" } else { above };
        let parent = self.node_at(above, mode::S_IFDIR | 0o755);
        let mount = self.tree.nodes[parent].mount;
        let node = self.new_node(mount, Some(parent), name, mode);
        self.tree.by_path.insert(path.to_owned(), node);
        node
    }

    /// The node of a file to open (`open` with `O_CREAT`): a new one is empty.
    pub(crate) fn created_at(&mut self, path: &str) -> usize {
        let is_new = !self.tree.by_path.contains_key(path);
        let node = self.file_at(path);
        if is_new {
            let size = self.layouts().inode.i_size;
            self.memory.put(self.tree.nodes[node].inode, size, 0);
        }
        node
    }

    /// Gives a file to a user (`chown`).
    pub fn give_file(&mut self, path: &str, uid: u32) {
        let node = self.file_at(path);
        let inode = self.tree.nodes[node].inode;
        let layout = self.layouts().inode;
        self.memory.put(inode, layout.i_uid, uid.into());
        self.memory.put(inode, layout.i_gid, uid.into());
    }

    /// Renames a file to another path, as `__d_move` (fs/dcache.c) does: the sequence counter is
    /// odd meanwhile.
    pub fn rename(&mut self, from: &str, to: &str) {
        let node = self.tree.by_path.remove(from).expect("the file exists");
        let (above, name) = to.rsplit_once('/').expect("a path begins with /");
        let above = if above.is_empty() { "/" } else { above };
        let parent = self.node_at(above, mode::S_IFDIR | 0o755);
        let dentry = self.tree.nodes[node].dentry;
        let layout = self.layouts().dentry;
        let sequence = layout.d_seq.map_or(0, |field| self.memory.get(dentry, field));
        self.memory.put_optional(dentry, layout.d_seq, sequence + 1);
        self.hash_dentry(dentry, false);
        self.store_name(dentry, name);
        let directory = self.tree.nodes[parent].dentry;
        self.memory.point(dentry, layout.d_parent, directory);
        self.hash_dentry(dentry, true);
        self.memory.put_optional(dentry, layout.d_seq, sequence + 2);
        self.tree.renamed = Some(node);
        let moved = &mut self.tree.nodes[node];
        (moved.parent, moved.name) = (Some(parent), name.to_owned());
        self.tree.by_path.insert(to.to_owned(), node);
    }

    /// Removes a file's name (`unlink`); open descriptors keep the file.
    pub fn unlink(&mut self, path: &str) {
        let node = self.tree.by_path.remove(path).expect("the file exists");
        let Node { dentry, inode, .. } = self.tree.nodes[node];
        let links = self.layouts().inode.i_nlink;
        self.memory.put(inode, links, 0);
        self.hash_dentry(dentry, false);
        self.tree.nodes[node].unlinked = true;
        self.tree.renamed = Some(node);
    }

    /// The path of a node as /proc shows it.
    pub(crate) fn path_of(&self, node: usize) -> String {
        let first = &self.tree.nodes[node];
        match first.mount {
            PIPES => return format!("pipe:[{}]", first.ino),
            SOCKETS => return format!("socket:[{}]", first.ino),
            _ => {}
        }
        let mut names = Vec::new();
        let mut at = Some(node);
        while let Some(node) = at {
            let row = &self.tree.nodes[node];
            at = if row.parent.is_none() {
                self.tree.mounts[row.mount].covers
            } else {
                names.push(row.name.as_str());
                row.parent
            };
            // The name of a covered directory counts, that of a root does not.
        }
        let mut path = String::new();
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        if path.is_empty() {
            path.push('/');
        }
        if first.unlinked {
            path.push_str(" (deleted)");
        }
        path
    }

    /// The `fs_struct` of a process whose root and current directory are `/`.
    pub(crate) fn new_fs(&mut self) -> KernelVa {
        let layout = self.layouts().fs_struct;
        let fs = self.memory.allocate(layout.size);
        let mount = self.tree.mounts[ROOT].vfsmount;
        let root = self.tree.nodes[self.tree.mounts[ROOT].root].dentry;
        for (field, value) in [
            (layout.root_mnt, mount),
            (layout.root_dentry, root),
            (layout.pwd_mnt, mount),
            (layout.pwd_dentry, root),
        ] {
            self.memory.point(fs, field, value);
        }
        fs
    }

    /// Adds the node of a socket, whose inode is inside a `struct socket_alloc`.
    pub(crate) fn new_socket_node(&mut self, inode: KernelVa) -> usize {
        let ino = self.new_ino();
        self.fill_inode(inode, SOCKETS, ino, mode::S_IFSOCK | 0o777);
        let dentry = self.new_dentry(SOCKETS, None, "", inode);
        self.tree.nodes.push(Node {
            dentry,
            inode,
            parent: None,
            name: String::new(),
            mount: SOCKETS,
            unlinked: false,
            ino,
            is_written: false,
            pages: Vec::new(),
        });
        self.tree.nodes.len() - 1
    }

    /// Inode number and path of the file that was renamed or removed last.
    pub fn last_renamed(&self) -> Option<(u64, String)> {
        self.tree.renamed.map(|node| (self.ino_of(node), self.path_of(node)))
    }

    /// Inode numbers of the files whose content ever changed.
    pub fn written_inodes(&self) -> impl Iterator<Item = u64> {
        self.tree.nodes.iter().filter(|node| node.is_written).map(|node| node.ino)
    }

    /// Inode number of a node.
    pub(crate) fn ino_of(&self, node: usize) -> u64 {
        self.tree.nodes[node].ino
    }
}

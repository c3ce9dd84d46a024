//! The objects whose addresses a snapshot has.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;
use panoptes_decoders::layout::View;
use panoptes_engine::walk::{DescriptorRow, FileRow, FilesRow, Rows};

use super::{LINE_BYTES, Survey, distinct};

impl Survey<'_> {
    /// Tasks, and what each process has one of.
    pub(super) fn tasks(&mut self) {
        let (snapshot, layouts) = (self.snapshot, &self.kernel.layouts);
        let threads = || snapshot.threads.iter().map(|thread| thread.task);
        self.pid_tree();
        self.part(
            "task_struct",
            &layouts.task_struct,
            threads().map(|task| task.address).collect(),
        );
        let leaders = || snapshot.processes.iter().map(|it| snapshot.threads[it.leader].task);
        self.part(
            "signal_struct",
            &layouts.signal_struct,
            leaders().map(|task| task.signal).collect(),
        );
        self.part("fs_struct", &layouts.fs_struct, leaders().map(|task| task.fs).collect());
        self.part("cred", &layouts.cred, leaders().map(|task| task.real_cred).collect());
        self.part("nsproxy", &layouts.nsproxy, leaders().map(|task| task.nsproxy).collect());
        let mms = snapshot.mms.iter().map(|mm| mm.address).collect();
        self.part("mm_struct", &layouts.mm_struct, mms);
    }

    /// Arguments, and the page tables that lead to them.
    pub(super) fn command_lines(&mut self) {
        self.begin("command lines");
        for mm in self.snapshot.mms.iter().filter(|mm| !mm.command_line.is_empty()) {
            let Some(root) = self.kernel.space.linear(mm.pgd) else { continue };
            self.count();
            let length = mm.command_line.len() as u64;
            let (first, last) = (mm.arguments.start, mm.arguments.start + length - 1);
            let add = |survey: &mut Self, line| {
                survey.want_line(line);
                survey.fetch_line(line);
            };
            for line in first / LINE_BYTES..=last / LINE_BYTES {
                let entry = |survey: &mut Self, at: PhysicalAddress| {
                    add(survey, at.0 / LINE_BYTES);
                };
                if let Some(text) = self.translate(root, line * LINE_BYTES, entry) {
                    add(self, text.0 / LINE_BYTES);
                }
            }
        }
    }

    /// Descriptor tables, and their slots in use.
    pub(super) fn descriptors(&mut self) {
        let (snapshot, layouts) = (self.snapshot, &self.kernel.layouts);
        let tables = || snapshot.files_structs.iter();
        let addresses = tables().map(|table| table.address).collect();
        self.part("files_struct", &layouts.files_struct, addresses);
        self.part("fdtable", &layouts.fdtable, tables().map(|table| table.table).collect());
        self.begin("descriptor slots");
        for table in tables() {
            self.slots(table, &snapshot.descriptors);
        }
    }

    fn slots(&mut self, table: &FilesRow, descriptors: &Rows<DescriptorRow>) {
        for descriptor in descriptors.range(table.descriptors) {
            self.count();
            self.want(table.fd.plus(u64::from(descriptor.index) * 8), 8);
        }
        self.fetch(table.fd, u64::from(table.max_fds) * 8);
        for bitmap in [table.open_fds, table.close_on_exec] {
            self.bytes(bitmap, u64::from(table.max_fds.div_ceil(64)) * 8);
        }
    }

    /// Open files, and what they are.
    pub(super) fn files(&mut self) {
        let (snapshot, layouts) = (self.snapshot, &self.kernel.layouts);
        let files = snapshot.files.iter().map(|file| file.address).collect();
        self.part("file", &layouts.file, files);
        let dentries = snapshot.dentries.iter().map(|dentry| dentry.name.address).collect();
        self.part("dentry", &layouts.dentry, dentries);
        self.begin("long names");
        for dentry in snapshot.dentries.iter().filter(|it| !it.name.long_name.is_null()) {
            self.count();
            self.bytes(dentry.name.long_name, dentry.name.length.into());
        }
        let inodes = snapshot.inodes.iter().map(|inode| inode.address).collect();
        self.part("inode", &layouts.inode, inodes);
        let mounts = snapshot.mounts.iter().map(|mount| mount.address).collect();
        self.part("mount", &layouts.mount, mounts);
        let filesystems = snapshot.super_blocks.iter().map(|it| it.address).collect();
        self.part("super_block", &layouts.super_block, filesystems);
    }

    /// Sockets, and the terminals that are read beside them.
    pub(super) fn sockets(&mut self) {
        let (snapshot, layouts) = (self.snapshot, &self.kernel.layouts);
        self.buckets();
        let connections = || snapshot.connections.iter();
        let full = || connections().filter(|it| it.counters.is_some()).map(|it| it.address);
        let held = || snapshot.sockets.iter();
        let heads = connections().map(|it| it.address).chain(held().map(|it| it.address));
        self.part("sock_common", &layouts.sock_common, heads.collect());
        self.part("sock", &layouts.sock, full().chain(held().map(|it| it.address)).collect());
        self.part("tcp_sock", &layouts.tcp_sock, full().collect());
        let waiting = connections().filter(|it| it.counters.is_none()).map(|it| it.address);
        self.part("timewait", &layouts.inet_timewait_sock, waiting.collect());
        if let Some(layout) = &layouts.unix_sock {
            let unix = held().filter(|it| it.family() == AF_UNIX).map(|it| it.address);
            self.part("unix_sock", layout, unix.collect());
        }
        let private = |is: fn(&FileRow) -> bool| {
            snapshot.files.iter().filter(move |file| is(file)).map(|file| file.open.private_data)
        };
        let sockets = private(|file| file.socket.is_some() || file.connection.is_some());
        self.part("socket", &layouts.socket, sockets.collect());
        if let Some(layout) = &layouts.tty_file_private {
            let terminals = private(|file| file.terminal.is_some());
            self.part("tty_file_private", layout, terminals.collect());
        }
        if let Some(layout) = &layouts.tty_struct {
            let terminals = snapshot.terminals.iter().map(|it| it.address);
            self.part("tty_struct", layout, terminals.collect());
        }
        self.routes(full().collect());
    }

    /// The routes of connections, and the devices that they leave through.
    fn routes(&mut self, socks: Vec<KernelVa>) {
        let layouts = &self.kernel.layouts;
        let mut routes = Vec::new();
        for sock in socks {
            let route = self.pointer(sock.plus(layouts.sock.sk_dst_cache.offset.into()));
            routes.push(KernelVa(route));
        }
        let routes = distinct(routes);
        let mut devices = Vec::new();
        for route in &routes {
            if let Some(bytes) = self.packed(*route, &layouts.dst_entry.packing) {
                devices.push(View::new(&bytes).pointer(layouts.dst_entry.dev));
            }
        }
        self.part("dst_entry", &layouts.dst_entry, routes);
        self.part("net_device", &layouts.net_device_index, devices);
    }

    /// Control groups, and namespaces.
    pub(super) fn groups(&mut self) {
        let (snapshot, layouts) = (self.snapshot, &self.kernel.layouts);
        if let Some(layout) = &layouts.css_set {
            let sets = snapshot.css_sets.iter().map(|it| it.address);
            self.part("css_set", layout, sets.collect());
        }
        if let Some(layout) = &layouts.cgroup_subsys_state {
            let states = snapshot.css_states.iter().map(|it| it.address);
            self.part("cgroup_subsys_state", layout, states.collect());
        }
        if let Some(layout) = &layouts.cgroup {
            let groups = snapshot.cgroups.iter().map(|it| it.address);
            self.part("cgroup", layout, groups.collect());
        }
        if let Some(layout) = &layouts.kernfs_node {
            let nodes = snapshot.kernfs_nodes.iter().map(|it| it.address);
            self.part("kernfs_node", layout, nodes.collect());
        }
        self.part("net", &layouts.net, snapshot.nets.iter().map(|it| it.address).collect());
        let users = snapshot.user_namespaces.iter().map(|it| it.address).collect();
        self.part("user_namespace", &layouts.user_namespace, users);
    }
}

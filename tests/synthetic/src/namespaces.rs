//! Namespaces and control groups: those of the machine, and those of containers.

use panoptes_decoders::address::KernelVa;

use crate::machine::Machine;

/// `css_set_table` has so many heads (kernel/cgroup/cgroup.c).
const CSS_SET_HEADS: u64 = 128;

/// A pid namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PidNamespace {
    /// `struct pid_namespace *`
    pub(crate) address: KernelVa,
    /// The next number of it, unless that is in use.
    pub(crate) next: u32,
    /// Whether all numbers were used once.
    pub(crate) is_wrapped: bool,
}

/// The namespaces and control groups that processes are in together: the machine's own, or those of
/// a container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Path of the control group, such as `/system.slice/docker-….scope`.
    pub path: String,
    /// Number of the pid namespace.
    pub pid_namespace: u32,
    /// Number of the mount namespace.
    pub mount_namespace: u32,
    /// Address of the `struct css_set`.
    pub css_set: KernelVa,
    pub(crate) nsproxy: KernelVa,
    /// Position in [`Namespaces::pids`].
    pub(crate) pids: usize,
}

/// All namespaces of a machine.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    pub(crate) pids: Vec<PidNamespace>,
    /// `struct kernfs_node` of every directory of control groups, with its path.
    directories: Vec<(String, KernelVa)>,
    css_sets: u64,
}

/// `PROC_PID_INIT_INO` and the like (include/uapi/linux/nsfs.h): the machine's own numbers.
const FIRST_PID_NAMESPACE: u32 = 0xefff_fffc;

impl Machine {
    /// The machine's own namespaces and the root of the control groups. `init_pid_ns` and
    /// `init_net` are symbols.
    pub(crate) fn boot_namespaces(&mut self) {
        let layouts = self.layouts();
        let pid_ns = self.kernel.symbol("init_pid_ns");
        self.memory.put(pid_ns, layouts.pid_namespace.inum, FIRST_PID_NAMESPACE.into());
        self.namespaces.pids.push(PidNamespace { address: pid_ns, next: 1, is_wrapped: false });
        let uts = self.kernel.symbol("init_uts_ns");
        let release = self.kernel.profile.release.clone();
        let uts_layout = layouts.uts_namespace;
        self.put_text(uts, uts_layout.nodename, "synthetic");
        self.put_text(uts, uts_layout.release, &release);
        let mount_namespace = 0xf000_0000;
        let mnt_ns = self.memory.allocate(layouts.mnt_namespace.size);
        self.memory.put(mnt_ns, layouts.mnt_namespace.inum, mount_namespace);
        let nsproxy = self.new_nsproxy(mnt_ns, self.kernel.symbol("init_net"), uts);
        let root = self.memory.allocate(layouts.kernfs_node.map_or(8, |layout| layout.size));
        if let Some(layout) = &layouts.kernfs_node {
            // The root of a hierarchy has an empty name.
            let name = self.memory.text("");
            self.memory.point(root, layout.name, name);
        }
        self.namespaces.directories.push((String::new(), root));
        let css_set = self.new_css_set(root);
        self.containers.push(Container {
            path: "/".to_owned(),
            pid_namespace: FIRST_PID_NAMESPACE,
            mount_namespace: mount_namespace as u32,
            css_set,
            nsproxy,
            pids: 0,
        });
    }

    /// Makes a control group in the version 2 hierarchy, such as `/user.slice`, with the machine's
    /// own namespaces. Returns its index in [`Machine::containers`].
    pub fn add_control_group(&mut self, path: &str) -> usize {
        let node = self.directory(path);
        let css_set = self.new_css_set(node);
        let host = self.containers[0].clone();
        self.containers.push(Container { path: path.to_owned(), css_set, ..host });
        self.containers.len() - 1
    }

    /// Makes a container: a control group with pid, mount and UTS namespaces of its own. Returns
    /// its index in [`Machine::containers`].
    pub fn add_container(&mut self, path: &str, host_name: &str) -> usize {
        let index = self.add_control_group(path);
        let layouts = self.layouts();
        let number = 0xf000_0000 + index as u32 * 8;
        let pid_ns = self.memory.allocate(layouts.pid_namespace.size);
        self.memory.put(pid_ns, layouts.pid_namespace.inum, (number + 1).into());
        self.namespaces.pids.push(PidNamespace { address: pid_ns, next: 1, is_wrapped: false });
        let mnt_ns = self.memory.allocate(layouts.mnt_namespace.size);
        self.memory.put(mnt_ns, layouts.mnt_namespace.inum, (number + 2).into());
        let uts = self.memory.allocate(layouts.uts_namespace.size);
        let release = self.kernel.profile.release.clone();
        self.put_text(uts, layouts.uts_namespace.nodename, host_name);
        self.put_text(uts, layouts.uts_namespace.release, &release);
        let nsproxy = self.new_nsproxy(mnt_ns, self.kernel.symbol("init_net"), uts);
        let pids = self.namespaces.pids.len() - 1;
        let container = &mut self.containers[index];
        container.pid_namespace = number + 1;
        container.mount_namespace = number + 2;
        (container.nsproxy, container.pids) = (nsproxy, pids);
        index
    }

    /// Gives the directory of a control group to a user, as systemd does with those that it
    /// delegates.
    pub fn give_control_group(&mut self, path: &str, uid: u32) {
        let node = self.directory(path);
        let layouts = self.layouts();
        let layout = layouts.kernfs_iattrs.expect("the profile has attributes of directories");
        let field = layouts.kernfs_node.and_then(|node| node.iattr).expect("and their place");
        let iattr = self.memory.allocate(layout.size);
        self.memory.put(iattr, layout.ia_uid, uid.into());
        self.memory.point(node, field, iattr);
    }

    pub(crate) fn new_nsproxy(
        &mut self,
        mnt_ns: KernelVa,
        net: KernelVa,
        uts: KernelVa,
    ) -> KernelVa {
        let layout = self.layouts().nsproxy;
        let nsproxy = self.memory.allocate(layout.size);
        self.memory.point(nsproxy, layout.mnt_ns, mnt_ns);
        self.memory.point(nsproxy, layout.net_ns, net);
        self.memory.point(nsproxy, layout.uts_ns, uts);
        nsproxy
    }

    /// `struct kernfs_node` of a control group's directory; makes the missing ones.
    fn directory(&mut self, path: &str) -> KernelVa {
        let path = path.trim_end_matches('/');
        if let Some((_, node)) = self.namespaces.directories.iter().find(|(at, _)| at == path) {
            return *node;
        }
        let (above, name) = path.rsplit_once('/').expect("a control group's path begins with /");
        let parent = self.directory(above);
        let layout = self.layouts().kernfs_node.expect("the kernel has control groups");
        let node = self.memory.allocate(layout.size);
        // Names have up to 255 bytes, and the walk reads all of them.
        let text = self.memory.allocate(256);
        self.memory.write(text, name.as_bytes());
        self.memory.point(node, layout.name, text);
        self.memory.point(node, layout.parent, parent);
        self.namespaces.directories.push((path.to_owned(), node));
        node
    }

    /// A control group for a directory, and the set of control groups of the tasks in it. All
    /// controllers are enabled in it.
    fn new_css_set(&mut self, node: KernelVa) -> KernelVa {
        let layouts = self.layouts();
        let (Some(set), Some(state), Some(group)) =
            (layouts.css_set, layouts.cgroup_subsys_state, layouts.cgroup)
        else {
            return KernelVa::NULL;
        };
        let cgroup = self.memory.allocate(group.size);
        self.memory.point(cgroup, group.kn, node);
        let css_set = self.memory.allocate(set.size);
        self.memory.point(css_set, set.dfl_cgrp, cgroup);
        for index in 0..u64::from(set.subsys.size / 8) {
            let css = self.memory.allocate(state.size);
            self.memory.point(css, state.cgroup, cgroup);
            let place = css_set.plus(u64::from(set.subsys.offset) + index * 8);
            self.memory.put_word(place, css.0);
        }
        for head in [set.tasks, set.mg_tasks].into_iter().flatten() {
            self.memory.list_init(css_set.plus(head.offset.into()));
        }
        if let Some(hlist) = set.hlist {
            let bucket = self.namespaces.css_sets * 37 % CSS_SET_HEADS;
            let head = self.kernel.symbol("css_set_table").plus(bucket * 8);
            self.memory.hlist_add_head(css_set.plus(hlist.offset.into()), head);
        }
        self.namespaces.css_sets += 1;
        css_set
    }
}

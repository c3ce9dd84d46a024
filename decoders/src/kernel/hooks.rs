//! Structures with functions that modules may register.

crate::layout! {
    /// `struct atomic_notifier_head` (include/linux/notifier.h).
    pub struct AtomicNotifierHead("atomic_notifier_head") {
        head: ["head"],
    }
}

crate::layout! {
    /// `struct blocking_notifier_head` (include/linux/notifier.h).
    pub struct BlockingNotifierHead("blocking_notifier_head") {
        head: ["head"],
    }
}

crate::layout! {
    /// `struct raw_notifier_head` (include/linux/notifier.h).
    pub struct RawNotifierHead("raw_notifier_head") {
        head: ["head"],
    }
}

crate::layout! {
    /// `struct notifier_block` (include/linux/notifier.h).
    pub struct NotifierBlock("notifier_block") {
        notifier_call: ["notifier_call"],
        next: ["next"],
    }
}

crate::layout! {
    /// `struct tracepoint` (include/linux/tracepoint-defs.h).
    pub struct TracepointHooks("tracepoint") {
        /// A C string.
        name: ["name"],
        /// `struct tracepoint_func *`: an array that ends with a null function.
        funcs: ["funcs"],
    }
}

crate::layout! {
    /// `struct tracepoint_func` (include/linux/tracepoint-defs.h).
    pub struct TracepointFunc("tracepoint_func") {
        func: ["func"],
    }
}

crate::layout! {
    /// The hooks in `struct net` (include/net/net_namespace.h).
    pub struct NetHooks("net") {
        /// Link in the list of all namespaces.
        list: ["list"],
        /// Arrays of `struct nf_hook_entries *` (include/net/netns/netfilter.h). Only with
        /// `CONFIG_NETFILTER`, and each family with its own option.
        ipv4?: ["nf.hooks_ipv4"],
        ipv6?: ["nf.hooks_ipv6"],
        arp?: ["nf.hooks_arp"],
        bridge?: ["nf.hooks_bridge"],
        /// Heads of the lists of packet types of the namespace. Since v6.14.
        ptype_all?: ["ptype_all"],
        ptype_specific?: ["ptype_specific"],
        /// `struct proc_dir_entry *` of `/proc/net`. Only with `CONFIG_PROC_FS`.
        proc_net?: ["proc_net"],
    }
}

crate::layout! {
    /// The hooks in `struct net_device` (include/linux/netdevice.h).
    pub struct NetDeviceHooks("net_device") {
        /// The function that takes all packets of the device: that of a bridge or of a bond.
        rx_handler: ["rx_handler"],
        /// Heads of lists of packet types.
        ptype_all: ["ptype_all"],
        ptype_specific: ["ptype_specific"],
        /// `struct net_device_ops *`
        netdev_ops: ["netdev_ops"],
        /// `struct header_ops *`
        header_ops?: ["header_ops"],
        /// `struct nf_hook_entries *`, each with its own option; the second one since v5.16.
        nf_hooks_ingress?: ["nf_hooks_ingress"],
        nf_hooks_egress?: ["nf_hooks_egress"],
    }
}

crate::layout! {
    /// `struct inet_protosw` (include/net/protocol.h): a kind of socket of IP.
    pub struct InetProtosw("inet_protosw") {
        list: ["list"],
        /// `struct proto *`
        prot: ["prot"],
        /// `struct proto_ops *`
        ops: ["ops"],
    }
}

crate::layout! {
    /// `struct nf_hook_entries` (include/linux/netfilter.h).
    pub struct NfHookEntries("nf_hook_entries") {
        num_hook_entries: ["num_hook_entries"],
        /// An array of `struct nf_hook_entry`: a function and its data.
        hooks: ["hooks"],
    }
}

crate::layout! {
    /// `struct packet_type` (include/linux/netdevice.h).
    pub struct PacketType("packet_type") {
        list: ["list"],
        func: ["func"],
    }
}

crate::layout! {
    /// `struct linux_binfmt` (include/linux/binfmts.h).
    pub struct LinuxBinfmt("linux_binfmt") {
        lh: ["lh"],
        load_binary: ["load_binary"],
        core_dump?: ["core_dump"],
        /// Up to v6.14.
        load_shlib?: ["load_shlib"],
    }
}

crate::layout! {
    /// `struct proto` (include/net/sock.h).
    pub struct Proto("proto") {
        /// Link in `proto_list`. Only with `CONFIG_PROC_FS`.
        node?: ["node"],
        /// Its name, 32 bytes.
        name: ["name"],
    }
}

crate::layout! {
    /// The functions of a `struct super_block` (include/linux/fs.h).
    pub struct SuperBlockOps("super_block") {
        s_list: ["s_list"],
        s_op: ["s_op"],
        s_root: ["s_root"],
        /// `struct dentry_operations *`: the default of its dentries.
        s_d_op?: ["s_d_op", "__s_d_op"],
        /// The name of its type, and others of its own.
        s_id?: ["s_id"],
    }
}

crate::layout! {
    /// The inode of a `struct dentry` (include/linux/dcache.h).
    pub struct DentryInode("dentry") {
        d_inode: ["d_inode"],
    }
}

crate::layout! {
    /// The functions of a `struct inode` (include/linux/fs.h).
    pub struct InodeOps("inode") {
        i_op: ["i_op"],
        i_fop: ["i_fop"],
    }
}

crate::layout! {
    /// `struct proc_dir_entry` (fs/proc/internal.h).
    pub struct ProcDirEntry("proc_dir_entry") {
        /// `struct inode_operations *`
        proc_iops: ["proc_iops"],
        /// `struct proc_ops *`, or `struct file_operations *` of a folder.
        proc_ops: ["proc_ops", "proc_fops"],
        /// `struct seq_operations *`, or the function that shows the file.
        seq_ops: ["seq_ops"],
        /// `struct proc_dir_entry *`
        parent: ["parent"],
        /// `struct rb_root` of its entries.
        subdir: ["subdir"],
        /// Link among the entries of its folder.
        subdir_node: ["subdir_node"],
        /// A C string.
        name: ["name"],
        /// The function that is called when the file is written, of files without a table.
        write?: ["write"],
        /// `struct dentry_operations *`
        proc_dops?: ["proc_dops"],
    }
}

crate::layout! {
    /// `struct tty_driver` (include/linux/tty_driver.h).
    pub struct TtyDriver("tty_driver") {
        tty_drivers: ["tty_drivers"],
        /// `struct tty_operations *`
        ops: ["ops"],
        /// A C string.
        name: ["name"],
        /// Number of terminals.
        num: ["num"],
        /// An array of as many `struct tty_struct *`; null for pseudoterminals.
        ttys: ["ttys"],
    }
}

crate::layout! {
    /// The functions of a `struct tty_struct` (include/linux/tty.h).
    pub struct TtyOps("tty_struct") {
        /// `struct tty_operations *`
        ops: ["ops"],
        /// `struct tty_ldisc *`; null while it changes.
        ldisc: ["ldisc"],
    }
}

crate::layout! {
    /// `struct tty_ldisc` (include/linux/tty_ldisc.h).
    pub struct TtyLdisc("tty_ldisc") {
        /// `struct tty_ldisc_ops *`
        ops: ["ops"],
    }
}

crate::layout! {
    /// The thread of the kernel in `struct task_struct` (include/linux/sched.h).
    pub struct KernelTask("task_struct") {
        tasks: ["tasks"],
        flags: ["flags"],
        /// Name, 16 bytes with its NUL.
        comm: ["comm"],
        /// `struct kthread *`. Since v5.17; before, threads of the kernel have it as
        /// `set_child_tid`.
        worker_private?: ["worker_private"],
        set_child_tid: ["set_child_tid"],
    }
}

crate::layout! {
    /// `struct kthread` (kernel/kthread.c).
    pub struct Kthread("kthread") {
        /// Since v5.8.
        threadfn?: ["threadfn"],
        /// What the function is called with.
        data: ["data"],
    }
}

crate::layout! {
    /// `struct worker` (kernel/workqueue_internal.h): a thread that does work.
    pub struct Worker("worker") {
        /// The function that it executes now.
        current_func: ["current_func"],
        /// `struct worker_pool *`; null if it helps others.
        pool: ["pool"],
        /// Link among the workers of its pool.
        node: ["node"],
    }
}

crate::layout! {
    /// `struct worker_pool` (kernel/workqueue.c).
    pub struct WorkerPool("worker_pool") {
        /// Head of the list of work that waits.
        worklist: ["worklist"],
        /// Head of the list of workers.
        workers: ["workers"],
    }
}

crate::layout! {
    /// `struct work_struct` (include/linux/workqueue_types.h).
    pub struct WorkStruct("work_struct") {
        entry: ["entry"],
        func: ["func"],
    }
}

crate::layout! {
    /// `struct timer_base` (kernel/time/timer.c).
    pub struct TimerBase("timer_base") {
        /// Number of its processor.
        cpu: ["cpu"],
        /// A bit for each list of timers. `vectors`, an array of as many `struct hlist_head`,
        /// follows.
        pending_map?: ["pending_map"],
    }
}

crate::layout! {
    /// `struct timer_list` (include/linux/timer_types.h).
    pub struct TimerList("timer_list") {
        entry: ["entry"],
        function: ["function"],
    }
}

crate::layout! {
    /// `struct delayed_work` (include/linux/workqueue_types.h).
    pub struct DelayedWork("delayed_work") {
        func: ["work.func"],
        timer: ["timer"],
    }
}

crate::layout! {
    /// `struct security_hook_heads` (include/linux/lsm_hooks.h, up to v6.11): an array of
    /// `struct hlist_head`.
    pub struct SecurityHookHeads("security_hook_heads") {
        /// One of them; a step reads all.
        task_kill?: ["task_kill"],
    }
}

crate::layout! {
    /// `struct lsm_static_call` (include/linux/lsm_hooks.h, since v6.12).
    pub struct LsmStaticCall("lsm_static_call") {
        /// `struct static_call_key *`, which begins with the address of the function.
        key?: ["key"],
        /// The code that is patched to call the function; null on arm64, which has none.
        trampoline: ["trampoline"],
        /// `struct security_hook_list *`; null if it is not in use.
        hl: ["hl"],
    }
}

crate::layout! {
    /// `struct security_hook_list` (include/linux/lsm_hooks.h).
    pub struct SecurityHookList("security_hook_list") {
        /// Link in its head; up to v6.11.
        list?: ["list"],
        hook: ["hook"],
    }
}

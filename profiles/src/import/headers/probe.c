/*
 * Compiled against a kernel's headers with its configuration, so that the compiler's description
 * of types (DWARF) has the layouts that Panoptes reads. Nothing of it runs.
 *
 * Headers are included if the kernel has them. A structure that no header declares is incomplete
 * here and counts as missing.
 */
#include <linux/version.h>
#include <linux/types.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/cgroup-defs.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/dma-buf.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/idr.h>
#include <linux/inetdevice.h>
#include <linux/kernfs.h>
#include <linux/llist.h>
#include <linux/mm_types.h>
#include <linux/mount.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/ns_common.h>
#include <linux/nsproxy.h>
#include <linux/page-flags.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/proc_ns.h>
#include <linux/seqlock.h>
#include <linux/tcp.h>
#include <linux/timekeeper_internal.h>
#include <linux/tty.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>
#include <linux/xarray.h>
#include <net/af_unix.h>
#include <net/dst.h>
#include <net/if_inet6.h>
#include <net/inet_hashtables.h>
#include <net/inet_timewait_sock.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <net/udp.h>

#if __has_include(<linux/maple_tree.h>)
#include <linux/maple_tree.h>
#endif
#if __has_include(<linux/clocksource.h>)
#include <linux/clocksource.h>
#endif

/* A tree of sources has these, a package of headers does not. */
#if __has_include("fs/mount.h")
#include "fs/mount.h"
#else

/*
 * What is read of the structures of fs/mount.h, each at its place. The rest is of the right size
 * only.
 */
struct mnt_namespace {
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
	/* The count moved into ns_common with 1a7b8969e664 ("mnt: Use generic ns_common::count"). */
	atomic_t before_ns;
#endif
	struct ns_common ns;
};

struct mount {
	struct hlist_node before_parent;
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0) && !defined(MNT_ONRB)
	/* With 344bac8f0d73 ("fs: kill MNT_ONRB") the node of the tree shares the place of rcu_head. */
	struct rb_node before_count;
#else
	struct callback_head before_count;
#endif
	/* A pointer with CONFIG_SMP, else two numbers. */
	char before_mounts[8] __attribute__((aligned(8)));
	struct list_head mnt_mounts;
	struct list_head mnt_child;
	struct list_head of_super_block;
	const char *device;
#ifdef MNT_ONRB
	struct rb_node in_namespace;
#else
	struct list_head in_namespace;
#endif
	struct list_head expiry;
	struct list_head peers;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	struct hlist_head slaves;
	struct hlist_node slave;
#else
	struct list_head slaves;
	struct list_head slave;
#endif
	struct mount *master;
	struct mnt_namespace *mnt_ns;
};
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0) && LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
/* Of fs/file_table.c, since def3ae83da02 ("fs: store real path instead of fake path ..."). */
struct backing_file {
	struct file before_path;
	struct path user_path;
};
#endif

#if __has_include("fs/overlayfs/ovl_entry.h") && \
	(defined(CONFIG_OVERLAY_FS) || defined(CONFIG_OVERLAY_FS_MODULE))
#include <linux/overflow.h>
#include "fs/overlayfs/ovl_entry.h"
#define HAS_OVERLAYFS 1
#endif

/* A pointer to each structure, so that the compiler describes it. */
#define KEEP(name) struct name *kept_##name;

KEEP(address_space)
KEEP(anon_vma_name)
KEEP(backing_file)
KEEP(cgroup)
KEEP(cgroup_subsys_state)
KEEP(clocksource)
KEEP(cred)
KEEP(css_set)
KEEP(dentry)
KEEP(dma_buf)
KEEP(dst_entry)
KEEP(fdtable)
KEEP(file)
KEEP(file_system_type)
KEEP(files_struct)
KEEP(fs_struct)
KEEP(idr)
KEEP(in_device)
KEEP(in_ifaddr)
KEEP(inet6_dev)
KEEP(inet6_ifaddr)
KEEP(inet_hashinfo)
KEEP(inet_listen_hashbucket)
KEEP(inet_timewait_sock)
KEEP(inode)
KEEP(kernfs_node)
KEEP(list_head)
KEEP(maple_node)
KEEP(mm_struct)
KEEP(mnt_namespace)
KEEP(mount)
KEEP(net)
KEEP(net_device)
KEEP(ns_common)
KEEP(nsproxy)
KEEP(page)
KEEP(pid)
KEEP(pid_namespace)
KEEP(proc_ns_operations)
KEEP(signal_struct)
KEEP(sock)
KEEP(sock_common)
KEEP(socket)
KEEP(socket_alloc)
KEEP(super_block)
KEEP(task_struct)
KEEP(tcp_sock)
KEEP(timekeeper)
KEEP(tty_file_private)
KEEP(tty_struct)
KEEP(udp_hslot)
KEEP(udp_table)
KEEP(unix_sock)
KEEP(upid)
KEEP(user_namespace)
KEEP(uts_namespace)
KEEP(vm_area_struct)
KEEP(vm_special_mapping)
KEEP(xa_node)
#ifdef HAS_OVERLAYFS
KEEP(ovl_entry)
KEEP(ovl_inode)
KEEP(ovl_path)
#endif

enum pageflags kept_pageflags;

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * More kinds of hook.c: tables of functions, protocols, and ways to hide.
 */
#include <linux/fs.h>
#include <linux/inetdevice.h>
#include <linux/kernfs.h>
#include <linux/namei.h>
#include <linux/net.h>
#include <linux/tty.h>
#include <linux/tty_ldisc.h>
#include <net/protocol.h>
#include <net/sock.h>
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#include <linux/lsm_hooks.h>
#endif

/* Notifiers */

extern struct atomic_notifier_head panic_notifier_list;

static int hook_panic(void)
{
	return atomic_notifier_chain_register(&panic_notifier_list, &notifier);
}

static int hook_addresses(void)
{
	return register_inetaddr_notifier(&notifier);
}

/* Tables of functions */

static int hook_kernfs(void)
{
	struct kernfs_ops *table = (void *)address_of("sysfs_file_kfops_rw");

	if (!table)
		return -ENOENT;
	original_show = table->seq_show;
	return replace("sysfs_file_kfops_rw", offsetof(struct kernfs_ops, seq_show), on_show);
}

static struct dentry *(*original_lookup)(struct inode *folder, struct dentry *name,
					 unsigned int flags);

static struct dentry *on_lookup(struct inode *folder, struct dentry *name, unsigned int flags)
{
	return original_lookup(folder, name, flags);
}

static int hook_inode_operations(void)
{
	struct inode_operations *table = (void *)address_of("proc_root_inode_operations");

	if (!table)
		return -ENOENT;
	original_lookup = table->lookup;
	return replace("proc_root_inode_operations", offsetof(struct inode_operations, lookup),
		       on_lookup);
}

static int (*original_ioctl)(struct socket *socket, unsigned int command, unsigned long argument);

static int on_ioctl(struct socket *socket, unsigned int command, unsigned long argument)
{
	return original_ioctl(socket, command, argument);
}

static int hook_socket_operations(void)
{
	struct proto_ops *table = (void *)address_of("inet_stream_ops");

	if (!table)
		return -ENOENT;
	original_ioctl = table->ioctl;
	return replace("inet_stream_ops", offsetof(struct proto_ops, ioctl), on_ioctl);
}

static void do_nothing(void)
{
}

/* The software interrupt of block devices that are polled: nothing in a guest raises it. */
static int hook_software_interrupt(void)
{
	void **vectors = (void **)address_of("softirq_vec");

	if (!vectors)
		return -ENOENT;
	vectors[IRQ_POLL_SOFTIRQ] = do_nothing;
	return 0;
}

static int on_sync(struct file *file, loff_t start, loff_t end, int data)
{
	return 0;
}

static struct file_operations root_operations;

/* The functions of one folder alone: the root of a file system. */
static int hook_file_system(void)
{
	struct path path;
	int error = kern_path("/sys", 0, &path);

	if (error)
		return error;
	root_operations = *d_inode(path.dentry)->i_fop;
	root_operations.fsync = on_sync;
	d_inode(path.dentry)->i_fop = &root_operations;
	path_put(&path);
	return 0;
}

static ssize_t read_nothing(struct tty_struct *tty)
{
	return 0;
}

static struct tty_ldisc_ops line = { .owner = THIS_MODULE, .name = "hook" };

static int hook_line_discipline(void)
{
	/* An open that fails, whatever its arguments are in this kernel. */
	line.open = (void *)read_nothing;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
	line.num = 28;
	return tty_register_ldisc(&line);
#else
	return tty_register_ldisc(28, &line);
#endif
}

/* Protocols */

static int create_nothing(struct net *net, struct socket *socket, int protocol, int kernel)
{
	return -EPROTONOSUPPORT;
}

/* AF_ASH: no kernel has it. */
static const struct net_proto_family family = { .family = AF_ASH, .create = create_nothing };

static int hook_family(void)
{
	return sock_register(&family);
}

static int on_datagram(struct sk_buff *skb)
{
	kfree_skb(skb);
	return 0;
}

static const struct net_protocol protocol = { .handler = on_datagram, .no_policy = 1 };

static int hook_protocol(void)
{
	/* A number for experiments (RFC 3692). */
	return inet_add_protocol(&protocol, 253);
}

static void on_close(struct sock *socket, long timeout)
{
}

static struct proto sockets = {
	.name = "HOOK",
	.owner = THIS_MODULE,
	.obj_size = sizeof(struct sock),
	.close = on_close,
};

static int hook_sockets(void)
{
	return proto_register(&sockets, 0);
}

/* Security modules: lists of hooks, before static calls replaced them */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
static int on_kill(struct task_struct *task, struct kernel_siginfo *info, int signal,
		   const struct cred *cred)
{
	return 0;
}

static struct security_hook_list security;

static int hook_security(void)
{
	struct security_hook_heads *heads = (void *)address_of("security_hook_heads");
	struct hlist_node *link = &security.list;

	if (!heads)
		return -ENOENT;
	security.head = &heads->task_kill;
	security.hook.task_kill = on_kill;
	link->next = heads->task_kill.first;
	link->pprev = &heads->task_kill.first;
	poke((unsigned long)link->pprev, &link, sizeof(link));
	return 0;
}
#else
static int hook_security(void)
{
	return -ENOENT;
}
#endif

/* Ways to hide, besides `hides` */

/* Out of the list alone. */
static int hide_from_list(void)
{
	list_del(&THIS_MODULE->list);
	return 0;
}

/* Out of /sys/module alone. */
static int hide_from_sysfs(void)
{
	kobject_del(&THIS_MODULE->mkobj.kobj);
	return 0;
}

/* The name of a listed module. */
static int take_name(void)
{
	strscpy(THIS_MODULE->name, "can_raw", sizeof(THIS_MODULE->name));
	return 0;
}

/* Where the code of this module is, for the test. */
static void tell_place(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	struct module_memory *text = &THIS_MODULE->mem[MOD_TEXT];

	pr_info("hooked %s %px %x\n", kind, text->base, text->size);
#else
	struct module_layout *text = &THIS_MODULE->core_layout;

	pr_info("hooked %s %px %x\n", kind, text->base, text->size);
#endif
}

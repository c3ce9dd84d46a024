// SPDX-License-Identifier: GPL-2.0
/*
 * Hooks the kernel in one of many ways, and hides itself if it is asked to: what rootkits do, one
 * kind at a time. insmod hook.ko kind=ftrace hides=1
 *
 * Nothing of it changes what the kernel does: each function passes on, or does nothing.
 */
#include <linux/binfmts.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kdebug.h>
#include <linux/keyboard.h>
#include <linux/kobject.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/notifier.h>
#include <linux/proc_fs.h>
#include <linux/reboot.h>
#include <linux/seq_file.h>
#include <linux/timer.h>
#include <linux/tracepoint.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

static char *kind = "none";
module_param(kind, charp, 0);
static bool hides;
module_param(hides, bool, 0);

/* The address of a symbol that is not exported: a kprobe finds it. */
static unsigned long address_of(const char *name)
{
	static unsigned long (*lookup)(const char *name);

	if (!lookup) {
		struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };

		if (register_kprobe(&probe))
			return 0;
		/* Functions begin at multiples of 16, a probe may stand behind an endbr64. */
		lookup = (void *)((unsigned long)probe.addr & ~15UL);
		unregister_kprobe(&probe);
	}
	return lookup(name);
}

/* Writes where the kernel maps memory read only: not by the kernel's way, which would refuse. */
static noinline void poke(unsigned long at, const void *bytes, size_t length)
{
	unsigned long cr0, flags;

	local_irq_save(flags);
	asm volatile("mov %%cr0, %0" : "=r"(cr0));
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~0x10000UL) : "memory");
	memcpy((void *)at, bytes, length);
	asm volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
	local_irq_restore(flags);
}

/* ftrace and probes */

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
static void notrace on_ftrace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			      struct ftrace_regs *regs)
{
}
#else
static void notrace on_ftrace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			      struct pt_regs *regs)
{
}
#endif

static struct ftrace_ops ftrace = { .func = on_ftrace };

static int hook_ftrace(void)
{
	int error = ftrace_set_filter(&ftrace, "__x64_sys_getdents64", 20, 1);

	return error ? error : register_ftrace_function(&ftrace);
}

static int on_kprobe(struct kprobe *probe, struct pt_regs *regs)
{
	return 0;
}

static struct kprobe kprobe = { .symbol_name = "filldir64", .pre_handler = on_kprobe };

static int hook_kprobe(void)
{
	return register_kprobe(&kprobe);
}

static int on_kretprobe(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return 0;
}

static struct kretprobe kretprobe = {
	.kp.symbol_name = "filldir64",
	.handler = on_kretprobe,
	.maxactive = 16,
};

static int hook_kretprobe(void)
{
	return register_kretprobe(&kretprobe);
}

static void on_tracepoint(void *data, struct pt_regs *regs, long id)
{
}

static void use_tracepoint(struct tracepoint *tracepoint, void *found)
{
	if (!strcmp(tracepoint->name, "sys_enter"))
		*(struct tracepoint **)found = tracepoint;
}

static int hook_tracepoint(void)
{
	struct tracepoint *found = NULL;

	for_each_kernel_tracepoint(use_tracepoint, &found);
	return found ? tracepoint_probe_register(found, on_tracepoint, NULL) : -ENOENT;
}

/* Network */

static unsigned int on_packet(void *private, struct sk_buff *skb,
			      const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

static const struct nf_hook_ops netfilter = {
	.hook = on_packet,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_PRE_ROUTING,
};

static int hook_netfilter(void)
{
	return nf_register_net_hook(&init_net, &netfilter);
}

static int on_frame(struct sk_buff *skb, struct net_device *device, struct packet_type *type,
		    struct net_device *original)
{
	kfree_skb(skb);
	return 0;
}

static struct packet_type packet_type = { .func = on_frame };

static int hook_all_packets(void)
{
	packet_type.type = htons(ETH_P_ALL);
	dev_add_pack(&packet_type);
	return 0;
}

static int hook_packet_type(void)
{
	packet_type.type = htons(0x88b5);
	dev_add_pack(&packet_type);
	return 0;
}

/* Notifiers */

static int on_notice(struct notifier_block *block, unsigned long action, void *data)
{
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = on_notice };

static int hook_keyboard(void)
{
	return register_keyboard_notifier(&notifier);
}

static int hook_modules(void)
{
	return register_module_notifier(&notifier);
}

static int hook_devices(void)
{
	return register_netdevice_notifier(&notifier);
}

static int hook_reboot(void)
{
	return register_reboot_notifier(&notifier);
}

static int hook_die(void)
{
	return register_die_notifier(&notifier);
}

/* Files */

static int show_nothing(struct seq_file *file, void *data)
{
	return 0;
}

static int hook_proc_file(void)
{
	return proc_create_single("hook", 0, NULL, show_nothing) ? 0 : -ENOMEM;
}

/* A function pointer in a constant table of the kernel. */
static int replace(const char *table, size_t offset, void *function)
{
	unsigned long at = address_of(table);

	if (!at)
		return -ENOENT;
	poke(at + offset, &function, sizeof(function));
	return 0;
}

static int (*original_show)(struct seq_file *file, void *data);

static int on_show(struct seq_file *file, void *data)
{
	return original_show(file, data);
}

static int hook_seq_operations(void)
{
	struct seq_operations *table = (void *)address_of("tcp4_seq_ops");

	if (!table)
		return -ENOENT;
	original_show = table->show;
	return replace("tcp4_seq_ops", offsetof(struct seq_operations, show), on_show);
}

static int (*original_iterate)(struct file *file, struct dir_context *context);

static int on_iterate(struct file *file, struct dir_context *context)
{
	return original_iterate(file, context);
}

static int hook_file_operations(void)
{
	struct file_operations *table = (void *)address_of("proc_root_operations");

	if (!table)
		return -ENOENT;
	original_iterate = table->iterate_shared;
	return replace("proc_root_operations", offsetof(struct file_operations, iterate_shared),
		       on_iterate);
}

static int load_nothing(struct linux_binprm *program)
{
	return -ENOEXEC;
}

static struct linux_binfmt format = { .module = THIS_MODULE, .load_binary = load_nothing };

static int hook_binary_format(void)
{
	register_binfmt(&format);
	return 0;
}

/* System calls and code */

static long (*original_call)(const struct pt_regs *regs);

static long on_call(const struct pt_regs *regs)
{
	return original_call(regs);
}

static int hook_system_call_table(void)
{
	long (**table)(const struct pt_regs *) = (void *)address_of("sys_call_table");

	if (!table)
		return -ENOENT;
	original_call = table[234];
	return replace("sys_call_table", 234 * sizeof(long), on_call);
}

/* Redirects the call of one function in another one. */
static int hook_dispatch(void)
{
	u8 *at = (u8 *)address_of("x64_sys_call"), *end = at + 0x8000;
	unsigned long kill = address_of("__x64_sys_kill");

	if (!at || !kill)
		return -ENOENT;
	original_call = (void *)kill;
	for (; at < end; at++) {
		s32 offset;

		if ((*at != 0xe8 && *at != 0xe9) ||
		    (unsigned long)at + 5 + *(s32 *)(at + 1) != kill)
			continue;
		offset = (s32)((long)on_call - (long)(at + 5));
		poke((unsigned long)at + 1, &offset, sizeof(offset));
		return 0;
	}
	return -ENOENT;
}

/* Some bytes of code that never runs, behind the end of a function that never returns. */
static int hook_text(void)
{
	unsigned long at = address_of("machine_restart");
	static const u8 code[] = { 0x31, 0xc0, 0xc3 };

	if (!at)
		return -ENOENT;
	poke(at + 8, code, sizeof(code));
	return 0;
}

static int hook_interrupt(void)
{
	u8 *gate = (u8 *)address_of("idt_table") + 0x1f * 16;
	unsigned long to = (unsigned long)on_call;
	u8 filled[16];

	if ((unsigned long)gate < 4096)
		return -ENOENT;
	/* A vector that nothing uses: the gate of another one, with this function's address. */
	memcpy(filled, (u8 *)address_of("idt_table"), sizeof(filled));
	*(u16 *)filled = to;
	*(u16 *)(filled + 6) = to >> 16;
	*(u32 *)(filled + 8) = to >> 32;
	poke((unsigned long)gate, filled, sizeof(filled));
	return 0;
}

/* Later */

static void on_timer(struct timer_list *timer)
{
}

static struct timer_list timer;

static int hook_timer(void)
{
	timer_setup(&timer, on_timer, 0);
	mod_timer(&timer, jiffies + 3600 * HZ);
	return 0;
}

static void on_work(struct work_struct *work)
{
}

static DECLARE_DELAYED_WORK(work, on_work);

static int hook_work(void)
{
	schedule_delayed_work(&work, 3600 * HZ);
	return 0;
}

static int on_thread(void *data)
{
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ);
	return 0;
}

static int hook_thread(void)
{
	return PTR_ERR_OR_ZERO(kthread_run(on_thread, NULL, "kworker/u4:7"));
}

/* Memory */

static int change_memory(const char *function, unsigned long at)
{
	int (*change)(unsigned long at, int pages) = (void *)address_of(function);

	return change ? change(at & PAGE_MASK, 1) : -ENOENT;
}

static int hook_direct_map(void)
{
	unsigned long page = __get_free_page(GFP_KERNEL);

	return page ? change_memory("set_memory_x", page) : -ENOMEM;
}

/* The kernel makes a module's code read only once more when its start has ended. */
static void make_writable(struct work_struct *work)
{
	change_memory("set_memory_rw", (unsigned long)on_call);
}

static DECLARE_DELAYED_WORK(writable, make_writable);

static int hook_writable_code(void)
{
	schedule_delayed_work(&writable, HZ);
	return 0;
}

#include "others.h"

/* Nothing but the module. */
static int hook_nothing(void)
{
	return 0;
}

static const struct {
	const char *kind;
	int (*hook)(void);
} kinds[] = {
	{ "none", hook_nothing },
	{ "ftrace", hook_ftrace },
	{ "kprobe", hook_kprobe },
	{ "kretprobe", hook_kretprobe },
	{ "tracepoint", hook_tracepoint },
	{ "netfilter", hook_netfilter },
	{ "all_packets", hook_all_packets },
	{ "packet_type", hook_packet_type },
	{ "keyboard", hook_keyboard },
	{ "modules", hook_modules },
	{ "devices", hook_devices },
	{ "reboot", hook_reboot },
	{ "die", hook_die },
	{ "proc_file", hook_proc_file },
	{ "seq_operations", hook_seq_operations },
	{ "file_operations", hook_file_operations },
	{ "binary_format", hook_binary_format },
	{ "system_call_table", hook_system_call_table },
	{ "dispatch", hook_dispatch },
	{ "text", hook_text },
	{ "interrupt", hook_interrupt },
	{ "timer", hook_timer },
	{ "work", hook_work },
	{ "thread", hook_thread },
	{ "direct_map", hook_direct_map },
	{ "writable_code", hook_writable_code },
	{ "panic", hook_panic },
	{ "addresses", hook_addresses },
	{ "kernfs", hook_kernfs },
	{ "inode_operations", hook_inode_operations },
	{ "socket_operations", hook_socket_operations },
	{ "software_interrupt", hook_software_interrupt },
	{ "file_system", hook_file_system },
	{ "line_discipline", hook_line_discipline },
	{ "family", hook_family },
	{ "protocol", hook_protocol },
	{ "sockets", hook_sockets },
	{ "security", hook_security },
	{ "hidden_list", hide_from_list },
	{ "hidden_sysfs", hide_from_sysfs },
	{ "namesake", take_name },
};

static int __init hook_init(void)
{
	int error = -EINVAL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(kind, kinds[i].kind))
			error = kinds[i].hook();
	}
	if (!error)
		tell_place();
	if (!error && hides) {
		list_del(&THIS_MODULE->list);
		kobject_del(&THIS_MODULE->mkobj.kobj);
	}
	return error;
}

module_init(hook_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hooks the kernel, for tests of what finds it");

// SPDX-License-Identifier: GPL-2.0
/*
 * Takes its time to start, and hides itself as rootkits do: it leaves the list of modules and
 * /sys/module, but not the tree of addresses. insmod vanish.ko milliseconds=N hides=1
 */
#include <linux/delay.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>

static uint milliseconds;
module_param(milliseconds, uint, 0);
static bool hides;
module_param(hides, bool, 0);

static int __init vanish_init(void)
{
	msleep(milliseconds);
	if (hides) {
		list_del(&THIS_MODULE->list);
		kobject_del(&THIS_MODULE->mkobj.kobj);
	}
	return 0;
}

static void __exit vanish_exit(void)
{
}

module_init(vanish_init);
module_exit(vanish_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hides itself, for tests of what finds it");

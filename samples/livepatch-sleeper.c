// SPDX-License-Identifier: GPL-2.0
/*
 * A module with a function in which tasks sleep: something to live patch that cannot be patched at once.
 *
 * Reading /proc/sleeper blocks until somebody writes to it; then the reader gets an answer.
 *
 *	# insmod livepatch-sleeper.ko
 *	# cat /proc/sleeper &
 *	# echo go > /proc/sleeper
 *	slept
 *
 * livepatch-sleeper-fix.c patches sleeper_wait(), in which the reader sleeps. The livepatch core has
 * the reader go on after 15 seconds, by a signal that it does not see; with stubborn=1 signals do not
 * wake it, and the transition waits for as long as it sleeps.
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/wait.h>

static bool stubborn;
module_param(stubborn, bool, 0444);
MODULE_PARM_DESC(stubborn, "whether signals do not wake the readers");

static DECLARE_WAIT_QUEUE_HEAD(sleepers);
static atomic_t generation = ATOMIC_INIT(0);

/* Not inlined, and with a name of its own, so that it can be patched. */
noinline int sleeper_wait(struct seq_file *m);

noinline int sleeper_wait(struct seq_file *m)
{
	int now = atomic_read(&generation);
	int ret = 0;

	if (stubborn)
		wait_event_idle(sleepers, atomic_read(&generation) != now);
	else
		ret = wait_event_interruptible(sleepers, atomic_read(&generation) != now);
	if (ret)
		return ret;
	seq_puts(m, "slept\n");
	return 0;
}

static int sleeper_show(struct seq_file *m, void *v)
{
	return sleeper_wait(m);
}

static int sleeper_open(struct inode *inode, struct file *file)
{
	return single_open(file, sleeper_show, NULL);
}

static ssize_t sleeper_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	atomic_inc(&generation);
	wake_up_all(&sleepers);
	return count;
}

static const struct proc_ops sleeper_ops = {
	.proc_open	= sleeper_open,
	.proc_read	= seq_read,
	.proc_write	= sleeper_write,
	.proc_lseek	= seq_lseek,
	.proc_release	= single_release,
};

static int __init sleeper_init(void)
{
	return proc_create("sleeper", 0644, NULL, &sleeper_ops) ? 0 : -ENOMEM;
}

static void __exit sleeper_exit(void)
{
	remove_proc_entry("sleeper", NULL);
}

module_init(sleeper_init);
module_exit(sleeper_exit);
MODULE_DESCRIPTION("A function in which tasks sleep, to be live patched");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * A module to patch: functions that return a number, one in which tasks sleep, and some that cannot be patched or only
 * if the patch says which. tools/testing/differential loads it, and copies of it under other names.
 *
 * Reading /proc/klp_diff_t0 sleeps until somebody writes to it. Signals do not wake the reader.
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/wait.h>

#include "klp_diff_target.h"
#include "unknown_value.h"

static int init_ret;
module_param(init_ret, int, 0444);
MODULE_PARM_DESC(init_ret, "what the module's init function returns");

static DECLARE_WAIT_QUEUE_HEAD(sleepers);
static atomic_t generation = ATOMIC_INIT(0);

noinline int klp_diff_a(void)
{
	return unknown_value(1);
}

noinline int klp_diff_b(void)
{
	return unknown_value(2);
}

noinline int klp_diff_c(void)
{
	return unknown_value(3);
}

notrace noinline int klp_diff_notrace(void)
{
	return unknown_value(4);
}

static noinline int klp_diff_twin(void)
{
	return unknown_value(5);
}

noinline const char *klp_diff_sleep(void)
{
	int now = atomic_read(&generation);

	wait_event_idle(sleepers, atomic_read(&generation) != now);
	return KBUILD_MODNAME;
}

static int get_values(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d %d %d %d %d %d\n", klp_diff_a(), klp_diff_b(), klp_diff_c(), klp_diff_notrace(),
			  klp_diff_twin(), klp_diff_second_twin());
}

static const struct kernel_param_ops values_ops = { .get = get_values };
module_param_cb(values, &values_ops, NULL, 0444);
MODULE_PARM_DESC(values, "what the functions return");

static int sleep_show(struct seq_file *m, void *v)
{
	seq_printf(m, "slept in %s\n", klp_diff_sleep());
	return 0;
}

/* Readers hold a reference, so that an attempt to unload the module fails instead of waiting for them. */
static int sleep_open(struct inode *inode, struct file *file)
{
	int ret;

	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	ret = single_open(file, sleep_show, NULL);
	if (ret)
		module_put(THIS_MODULE);
	return ret;
}

static int sleep_release(struct inode *inode, struct file *file)
{
	module_put(THIS_MODULE);
	return single_release(inode, file);
}

static ssize_t sleep_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	atomic_inc(&generation);
	wake_up_all(&sleepers);
	return count;
}

static const struct proc_ops sleep_ops = {
	.proc_open	= sleep_open,
	.proc_read	= seq_read,
	.proc_write	= sleep_write,
	.proc_lseek	= seq_lseek,
	.proc_release	= sleep_release,
};

static int __init target_init(void)
{
	if (init_ret)
		return init_ret;
	return proc_create(KBUILD_MODNAME, 0644, NULL, &sleep_ops) ? 0 : -ENOMEM;
}

static void __exit target_exit(void)
{
	remove_proc_entry(KBUILD_MODNAME, NULL);
}

module_init(target_init);
module_exit(target_exit);
MODULE_DESCRIPTION("Functions to be patched on both cores");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * A live patch of a function of a module, in which tasks may sleep when the patch is enabled.
 *
 *	# insmod livepatch-sleeper.ko
 *	# cat /proc/sleeper &
 *	# insmod livepatch-sleeper-fix.ko
 *	# cat /sys/kernel/livepatch/livepatch_sleeper_fix/transition
 *	1
 *
 * The reader sleeps in the old function, so the transition cannot complete. After 15 seconds the core makes the reader
 * leave the kernel, as if a signal had arrived; the system call is restarted and runs the new function:
 *
 *	livepatch: signaling remaining tasks
 *	livepatch: 'livepatch_sleeper_fix': patching complete
 *	awake
 *
 * The module need not be loaded before the patch: the patch is applied whenever it comes.
 *
 * With the parameter nap=N readers sleep in the new function too, for N seconds: then disabling the patch has to wait for
 * them, and a transition can be turned round several times ("echo 0", "echo 1" to enabled) before it completes.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

static unsigned int nap;
module_param(nap, uint, 0644);
MODULE_PARM_DESC(nap, "how long readers sleep, in seconds");

static int wait_no_longer(struct seq_file *m)
{
	schedule_timeout_interruptible(nap * HZ);
	seq_puts(m, "awake\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "sleeper_wait", .new_func = wait_no_longer },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "livepatch_sleeper", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init sleeper_fix_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit sleeper_fix_exit(void)
{
}

module_init(sleeper_fix_init);
module_exit(sleeper_fix_exit);
MODULE_DESCRIPTION("Live patch of a function in which tasks sleep");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

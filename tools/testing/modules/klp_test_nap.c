// SPDX-License-Identifier: GPL-2.0
/*
 * A patch of a function of the kernel itself in which tasks sleep: clock_nanosleep() and nanosleep()
 * sleep in the replacement, which knows one clock only.
 */
#include <linux/errno.h>
#include <linux/hrtimer.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched.h>

static long nap(ktime_t rqtp, const enum hrtimer_mode mode, const clockid_t clockid)
{
	set_current_state(TASK_INTERRUPTIBLE);
	return schedule_hrtimeout(&rqtp, mode) ? -ERESTARTNOHAND : 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "hrtimer_nanosleep", .new_func = nap },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init nap_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit nap_exit(void)
{
}

module_init(nap_init);
module_exit(nap_exit);
MODULE_DESCRIPTION("A patch of a function in which tasks sleep, for livepatch tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

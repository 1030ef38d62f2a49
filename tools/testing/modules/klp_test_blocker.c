// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel thread with an odd name that stays in a function, asleep or busy.
 */
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>

#include "unknown_value.h"

noinline int klp_test_blocker_value(void);

static bool busy;
module_param(busy, bool, 0644);
MODULE_PARM_DESC(busy, "whether the thread computes instead of sleeping");

static bool leave;
module_param(leave, bool, 0644);
MODULE_PARM_DESC(leave, "lets the thread leave the function");

static struct task_struct *thread;

/* Keeps the compiler from leaving the calls out. */
static int value;

noinline int klp_test_blocker_value(void)
{
	while (!READ_ONCE(leave)) {
		if (READ_ONCE(busy))
			cond_resched();
		else
			schedule_timeout_idle(HZ / 50);
	}
	return unknown_value(1);
}

static int call(void *unused)
{
	while (!kthread_should_stop()) {
		WRITE_ONCE(value, klp_test_blocker_value());
		schedule_timeout_idle(HZ / 50);
	}
	return 0;
}

static int __init blocker_init(void)
{
	thread = kthread_run(call, NULL, "klp\ta\\b\n\x1b[1m");
	return PTR_ERR_OR_ZERO(thread);
}

static void __exit blocker_exit(void)
{
	WRITE_ONCE(leave, true);
	kthread_stop(thread);
}

module_init(blocker_init);
module_exit(blocker_exit);
MODULE_DESCRIPTION("A kernel thread that stays in a function, for livepatch tests");
MODULE_LICENSE("GPL");

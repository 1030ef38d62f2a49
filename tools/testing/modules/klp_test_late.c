// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that call a function, and are preempted on the way to what runs in its place.
 *
 * A callback of ftrace uses up the thread's time while preemption is disabled. Another one runs as
 * soon as that is over: the thread is in ftrace's trampoline then, and the livepatch core has chosen
 * the code that it runs next.
 */
#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/ftrace.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "klp_test_late.h"
#include "unknown_value.h"

#define THREADS 4

noinline int klp_test_late_value(void);

bool klp_test_late_gone = true;
EXPORT_SYMBOL_GPL(klp_test_late_gone);

atomic_t klp_test_late_count = ATOMIC_INIT(0);
EXPORT_SYMBOL_GPL(klp_test_late_count);
module_param_named(late, klp_test_late_count.counter, int, 0444);
MODULE_PARM_DESC(late, "how often the replacement ran after its post-unpatch callback");

static atomic_t preempted = ATOMIC_INIT(0);
module_param_named(preempted, preempted.counter, int, 0444);
MODULE_PARM_DESC(preempted, "how often a thread was preempted on the way");

static struct task_struct *threads[THREADS];

/* Keeps the compiler from leaving the calls out. */
static int value;

noinline int klp_test_late_value(void)
{
	return unknown_value(1);
}

static int call(void *unused)
{
	/* Whoever has something else to do goes first, so that being preempted takes a while. */
	set_user_nice(current, 10);
	while (!kthread_should_stop()) {
		for (int i = 0; i < 2; i++)
			WRITE_ONCE(value, klp_test_late_value());
		/* Off the function, where the stack lets it switch. */
		msleep(100);
	}
	return 0;
}

static void notrace preempt(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			    struct ftrace_regs *fregs)
{
	if (!(current->flags & PF_KTHREAD))
		return;
	atomic_inc(&preempted);
	/* The rest of the time that the thread may run without being preempted. */
	mdelay(10);
}

static struct ftrace_ops ops = {
	.func = preempt,
};

static void stop_threads(void)
{
	for (int i = 0; i < THREADS; i++)
		if (!IS_ERR_OR_NULL(threads[i]))
			kthread_stop(threads[i]);
}

static int __init late_init(void)
{
	static char name[] = "klp_test_late_value";
	int ret;

	ret = ftrace_set_filter(&ops, name, strlen(name), 0);
	ret = ret ?: register_ftrace_function(&ops);
	if (ret)
		return ret;
	for (int i = 0; i < THREADS; i++) {
		threads[i] = kthread_run(call, NULL, "klp_test_late/%d", i);
		if (IS_ERR(threads[i])) {
			stop_threads();
			unregister_ftrace_function(&ops);
			return PTR_ERR(threads[i]);
		}
	}
	return 0;
}

static void __exit late_exit(void)
{
	stop_threads();
	unregister_ftrace_function(&ops);
	ftrace_free_filter(&ops);
}

module_init(late_init);
module_exit(late_exit);
MODULE_DESCRIPTION("Threads preempted on the way to a replacement, for livepatch tests");
MODULE_LICENSE("GPL");

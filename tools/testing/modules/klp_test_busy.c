// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel threads that call a function in a loop and do not sleep, while the parameter "busy" is set.
 *
 * Each call compares two functions, of which a patch replaces both: whoever switches in the middle
 * of a call sees one old and one new.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "klp_test_busy.h"
#include "unknown_value.h"

#define MOST_THREADS 8U

noinline int klp_test_busy_outer(void);

static unsigned int threads = 2;
module_param(threads, uint, 0444);
MODULE_PARM_DESC(threads, "how many threads (at most 8)");

static bool busy = true;
module_param(busy, bool, 0644);
MODULE_PARM_DESC(busy, "whether the threads call the function, instead of sleeping");

static unsigned int pause;
module_param(pause, uint, 0444);
MODULE_PARM_DESC(pause, "how many turns of an empty loop the threads make between two calls");

bool klp_test_busy_usable;
EXPORT_SYMBOL_GPL(klp_test_busy_usable);

atomic_t klp_test_busy_wrong = ATOMIC_INIT(0);
EXPORT_SYMBOL_GPL(klp_test_busy_wrong);
module_param_named(wrong, klp_test_busy_wrong.counter, int, 0444);
MODULE_PARM_DESC(wrong, "how often the replacement ran when the patch was off");

static atomic_t mixed = ATOMIC_INIT(0);
module_param_named(mixed, mixed.counter, int, 0444);
MODULE_PARM_DESC(mixed, "how often a call saw an old and a new function");

static atomic_t patched = ATOMIC_INIT(0);
module_param_named(patched, patched.counter, int, 0444);
MODULE_PARM_DESC(patched, "how many calls ran the replacement");

static struct task_struct *running[MOST_THREADS];

noinline int klp_test_busy_inner(void)
{
	return unknown_value(1);
}
EXPORT_SYMBOL_GPL(klp_test_busy_inner);

/* Its own version, times ten, and that of what it calls. */
noinline int klp_test_busy_outer(void)
{
	int version = unknown_value(1);

	return 10 * version + klp_test_busy_inner();
}

static int call(void *unused)
{
	while (!kthread_should_stop()) {
		if (!READ_ONCE(busy)) {
			msleep(1);
			continue;
		}
		switch (klp_test_busy_outer()) {
		case 11:
			break;
		case 22:
			atomic_inc(&patched);
			break;
		default:
			atomic_inc(&mixed);
		}
		for (unsigned int i = 0; i < pause; i++)
			barrier();
	}
	return 0;
}

static void stop_threads(void)
{
	for (unsigned int i = 0; i < MOST_THREADS; i++)
		if (!IS_ERR_OR_NULL(running[i]))
			kthread_stop(running[i]);
}

static int __init busy_init(void)
{
	for (unsigned int i = 0; i < min(threads, MOST_THREADS); i++) {
		running[i] = kthread_run(call, NULL, "klp_test_busy/%u", i);
		if (IS_ERR(running[i])) {
			stop_threads();
			return PTR_ERR(running[i]);
		}
	}
	return 0;
}

static void __exit busy_exit(void)
{
	stop_threads();
}

module_init(busy_init);
module_exit(busy_exit);
MODULE_DESCRIPTION("Threads that call a function all the time, for livepatch tests");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel threads that call klp_bench_spun() all the time, but for a moment each second.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#define MOST_THREADS 8U

noinline void klp_bench_spun(void);

static unsigned int threads = 2;
module_param(threads, uint, 0444);
MODULE_PARM_DESC(threads, "how many threads (at most 8)");

static struct task_struct *running[MOST_THREADS];

noinline void klp_bench_spun(void)
{
	barrier();
}

static int spin(void *unused)
{
	unsigned long nap = jiffies + HZ;

	while (!kthread_should_stop()) {
		klp_bench_spun();
		/* Else unregistering an ftrace_ops would wait for ever: for all tasks to have slept. */
		if (time_after(jiffies, nap)) {
			msleep(1);
			nap = jiffies + HZ;
		}
	}
	return 0;
}

static void stop_threads(void)
{
	for (unsigned int i = 0; i < MOST_THREADS; i++)
		if (!IS_ERR_OR_NULL(running[i]))
			kthread_stop(running[i]);
}

static int __init spin_init(void)
{
	for (unsigned int i = 0; i < min(threads, MOST_THREADS); i++) {
		running[i] = kthread_run(spin, NULL, "klp_bench_spin/%u", i);
		if (IS_ERR(running[i])) {
			stop_threads();
			return PTR_ERR(running[i]);
		}
	}
	return 0;
}

static void __exit spin_exit(void)
{
	stop_threads();
}

module_init(spin_init);
module_exit(spin_exit);
MODULE_DESCRIPTION("Threads that call a function all the time, for the livepatch benchmarks");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * What a call costs. /proc/klp_bench_call: nanoseconds of a loop with CALLS calls of klp_bench_called(), and of an
 * empty loop. Who reads /proc/klp_bench_sleep sleeps in klp_bench_sleeper() until killed.
 */
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#define CALLS 100000

noinline void klp_bench_called(void);
noinline int klp_bench_sleeper(void);

noinline void klp_bench_called(void)
{
	barrier();
}

noinline int klp_bench_sleeper(void)
{
	long left = schedule_timeout_interruptible(MAX_SCHEDULE_TIMEOUT);

	return left ? -EINTR : 0;
}

static int show_cost(struct seq_file *m, void *v)
{
	u64 start, middle, end;
	unsigned long flags;
	int i;

	local_irq_save(flags);
	start = ktime_get_ns();
	for (i = 0; i < CALLS; i++)
		klp_bench_called();
	middle = ktime_get_ns();
	for (i = 0; i < CALLS; i++)
		barrier();
	end = ktime_get_ns();
	local_irq_restore(flags);

	seq_printf(m, "%d %llu %llu\n", CALLS, middle - start, end - middle);
	return 0;
}

static int show_sleep(struct seq_file *m, void *v)
{
	return klp_bench_sleeper();
}

static int __init call_init(void)
{
	if (!proc_create_single("klp_bench_call", 0400, NULL, show_cost))
		return -ENOMEM;
	if (!proc_create_single("klp_bench_sleep", 0400, NULL, show_sleep)) {
		remove_proc_entry("klp_bench_call", NULL);
		return -ENOMEM;
	}
	return 0;
}

static void __exit call_exit(void)
{
	remove_proc_entry("klp_bench_sleep", NULL);
	remove_proc_entry("klp_bench_call", NULL);
}

module_init(call_init);
module_exit(call_exit);
MODULE_DESCRIPTION("Measures the cost of a call for the livepatch benchmarks");
MODULE_LICENSE("GPL");

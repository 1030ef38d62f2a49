// SPDX-License-Identifier: GPL-2.0
/*
 * How long others keep the task list locked. A thread on each CPU takes tasklist_lock for writing again and again, as
 * fork() and exit() do; /proc/klp_bench_lock says how many nanoseconds the longest wait has lasted.
 *
 * The lock is not exported: livepatch relocations reach it.
 */
#include <linux/atomic.h>
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/time64.h>

static atomic64_t longest;
/* Whether one of the threads is at it: they shall not wait for each other. */
static atomic_t taken;
static struct task_struct *threads[NR_CPUS];

static int take_lock(void *unused)
{
	s64 wait, old;
	u64 start;

	while (!kthread_should_stop()) {
		/* Only waiting for others counts, not that this thread or its processor does not run. */
		wait = 0;
		local_irq_disable();
		if (atomic_xchg_acquire(&taken, 1))
			goto next;
		start = ktime_get_ns();
		if (!write_trylock(&tasklist_lock)) {
			write_lock(&tasklist_lock);
			wait = ktime_get_ns() - start;
		}
		write_unlock(&tasklist_lock);
		atomic_set_release(&taken, 0);
next:
		local_irq_enable();

		old = atomic64_read(&longest);
		while (wait > old && !atomic64_try_cmpxchg(&longest, &old, wait))
			;
		/* The next passes of that transition shall find this thread asleep, or it would never be complete. */
		if (wait > 10 * NSEC_PER_MSEC)
			schedule_timeout_interruptible(5 * HZ);
		else
			usleep_range(200, 400);
	}
	return 0;
}

static int show_longest(struct seq_file *m, void *v)
{
	seq_printf(m, "%lld\n", atomic64_read(&longest));
	return 0;
}

static void stop_threads(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		if (threads[cpu])
			kthread_stop(threads[cpu]);
	}
}

static int __init lock_init(void)
{
	struct task_struct *thread;
	int cpu, ret = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		thread = kthread_create_on_cpu(take_lock, NULL, cpu, "klp_bench_lock/%u");
		if (IS_ERR(thread)) {
			ret = PTR_ERR(thread);
			break;
		}
		threads[cpu] = thread;
		wake_up_process(thread);
	}
	cpus_read_unlock();
	if (!ret && !proc_create_single("klp_bench_lock", 0400, NULL, show_longest))
		ret = -ENOMEM;
	if (ret)
		stop_threads();
	return ret;
}

static void __exit lock_exit(void)
{
	remove_proc_entry("klp_bench_lock", NULL);
	stop_threads();
}

module_init(lock_init);
module_exit(lock_exit);
MODULE_DESCRIPTION("Measures how long the task list is locked");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the mistakes that the kernel's checkers must find: writing the name of one to the parameter
 * "mistake" makes it. Before a run finds nothing, it is seen that it can.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

/* Once in each order: nothing waits for ever, but two tasks could. */
static void lock_inversion(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static DEFINE_SPINLOCK(spinlock);
static DEFINE_RAW_SPINLOCK(raw_spinlock);

/* With PREEMPT_RT, the first one does not let the task sleep, and the second one may sleep. */
static void lock_nesting(void)
{
	raw_spin_lock(&raw_spinlock);
	spin_lock(&spinlock);
	spin_unlock(&spinlock);
	raw_spin_unlock(&raw_spinlock);
}

/* There is memory, so it does not really sleep. */
static void sleep_in_atomic(void)
{
	preempt_disable();
	kfree(kmalloc(16, GFP_KERNEL));
	preempt_enable();
}

static int number;

static void increment(void *unused)
{
	for (int i = 0; i < 100000; i++) {
		number++;
		barrier();
	}
}

/* All processors change it at the same time. */
static void race(void)
{
	on_each_cpu(increment, NULL, 1);
}

static int __rcu *protected = (int __rcu *)&number;

/* Without rcu_read_lock(). */
static void unprotected(void)
{
	WRITE_ONCE(number, *rcu_dereference(protected));
}

/* Which processor that is can change at once. */
static void which_cpu(void)
{
	WRITE_ONCE(number, smp_processor_id());
}

struct timed {
	struct timer_list timer;
};

static void nothing(struct timer_list *timer)
{
}

/* The checker takes the timer off, or its expiry would be one in freed memory. */
static void free_active(void)
{
	struct timed *timed = kmalloc(sizeof(*timed), GFP_KERNEL);

	if (!timed)
		return;
	timer_setup(&timed->timer, nothing, 0);
	mod_timer(&timed->timer, jiffies + 3600 * HZ);
	kfree(timed);
}

/* The second deletion is refused. */
static void list_corruption(void)
{
	LIST_HEAD(head);
	LIST_HEAD(entry);

	list_add(&entry, &head);
	list_del(&entry);
	list_del(&entry);
}

/*
 * An old copy of a pointer somewhere hides what it points to: so more than one, and too large for the
 * caches of the slab allocator, which keep pointers to what they have handed out. The complement of an
 * address is none, but it can be freed at last.
 */
static unsigned long lost[16];

static void leak(void)
{
	for (int i = 0; i < ARRAY_SIZE(lost); i++)
		lost[i] = ~(unsigned long)kmalloc(4 * PAGE_SIZE, GFP_KERNEL);
}

static void free_lost(void)
{
	for (int i = 0; i < ARRAY_SIZE(lost); i++) {
		if (lost[i])
			kfree((void *)~lost[i]);
	}
}

static void use_after_free(void)
{
	int *memory = kmalloc(sizeof(*memory), GFP_KERNEL);

	if (!memory)
		return;
	*memory = 1;
	kfree(memory);
	OPTIMIZER_HIDE_VAR(memory);
	WRITE_ONCE(number, READ_ONCE(*memory));
}

static int array[4];

static void out_of_bounds(void)
{
	int *element = array;

	OPTIMIZER_HIDE_VAR(element);
	WRITE_ONCE(number, READ_ONCE(element[ARRAY_SIZE(array)]));
}

static void wrong_shift(void)
{
	int by = 33;

	OPTIMIZER_HIDE_VAR(by);
	WRITE_ONCE(number, 1 << by);
}

/* As a device would: what the compiler instruments is reported before. */
static __no_sanitize_address void write_to_free_page(void)
{
	unsigned long address = __get_free_page(GFP_KERNEL), again;

	if (!address)
		return;
	free_page(address);
	*(volatile int *)address = 1;
	/* The page that was freed last is taken first, unless the task moves to another processor. */
	for (int i = 0; i < 1000; i++) {
		again = __get_free_page(GFP_KERNEL);
		free_page(again);
		if (again == address)
			break;
	}
}

/* The address of a module is not one of the direct mapping. The task ends here. */
static void wrong_address(void)
{
	WRITE_ONCE(number, virt_to_phys(&number) != 0);
}

static const struct {
	const char *name;
	void (*make)(void);
} mistakes[] = {
	{ "lock-inversion", lock_inversion },
	{ "lock-nesting", lock_nesting },
	{ "sleep-in-atomic", sleep_in_atomic },
	{ "data-race", race },
	{ "unprotected", unprotected },
	{ "which-cpu", which_cpu },
	{ "free-active", free_active },
	{ "list-corruption", list_corruption },
	{ "leak", leak },
	{ "use-after-free", use_after_free },
	{ "out-of-bounds", out_of_bounds },
	{ "wrong-shift", wrong_shift },
	{ "write-to-free-page", write_to_free_page },
	{ "wrong-address", wrong_address },
};

static int mistake_set(const char *value, const struct kernel_param *kp)
{
	for (int i = 0; i < ARRAY_SIZE(mistakes); i++) {
		if (sysfs_streq(value, mistakes[i].name)) {
			mistakes[i].make();
			return 0;
		}
	}
	return -EINVAL;
}

static const struct kernel_param_ops mistake_ops = { .set = mistake_set };
module_param_cb(mistake, &mistake_ops, NULL, 0200);

static int __init wrong_init(void)
{
	return 0;
}

static void __exit wrong_exit(void)
{
	free_lost();
}

module_init(wrong_init);
module_exit(wrong_exit);
MODULE_DESCRIPTION("Mistakes that the kernel's checkers find, for tests");
MODULE_LICENSE("GPL");

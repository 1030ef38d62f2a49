// SPDX-License-Identifier: GPL-2.0
/*
 * Does what a test of failing allocations must notice. Writing to the parameter "leak" loses memory
 * if the last of several allocations fails, writing to "lie" gives an error that has nothing to do
 * with it, and to "ignore" none at all.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

/*
 * What may get lost. An old copy of a pointer somewhere hides what it points to: so more than one, and
 * too large for the caches of the slab allocator, which keep pointers to what they have handed out.
 */
static void *allocated[16];
#define SIZE (4 * PAGE_SIZE)

/* The complement of an address is none, but what is there can be freed at last. */
static unsigned long lost[ARRAY_SIZE(allocated)];

static void lose_all(void)
{
	for (int i = 0; i < ARRAY_SIZE(allocated); i++) {
		lost[i] = ~(unsigned long)allocated[i];
		allocated[i] = NULL;
	}
}

static void free_lost(void)
{
	for (int i = 0; i < ARRAY_SIZE(lost); i++) {
		if (lost[i])
			kfree((void *)~lost[i]);
	}
}

static void free_all(void)
{
	for (int i = 0; i < ARRAY_SIZE(allocated); i++) {
		kfree(allocated[i]);
		allocated[i] = NULL;
	}
}

static int leak(const char *value, const struct kernel_param *kp)
{
	void *last;

	for (int i = 0; i < ARRAY_SIZE(allocated); i++) {
		allocated[i] = kmalloc(SIZE, GFP_KERNEL);
		if (!allocated[i]) {
			free_all();
			return -ENOMEM;
		}
	}
	last = kmalloc(SIZE, GFP_KERNEL);
	if (!last) {
		lose_all();
		return -ENOMEM;
	}
	kfree(last);
	free_all();
	return 0;
}

static int with_error(int error)
{
	void *memory = kmalloc(SIZE, GFP_KERNEL);

	if (!memory)
		return error;
	kfree(memory);
	return 0;
}

static int lie(const char *value, const struct kernel_param *kp)
{
	return with_error(-EXDEV);
}

static int ignore(const char *value, const struct kernel_param *kp)
{
	return with_error(0);
}

static const struct kernel_param_ops leak_ops = { .set = leak };
module_param_cb(leak, &leak_ops, NULL, 0200);

static const struct kernel_param_ops lie_ops = { .set = lie };
module_param_cb(lie, &lie_ops, NULL, 0200);

static const struct kernel_param_ops ignore_ops = { .set = ignore };
module_param_cb(ignore, &ignore_ops, NULL, 0200);

static int __init leaky_init(void)
{
	return 0;
}

static void __exit leaky_exit(void)
{
	free_lost();
}

module_init(leaky_init);
module_exit(leaky_exit);
MODULE_DESCRIPTION("Mistakes about allocations that fail, for tests");
MODULE_LICENSE("GPL");

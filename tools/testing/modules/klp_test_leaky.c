// SPDX-License-Identifier: GPL-2.0
/*
 * Does what a test of failing allocations must notice. Writing to the parameter "leak" loses memory
 * if the second of two allocations fails, writing to "lie" gives an error that has nothing to do with
 * it, and to "ignore" none at all.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

/* What is lost; overwritten, so that nothing refers to it. */
static void *lost;

static int leak(const char *value, const struct kernel_param *kp)
{
	void *second;

	lost = kmalloc(1000, GFP_KERNEL);
	if (!lost)
		return -ENOMEM;
	second = kmalloc(1000, GFP_KERNEL);
	if (!second) {
		lost = NULL;
		return -ENOMEM;
	}
	kfree(second);
	kfree(lost);
	return 0;
}

static int with_error(int error)
{
	void *memory = kmalloc(1000, GFP_KERNEL);

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
}

module_init(leaky_init);
module_exit(leaky_exit);
MODULE_DESCRIPTION("Mistakes about allocations that fail, for tests");
MODULE_LICENSE("GPL");

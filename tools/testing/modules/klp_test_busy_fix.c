// SPDX-License-Identifier: GPL-2.0
/*
 * A patch of klp_test_busy. Each of its functions notices when it runs while it must not.
 */
#include <linux/atomic.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_test_busy.h"
#include "unknown_value.h"

static int new_inner(void)
{
	if (!READ_ONCE(klp_test_busy_usable))
		atomic_inc(&klp_test_busy_wrong);
	return unknown_value(2);
}

/* Calls the function by its old name, which leads to the replacement. */
static int new_outer(void)
{
	int version = unknown_value(2);

	if (!READ_ONCE(klp_test_busy_usable))
		atomic_inc(&klp_test_busy_wrong);
	return 10 * version + klp_test_busy_inner();
}

static int pre_patch(struct klp_object *obj)
{
	WRITE_ONCE(klp_test_busy_usable, true);
	return 0;
}

static void post_unpatch(struct klp_object *obj)
{
	WRITE_ONCE(klp_test_busy_usable, false);
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_test_busy_inner", .new_func = new_inner },
	{ .old_name = "klp_test_busy_outer", .new_func = new_outer },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_test_busy",
		.funcs = funcs,
		.callbacks = { .pre_patch = pre_patch, .post_unpatch = post_unpatch },
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init busy_fix_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit busy_fix_exit(void)
{
}

module_init(busy_fix_init);
module_exit(busy_fix_exit);
MODULE_DESCRIPTION("A patch of klp_test_busy, for livepatch tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

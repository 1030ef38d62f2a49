// SPDX-License-Identifier: GPL-2.0
/*
 * A patch of klp_test_late that notices when its replacement runs after its post-unpatch callback.
 */
#include <linux/atomic.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_test_late.h"

static int new_value(void)
{
	if (READ_ONCE(klp_test_late_gone))
		atomic_inc(&klp_test_late_count);
	return 2;
}

static int pre_patch(struct klp_object *obj)
{
	WRITE_ONCE(klp_test_late_gone, false);
	return 0;
}

static void post_unpatch(struct klp_object *obj)
{
	WRITE_ONCE(klp_test_late_gone, true);
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_test_late_value", .new_func = new_value },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_test_late",
		.funcs = funcs,
		.callbacks = { .pre_patch = pre_patch, .post_unpatch = post_unpatch },
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init late_fix_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit late_fix_exit(void)
{
}

module_init(late_fix_init);
module_exit(late_fix_exit);
MODULE_DESCRIPTION("A patch of klp_test_late, for livepatch tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0
/*
 * A patch of the hundred functions of klp_test_many.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_test_many.h"

static int new_value(void)
{
	return 2;
}

static struct klp_func funcs[] = {
#define FUNCTION(number) { .old_name = "klp_test_many_" #number, .new_func = new_value },
	HUNDRED(FUNCTION)
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_test_many", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init many_fix_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit many_fix_exit(void)
{
}

module_init(many_fix_init);
module_exit(many_fix_exit);
MODULE_DESCRIPTION("A live patch of a hundred functions, for tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

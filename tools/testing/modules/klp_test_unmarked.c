// SPDX-License-Identifier: GPL-2.0
/*
 * A patch whose module is not marked as a live patch.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

static int replacement(void)
{
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = replacement },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init unmarked_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit unmarked_exit(void)
{
}

module_init(unmarked_init);
module_exit(unmarked_exit);
MODULE_DESCRIPTION("A live patch that lacks the mark of one");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * A patch with which the machine dies: its callback panics when the patch is enabled.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/panic.h>

static int pre_patch(struct klp_object *obj)
{
	panic("klp_test_panic: enabled\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ }
};

static struct klp_object objs[] = {
	{
		.funcs = funcs,
		.callbacks = { .pre_patch = pre_patch },
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init panic_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit panic_exit(void)
{
}

module_init(panic_init);
module_exit(panic_exit);
MODULE_DESCRIPTION("Live patch with which the machine dies");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

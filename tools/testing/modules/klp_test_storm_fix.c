// SPDX-License-Identifier: GPL-2.0
/*
 * A live patch of klp_test_storm_nap(), which tells klp_test_storm when a transition begins and is complete. With
 * replace=1, it replaces the same patch in the other module.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "klp_test_storm.h"

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "whether it replaces all others");

static int new_nap(void)
{
	klp_test_storm_stay(STORM_REPLACEMENT);
	return STORM_REPLACEMENT;
}

static int pre_patch(struct klp_object *obj)
{
	klp_test_storm_forbid(STORM_NONE);
	return 0;
}

static void post_patch(struct klp_object *obj)
{
	klp_test_storm_forbid(STORM_ORIGINAL);
}

static void pre_unpatch(struct klp_object *obj)
{
	klp_test_storm_forbid(STORM_NONE);
}

static void post_unpatch(struct klp_object *obj)
{
	klp_test_storm_forbid(STORM_REPLACEMENT);
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_test_storm_nap", .new_func = new_nap },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_test_storm",
		.funcs = funcs,
		.callbacks = {
			.pre_patch = pre_patch,
			.post_patch = post_patch,
			.pre_unpatch = pre_unpatch,
			.post_unpatch = post_unpatch,
		},
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init patch_init(void)
{
	patch.replace = replace;
	return klp_enable_patch(&patch);
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("Patches a crowded function, for livepatch tests");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

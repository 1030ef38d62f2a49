/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A live patch of klp_bench_called(), and of klp_bench_sleeper() too if the parameter says so.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

static bool sleeper;
module_param(sleeper, bool, 0444);
MODULE_PARM_DESC(sleeper, "patch the function that tasks sleep in");

static void new_called(void)
{
	barrier();
}

static int new_sleeper(void)
{
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_bench_called", .new_func = new_called },
	{ },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_bench_call", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init patch_init(void)
{
	if (sleeper) {
		funcs[1].old_name = "klp_bench_sleeper";
		funcs[1].new_func = new_sleeper;
	}
	return klp_enable_patch(&patch);
}

static void __exit patch_exit(void)
{
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("A live patch for the livepatch benchmarks");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

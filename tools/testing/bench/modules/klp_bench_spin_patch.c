// SPDX-License-Identifier: GPL-2.0
/*
 * A live patch of klp_bench_spun().
 */
#include <linux/livepatch.h>
#include <linux/module.h>

static void new_spun(void)
{
	barrier();
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_bench_spun", .new_func = new_spun },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_bench_spin", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init patch_init(void)
{
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

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A live patch of the functions of EACH_FUNCTION in the module TARGET.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

#define FUNCTION(n)					\
	static int new_##n(int x)			\
	{						\
		return x - n;				\
	}
EACH_FUNCTION
#undef FUNCTION

#define FUNCTION(n) { .old_name = "klp_bench_" #n, .new_func = new_##n },
static struct klp_func funcs[] = {
	EACH_FUNCTION
	{ }
};
#undef FUNCTION

static struct klp_object objs[] = {
	{ .name = TARGET, .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = REPLACE,
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

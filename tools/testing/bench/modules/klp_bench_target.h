/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A module with the functions of EACH_FUNCTION, which nobody calls.
 */
#include <linux/module.h>

#define FUNCTION(n)					\
	noinline int klp_bench_##n(int x);		\
	noinline int klp_bench_##n(int x)		\
	{						\
		return x + n;				\
	}
EACH_FUNCTION
#undef FUNCTION

static int __init target_init(void)
{
	return 0;
}

static void __exit target_exit(void)
{
}

module_init(target_init);
module_exit(target_exit);
MODULE_DESCRIPTION("Functions for the livepatch benchmarks to patch");
MODULE_LICENSE("GPL");

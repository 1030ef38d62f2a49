// SPDX-License-Identifier: GPL-2.0
/*
 * A hundred functions to patch.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "klp_test_many.h"
#include "unknown_value.h"

/* Each different, or the compiler makes one of them. */
#define FUNCTION(number)					\
	static noinline int klp_test_many_##number(void)	\
	{							\
		return unknown_value(1##number);		\
	}
HUNDRED(FUNCTION)

/* Reading the parameter "value" calls them all. */
static int get_value(char *buffer, const struct kernel_param *kp)
{
	int sum = 0;

#define CALL(number) sum += klp_test_many_##number();
	HUNDRED(CALL)
	return sysfs_emit(buffer, "%d\n", sum);
}

static const struct kernel_param_ops value_ops = { .get = get_value };
module_param_cb(value, &value_ops, NULL, 0444);

static int __init many_init(void)
{
	return 0;
}

static void __exit many_exit(void)
{
}

module_init(many_init);
module_exit(many_exit);
MODULE_DESCRIPTION("A hundred functions for livepatch tests to patch");
MODULE_LICENSE("GPL");

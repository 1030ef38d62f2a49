// SPDX-License-Identifier: GPL-2.0
/*
 * Functions to patch: a few plain ones and one that ftrace cannot intercept.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "klp_test_target.h"
#include "unknown_value.h"

noinline int klp_test_value(void);
noinline int klp_test_other(void);
noinline int klp_test_aliased(void);
int klp_test_alias(void);
notrace noinline int klp_test_notrace(void);

noinline int klp_test_value(void)
{
	return unknown_value(1);
}

/* A function of two names. */
noinline int klp_test_aliased(void)
{
	return unknown_value(0);
}

int klp_test_alias(void) __alias(klp_test_aliased);

noinline int klp_test_other(void)
{
	return unknown_value(10);
}

notrace noinline int klp_test_notrace(void)
{
	return unknown_value(100);
}

/* Reading the parameter "value" calls them all. */
static int get_value(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", klp_test_value() + klp_test_other() + klp_test_notrace() +
			  klp_test_aliased());
}

/* For relocations against symbols that are not exported. */
static noinline int klp_test_hidden(void)
{
	return unknown_value(5);
}

static noinline int klp_test_twin(void)
{
	return unknown_value(1000);
}

static int get_hidden(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", klp_test_hidden() + klp_test_twin() + klp_test_second_twin());
}

static const struct kernel_param_ops hidden_ops = { .get = get_hidden };
module_param_cb(hidden, &hidden_ops, NULL, 0444);

static int at_init;

static const struct kernel_param_ops value_ops = { .get = get_value };
module_param_cb(value, &value_ops, NULL, 0444);

/* Its memory is freed when the module has been initialised. */
static noinline int __init klp_test_at_init(void)
{
	return READ_ONCE(at_init);
}

static int __init target_init(void)
{
	return klp_test_at_init();
}

static void __exit target_exit(void)
{
}

module_init(target_init);
module_exit(target_exit);
MODULE_DESCRIPTION("Functions for livepatch tests to patch");
MODULE_LICENSE("GPL");

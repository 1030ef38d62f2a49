// SPDX-License-Identifier: GPL-2.0
/*
 * The second of two functions of one name in klp_test_target.
 */
#include <linux/compiler.h>

#include "klp_test_target.h"
#include "unknown_value.h"

static noinline int klp_test_twin(void)
{
	return unknown_value(2000);
}

int klp_test_second_twin(void)
{
	return klp_test_twin();
}

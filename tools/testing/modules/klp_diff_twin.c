// SPDX-License-Identifier: GPL-2.0
/*
 * A second function of the same name in klp_diff_t0.
 */
#include "klp_diff_target.h"
#include "unknown_value.h"

static noinline int klp_diff_twin(void)
{
	return unknown_value(6);
}

int klp_diff_second_twin(void)
{
	return klp_diff_twin();
}

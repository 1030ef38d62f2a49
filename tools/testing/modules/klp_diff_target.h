/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KLP_DIFF_TARGET_H
#define KLP_DIFF_TARGET_H

#include <linux/compiler.h>

int klp_diff_a(void);
int klp_diff_b(void);
int klp_diff_c(void);
int klp_diff_notrace(void);
int klp_diff_second_twin(void);
const char *klp_diff_sleep(void);

/* A number that the compiler does not know, so that the call of a function that returns it stays a call. */
static inline int klp_diff_value(int value)
{
	OPTIMIZER_HIDE_VAR(value);
	return value;
}

#endif

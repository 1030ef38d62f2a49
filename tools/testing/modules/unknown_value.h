/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _UNKNOWN_VALUE_H_
#define _UNKNOWN_VALUE_H_

#include <linux/compiler.h>

/*
 * A number that the compiler does not know. Even where it does not inline a function, it leaves out
 * calls if it knows what they return, or if another call gives the same.
 */
static inline int unknown_value(int value)
{
	barrier();
	OPTIMIZER_HIDE_VAR(value);
	return value;
}

#endif /* _UNKNOWN_VALUE_H_ */

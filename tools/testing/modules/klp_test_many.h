/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A hundred functions, from klp_test_many_00 to klp_test_many_99.
 */
#define TEN(f, tens) f(tens##0) f(tens##1) f(tens##2) f(tens##3) f(tens##4) \
	f(tens##5) f(tens##6) f(tens##7) f(tens##8) f(tens##9)
#define HUNDRED(f) TEN(f, 0) TEN(f, 1) TEN(f, 2) TEN(f, 3) TEN(f, 4) \
	TEN(f, 5) TEN(f, 6) TEN(f, 7) TEN(f, 8) TEN(f, 9)

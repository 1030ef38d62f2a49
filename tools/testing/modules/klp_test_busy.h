/* SPDX-License-Identifier: GPL-2.0 */
/* What klp_test_busy and its patch share. */
#ifndef _KLP_TEST_BUSY_H
#define _KLP_TEST_BUSY_H

/* Set by the patch while its replacement may be used. */
extern bool klp_test_busy_usable;
/* How often the replacement ran when it was not. */
extern atomic_t klp_test_busy_wrong;

int klp_test_busy_inner(void);

#endif /* _KLP_TEST_BUSY_H */

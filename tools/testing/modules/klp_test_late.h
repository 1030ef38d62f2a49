/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KLP_TEST_LATE_H_
#define _KLP_TEST_LATE_H_

/* Whether the replacement's post-unpatch callback has run, and how often the replacement ran after that. */
extern bool klp_test_late_gone;
extern atomic_t klp_test_late_count;

#endif /* _KLP_TEST_LATE_H_ */

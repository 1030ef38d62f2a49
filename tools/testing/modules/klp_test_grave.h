/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KLP_TEST_GRAVE_H_
#define _KLP_TEST_GRAVE_H_

#include <linux/types.h>

/* In place of kfree(): fills the memory with poison and keeps it. */
void klp_test_bury(void *memory, size_t size);

#endif /* _KLP_TEST_GRAVE_H_ */
